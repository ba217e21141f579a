"""Whether the time of a sign-in reveals who has an account, on each database that answers.

Run it by hand: `python tests/benchmarks/sign_in_time.py`. It requests a code for known and unknown
numbers in random order, and enters a wrong one. "Known slower" is the share of pairs in which the
known number took longer: 50 % reveals nothing. "Noise" is how far from 50 % two random halves of
the same numbers are in 95 of 100 draws.
"""

from __future__ import annotations

import argparse
import bisect
import random
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

import services
import sqlalchemy
from flows import NO_LIMITS
from hostapp import User, create_app, db
from sqlalchemy import make_url

from flask_smsverify.db.models import Verification

SIGN_IN = "/verify-mobile/sign-in"
NAME = "smsverify_sign_in_time"


def share_slower(ones: list[float], others: list[float]) -> float:
    """Return the share of pairs in which the first is larger; ties count half."""
    ordered = sorted(others)
    below = sum(
        bisect.bisect_left(ordered, one)
        + (bisect.bisect_right(ordered, one) - bisect.bisect_left(ordered, one)) / 2
        for one in ones
    )
    return below / (len(ones) * len(others))


def noise(times: list[float], draws: int = 200) -> float:
    """Return how far from one half the share of two random halves is, in 95 of 100 draws."""
    found = []
    for _ in range(draws):
        shuffled = random.sample(times, len(times))
        half = len(times) // 2
        found.append(abs(share_slower(shuffled[:half], shuffled[half:]) - 0.5))
    return sorted(found)[int(draws * 0.95)]


def measure(url: str, count: int) -> None:
    """Print the times on one database."""
    app = create_app(url, SMSVERIFY_SIGN_IN=True, SMSVERIFY_LIMITS=NO_LIMITS)
    state = app.extensions["smsverify"]
    known = [f"+98912{number:07}" for number in range(count)]
    unknown = [f"+98935{number:07}" for number in range(count)]
    proved = datetime.now(UTC) - timedelta(days=3)
    with app.app_context():
        db.create_all()
        db.session.add_all(User(id=at, mobile=mobile) for at, mobile in enumerate(known, start=1))
        db.session.commit()

        def prove(session: sqlalchemy.orm.Session) -> None:
            session.add_all(
                Verification(
                    user_id=str(at),
                    mobile=mobile,
                    verified_at=proved,
                    granted_at=proved,
                    channel="sms",
                    failures=0,
                    created_at=proved,
                )
                for at, mobile in enumerate(known, start=1)
            )

        state.ledger.run(prove)
    times: dict[str, dict[bool, list[float]]] = {
        "code requested": {True: [], False: []},
        "wrong code": {True: [], False: []},
    }
    memory = state.delivery.routes.senders["memory"]
    order = [(mobile, True) for mobile in known] + [(mobile, False) for mobile in unknown]
    random.shuffle(order)
    for mobile, is_known in order:
        client = app.test_client()
        started = time.perf_counter()
        answer = client.post(SIGN_IN, json={"mobile": mobile})
        times["code requested"][is_known].append(time.perf_counter() - started)
        assert answer.status_code == 200, answer.text
        state.workers.wait()
        right = memory.last.code or ""
        wrong = right[:-1] + str((int(right[-1]) + 5) % 10)
        started = time.perf_counter()
        answer = client.post(f"{SIGN_IN}/check", json={"code": wrong})
        times["wrong code"][is_known].append(time.perf_counter() - started)
        assert answer.status_code == 422, answer.text
    for step, by_kind in times.items():
        medians = {kind: statistics.median(found) * 1000 for kind, found in by_kind.items()}
        share = share_slower(by_kind[True], by_kind[False])
        print(  # noqa: T201 -- it is a script
            f"{make_url(url).get_backend_name():<11} {step:<15} "
            f"known {medians[True]:6.2f} ms, unknown {medians[False]:6.2f} ms, "
            f"known slower {share:6.1%}, noise ±{noise(by_kind[True] + by_kind[False]):.1%}"
        )
    state.close()
    with app.app_context():
        db.session.remove()
        db.engine.dispose()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000, help="numbers of each kind")
    parser.add_argument("--only", choices=("sqlite", "postgresql", "mariadb"))
    arguments = parser.parse_args()
    servers = {"postgresql": services.POSTGRESQL, "mariadb": services.MARIADB}
    if arguments.only in (None, "sqlite"):
        with tempfile.TemporaryDirectory() as folder:
            measure(f"sqlite:///{folder}/bench.sqlite", arguments.count)
    for kind, admin_url in servers.items():
        if arguments.only not in (None, kind) or not services.is_there(kind):
            continue
        admin = sqlalchemy.create_engine(admin_url, isolation_level="AUTOCOMMIT")
        with admin.connect() as connection:
            connection.exec_driver_sql(f"DROP DATABASE IF EXISTS {NAME}")
            connection.exec_driver_sql(f"CREATE DATABASE {NAME}")
        try:
            measure(
                make_url(admin_url).set(database=NAME).render_as_string(hide_password=False),
                arguments.count,
            )
        finally:
            with admin.connect() as connection:
                connection.exec_driver_sql(f"DROP DATABASE {NAME}")
            admin.dispose()


if __name__ == "__main__":
    main()
