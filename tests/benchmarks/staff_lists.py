"""Compare the staff's overview and lists on small and on large tables in PostgreSQL.

    python -m tests.benchmarks.staff_lists [ROWS]

Prints the median time of the overview, of the first page and of each search at 10,000 and at ROWS
(2,000,000 by default) verifications and messages, and the ratio of the two. The database server is
`SMSTESTS_POSTGRESQL`.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

import services
import sqlalchemy
import staff
from flask.testing import FlaskClient

SMALL = 10_000
ROUNDS = 25
BATCH = "b" * 31 + "0"
YESTERDAY = datetime.now(UTC).date() - timedelta(days=1)
#: At both sizes, each finds more than one page, or one row, or nothing.
QUERIES = {
    "verifications": "/verifications",
    "  verified": "/verifications?state=verified",
    "  not verified": "/verifications?state=unverified",
    "  expired": "/verifications?state=expired",
    "  waiting for a code": "/verifications?state=pending",
    "  locked": "/verifications?state=locked",
    "  revoked": "/verifications?state=revoked",
    "  of a day": f"/verifications?from={YESTERDAY}&to={YESTERDAY}",
    "  mobile": "/verifications?q=09100230102",
    "  last four digits": "/verifications?q=0102",
    "  email": "/verifications?q=user4242@",
    "messages": "/messages",
    "  delivered": "/messages?state=delivered",
    "  failed": "/messages?state=failed",
    "  waiting": "/messages?state=waiting",
    "  need a decision": "/messages?state=unresolved",
    "  codes": "/messages?kind=code",
    "  notices": "/messages?kind=notice",
    "  sends to many": "/messages?kind=bulk",
    "  failed codes": "/messages?kind=code&state=failed",
    "  failed events": "/messages?kind=event&state=failed",
    "  delivered notices": "/messages?kind=notice&state=delivered",
    "  undecided sends": "/messages?kind=bulk&state=unresolved",
    "  messages of a day": f"/messages?from={YESTERDAY}&to={YESTERDAY}",
    "  failed of a day": f"/messages?state=failed&from={YESTERDAY}&to={YESTERDAY}",
    "  codes of a day": f"/messages?kind=code&from={YESTERDAY}&to={YESTERDAY}",
    "  of one send": f"/messages?batch={BATCH}",
    "  unknown of one send": f"/messages?batch={BATCH}&state=unknown",
    "  failed of one send": f"/messages?batch={BATCH}&state=failed",
    "  to a mobile": "/messages?q=09100230102",
    "  failed to a mobile": "/messages?q=09100230102&state=failed",
    "overview": "/",
}
#: Each end of four digits belongs to one number of 180.
MOBILE = "'+989' || lpad((10000 + n / 180)::text, 5, '0') || lpad((n % 180)::text, 4, '0')"
#: Ends as even as those of real numbers, each of which belongs to one of 10,000.
SENT_TO = "'+989' || lpad((n / 10000)::text, 5, '0') || lpad((n % 10000)::text, 4, '0')"
ROWS = "FROM generate_series(3, CAST(:rows AS int)) n"
FILL = (
    f"""
    INSERT INTO host_staff_user (id, mobile, email)
    SELECT n, {MOBILE}, 'user' || n || '@example.com' {ROWS}
    """,
    # A fifth is not verified, a tenth has to verify again. One of 100 is locked, and one revoked.
    f"""
    INSERT INTO smsverify_verification
        (user_id, mobile, verified_at, created_at, failures, locked_at, revoked_at)
    SELECT n::text, {MOBILE},
           CASE WHEN n % 5 > 0
                THEN at - CASE WHEN n % 10 = 3 THEN interval '100 days' ELSE interval '0' END END,
           at, 0, CASE WHEN n % 100 = 1 THEN at END, CASE WHEN n % 100 = 2 THEN at END
    FROM (SELECT n, now() - n * interval '15 seconds' AS at {ROWS}) source
    """,  # noqa: S608 -- constants of this module
    # Among the older half, three of ten belong to one send, and a thousand of these share a time:
    # what such a filter shows is far from the newest rows. One of 50 needs a decision.
    f"""
    INSERT INTO smsverify_message
        (id, kind, challenge_id, recipient, channel, batch_id, state, tries, created_at, updated_at)
    SELECT md5(n::text), kind, CASE WHEN kind = 'code' THEN md5(n::text) END,
           {MOBILE}, 'sms', CASE WHEN kind = 'bulk' THEN '{BATCH}' END,
           CASE n % 100 WHEN 0 THEN 'failed' WHEN 7 THEN 'unknown' ELSE 'delivered' END, 1, at, at
    FROM (
        SELECT n, kind,
               now() - (CASE WHEN kind = 'bulk' THEN n / 3000 * 3000 ELSE n END)
                     * interval '15 seconds' AS at
        FROM (SELECT n, CASE WHEN n % 10 > 6 AND n > :rows / 2 THEN 'bulk'
                             WHEN n % 10 < 5 THEN 'code'
                             WHEN n % 100 = 5 THEN 'notice' ELSE 'event' END AS kind {ROWS}) kinds
    ) source
    """,  # noqa: S608 -- constants of this module
    f"""
    INSERT INTO smsverify_challenge
        (id, user_id, mobile, purpose, key_id, code_length, generation, own_sent, channel, attempts,
         sends, state, created_at, expires_at, resend_at, open_key, native_key)
    SELECT id, n::text, {SENT_TO}, 'verify', 'k', 6, 0, true, 'sms', 1, 1,
           CASE WHEN n % 10 > 0 THEN 'verified' ELSE 'expired' END, at, at, at, id, id
    FROM (SELECT n, md5(n::text) AS id, now() - n * interval '15 seconds' AS at {ROWS}) source
    WHERE n % 10 < 5
    """,  # noqa: S608 -- constants of this module
    f"""
    INSERT INTO smsverify_attempt
        (id, message_id, sender, native, state, checks, created_at, updated_at)
    SELECT md5('a' || n), md5(n::text), CASE WHEN n % 4 > 0 THEN 'raygan' ELSE 'wikipayam' END,
           false, 'delivered', 0, at, at
    FROM (SELECT n, now() - n * interval '15 seconds' AS at {ROWS}) source
    """,  # noqa: S608 -- constants of this module
)


def fill(engine: sqlalchemy.Engine, rows: int) -> None:
    """Fill the tables. The app has created the users 1 and 2."""
    with engine.connect() as connection:
        for statement in FILL:
            connection.execute(sqlalchemy.text(statement), {"rows": rows})
        connection.exec_driver_sql("VACUUM ANALYZE")


@contextmanager
def filled_app(rows: int) -> Iterator[FlaskClient]:
    """Yield a browser of staff, of an app with a database that has so many rows in each table."""
    admin = sqlalchemy.create_engine(services.POSTGRESQL, isolation_level="AUTOCOMMIT")
    name = f"smsverify_benchmark_{rows}"
    with admin.connect() as connection:
        connection.exec_driver_sql(f"DROP DATABASE IF EXISTS {name}")
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    url = sqlalchemy.make_url(services.POSTGRESQL).set(database=name).render_as_string(False)
    app = staff.staff_app(url, users=2)
    engine = sqlalchemy.create_engine(url, isolation_level="AUTOCOMMIT")
    try:
        fill(engine, rows)
        yield staff.logged_in(app)
    finally:
        engine.dispose()
        staff.release(app)
        with admin.connect() as connection:
            connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
        admin.dispose()


def measure(clients: Sequence[FlaskClient], path: str) -> list[float]:
    """Return the median time of a request for each client, in milliseconds.

    The clients take turns, so that other load on the machine slows all of them.
    """
    times: list[list[float]] = [[] for _ in clients]
    for _ in range(ROUNDS):
        for client, taken in zip(clients, times, strict=True):
            began = time.perf_counter()
            response = client.get(staff.ADMIN + path, headers=staff.JSON)
            taken.append(time.perf_counter() - began)
            assert response.status_code == 200, response.text
    return [statistics.median(taken) * 1000 for taken in times]


def main(rows: int) -> None:
    with filled_app(SMALL) as few, filled_app(rows) as many:
        for name, path in QUERIES.items():
            small, large = measure((few, many), path)
            ratio = large / small
            sys.stdout.write(f"{name:24} {small:7.1f} ms {large:7.1f} ms  ratio {ratio:.2f}\n")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2_000_000)
