"""`flask smsverify doctor` on every database: tables, columns, keys and storage engines."""

from __future__ import annotations

import pytest
from conftest import MakeApp, database_params
from flask import Flask
from hostapp import db
from sqlalchemy import inspect, text

from flask_smsverify.cli.doctor import database as checks

CHALLENGE = "smsverify_challenge"


def problems(app: Flask) -> list[str]:
    with app.app_context():
        state = app.extensions["smsverify"]
        found = [finding for check in checks.CHECKS for finding in check(state)]
    return [finding.text for finding in found if finding.level == "error"]


def alter(app: Flask, statement: str) -> None:
    with app.app_context():
        db.session.execute(text(statement))
        db.session.commit()


def unique_key(app: Flask, column: str) -> str:
    """Return the name of the unique key of a column."""
    with app.app_context():
        keys = inspect(db.engine).get_unique_constraints(CHALLENGE)
    [name] = [key["name"] for key in keys if key["column_names"] == [column]]
    assert name is not None
    return name


def test_complete_tables_have_no_problem(make_app: MakeApp, database: str) -> None:
    assert problems(make_app(database)) == []


@pytest.mark.parametrize("database", database_params("postgresql", "mariadb"), indirect=True)
def test_what_a_table_lacks_is_found(make_app: MakeApp, database: str) -> None:
    app = make_app(database)
    is_postgresql = database.startswith("postgresql")
    kind = "CONSTRAINT" if is_postgresql else "INDEX"
    alter(app, f"ALTER TABLE {CHALLENGE} DROP {kind} {unique_key(app, 'open_key')}")
    alter(app, f"ALTER TABLE {CHALLENGE} DROP COLUMN generation")
    shorter = "ALTER COLUMN purpose TYPE VARCHAR(8)" if is_postgresql else "MODIFY channel CHAR(1)"
    alter(app, f"ALTER TABLE {CHALLENGE} {shorter}")
    found = problems(app)
    assert any(f"{CHALLENGE}.open_key is not UNIQUE" in problem for problem in found)
    assert any(f"{CHALLENGE} has no column generation" in problem for problem in found)
    assert any("characters and needs" in problem for problem in found)
    assert len(found) == 3


@pytest.mark.parametrize("database", database_params("mariadb"), indirect=True)
def test_a_table_without_transactions_is_found(make_app: MakeApp, database: str) -> None:
    app = make_app(database)
    alter(app, "ALTER TABLE smsverify_used_token ENGINE = MyISAM")
    [found] = problems(app)
    assert found.startswith("smsverify_used_token is not InnoDB")
