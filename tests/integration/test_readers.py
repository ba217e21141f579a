"""Guards and pages agree where the host's session is behind the ledger."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from clocks import Clock
from conftest import MakeApp, database_params
from flask import Flask, has_request_context, request
from flask.testing import FlaskClient
from flask_sqlalchemy.session import Session
from hostapp import db
from models import host, model_of
from visiting import CHECK, MOBILE, OTHER, OWN, PAGE, SEND, browser, last_code, prove
from werkzeug.test import TestResponse

from flask_smsverify import SMSVerify


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


class Splitting(Session):
    """Reads from a replica except in the pages, as the docs advise (`docs/production.md`)."""

    def get_bind(self, mapper: Any = None, *, clause: Any = None, **options: Any) -> Any:
        is_read = isinstance(clause, sa.Select) and has_request_context()
        if is_read and request.method == "GET" and request.blueprint != "smsverify":
            return self._db.engines["replica"]
        return super().get_bind(mapper, clause=clause, **options)


class Replica:
    """A host whose views read the users from a copy of the database, made by `catch_up`."""

    def __init__(self, app: Flask, database: Any, model: Any, folder: Path) -> None:
        self.app, self.database, self.model, self._folder = app, database, model, folder
        self.state = app.extensions["smsverify"]

    def catch_up(self) -> None:
        with self.app.app_context():
            self.database.engines["replica"].dispose()
        shutil.copy(self._folder / "test.sqlite", self._folder / "replica.sqlite")

    def set_mobile(self, mobile: str, *, is_proved: bool = False) -> None:
        """Give the user a mobile, and perhaps the proof of it."""
        with self.app.app_context():
            user = self.database.session.get(self.model, 1)
            user.mobile = mobile
            self.database.session.commit()
            if is_proved:
                self.state.verifier.mark_verified(user, by="a test")


@pytest.fixture
def replica(sqlite: str, tmp_path: Path) -> Iterator[Replica]:
    """A host with one user without a mobile, and a replica that has caught up."""

    def define(database: Any) -> Any:
        return model_of(database, mobile=database.Column(database.String(16)))

    options = {"session_options": {"class_": Splitting}}
    binds = {"replica": f"sqlite:///{tmp_path / 'replica.sqlite'}"}
    with host(sqlite, define, extension=options, SQLALCHEMY_BINDS=binds) as (app, database, model):
        with app.app_context():
            database.session.add(model(id=1))
            database.session.commit()
        made = Replica(app, database, model, tmp_path)
        made.catch_up()
        yield made


def follow(client: FlaskClient, answer: TestResponse) -> tuple[str, TestResponse]:
    """Follow redirects as a browser does, which gives up after 20; return the last URL."""
    url = ""
    for _ in range(20):
        if answer.status_code not in (302, 303):
            return url, answer
        assert answer.location is not None
        url = answer.location
        answer = client.get(url)
    raise AssertionError(f"more than 20 redirects, the last one to {url}")


def logged_in(app: Flask) -> FlaskClient:
    client = app.test_client()
    client.get("/login/1")
    return client


def test_a_replica_without_the_first_mobile_causes_no_redirect_loop(replica: Replica) -> None:
    client = logged_in(replica.app)
    assert client.get("/guarded").location == f"{PAGE}?next=/guarded"
    client.post(MOBILE, data={"mobile": OWN, "send": "1"})
    code = last_code(replica.app)
    url, answer = follow(client, client.post(CHECK, data={"code": code, "next": "/guarded"}))
    assert (url, answer.status_code) == (f"{PAGE}?next=/guarded", 200)
    assert 'data-sv-state="verified"' in answer.text
    assert '<a class="sv-button" href="/guarded">' in answer.text
    replica.catch_up()
    assert client.get("/guarded").text == "guarded"


def test_a_replica_with_the_mobile_before_a_change_causes_no_redirect_loop(
    replica: Replica, caplog: pytest.LogCaptureFixture
) -> None:
    replica.set_mobile(OWN)
    replica.catch_up()
    client = logged_in(replica.app)
    replica.set_mobile(OTHER, is_proved=True)
    url, answer = follow(client, client.get("/guarded"))
    assert (url, answer.status_code) == (f"{PAGE}?next=/guarded", 200)
    assert 'data-sv-state="verified"' in answer.text
    [warning] = [record for record in caplog.records if record.name.endswith("returns")]
    assert (warning.levelname, vars(warning)["event"]) == ("WARNING", "smsverify.guard_disagrees")
    replica.catch_up()
    assert client.get("/guarded").text == "guarded"


def test_an_exemption_that_guards_do_not_see_causes_no_redirect_loop(sqlite: str) -> None:
    def define(database: Any) -> Any:
        return model_of(database, mobile=database.Column(database.String(16)))

    def prepare(smsverify: SMSVerify) -> None:
        smsverify.exempt_when(lambda user: request.blueprint == "smsverify")

    with host(sqlite, define, prepare=prepare) as (app, database, model):
        with app.app_context():
            database.session.add(model(id=1))
            database.session.commit()
        client = logged_in(app)
        _, answer = follow(client, client.get("/guarded"))
        assert 'data-sv-state="exempt"' in answer.text


def test_the_page_returns_five_times_in_a_minute_without_a_click(app: Flask) -> None:
    clock = Clock()
    app.extensions["smsverify"].clock = clock
    client = browser(app)
    prove(app, client)
    seen = []
    for seconds in (0, 20, 20, 10, 9, 0, 1):
        clock.advance(seconds)
        seen.append(client.get(PAGE, query_string={"next": "/guarded"}).status_code)
    assert seen == [302, 302, 302, 302, 302, 200, 302]


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
