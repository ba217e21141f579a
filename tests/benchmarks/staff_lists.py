"""Compare the staff's lists on a small and on a large table in PostgreSQL.

    python -m tests.benchmarks.staff_lists [ROWS]

Prints the median time of the first page and of each search at 10,000 and at ROWS (1,000,000 by
default) verifications, and the ratio of the two. The database is `SMSTESTS_POSTGRESQL`.
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

import services
import sqlalchemy
import staff
from flask.testing import FlaskClient

SMALL = 10_000
NAME = "smsverify_benchmark"
QUERIES = {
    "first page": "",
    "verified": "?state=verified",
    "unverified": "?state=unverified",
    "locked": "?state=locked",
    "mobile": "?q=09120004242",
    "last four digits": "?q=4242",
    "email": "?q=user4242@",
}
FILL_USERS = """
INSERT INTO host_staff_user (id, mobile, email)
SELECT n, '+98912' || lpad(n::text, 7, '0'), 'user' || n || '@example.com'
FROM generate_series(CAST(:first AS int), CAST(:last AS int)) n
"""
FILL = """
INSERT INTO smsverify_verification (user_id, mobile, verified_at, created_at, failures)
SELECT n::text, '+98912' || lpad(n::text, 7, '0'),
       CASE WHEN n % 5 > 0 THEN now() - n * interval '5 seconds' END,
       now() - n * interval '5 seconds', 0
FROM generate_series(CAST(:first AS int), CAST(:last AS int)) n
"""


def median_of(client: FlaskClient, query: str) -> float:
    times = []
    for _ in range(15):
        began = time.perf_counter()
        response = client.get(f"{staff.ADMIN}/verifications{query}", headers=staff.JSON)
        times.append(time.perf_counter() - began)
        assert response.status_code == 200, response.text
    return statistics.median(times) * 1000


def main(rows: int) -> None:
    admin = sqlalchemy.create_engine(services.POSTGRESQL, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.exec_driver_sql(f"DROP DATABASE IF EXISTS {NAME}")
        connection.exec_driver_sql(f"CREATE DATABASE {NAME}")
    url = sqlalchemy.make_url(services.POSTGRESQL).set(database=NAME).render_as_string(False)
    app = staff.staff_app(url, users=2)
    client = staff.logged_in(app)
    medians: dict[str, list[float]] = {name: [] for name in QUERIES}
    engine = sqlalchemy.create_engine(url, isolation_level="AUTOCOMMIT")
    filled = 2
    try:
        for size in (SMALL, rows):
            with engine.connect() as connection:
                for statement in (FILL_USERS, FILL):
                    bounds = {"first": filled + 1, "last": size}
                    connection.execute(sqlalchemy.text(statement), bounds)
                connection.exec_driver_sql("VACUUM ANALYZE")
            filled = size
            for name, query in QUERIES.items():
                medians[name].append(median_of(client, query))
    finally:
        engine.dispose()
        staff.release(app)
        with admin.connect() as connection:
            connection.exec_driver_sql(f"DROP DATABASE {NAME} WITH (FORCE)")
        admin.dispose()
    for name, (small, large) in medians.items():
        sys.stdout.write(f"{name:18} {small:7.1f} ms {large:7.1f} ms  ratio {large / small:.2f}\n")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
