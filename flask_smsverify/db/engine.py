"""The ledger's engine: a small pool of its own beside the host's, to the same database."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event

#: The execution option that marks a transaction as read-only.
READ_ONLY = "smsverify_read_only"

_LOG_NAME = "smsverify"


def is_in_memory(engine: Engine) -> bool:
    """Return whether an engine's database is an in-memory SQLite database."""
    if engine.dialect.name != "sqlite":
        return False
    database = engine.url.database
    return not database or ":memory:" in database or engine.url.query.get("mode") == "memory"


def create_ledger_engine(
    host: Engine, options: Mapping[str, Any], *, lock_seconds: float
) -> Engine:
    """Create an engine to the host's database with READ COMMITTED or BEGIN IMMEDIATE transactions.

    :param host: the host's engine; the URL comes from it.
    :param options: the host's engine options; `connect_args` and `creator` come from them.
    :param lock_seconds: how many seconds a statement waits for a lock.
    """
    connecting: dict[str, Any] = {"connect_args": dict(options.get("connect_args") or {})}
    if options.get("creator") is not None:
        connecting["creator"] = options["creator"]
    # At DEBUG, SQLAlchemy logs rows in spite of `hide_parameters`, and rows hold mobiles. The
    # separate logger keeps these rows out of a host's own debug log.
    logging.getLogger(f"sqlalchemy.engine.Engine.{_LOG_NAME}").setLevel(logging.WARNING)
    is_sqlite = host.dialect.name == "sqlite"
    if is_sqlite:
        connecting["connect_args"]["timeout"] = lock_seconds
    else:
        connecting |= {"isolation_level": "READ COMMITTED", "pool_pre_ping": True}
    engine = create_engine(
        host.url,
        **connecting,
        hide_parameters=True,
        logging_name=_LOG_NAME,
        pool_size=5,
        max_overflow=15 if is_sqlite else 10,
        # A connection is returned when its transaction ends, and that may wait for a lock.
        pool_timeout=lock_seconds * 1.5,
    )
    if is_sqlite:
        event.listen(engine, "connect", _take_over_transactions)
        event.listen(engine, "begin", _begin_immediately)
    else:
        event.listen(engine, "connect", _limit_lock_waits(host.dialect.name, lock_seconds))
    return engine


def _take_over_transactions(connection: sqlite3.Connection, _record: object) -> None:
    """Stop the driver from beginning transactions: it does so only before the first write."""
    connection.isolation_level = None


def _begin_immediately(connection: Connection) -> None:
    """Take SQLite's write lock at the start, so that no transaction fails on a later upgrade."""
    is_read_only = connection.get_execution_options().get(READ_ONLY)
    connection.exec_driver_sql("BEGIN" if is_read_only else "BEGIN IMMEDIATE")


def _limit_lock_waits(dialect: str, seconds: float) -> Callable[[Any, object], None]:
    """Return a listener that limits how long a server lets a statement wait for a lock."""
    statement = (
        f"SET lock_timeout = '{seconds:.0f}s'"
        if dialect == "postgresql"
        else f"SET SESSION innodb_lock_wait_timeout = {seconds:.0f}"
    )

    def on_connect(connection: Any, _record: object) -> None:
        with contextlib.closing(connection.cursor()) as cursor:
            cursor.execute(statement)
        connection.commit()

    return on_connect
