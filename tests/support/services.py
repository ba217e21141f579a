"""The servers that the tests can use.

If a server does not answer, the tests that need it are skipped, and the last line of the output
names it. With `SMSTESTS_REQUIRE=all` the run fails instead. The addresses are those of
`compose.yaml`. Environment variables replace them.
"""

from __future__ import annotations

import os
import shutil
import socket
from dataclasses import dataclass

import sqlalchemy

REQUIRE_ALL = os.environ.get("SMSTESTS_REQUIRE") == "all"
#: Whether to look for servers at all. `make test-fast` does not.
USE_SERVICES = os.environ.get("SMSTESTS_SERVICES") != "none"

# TLS is off, because its handshake takes longer than most queries of a test.
POSTGRESQL = os.environ.get(
    "SMSTESTS_POSTGRESQL", "postgresql+psycopg://postgres@127.0.0.1:5432/postgres?sslmode=disable"
)
MARIADB = os.environ.get(
    "SMSTESTS_MARIADB", "mysql+pymysql://root@127.0.0.1:3306/?ssl_disabled=true"
)
REDIS = ("127.0.0.1", 6379)
RABBITMQ = ("127.0.0.1", 5672)
#: The headless shell renders the same pages with half the work.
CHROMIUM = (
    os.environ.get("SMSTESTS_CHROMIUM")
    or shutil.which("chromium-headless-shell")
    or shutil.which("chromium")
    or shutil.which("chromium-browser")
    or shutil.which("google-chrome")
)


@dataclass(frozen=True)
class Service:
    name: str
    answers: bool


def _database_answers(url: str) -> bool:
    engine = sqlalchemy.create_engine(url, connect_args={"connect_timeout": 2})
    try:
        with engine.connect():
            return True
    except sqlalchemy.exc.OperationalError:
        return False
    finally:
        engine.dispose()


def _port_answers(address: tuple[str, int]) -> bool:
    try:
        with socket.create_connection(address, timeout=2):
            return True
    except OSError:
        return False


SERVICES = {
    "postgresql": Service("PostgreSQL", USE_SERVICES and _database_answers(POSTGRESQL)),
    "mariadb": Service("MariaDB", USE_SERVICES and _database_answers(MARIADB)),
    "redis": Service("Redis", USE_SERVICES and _port_answers(REDIS)),
    "rabbitmq": Service("RabbitMQ", USE_SERVICES and _port_answers(RABBITMQ)),
    "chromium": Service("Chromium", USE_SERVICES and CHROMIUM is not None),
}


def missing() -> list[str]:
    """The names of the servers that do not answer."""
    return [service.name for service in SERVICES.values() if not service.answers]


def is_there(key: str) -> bool:
    return SERVICES[key].answers
