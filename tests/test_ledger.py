"""The ledger: transactions of our own beside the host's, and what a sick database does to them."""

from __future__ import annotations

import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from typing import Any

import flask_migrate
import pytest
import sqlalchemy
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from flows import MEMORY, Flow, flow_of
from hostapp import User, create_app, db
from parallel import guess, outcome, race, send_to
from sqlalchemy import exc, text

from flask_smsverify import SMSVerify
from flask_smsverify.errors import ConfigurationError, StoreUnavailable, UncommittedWrites
from flask_smsverify.ledger import Ledger
from flask_smsverify.models import Base, Budget, UsedToken, Verification

MakeApp = Callable[..., Flask]
DOWN = {
    "postgresql": "postgresql+psycopg://postgres@127.0.0.1:1/none",
    "mariadb": "mysql+pymysql://root@127.0.0.1:1/none",
    "sqlite": "sqlite:////nowhere/at/all.sqlite",
}


@pytest.fixture
def make_flow(make_app: MakeApp) -> Iterator[Callable[..., Flow]]:
    with ExitStack() as stack:

        def make(url: str, **config: Any) -> Flow:
            app = make_app(url, **{"SMSVERIFY_SENDERS": MEMORY, **config})
            stack.enter_context(app.app_context())
            return flow_of(app)

        yield make


# --- a database that does not answer --------------------------------------------------------------


@pytest.mark.parametrize("kind", DOWN)
def test_a_database_that_is_down_sends_and_compares_nothing(
    make_flow: Callable[..., Flow], sqlite: str, kind: str
) -> None:
    """Case 25 of docs/safety.md."""
    flow = make_flow(sqlite)
    challenge = flow.start()
    user = flow.user()
    down = Ledger(sqlalchemy.create_engine(DOWN[kind]))
    flow.state.verifier._parts.ledger = flow.state.budgets._ledger = flow.state.delivery._ledger = (
        down
    )
    for act in (
        lambda: flow.verifier.start(user),
        lambda: flow.verifier.start_for("09120000000", purpose="sign-up"),
        lambda: flow.verifier.resend(challenge),
        lambda: flow.verifier.check(challenge, flow.code(challenge)),
        lambda: flow.verifier.check(user, flow.code(challenge)),
        lambda: flow.verifier.status(user),
        lambda: flow.verifier.revoke(user, by="staff"),
    ):
        began = time.monotonic()
        with pytest.raises(StoreUnavailable) as caught:
            act()
        assert time.monotonic() - began < 5
        assert "9123450001" not in str(caught.value)
    assert len(flow.memory.messages) == 1


def test_missing_tables_are_a_wrong_configuration_that_names_the_mend(
    make_flow: Callable[..., Flow], database: str
) -> None:
    flow = make_flow(database)
    user = flow.user()
    db.session.commit()
    with db.engine.begin() as connection:
        Base.metadata.drop_all(connection)
    for act in (lambda: flow.verifier.start(user), lambda: flow.verifier.check(user, "123456")):
        with pytest.raises(ConfigurationError, match="flask db migrate"):
            act()
    assert flow.memory.messages == []


def test_connections_that_the_server_dropped_are_made_anew(
    make_flow: Callable[..., Flow], database: str
) -> None:
    flow = make_flow(database)
    if flow.state.ledger.dialect == "sqlite":
        flow.state.ledger.close()
    else:
        flow.start()
        me = db.session.execute(
            text(
                "SELECT pg_backend_pid()"
                if flow.state.ledger.dialect == "postgresql"
                else "SELECT connection_id()"
            )
        ).scalar_one()
        _kill_others(flow.state.ledger.dialect, me)
        flow.clock.advance(31)
    assert flow.start().state == "pending"


def _kill_others(dialect: str, me: int) -> None:
    if dialect == "postgresql":
        db.session.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> :me"
            ),
            {"me": me},
        )
        return
    others = db.session.execute(
        text("SELECT id FROM information_schema.processlist WHERE db = database() AND id <> :me"),
        {"me": me},
    )
    for other in others.scalars().all():
        db.session.execute(text(f"KILL {int(other)}"))


# --- what may be tried again ----------------------------------------------------------------------


class _OriginalError(Exception):
    def __init__(self, sqlstate: str | None = None, pgcode: str | None = None, *args: Any) -> None:
        super().__init__(*args)
        self.sqlstate, self.pgcode = sqlstate, pgcode


@pytest.mark.parametrize(
    ("error", "runs", "end"),
    [
        (exc.OperationalError("", {}, _OriginalError("40P01")), 8, StoreUnavailable),
        (exc.OperationalError("", {}, _OriginalError(None, "40P01")), 8, StoreUnavailable),
        (exc.OperationalError("", {}, _OriginalError(None, None, 1213)), 8, StoreUnavailable),
        (exc.IntegrityError("", {}, _OriginalError()), 8, StoreUnavailable),
        (exc.OperationalError("", {}, _OriginalError("55P03")), 1, StoreUnavailable),
        (exc.OperationalError("", {}, _OriginalError(None, None, 1205)), 1, StoreUnavailable),
        (exc.InternalError("", {}, _OriginalError()), 1, StoreUnavailable),
        (exc.TimeoutError(), 1, StoreUnavailable),
        (exc.ProgrammingError("", {}, _OriginalError("42P01")), 1, ConfigurationError),
        (exc.ProgrammingError("", {}, _OriginalError(None, "42P01")), 1, ConfigurationError),
        (exc.ProgrammingError("", {}, _OriginalError(None, None, 1146)), 1, ConfigurationError),
        (exc.ProgrammingError("", {}, _OriginalError("42601")), 1, exc.ProgrammingError),
        (exc.DataError("", {}, _OriginalError("22001")), 1, exc.DataError),
    ],
)
def test_only_what_passes_is_tried_again_and_never_for_ever(
    app: Flask, error: Exception, runs: int, end: type[Exception]
) -> None:
    ran = []

    def work(_session: object) -> None:
        ran.append(1)
        raise error

    with pytest.raises(end):
        app.extensions["smsverify"].ledger.run(work)
    assert len(ran) == runs


def test_a_second_try_starts_from_nothing(make_app: MakeApp, database: str) -> None:
    ledger = make_app(database).extensions["smsverify"].ledger
    now = datetime.now(UTC)
    tries = []

    def work(session: Any) -> None:
        tries.append(1)
        session.add(UsedToken(digest="a", until=now))
        session.flush()
        if len(tries) < 3:
            raise exc.IntegrityError("", {}, _OriginalError())

    ledger.run(work)
    assert len(tries) == 3
    assert ledger.read(lambda session: session.query(UsedToken).count()) == 1


def test_what_raises_in_the_middle_writes_nothing(make_app: MakeApp, database: str) -> None:
    ledger = make_app(database).extensions["smsverify"].ledger

    def work(session: Any) -> None:
        session.add(UsedToken(digest="a", until=datetime.now(UTC)))
        session.flush()
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError):
        ledger.run(work)
    assert ledger.read(lambda session: session.query(UsedToken).count()) == 0
    assert ledger.engine.pool.checkedout() == 0


@pytest.mark.race
def test_rows_that_are_there_are_left_alone(make_app: MakeApp, database: str) -> None:
    ledger = make_app(database).extensions["smsverify"].ledger
    now = datetime.now(UTC)
    row = {"id": "a" * 40, "scope": "site", "spent": "{}", "used_at": now}
    ledger.insert_ignoring(Budget, [row])
    ends = race(12, lambda _: ledger.insert_ignoring(Budget, [row | {"spent": "other"}]))
    assert ends == {"ok": 12}
    assert ledger.read(lambda session: session.get(Budget, "a" * 40)).spent == "{}"


# --- beside the host's session --------------------------------------------------------------------


def test_on_sqlite_a_host_with_uncommitted_writes_is_told_at_once(
    make_app: MakeApp, sqlite: str
) -> None:
    app = make_app(sqlite, users=2)
    verifier = app.extensions["smsverify"].verifier
    with app.app_context():
        user, other = db.session.get(User, 1), db.session.get(User, 2)
        challenge = verifier.start(user)
        user.note = "not committed"
        db.session.flush()
        for act in (lambda: verifier.start(other), lambda: verifier.check(challenge, "123456")):
            began = time.monotonic()
            with pytest.raises(UncommittedWrites, match="commit"):
                act()
            assert time.monotonic() - began < 4
        db.session.commit()
        assert outcome(lambda: verifier.check(challenge, "123456")) in ("WrongCode", "ok")


def test_what_is_only_pending_in_the_hosts_session_does_not_stand_in_the_way(app: Flask) -> None:
    with app.app_context():
        user = db.session.get(User, 1)
        db.session.add(User(id=99))
        with db.session.no_autoflush:
            assert app.extensions["smsverify"].verifier.start(user).sends == 1


def test_a_server_takes_our_writes_beside_uncommitted_ones_of_the_host(
    make_flow: Callable[..., Flow], database: str
) -> None:
    flow = make_flow(database)
    user = flow.user()
    if flow.state.ledger.dialect == "sqlite":
        return  # has one writer; the tests above
    user.note = "not committed"
    db.session.flush()
    challenge = flow.verifier.start(user)
    db.session.rollback()
    assert flow.verifier.load(challenge.id).state == "pending"
    assert flow.user().note is None


# --- in memory ------------------------------------------------------------------------------------


def test_in_memory_a_whole_proof_works(make_flow: Callable[..., Flow]) -> None:
    flow = make_flow("sqlite://")
    assert flow.prove().mobile == "+989123450001"
    assert flow.verifier.status(flow.user()).state == "verified"


def test_in_memory_reading_ends_no_transaction_of_the_hosts(
    make_flow: Callable[..., Flow],
) -> None:
    flow = make_flow("sqlite://")
    user = flow.user()
    user.note = "not committed"
    db.session.flush()
    assert flow.verifier.status(user).state == "unverified"
    db.session.rollback()
    assert flow.user().note is None
    flow.user().note = "committed"
    db.session.flush()
    flow.verifier.status(flow.user())
    db.session.commit()
    assert flow.user().note == "committed"


def test_in_memory_a_host_with_uncommitted_writes_is_told(make_flow: Callable[..., Flow]) -> None:
    flow = make_flow("sqlite://")
    flow.user().note = "not committed"
    db.session.flush()
    with pytest.raises(UncommittedWrites):
        flow.start()
    db.session.rollback()
    assert flow.user().note is None


@pytest.mark.race
def test_in_memory_threads_whose_sessions_end_meanwhile_lose_no_attempt(
    make_app: MakeApp,
) -> None:
    """A rollback on the one connection would end another thread's half-done transaction."""
    app = make_app("sqlite://", users=1, SMSVERIFY_SENDERS=MEMORY)
    with app.app_context():
        flow = flow_of(app)
        challenge = flow.start()
        wrong = flow.wrong(challenge)
        db.session.remove()
    over = threading.Event()

    def come_and_go() -> None:
        while not over.is_set():
            with app.app_context():
                db.session.execute(text("SELECT 1"))

    noise = [threading.Thread(target=come_and_go) for _ in range(4)]
    for thread in noise:
        thread.start()
    try:
        ends = race(20, lambda _: guess(app, challenge.id, wrong))
    finally:
        over.set()
        for thread in noise:
            thread.join()
    assert ends == {"WrongCode": 5, "TooManyAttempts": 15}


def test_closing_leaves_the_hosts_database_in_memory_where_it_is(
    make_flow: Callable[..., Flow],
) -> None:
    flow = make_flow("sqlite://")
    flow.state.ledger.close()
    assert flow.user().mobile == "09123450001"


# --- a schema, migrations, types ------------------------------------------------------------------


def test_a_schema_of_the_hosts_metadata_is_ours_too(server_databases: dict[str, str]) -> None:
    """PostgreSQL: the host's metadata has a schema, and nothing of ours is outside it."""
    if "postgresql" not in server_databases:
        return  # the closing line of the run says that PostgreSQL was not there
    url = server_databases["postgresql"]
    schema = f"house_{os.getpid()}"
    own = SQLAlchemy(metadata=sqlalchemy.MetaData(schema=schema))

    class Person(own.Model):
        id = own.Column(own.Integer, primary_key=True)
        mobile = own.Column(own.String(32))

    app = Flask("house")
    app.config.update(
        SECRET_KEY="secret", TESTING=True, SQLALCHEMY_DATABASE_URI=url, SMSVERIFY_SENDERS=MEMORY
    )
    own.init_app(app)
    SMSVerify(app, own, user_model=Person)
    with app.app_context():
        try:
            with own.engine.begin() as connection:
                connection.exec_driver_sql(f"CREATE SCHEMA {schema}")
                connection.exec_driver_sql("DROP TABLE IF EXISTS smsverify_verification")
            own.create_all()
            own.session.add(Person(id=1, mobile="09120000000"))
            own.session.commit()
            flow = flow_of(app)
            challenge = flow.verifier.start(own.session.get(Person, 1))
            flow.check(challenge, flow.code(challenge))
            assert flow.state.decide(own.session.get(Person, 1)).allowed
            inspector = sqlalchemy.inspect(own.engine)
            assert set(Base.metadata.tables) <= set(inspector.get_table_names(schema=schema))
            assert "smsverify_verification" not in inspector.get_table_names()
        finally:
            own.session.remove()
            app.extensions["smsverify"].close()
            with own.engine.begin() as connection:
                connection.exec_driver_sql(f"DROP SCHEMA {schema} CASCADE")
            own.engine.dispose()


def test_create_all_makes_our_tables(make_app: MakeApp, database: str) -> None:
    with make_app(database).app_context():
        assert set(Base.metadata.tables) <= set(sqlalchemy.inspect(db.engine).get_table_names())


# Flask-Migrate's own `env.py` asks Flask-SQLAlchemy the old way first.
@pytest.mark.filterwarnings("ignore:'get_engine' is deprecated:DeprecationWarning")
def test_a_migration_makes_our_tables_needs_no_import_of_ours_and_is_complete(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Flask-Migrate's `env.py` would disable every logger of this process.
    monkeypatch.setattr("logging.config.fileConfig", lambda *_: None)
    app = create_app(database, SMSVERIFY_SENDERS=MEMORY)
    flask_migrate.Migrate(app, db)
    folder = str(tmp_path / "migrations")
    try:
        with app.app_context():
            flask_migrate.init(folder)
            flask_migrate.migrate(folder, message="all")
            [script] = (tmp_path / "migrations" / "versions").glob("*.py")
            written = script.read_text()
            assert "flask_smsverify" not in written
            for name in Base.metadata.tables:
                assert f"create_table('{name}'" in written
            flask_migrate.upgrade(folder)
            db.session.remove()
            with db.engine.begin() as connection:
                connection.execute(sqlalchemy.insert(User).values(id=1, mobile="09120000000"))
            flow = flow_of(app)
            assert flow.prove().mobile == "+989120000000"
            db.session.remove()
            flask_migrate.migrate(folder, message="nothing")
            assert len(list((tmp_path / "migrations" / "versions").glob("*.py"))) == 1
            db.session.remove()
            flask_migrate.downgrade(folder)
            assert not set(Base.metadata.tables) & set(
                sqlalchemy.inspect(db.engine).get_table_names()
            )
    finally:
        app.extensions["smsverify"].close()
        with app.app_context():
            db.session.remove()
            db.engine.dispose()


def test_times_keep_their_microseconds_and_their_zone(
    make_flow: Callable[..., Flow], database: str
) -> None:
    flow = make_flow(database)
    tehran = timezone(timedelta(hours=3, minutes=30))
    written = [
        datetime(2026, 3, 29, 0, 30, 0, 123456, UTC),
        datetime(2026, 3, 29, 4, 0, 0, 654321, tehran),
        datetime(2030, 12, 31, 23, 59, 59, 999999, UTC),
    ]
    flow.state.ledger.run(
        lambda session: session.add_all(
            UsedToken(digest=f"{at}", until=when) for at, when in enumerate(written)
        )
    )
    read = [
        flow.state.ledger.read(lambda session, at=at: session.get(UsedToken, f"{at}")).until
        for at in range(3)
    ]
    assert read == written
    assert all(when.tzinfo is UTC for when in read)
    proved = flow.prove().verified_at
    db.session.rollback()  # MariaDB shows a transaction what was there at its start
    seen = db.session.execute(sqlalchemy.select(Verification.__table__.c.verified_at)).scalar_one()
    assert seen == proved == flow.clock.now


def test_a_time_without_a_zone_is_refused(app: Flask) -> None:
    row = UsedToken(digest="a", until=datetime(2026, 1, 1))  # noqa: DTZ001 -- what is refused here
    with pytest.raises(exc.StatementError, match="without a zone"):
        app.extensions["smsverify"].ledger.run(lambda session: session.add(row))


# --- many at once ---------------------------------------------------------------------------------

SOAK_SECONDS = float(os.environ.get("SMSTESTS_SOAK_SECONDS", "3"))
OURS = {
    "ok",
    "TooSoon",
    "BudgetSpent",
    "WrongCode",
    "NoChallenge",
    "TooManyAttempts",
    "CodeExpired",
    "MobileTaken",
    "AccountLocked",
}


def test_16_users_who_mix_everything_for_a_while_meet_only_errors_of_ours(
    make_app: MakeApp, database: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each holds a connection of the host's all the while, as Flask-Login's look-up does.

    `SMSTESTS_SOAK_SECONDS` lengthens it.
    """
    app = make_app(
        database,
        users=16,
        SQLALCHEMY_ENGINE_OPTIONS={"pool_size": 16},  # or one of them may wait for the 15 others
        SMSVERIFY_SENDERS=MEMORY,
        SMSVERIFY_RESEND_DELAYS=(1,),
        SMSVERIFY_SENDS_IN_FLIGHT=64,
        SMSVERIFY_MOBILE_POLICY="transfer",
        SMSVERIFY_CONSECUTIVE_FAILURES=1_000_000,
        SMSVERIFY_BUDGETS={
            "mobile": "100000/hour",
            "user": None,
            "mobiles_per_user": None,
            "site": "1000000/day",
            "failures": "100000/day",
            "site_failures": "1000000/hour",
        },
    )
    ends: Counter[str] = Counter()
    lock = threading.Lock()
    over = time.monotonic() + SOAK_SECONDS

    def visit(number: int) -> None:
        at = 0
        while time.monotonic() < over:
            at += 1
            end = outcome(partial(_visit, app, number + 1, at))
            with lock:
                ends[end] += 1

    assert race(16, visit) == {"ok": 16}
    with capsys.disabled():
        if SOAK_SECONDS > 10:
            print(f"\n{app.extensions['smsverify'].ledger.dialect}: {dict(ends)}")  # noqa: T201 -- a report that was asked for
    app.extensions["smsverify"].delivery.settle()
    assert set(ends) <= OURS, ends
    assert sum(ends.values()) > 16
    assert app.extensions["smsverify"].ledger.engine.pool.checkedout() == 0


def _visit(app: Flask, number: int, at: int) -> None:
    with app.app_context():
        user = db.session.get(User, number)
        verifier = app.extensions["smsverify"].verifier
        mobile = f"09120000{(number * 7 + at) % 8:03}"
        step = random.Random(number * 100_000 + at).randrange(6)
        if step == 0:
            verifier.start(user, mobile=mobile, ip=f"192.0.2.{at % 4}")
        elif step == 1 and (latest := verifier.latest(user)) is not None:
            verifier.resend(latest, channel="voice", ip="192.0.2.1")
        elif step in (2, 3) and (latest := verifier.latest(user)) is not None:
            right = verifier._challenges.own_code(latest)  # the tests stand in for the phone
            verifier.check(user, right if step == 2 else right[1:] + "0", ip="192.0.2.1")
        elif step == 4:
            verifier.start_for(mobile, purpose=f"sign-up {number}")
        else:
            verifier.status(user)


def test_a_transaction_that_somebody_holds_for_ever_is_a_store_that_is_unavailable(
    make_app: MakeApp, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flask_smsverify.ledger.LOCK_SECONDS", 1)
    app = make_app(database, SMSVERIFY_SENDERS=MEMORY)
    with app.app_context():
        flow = flow_of(app)
        flow.start()
        flow.clock.advance(31)
        db.session.remove()
        other = sqlalchemy.create_engine(database)
        with other.connect() as holder, holder.begin():
            if other.dialect.name == "sqlite":
                holder.exec_driver_sql("BEGIN IMMEDIATE")
            else:
                holder.exec_driver_sql("SELECT * FROM smsverify_budget FOR UPDATE")
            began = time.monotonic()
            assert outcome(lambda: send_to(app, 1, None)) == "StoreUnavailable"
            assert time.monotonic() - began < 6
        other.dispose()
        assert len(flow.memory.messages) == 1
        send_to(app, 1, None)
        assert len(flow.memory.messages) == 2
