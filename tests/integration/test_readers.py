"""Guards and pages agree where the host's session is behind the ledger."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from conftest import MakeApp, database_params
from flask import Flask, request
from flask_sqlalchemy.session import Session
from hostapp import db
from models import host, model_of
from visiting import CHECK, PAGE, SEND, browser, last_code


class Routing(Session):
    """Reads this extension's tables from a replica, as hosts do with all reads."""

    replica: sa.Engine | None = None

    def get_bind(self, mapper: Any = None, *, clause: Any = None, **options: Any) -> Any:
        is_read = isinstance(clause, sa.Select) and "smsverify_" in str(clause)
        if is_read and self.replica is not None:
            return self.replica
        return super().get_bind(mapper, clause=clause, **options)


def test_a_replica_that_lags_causes_no_redirect_loop(sqlite: str, tmp_path: Path) -> None:
    copy = tmp_path / "replica.sqlite"

    def define(database: Any) -> Any:
        return model_of(database, mobile=database.Column(database.String(16)))

    options = {"session_options": {"class_": Routing}}
    with host(sqlite, define, extension=options) as (app, database, model):
        with app.app_context():
            database.session.add(model(id=1, mobile="+989123450001"))
            database.session.commit()
        shutil.copy(tmp_path / "test.sqlite", copy)
        Routing.replica = sa.create_engine(f"sqlite:///{copy}")
        try:
            client = app.test_client()
            client.get("/login/1")
            assert client.get("/guarded").location == f"{PAGE}?next=/guarded"
            client.post(SEND)
            client.post(CHECK, data={"code": last_code(app)})
            assert client.get(PAGE, query_string={"next": "/guarded"}).location == "/guarded"
            assert client.get("/guarded").text == "guarded"
        finally:
            Routing.replica.dispose()
            Routing.replica = None


@pytest.mark.parametrize("database", database_params("postgresql", "mariadb"), indirect=True)
def test_an_old_snapshot_causes_no_redirect_loop(make_app: MakeApp, database: str) -> None:
    app: Flask = make_app(
        database, SQLALCHEMY_ENGINE_OPTIONS={"isolation_level": "REPEATABLE READ"}
    )
    other = app.test_client()
    code: list[str] = []

    @app.before_request
    def read_early() -> None:
        """Begin the snapshot, and prove the mobile in another request after it."""
        if "X-Read-Early" in request.headers:
            db.session.execute(sa.text("SELECT count(*) FROM smsverify_verification")).all()
            proof = threading.Thread(
                target=other.post, args=(CHECK,), kwargs={"data": {"code": code[0]}}
            )
            proof.start()
            proof.join()

    other.get("/login/1")
    other.post(SEND)
    code.append(last_code(app))
    answer = browser(app, 1).get("/guarded", headers={"X-Read-Early": "1"})
    assert answer.text == "guarded"
