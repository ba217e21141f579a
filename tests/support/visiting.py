"""Helpers for tests of the pages: clients, codes, and the state behind them."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from flask import Flask
from flask.testing import FlaskClient
from hostapp import User, db
from sqlalchemy import event
from werkzeug.test import TestResponse

from flask_smsverify.db.models import Challenge, Verification
from flask_smsverify.senders.memory import Memory

PAGE = "/verify-mobile/"
SEND = "/verify-mobile/send"
CHECK = "/verify-mobile/check"
MOBILE = "/verify-mobile/mobile"
STATUS = "/verify-mobile/status"
CONFIRM = "/verify-mobile/mobile/confirm"
OWN = "+989123450001"
OTHER = "+989351112233"


def phone(app: Flask) -> Memory:
    """Return the memory sender of an app, which keeps its messages."""
    sender = app.extensions["smsverify"].delivery.routes.senders["memory"]
    assert isinstance(sender, Memory)
    return sender


def last_code(app: Flask) -> str:
    """Return the last code that was sent."""
    code = phone(app).last.code
    assert code is not None
    return code


def wrong(code: str) -> str:
    """Return a wrong code of the same length."""
    return f"{(int(code) + 1) % 10 ** len(code):0{len(code)}}"


def browser(app: Flask, user: int | None = 1) -> FlaskClient:
    """Return a client that is logged in as a user; anonymous for None."""
    client = app.test_client()
    if user is not None:
        client.get(f"/login/{user}")
    return client


def api(client: FlaskClient, path: str, /, **body: Any) -> TestResponse:
    """POST a JSON object."""
    return client.post(path, json=body)


def prove(app: Flask, client: FlaskClient) -> None:
    """Send a code and enter it."""
    assert client.post(SEND).status_code == 303
    answer = client.post(CHECK, data={"code": last_code(app)})
    assert (answer.status_code, answer.location) == (303, "/")


def error_of(answer: TestResponse) -> str | None:
    """Return the title of the error that a page shows; None without one."""
    found = re.search(r'class="sv-error-title">(?:<a[^>]*>)?([^<]*)', answer.text)
    return html.unescape(found[1]) if found else None


def age(app: Flask, by: timedelta) -> None:
    """Make every proof older by a duration."""
    with app.app_context():
        for verification in db.session.scalars(db.select(Verification)):
            if verification.verified_at is not None:
                verification.verified_at -= by
        db.session.commit()


def expire_codes(app: Flask) -> None:
    """Make every open challenge expire."""
    with app.app_context():
        then = datetime.now(UTC) - timedelta(seconds=1)
        db.session.execute(db.update(Challenge).values(expires_at=then))
        db.session.commit()


def forget_limits(app: Flask) -> None:
    """Reset all rate limits and cooldowns."""
    app.extensions["smsverify"].limit_report.reset_all()


def set_user(app: Flask, number: int = 1, **values: Any) -> None:
    """Set attributes of a user in the host's table."""
    with app.app_context():
        user = db.session.get(User, number)
        for name, value in values.items():
            setattr(user, name, value)
        db.session.commit()


def mobile_in_host(app: Flask, number: int = 1) -> str | None:
    """Return the mobile in the host's table."""
    with app.app_context():
        mobile: str | None = db.session.get(User, number).mobile
        return mobile


@contextmanager
def statements(app: Flask) -> Iterator[list[str]]:
    """Collect the statements on `smsverify_` tables, on the host's engine and on the ledger's."""
    seen: list[str] = []

    def collect(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        if "smsverify_" in statement:
            seen.append(statement)

    with app.app_context():
        engines = {db.engine, app.extensions["smsverify"].ledger.engine}
    for engine in engines:
        event.listen(engine, "before_cursor_execute", collect)
    try:
        yield seen
    finally:
        for engine in engines:
            event.remove(engine, "before_cursor_execute", collect)


@contextmanager
def transactions(app: Flask) -> Iterator[list[None]]:
    """Collect one item for each transaction that the ledger commits."""
    seen: list[None] = []

    def on_commit(_connection: Any) -> None:
        seen.append(None)

    engine = app.extensions["smsverify"].ledger.engine
    event.listen(engine, "commit", on_commit)
    try:
        yield seen
    finally:
        event.remove(engine, "commit", on_commit)


@contextmanager
def store_down(app: Flask) -> Iterator[None]:
    """Make every statement of the ledger fail, as when its server is down."""
    from sqlalchemy.exc import OperationalError

    def fail(*_arguments: Any) -> None:
        raise OperationalError("", {}, Exception("the server is down"))

    engine = app.extensions["smsverify"].ledger.engine
    event.listen(engine, "before_cursor_execute", fail)
    try:
        yield
    finally:
        event.remove(engine, "before_cursor_execute", fail)
