"""What the statements of a code cost alone, beside the requests that send and check it.

    python tests/benchmarks/statement_floor.py [--database postgresql+psycopg2]

One app sends and checks the codes of its users, and the statements of each are recorded. A second
app has the same users and executes what was recorded, in the same transactions, from two views that
need a login and do nothing else. It passes the text to the driver's cursor. So it shows how much
of the time Flask, Flask-Login, the connections and the database take, whatever this package does in
Python. A third app sends and checks codes. The second and the third take turns.

All limits are on, and so high that they refuse nothing here. `--database` is the dialect and driver
of the PostgreSQL server of `SMSTESTS_POSTGRESQL`; by default the databases are SQLite files in
memory (`/dev/shm`), or in the folder of `--folder`.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import sqlalchemy
from code_cycle import Case, Site, Visitor, compare, database_of_its_own
from flask import Flask, request
from flask_login import current_user, login_required
from sqlalchemy import event
from visiting import CHECK, SEND, api

_ROUNDS, _PER_ROUND = 30, 20
_STEPS = ("send", "check")


class Statement(NamedTuple):
    """A statement as it is passed to the driver."""

    text: str
    parameters: Any


#: The statements of the transactions of one request.
Transactions = list[list[Statement]]


class Replay:
    """The statements of each user and step, and the views that execute them."""

    def __init__(self) -> None:
        self._recorded: dict[tuple[int, str], Transactions] = {}
        self._engine: Any = None

    def record(self, site: Site, user: int, visitor: Visitor) -> None:
        """Send a code and check it, and keep the statements."""
        with _recorded(site.engine) as sent:
            assert api(visitor.client, SEND).status_code == 200
        with _recorded(site.engine) as checked:
            answer = api(visitor.client, CHECK, code=site.code_of(visitor))
            assert answer.json["state"] == "verified", answer.text
        self._recorded[user, "send"], self._recorded[user, "check"] = sent, checked

    def add_view(self, app: Flask) -> None:
        """Add the view that executes the statements of a step."""

        @app.post("/floor/<step>")
        @login_required
        def floor(step: str) -> dict[str, str]:
            assert request.get_json() is not None
            for statements in self._recorded[current_user.id, step]:
                self._execute(statements)
            return {"state": step}

    def use(self, site: Site) -> None:
        """Execute the statements in the database of this app."""
        self._engine = site.engine

    def cycle(self, visitor: Visitor) -> None:
        """Execute the statements of a user."""
        for step in _STEPS:
            assert api(visitor.client, f"/floor/{step}", code="123456").status_code == 200

    def _execute(self, statements: list[Statement]) -> None:
        with self._engine.connect() as connection:
            raw = connection.connection.dbapi_connection
            reads = all(statement.text.startswith("SELECT") for statement in statements)
            if reads and connection.dialect.name == "postgresql":
                raw.autocommit = True  # as the package does: no BEGIN and COMMIT
            cursor = raw.cursor()
            for text, parameters in statements:
                cursor.execute(text, parameters)
                if cursor.description:
                    cursor.fetchall()
            cursor.close()
            raw.commit()
            if reads and connection.dialect.name == "postgresql":
                raw.autocommit = False


@contextmanager
def _recorded(engine: sqlalchemy.Engine) -> Iterator[Transactions]:
    """Collect the statements of the transactions that end meanwhile."""
    ended: Transactions = []
    running: list[Statement] = []

    def on_statement(*args: Any) -> None:
        running.append(Statement(args[2], args[3]))

    def on_commit(_connection: object) -> None:
        ended.append(list(running))
        running.clear()

    event.listen(engine, "before_cursor_execute", on_statement)
    event.listen(engine, "commit", on_commit)
    try:
        yield ended
    finally:
        event.remove(engine, "before_cursor_execute", on_statement)
        event.remove(engine, "commit", on_commit)
    assert not running


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database", help="dialect and driver; SQLite by default")
    parser.add_argument("--folder", default="/dev/shm", help="of the SQLite files")  # noqa: S108 -- it is memory
    options = parser.parse_args()
    users = (_ROUNDS + 1) * _PER_ROUND + 10
    replay = Replay()
    with ExitStack() as stack:
        sites = []
        for name in ("recorded", "floor", "cycle"):
            if options.database is None:
                folder = stack.enter_context(tempfile.TemporaryDirectory(dir=options.folder))
                url = f"sqlite:///{folder}/{name}.sqlite"
            else:
                url = stack.enter_context(database_of_its_own(f"smsverify_benchmark_{name}"))
                driver = sqlalchemy.make_url(url).set(drivername=options.database)
                url = driver.render_as_string(hide_password=False)
            site = Site(url, users, prepare=replay.add_view if name == "floor" else None)
            stack.callback(site.close)
            site.cycle(site.visitor())  # creates the rows that are there from the start
            sites.append(site)
        recorded, floor, cycle = sites
        for user in range(2, users + 1):
            replay.record(recorded, user, recorded.visitor())
        replay.use(floor)
        cases = {
            "send and check": Case(cycle.cycle, cycle),
            "their statements alone": Case(replay.cycle, floor),
        }
        compare(cases, cycle.visitor(), _ROUNDS, _PER_ROUND)


if __name__ == "__main__":
    main()
