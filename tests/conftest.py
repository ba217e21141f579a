"""Fixtures for every test: databases, and the one that builds an app."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import leaks
import pytest
import services
import sqlalchemy
from filelock import FileLock
from flask import Flask
from flask.testing import FlaskClient
from hostapp import User, create_app, db
from sqlalchemy import make_url

from flask_smsverify.simulator import Simulator, Timing, running

DATABASES = ("sqlite", "postgresql", "mariadb")


def pytest_configure(config: pytest.Config) -> None:
    if services.REQUIRE_ALL and services.missing():
        raise pytest.UsageError("these must be there and are not: " + ", ".join(services.missing()))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    gone = services.missing()
    said = "not there, so not tested with: " + ", ".join(gone) if gone else "all were there"
    terminalreporter.write_line(f"services: {said}")


@pytest.fixture(autouse=True)
def nothing_leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    """No test makes us log, raise or answer a code or a whole mobile (case 17)."""
    with leaks.listening() as heard:
        yield
    assert bool(heard.found()) is bool(request.node.get_closest_marker("talks")), heard.found()


def needs(service: str) -> pytest.MarkDecorator:
    """Leave a test out where a server is not there; `SMSTESTS_REQUIRE=all` forbids that."""
    return pytest.mark.skipif(
        not services.is_there(service), reason=f"{services.SERVICES[service].name} does not answer"
    )


def database_params(*kinds: str) -> list[Any]:
    """Parameters for the `database` fixture."""
    return [
        pytest.param(kind, marks=[] if kind == "sqlite" else [needs(kind)])
        for kind in kinds or DATABASES
    ]


@pytest.fixture(scope="session")
def server_databases() -> Iterator[dict[str, str]]:
    """A fresh database on each server that answers: kind → its URL."""
    name = f"smsverify_test_{os.getpid()}"
    urls = {}
    for kind, admin_url in (("postgresql", services.POSTGRESQL), ("mariadb", services.MARIADB)):
        if services.is_there(kind):
            _administer(admin_url, f"CREATE DATABASE {name}")
            urls[kind] = make_url(admin_url).set(database=name).render_as_string(False)
    yield urls
    for kind, admin_url in (("postgresql", services.POSTGRESQL), ("mariadb", services.MARIADB)):
        if kind in urls:
            _administer(
                admin_url,
                f"DROP DATABASE {name}" + (" WITH (FORCE)" if kind == "postgresql" else ""),
            )


def _administer(url: str, statement: str) -> None:
    engine = sqlalchemy.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(statement)
    engine.dispose()


@pytest.fixture(params=database_params())
def database(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    server_databases: dict[str, str],
) -> Iterator[str]:
    """The URL of an empty database; the test runs once for each kind.

    A test that races has the server to itself among those that race: two of them would open more
    connections than PostgreSQL takes, which is 100 where nobody says otherwise.
    """
    races = request.node.get_closest_marker("race") is not None and request.param != "sqlite"
    shared = tmp_path_factory.getbasetemp().parent  # one for all workers of a run
    with FileLock(shared / f"{request.param}.lock") if races else nullcontext():
        yield _empty(request.param, tmp_path, server_databases)


@pytest.fixture
def sqlite(tmp_path: Path) -> str:
    """The URL of an empty SQLite file, for tests that no database could change."""
    return _empty("sqlite", tmp_path, {})


def _empty(kind: str, tmp_path: Path, servers: dict[str, str]) -> str:
    if kind == "sqlite":
        return f"sqlite:///{tmp_path / 'test.sqlite'}"
    engine = sqlalchemy.create_engine(servers[kind])
    metadata = sqlalchemy.MetaData()
    metadata.reflect(engine)
    metadata.drop_all(engine)
    engine.dispose()
    return servers[kind]


MakeApp = Callable[..., Flask]


@pytest.fixture
def make_app() -> Iterator[MakeApp]:
    """Builds apps: `make_app(database_url, **config)`; makes the tables, closes everything."""
    made: list[Flask] = []

    def make(database_url: str, *, users: int = 1, **config: Any) -> Flask:
        app = create_app(database_url, **config)
        made.append(app)
        with app.app_context():
            db.create_all()
            if config.get("user_model", User) is User:
                db.session.add_all(
                    User(mobile=f"0912345{number:04}") for number in range(1, users + 1)
                )
                db.session.commit()
        return app

    yield make
    for app in made:
        app.extensions["smsverify"].close()
        with app.app_context():
            db.session.remove()
            for engine in db.engines.values():
                engine.dispose()


@pytest.fixture
def app(make_app: MakeApp, sqlite: str) -> Flask:
    """The host app on SQLite with the default settings and one user, 0912 345 0001."""
    return make_app(sqlite)


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """A browser that is logged in as user 1."""
    browser = app.test_client()
    browser.get("/login/1")
    return browser


@pytest.fixture(scope="session")
def _simulator() -> Iterator[Simulator]:
    with running(timing=Timing(slow=0.2, timeout=20)) as simulator:
        yield simulator


@pytest.fixture
def simulator(_simulator: Simulator) -> Simulator:
    """A simulator of the gateways that has seen nothing yet."""
    _simulator.reset()
    return _simulator
