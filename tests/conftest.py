"""Fixtures for all tests: databases, apps, the simulator and the check for leaks."""

from __future__ import annotations

import gc
import os
import sqlite3
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any

import leaks
import openapi_watch
import parallel
import pytest
import services
import sqlalchemy
from examples import examples
from filelock import FileLock
from flask import Flask
from flask.testing import FlaskClient
from flows import MEMORY, Flow, Native, flow_of
from hostapp import User, create_app, db
from hypothesis import HealthCheck, settings
from schema import create_tables
from sqlalchemy import event, make_url

from flask_smsverify.simulator import Simulator, Timing, running

DATABASES = ("sqlite", "postgresql", "mariadb")


def pytest_configure(config: pytest.Config) -> None:
    if services.REQUIRE_ALL and services.missing():
        raise pytest.UsageError(
            "these services must be available and are not: " + ", ".join(services.missing())
        )
    # No test may depend on how fast the machine is.
    settings.register_profile(
        "tests",
        max_examples=examples(100),
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    settings.load_profile("tests")


def pytest_xdist_auto_num_workers() -> int:
    """Start two workers for each processor, because many tests wait for a server or a process.

    Without services few tests wait, and each worker first imports all tests.
    """
    return (2 if services.USE_SERVICES else 1) * (os.cpu_count() or 1)


def pytest_collection_finish() -> None:
    """Search for garbage less often, because a quarter of the time of a test with an app is that.

    Every module that is loaded now stays, and need not be searched.
    """
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


@event.listens_for(sqlalchemy.Engine, "connect")
def _do_not_wait_for_the_disk(connection: Any, _record: object) -> None:
    """Files of SQLite are written without a flush: no test needs them after a loss of power."""
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA synchronous = OFF")


#: Engines by their first connection since the last test, and those that fixtures of modules use.
_used_engines: dict[sqlalchemy.Engine, None] = {}
_shared_engines: weakref.WeakSet[sqlalchemy.Engine] = weakref.WeakSet()


@event.listens_for(sqlalchemy.Engine, "engine_connect")
def _remember_engine(connection: sqlalchemy.Connection) -> None:
    if connection.engine not in _shared_engines:
        _used_engines.setdefault(connection.engine)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    missing = services.missing()
    result = "skipped tests that need " + ", ".join(missing) if missing else "all are available"
    terminalreporter.write_line(f"services: {result}")


@pytest.fixture(autouse=True)
def engines_are_disposed() -> Iterator[None]:
    """Close the connections of every engine that only this test uses.

    Since Python 3.13 a connection of SQLite that is left open is a ResourceWarning, in whichever
    test happens to run when it is collected.
    """
    _shared_engines.update(list(_used_engines))  # threads may add to it
    _used_engines.clear()
    yield
    while _used_engines:
        engine, _ = _used_engines.popitem()
        engine.dispose()


@pytest.fixture(autouse=True)
def nothing_leaks(request: pytest.FixtureRequest, engines_are_disposed: None) -> Iterator[None]:
    """Fail a test if a log, an error or a response contains a code or a whole mobile (case 17)."""
    with leaks.watch() as watched:
        yield
    expected = request.node.get_closest_marker("leaks") is not None
    assert bool(watched.found()) is expected, watched.found()


@pytest.fixture(autouse=True)
def responses_are_documented(engines_are_disposed: None) -> Iterator[None]:
    """Fail a test if a JSON response of the pages is not in the OpenAPI document."""
    with openapi_watch.watch() as answers:
        yield
    if answers:
        assert openapi_watch.everything().deviations(answers) == []


def needs(service: str) -> pytest.MarkDecorator:
    """Skip a test if a service is missing; `SMSTESTS_REQUIRE=all` forbids that."""
    return pytest.mark.skipif(
        not services.is_there(service), reason=f"{services.SERVICES[service].name} does not answer"
    )


def database_params(*kinds: str) -> list[Any]:
    """Return parameters for the `database` fixture."""
    return [
        pytest.param(kind, marks=[] if kind == "sqlite" else [needs(kind)])
        for kind in kinds or DATABASES
    ]


@pytest.fixture(scope="session")
def server_databases() -> Iterator[dict[str, str]]:
    """Create a database on each available server: kind → its URL."""
    name = f"smsverify_test_{os.getpid()}"
    urls = {}
    for kind, admin_url in (("postgresql", services.POSTGRESQL), ("mariadb", services.MARIADB)):
        if services.is_there(kind):
            # A run that was killed may have left a database with the same process id.
            _administer(admin_url, f"DROP DATABASE IF EXISTS {name}", f"CREATE DATABASE {name}")
            urls[kind] = make_url(admin_url).set(database=name).render_as_string(False)
    yield urls
    for kind, admin_url in (("postgresql", services.POSTGRESQL), ("mariadb", services.MARIADB)):
        if kind in urls:
            _administer(
                admin_url,
                f"DROP DATABASE {name}" + (" WITH (FORCE)" if kind == "postgresql" else ""),
            )


def _administer(url: str, *statements: str) -> None:
    engine = sqlalchemy.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
    engine.dispose()


@pytest.fixture(params=database_params())
def database(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    server_databases: dict[str, str],
) -> Iterator[str]:
    """Return the URL of an empty database; the test runs once for each kind.

    Only one test marked `race` uses a server at a time: two would open more connections than
    PostgreSQL allows by default, which is 100.
    """
    is_race = request.node.get_closest_marker("race") is not None and request.param != "sqlite"
    shared = tmp_path_factory.getbasetemp().parent  # one for all workers of a run
    with FileLock(shared / f"{request.param}.lock") if is_race else nullcontext():
        yield _empty(request.param, tmp_path, server_databases)


@pytest.fixture
def sqlite(tmp_path: Path) -> str:
    """Return the URL of an empty SQLite file, for tests that do not depend on the database."""
    return _empty("sqlite", tmp_path, {})


def _empty(kind: str, tmp_path: Path, servers: dict[str, str]) -> str:
    if kind == "sqlite":
        return f"sqlite:///{tmp_path / 'test.sqlite'}"
    url = make_url(servers[kind])
    if kind == "postgresql":
        _administer(servers[kind], "DROP SCHEMA public CASCADE", "CREATE SCHEMA public")
    else:
        statements = f"DROP DATABASE {url.database}", f"CREATE DATABASE {url.database}"
        _administer(servers[kind], *statements)
    return servers[kind]


MakeApp = Callable[..., Flask]


@pytest.fixture
def make_app() -> Iterator[MakeApp]:
    """Return the app factory, `make_app(database_url, **config)`. It creates the tables."""
    made: list[Flask] = []

    def make(database_url: str, *, users: int = 1, **config: Any) -> Flask:
        app = create_app(database_url, **config)
        made.append(app)
        with app.app_context():
            create_tables(db)
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
    """Return the host app on SQLite, with the default settings and one user, 0912 345 0001."""
    return make_app(sqlite)


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """Return a browser that is logged in as user 1."""
    browser = app.test_client()
    browser.get("/login/1")
    return browser


@pytest.fixture(scope="session")
def _simulator() -> Iterator[Simulator]:
    with running(timing=Timing(slow=0.2, timeout=20)) as simulator:
        yield simulator


@pytest.fixture
def simulator(_simulator: Simulator) -> Simulator:
    """Return the simulator of the gateways, reset."""
    _simulator.reset()
    return _simulator


# --- flows and processes -------------------------------------------------------------------------


@pytest.fixture(scope="session")
def processes() -> Iterator[parallel.Processes]:
    with parallel.processes() as processes:
        yield processes


@pytest.fixture
def make_flow(make_app: Callable[..., Any]) -> Iterator[Callable[..., Flow]]:
    """Return the factory of flows, `make_flow(database_url, **config)`, with a fixed clock."""
    with ExitStack() as stack:

        def make(url: str, **config: Any) -> Flow:
            app = make_app(url, **{"SMSVERIFY_SENDERS": MEMORY, **config})
            stack.enter_context(app.app_context())
            return flow_of(app)

        yield make


@pytest.fixture
def flow(make_flow: Callable[..., Flow], sqlite: str) -> Flow:
    """Return a flow on SQLite, with the default settings and three users."""
    return make_flow(sqlite, users=3)


@pytest.fixture
def native_flow(make_flow: Callable[..., Flow], sqlite: str) -> tuple[Flow, Native]:
    """Return a flow with four users, and the native gateway of its only sender."""
    flow = make_flow(sqlite, users=4, SMSVERIFY_ACCOUNTS_PER_MOBILE=0)
    native = Native()
    flow.route(native)
    return flow, native
