"""What a code costs: requests that send and check it, beside requests that do nothing.

    python tests/benchmarks/code_cycle.py [--database URL] [--threads N] [--old-rows N]

Prints the time of a cycle, which is a JSON request that sends a code and one that checks it, and of
two requests of the same app that only load the user: the floor that Flask and Flask-Login set. Then
it prints the time of a view that needs a login, of one that also reads the verification by a SELECT
written by hand, and of guarded views. The cases take turns, so that other load on the machine slows
all of them, and only ratios count.

Each visitor has an address of its own. `--threads` compares the cycles a second of so many threads
with those of one, in an app whose pool has so many connections. `--old-rows` fills a
second database with so many old verifications, challenges, messages, attempts, sends and guesses,
and compares it with the empty one. It needs the PostgreSQL server of `SMSTESTS_POSTGRESQL`. All
limits are on, and so high that they refuse nothing here.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

import services
import sqlalchemy
from flask import Flask, abort
from flask.testing import FlaskClient
from flask_login import current_user, login_required
from hostapp import User, create_app, db
from visiting import CHECK, SEND, api, browser

from flask_smsverify.db.models import Verification
from flask_smsverify.delivery import Routes
from flask_smsverify.senders.base import CodeMessage, DeliveryState, Receipt
from flask_smsverify.senders.memory import Memory

#: Old rows, from two days ago on, so that none counts against a limit any more. The oldest is added
#: first. Ids begin with the time, and mobiles and keys are spread, as in the rows of an app.
AT = "now() - interval '2 days' - n * interval '1 second'"
AT_MS = f"(extract(epoch FROM {AT}) * 1000)::bigint"
ROWS = "FROM generate_series(CAST(:rows AS int), 1, -1) n"
#: Odd, whereas those of the visitors are even.
MOBILE = "'+98912' || lpad((n::bigint * 7919003 % 5000000 * 2 + 1)::text, 7, '0')"
ID = f"lpad(to_hex({AT_MS}), 12, '0') || substr(md5(n::text), 1, 20)"


def _key(of: str) -> str:
    """Return the SQL of a key of the usage log, which is a digest of 64 bits."""
    return f"('x' || substr(md5({of}), 1, 16))::bit(64)::bigint"


FILL = (
    f"""
    INSERT INTO smsverify_verification (user_id, mobile, verified_at, failures, created_at)
    SELECT 'old' || n, {MOBILE}, {AT}, 0, {AT} {ROWS}
    """,
    f"""
    INSERT INTO smsverify_challenge
        (id, user_id, mobile, purpose, key_id, code_length, generation, own_sent, channel, attempts,
         sends, state, created_at, expires_at, resend_at, open_key, native_key)
    SELECT {ID}, 'old' || n, {MOBILE}, 'verify', 'k', 6, 0, true, 'sms', 1, 1, 'verified',
           {AT}, {AT}, {AT}, {ID}, {ID} {ROWS}
    """,
    f"""
    INSERT INTO smsverify_message
        (id, kind, challenge_id, recipient, channel, state, tries, created_at, updated_at)
    SELECT {ID}, 'code', {ID}, {MOBILE}, 'sms', 'sent', 1, {AT}, {AT} {ROWS}
    """,
    f"""
    INSERT INTO smsverify_attempt
        (id, message_id, sender, native, state, checks, created_at, updated_at)
    SELECT {ID}, {ID}, 'memory', false, 'sent', 0, {AT}, {AT} {ROWS}
    """,
    f"""
    INSERT INTO smsverify_usage_send
        (at, site_at, site_count, open_count, mobile, by_owner, account, account_mobile, cooldown,
         ip, network, wide, challenge_id)
    SELECT {AT_MS}, {AT_MS}, (:rows - n) * 10, n, {_key("'m' || n")}, false, {_key("'a' || n")},
           {_key("'am' || n")}, {_key("'c' || n")}, {_key("'i' || n % 100000")},
           {_key("'n' || n % 10000")}, {_key("'w' || n % 1000")}, {ID}
    {ROWS}
    """,
    f"""
    INSERT INTO smsverify_usage_guess (at, site_at, subject, ip)
    SELECT {AT_MS}, {AT_MS}, {_key("'a' || n")}, {_key("'i' || n % 100000")} {ROWS}
    """,
)


#: Visitors for each second of a run with threads, more than can be served.
_PER_SECOND = 250


class Codes(Memory):
    """A sender that keeps the last code of each mobile."""

    def __init__(self) -> None:
        super().__init__()
        self.of: dict[str, str] = {}

    def send_code(self, message: CodeMessage) -> Receipt:
        self.of[message.to] = message.code
        return Receipt(message.to, DeliveryState.SENT, reference=message.reference)


class Visitor(NamedTuple):
    """A browser of a user who has logged in."""

    client: FlaskClient
    mobile: str


class Site:
    """An app whose users ask for one code each.

    :param users: how many users there are. Their keys begin with 1, and so do the visitors.
    :param prepare: adds views to the app.
    """

    def __init__(
        self,
        database: str,
        users: int,
        *,
        prepare: Callable[[Flask], None] | None = None,
        **config: object,
    ) -> None:
        limits = dict.fromkeys(("site", "network", "wide", "ip"), "100000000/day")
        prepare = prepare or _add_plain_views
        self.app = create_app(database, SMSVERIFY_LIMITS=limits, prepare=prepare, **config)
        self._phones = Codes()
        routes = Routes({"memory": self._phones}, {})
        self.app.extensions["smsverify"].delivery.use_routes(routes)
        with self.app.app_context():
            db.create_all()
            db.session.execute(
                sqlalchemy.insert(User),
                [{"id": key, "mobile": _mobile(key)} for key in range(1, users + 1)],
            )
            db.session.commit()
        self._keys = itertools.count(1)

    def visitor(self) -> Visitor:
        """Return a user who has asked for nothing yet."""
        key = next(self._keys)
        client = browser(self.app, key)
        client.environ_base = {**client.environ_base, "REMOTE_ADDR": _address(key)}
        return Visitor(client, _mobile(key))

    @property
    def engine(self) -> sqlalchemy.Engine:
        """The engine of the package."""
        engine: sqlalchemy.Engine = self.app.extensions["smsverify"].ledger.engine
        return engine

    def code_of(self, visitor: Visitor) -> str:
        """Return the last code that was sent to a user."""
        return self._phones.of[visitor.mobile]

    def cycle(self, visitor: Visitor) -> None:
        """Send a code to a user and check it."""
        sent = api(visitor.client, SEND)
        assert sent.status_code == 200, sent.text
        checked = api(visitor.client, CHECK, code=self.code_of(visitor))
        assert checked.json["state"] == "verified", checked.text

    def close(self) -> None:
        """Close the connections."""
        self.app.extensions["smsverify"].close()
        with self.app.app_context():
            db.engine.dispose()


def _mobile(key: int) -> str:
    return f"+98912{key * 7919003 % 5_000_000 * 2:07}"


def _address(key: int) -> str:
    return f"10.{key >> 16 & 255}.{key >> 8 & 255}.{key & 255}"


def _add_plain_views(app: Flask) -> None:
    row = Verification.__table__.c
    proof = sqlalchemy.select(row.mobile, row.verified_at, row.revoked_at).where(
        row.user_id == sqlalchemy.bindparam("user_id")
    )

    @app.route("/plain", methods=["GET", "POST"])
    @login_required
    def plain() -> dict[str, str]:
        return {"state": "verified"}

    @app.route("/by-hand")
    @login_required
    def by_hand() -> dict[str, str]:
        found = db.session.execute(proof, {"user_id": str(current_user.id)}).one()
        is_valid = found.verified_at > datetime.now(UTC) - timedelta(days=90)
        if not is_valid or found.revoked_at or found.mobile != current_user.mobile:
            abort(403)
        return {"state": "verified"}


def post_twice(visitor: Visitor) -> None:
    """Make two requests that load the user and do nothing else."""
    for _ in range(2):
        assert api(visitor.client, "/plain", code="123456").status_code == 200


def get(path: str, visitor: Visitor) -> None:
    assert visitor.client.get(path).status_code == 200


class Case(NamedTuple):
    """An action that is measured, for one visitor after the other.

    :param site: whose visitors act, each once; None for one visitor who acts each time.
    """

    act: Callable[[Visitor], object]
    site: Site | None = None


def compare(cases: Mapping[str, Case], visitor: Visitor, rounds: int, per_round: int) -> None:
    """Print the median times of actions that take turns, and their ratios to the first.

    Visitors log in before the time is taken.

    :param visitor: acts in the cases without a site.
    """
    wall: dict[str, list[float]] = {name: [] for name in cases}
    cpu: dict[str, list[float]] = {name: [] for name in cases}
    for number in range(rounds + 1):
        for name, case in cases.items():
            site = case.site
            acting = [visitor if site is None else site.visitor() for _ in range(per_round)]
            began, used = time.perf_counter(), time.process_time()
            for one in acting:
                case.act(one)
            if number:  # the first round is to get warm
                wall[name].append((time.perf_counter() - began) / per_round * 1000)
                cpu[name].append((time.process_time() - used) / per_round * 1000)
    first = next(iter(cases))
    for name in cases:
        ratio = statistics.median(map(_ratio, cpu[name], cpu[first]))
        say(
            f"{name:28} {statistics.median(wall[name]):7.2f} ms {statistics.median(cpu[name]):7.2f}"
            f" ms of processor, ratio {ratio:.2f}"
        )


def _ratio(one: float, other: float) -> float:
    return one / other


def throughput(site: Site, threads: int, seconds: float) -> float:
    """Return how many cycles a second so many threads make."""
    counts = [0] * threads
    each = int(_PER_SECOND * seconds / threads)
    visitors = [[site.visitor() for _ in range(each)] for _ in counts]
    ends = time.perf_counter() + seconds

    def work(index: int) -> None:
        for visitor in visitors[index]:
            if time.perf_counter() > ends:
                return
            site.cycle(visitor)
            counts[index] += 1

    began = time.perf_counter()
    running = [threading.Thread(target=work, args=(index,)) for index in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    return sum(counts) / (time.perf_counter() - began)


@contextmanager
def database_of_its_own(name: str) -> Iterator[str]:
    """Yield the URL of a new database in PostgreSQL, which is dropped at the end."""
    admin = sqlalchemy.create_engine(services.POSTGRESQL, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.exec_driver_sql(f"DROP DATABASE IF EXISTS {name}")
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    try:
        yield sqlalchemy.make_url(services.POSTGRESQL).set(database=name).render_as_string(False)
    finally:
        with admin.connect() as connection:
            connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
        admin.dispose()


def fill(url: str, rows: int) -> None:
    """Add old rows to each table."""
    engine = sqlalchemy.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for statement in FILL:
            connection.execute(sqlalchemy.text(statement), {"rows": rows})
        connection.exec_driver_sql("VACUUM ANALYZE")
    engine.dispose()


def say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 -- it is a script


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database", help="URL of an empty database; SQLite in a file by default")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--per-round", type=int, default=20)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=10, help="of each run with threads")
    parser.add_argument("--old-rows", type=int, default=0)
    options = parser.parse_args()
    users = (options.rounds + 1) * options.per_round + 10
    if options.threads:
        users += int(6 * _PER_SECOND * options.seconds)
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        database = options.database or f"sqlite:///{folder}/bench.sqlite"
        if options.old_rows:
            database = stack.enter_context(database_of_its_own("smsverify_benchmark_cycle"))
        # A host that serves so many threads keeps as many connections.
        pool = {"pool_size": max(5, options.threads)}
        site = Site(database, users, SQLALCHEMY_ENGINE_OPTIONS=pool)
        stack.callback(site.close)
        visitor = site.visitor()
        site.cycle(visitor)
        cycle = Case(site.cycle, site)
        cases = {"two requests that do nothing": Case(post_twice), "send and check": cycle}
        if options.old_rows:
            url = stack.enter_context(database_of_its_own("smsverify_benchmark_old"))
            old = Site(url, users)
            stack.callback(old.close)
            fill(url, options.old_rows)
            filled = Case(old.cycle, old)
            cases = {"send and check": cycle, f"with {options.old_rows:,} old rows": filled}
        compare(cases, visitor, options.rounds, options.per_round)
        login, hand, guarded = (
            Case(partial(get, path)) for path in ("/plain", "/by-hand", "/guarded")
        )
        cases = {"a login": login, "… and a SELECT by hand": hand, "… and the guard": guarded}
        compare(cases, visitor, options.rounds, 10 * options.per_round)
        state = site.app.extensions["smsverify"]
        state.settings = replace(state.settings, recheck_seconds=60)
        cases = {"a login": login, "… and the guard with a stamp": guarded}
        compare(cases, visitor, options.rounds, 10 * options.per_round)
        if options.threads:
            rates: dict[int, list[float]] = {1: [], options.threads: []}
            for _ in range(3):
                for threads, found in rates.items():
                    found.append(throughput(site, threads, options.seconds))
            one, many = (statistics.median(found) for found in rates.values())
            say(f"cycles a second: {one:.0f} by one thread, {many:.0f} by {options.threads}")
            say(f"ratio {many / one:.2f}")


if __name__ == "__main__":
    main()
