"""Tables for tests, created from DDL that is compiled once for each database."""

from __future__ import annotations

import re
from functools import cache
from sqlite3 import Connection, connect

from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import Dialect, MetaData, inspect
from sqlalchemy.dialects.mysql.base import MySQLDialect
from sqlalchemy.schema import CreateIndex, CreateTable


def create_tables(database: SQLAlchemy) -> None:
    """Create the tables as `create_all` does, in an app context.

    `create_all` takes longer to compile the statements than the database takes to run them.
    """
    engine, metadata = database.engine, database.metadata
    is_plain = len(database.metadatas) == 1 and not engine.get_execution_options()
    if not is_plain or inspect(engine).get_table_names():
        database.create_all()
        return
    key = _Key(engine.dialect)
    if key.is_sqlite:
        template = _sqlite_template(metadata, tuple(metadata.tables), key)
        with engine.connect() as connection:
            template.backup(connection.connection.driver_connection)
        return
    with engine.begin() as connection:
        for statement in _ddl(metadata, tuple(metadata.tables), key):
            connection.exec_driver_sql(statement)


class _Key:
    """A dialect as a cache key. Dialects of the same driver and kind of server are equal."""

    def __init__(self, dialect: Dialect) -> None:
        self.dialect = dialect
        is_mariadb = isinstance(dialect, MySQLDialect) and dialect.is_mariadb
        quote = dialect.identifier_preparer.initial_quote  # another one in some modes of MariaDB
        self._name = (dialect.name, dialect.driver, is_mariadb, quote)
        self.is_sqlite = dialect.name == "sqlite"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and self._name == other._name

    def __hash__(self) -> int:
        return hash(self._name)


@cache
def _sqlite_template(metadata: MetaData, tables: tuple[str, ...], key: _Key) -> Connection:
    """Return a database with the tables. Copying its pages is faster than creating the tables."""
    template = connect(":memory:", check_same_thread=False)
    for statement in _ddl(metadata, tables, key):
        template.execute(statement)
    return template


@cache
def _ddl(metadata: MetaData, _tables: tuple[str, ...], key: _Key) -> list[str]:
    """Return the statements that create the tables.

    :param _tables: the names of the tables, because a test may add one.
    """
    statements = []
    for table in metadata.sorted_tables:
        create = str(CreateTable(table).compile(dialect=key.dialect))
        indexes = [str(CreateIndex(one).compile(dialect=key.dialect)) for one in table.indexes]
        if key.dialect.name in ("mysql", "mariadb"):
            # On these databases, each further statement on a table takes milliseconds.
            create = _with_indexes(create, indexes)
            indexes = []
        statements += [create, *indexes]
    return statements


def _with_indexes(create: str, indexes: list[str]) -> str:
    """Return a CREATE TABLE statement that includes the indexes of CREATE INDEX statements."""
    columns, end = create.rsplit("\n)", 1)
    inside = [
        re.sub(r"^CREATE (UNIQUE )?INDEX (\S+) ON \S+", r"\1INDEX \2", one) for one in indexes
    ]
    return ",\n".join([columns, *inside]) + "\n)" + end
