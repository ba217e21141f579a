"""Visitors of the host app, by browser or by program, and the phone that codes reach."""

from __future__ import annotations

import html
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from flask import Flask
from flask.testing import FlaskClient
from hostapp import User, db
from sqlalchemy import event, text
from werkzeug.test import TestResponse

from flask_smsverify.senders.memory import Memory

PAGE = "/verify-mobile/"
SEND = "/verify-mobile/send"
CHECK = "/verify-mobile/check"
MOBILE = "/verify-mobile/mobile"
STATUS = "/verify-mobile/status"
OWN = "+989123450001"
OTHER = "+989351112233"


def phone(app: Flask) -> Memory:
    """Where an app's messages arrive."""
    sender = app.extensions["smsverify"].delivery.routes.senders["memory"]
    assert isinstance(sender, Memory)
    return sender


def last_code(app: Flask) -> str:
    """The code that was sent last."""
    code = phone(app).last.code
    assert code is not None
    return code


def wrong(code: str) -> str:
    """A code of that length that is another."""
    return f"{(int(code) + 1) % 10 ** len(code):0{len(code)}}"


def browser(app: Flask, user: int | None = 1) -> FlaskClient:
    """A browser, logged in as a user unless that is None."""
    client = app.test_client()
    if user is not None:
        client.get(f"/login/{user}")
    return client


def api(client: FlaskClient, path: str, /, **body: Any) -> TestResponse:
    """POST a JSON object."""
    return client.post(path, json=body)


def prove(app: Flask, client: FlaskClient) -> None:
    """Have a code sent, and type it."""
    assert client.post(SEND).status_code == 303
    answer = client.post(CHECK, data={"code": last_code(app)})
    assert (answer.status_code, answer.location) == (303, "/")


def error_of(answer: TestResponse) -> str | None:
    """The title of the error that a page shows; None without one."""
    found = re.search(r'class="sv-error-title">(?:<a[^>]*>)?([^<]*)', answer.text)
    return html.unescape(found[1]) if found else None


def age(app: Flask, by: timedelta) -> None:
    """Let every proof be older by so much."""
    with app.app_context():
        for user_id, verified_at in db.session.execute(
            text("SELECT user_id, verified_at FROM smsverify_verification")
        ).all():
            then = datetime.fromisoformat(str(verified_at)) - by
            db.session.execute(
                text("UPDATE smsverify_verification SET verified_at = :then WHERE user_id = :id"),
                {"then": then.replace(tzinfo=None), "id": user_id},
            )
        db.session.commit()


def expire_codes(app: Flask) -> None:
    """Let every open challenge's time be over."""
    with app.app_context():
        db.session.execute(
            text("UPDATE smsverify_challenge SET expires_at = :then"),
            {"then": (datetime.now(UTC) - timedelta(seconds=1)).replace(tzinfo=None)},
        )
        db.session.commit()


def forget_limits(app: Flask) -> None:
    """Give every budget back, the pauses too."""
    with app.app_context():
        db.session.execute(text("DELETE FROM smsverify_budget"))
        db.session.commit()


def set_user(app: Flask, number: int = 1, **values: Any) -> None:
    """Write a user's attributes as the host would."""
    with app.app_context():
        user = db.session.get(User, number)
        for name, value in values.items():
            setattr(user, name, value)
        db.session.commit()


def mobile_in_host(app: Flask, number: int = 1) -> str | None:
    """The mobile that the host has for a user."""
    with app.app_context():
        found: str | None = db.session.get(User, number).mobile
        return found


@contextmanager
def statements(app: Flask) -> Iterator[list[str]]:
    """Collects the SQL on our tables, on the host's engine and on the ledger's."""
    seen: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        if "smsverify_" in statement:
            seen.append(statement)

    with app.app_context():
        engines = {db.engine, app.extensions["smsverify"].ledger.engine}
    for engine in engines:
        event.listen(engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        for engine in engines:
            event.remove(engine, "before_cursor_execute", note)


@contextmanager
def store_down(app: Flask) -> Iterator[None]:
    """Lets every statement of the ledger fail, as when its server is gone."""
    from sqlalchemy.exc import OperationalError

    def fail(*_arguments: Any) -> None:
        raise OperationalError("", {}, Exception("the server is gone"))

    engine = app.extensions["smsverify"].ledger.engine
    event.listen(engine, "before_cursor_execute", fail)
    try:
        yield
    finally:
        event.remove(engine, "before_cursor_execute", fail)


#: What `_reference` takes on the slowest machine that limits are meant for.
_REFERENCE_SECONDS = 0.005


def cpu_seconds(act: Callable[[], object]) -> float:
    """How long this thread works on it, in seconds of a machine that is not slowed down.

    The best of three, each measured beside some work that is always the same: others use the
    machine too, and some machines are given less of their processor after a while.
    """
    best = float("inf")
    for _ in range(3):
        slowness = _thread_seconds(_reference) / _REFERENCE_SECONDS
        best = min(best, _thread_seconds(act) / max(1.0, slowness))
    return best


def _reference() -> None:
    total = 0
    for number in range(100_000):
        total += number


def _thread_seconds(act: Callable[[], object]) -> float:
    began = time.thread_time()
    act()
    return time.thread_time() - began
