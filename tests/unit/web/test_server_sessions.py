"""Logins in server-side sessions: a new id, and what the host stored stays."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cachelib import FileSystemCache
from conftest import MakeApp
from flask import Flask, Request, Response, current_app, session
from flask.sessions import SessionInterface, SessionMixin
from flask_session import Session
from visiting import CHECK, MOBILE, OTHER, PAGE, SEND, STATUS, browser, last_code, set_user, wrong
from werkzeug.datastructures import CallbackDict

from flask_smsverify import login_gate


class StoredSession(CallbackDict, SessionMixin):
    """A session of the stores below."""

    def __init__(self, initial: Any, sid: str) -> None:
        super().__init__(initial, lambda changed: setattr(changed, "modified", True))
        self.sid = sid
        self.modified = False


class StoredSessions(SessionInterface):
    """Server-side sessions without a function that replaces the id, as Flask-Session before 0.6."""

    session_class = StoredSession

    def __init__(self) -> None:
        self.stored: dict[str, dict[str, Any]] = {}
        #: The ids that a function of the backend made.
        self.regenerated: list[str] = []

    def open_session(self, app: Flask, request: Request) -> Any:
        sid = request.cookies.get("session") or ""
        if sid not in self.stored:
            return self.session_class({}, secrets.token_urlsafe())
        return self.session_class(self.stored[sid], sid)

    def save_session(self, app: Flask, session: Any, response: Response) -> None:
        if session.modified:
            self.stored[session.sid] = dict(session)
            response.set_cookie("session", session.sid)


class EmptyingSessions(StoredSessions):
    """Removes the record with its content when it replaces the id."""

    def regenerate(self, session: Any) -> None:
        self.stored.pop(session.sid, None)
        session.clear()
        session.sid = secrets.token_urlsafe()
        self.regenerated.append(session.sid)


class RegeneratingSession(StoredSession):
    """Replaces its id itself, as a session of Flask-KVSession does."""

    def regenerate(self) -> None:
        interface: Any = current_app.session_interface
        interface.stored.pop(self.sid, None)
        self.sid = secrets.token_urlsafe()
        interface.regenerated.append(self.sid)
        self.modified = True


class OnSession(StoredSessions):
    session_class = RegeneratingSession


def flask_session(app: Flask, tmp_path: Path) -> None:
    app.config["SESSION_TYPE"] = "cachelib"
    app.config["SESSION_CACHELIB"] = FileSystemCache(str(tmp_path / "sessions"))
    Session(app)


def use(interface: type[SessionInterface]) -> Callable[[Flask, Path], None]:
    return lambda app, _tmp_path: setattr(app, "session_interface", interface())


@pytest.fixture(
    params=[
        pytest.param(flask_session, id="Flask-Session"),
        pytest.param(use(StoredSessions), id="without a function"),
        pytest.param(use(EmptyingSessions), id="emptying"),
        pytest.param(use(OnSession), id="function of the session"),
    ]
)
def stored(request: Any, gated: Flask, tmp_path: Path) -> Flask:
    """Return an app behind the gate whose sessions are on the server."""
    app = gated

    @app.route("/shop")
    def shop() -> str:
        session["cart"] = ["tea"]
        session.permanent = True
        return getattr(session, "sid", "")

    request.param(app, tmp_path)
    return app


def plant(app: Flask) -> tuple[Any, Any]:
    """Return the clients of a victim and of an attacker, who share a session id."""
    victim, attacker = browser(app, None), browser(app, None)
    sid = victim.get("/shop").text
    attacker.set_cookie("session", sid)
    assert attacker.get("/session").json["cart"] == ["tea"]
    return victim, attacker


def test_a_planted_session_id_leads_to_no_login(stored: Flask) -> None:
    """Case 43 of docs/safety.md."""
    victim, attacker = plant(stored)
    assert victim.get("/enter/1").location == PAGE
    victim.post(SEND)
    victim.post(CHECK, data={"code": wrong(last_code(stored))})
    victim.post(CHECK, data={"code": last_code(stored)})
    assert victim.get("/me").text == "1"
    assert attacker.get("/me").text == "nobody"
    kept = victim.get("/session").json
    assert (kept["cart"], kept["_permanent"]) == (["tea"], True)
    assert not [name for name in kept if name.startswith("_smsverify")]


def test_the_login_of_a_verified_user_has_a_new_session_id(stored: Flask) -> None:
    """Case 43 of docs/safety.md."""
    first = browser(stored, None)
    first.get("/enter/1")
    first.post(SEND)
    first.post(CHECK, data={"code": last_code(stored)})
    victim, attacker = plant(stored)
    assert victim.get("/enter/1").location == "/open"
    assert victim.get("/me").text == "1"
    assert attacker.get("/me").text == "nobody"
    assert victim.get("/session").json["cart"] == ["tea"]


@pytest.mark.parametrize("interface", [EmptyingSessions, OnSession])
def test_a_session_keeps_the_id_that_its_backend_gave_it(
    gated: Flask, interface: type[StoredSessions]
) -> None:
    sessions = gated.session_interface = interface()
    client = browser(gated, None)
    client.get("/enter/1")
    cookie = client.get_cookie("session")
    assert cookie is not None
    assert sessions.regenerated == [cookie.value]


def test_a_planted_session_id_sees_no_pending_login(stored: Flask) -> None:
    """An attacker would prove a mobile of their own, where the account has none."""
    set_user(stored, mobile=None)
    victim, attacker = plant(stored)
    victim.get("/enter/1")
    assert attacker.get(STATUS).status_code == 401
    assert attacker.post(MOBILE, data={"mobile": OTHER, "send": "1"}).status_code == 401
    assert victim.get(STATUS).json["state"] == "unverified"


def test_a_planted_csrf_token_is_refused_after_a_login(gated: Flask) -> None:
    """Case 43 of docs/safety.md."""
    app = gated
    app.config["WTF_CSRF_ENABLED"] = True
    client = browser(app, None)
    client.get("/enter/1")
    before = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', client.get(PAGE).text)
    assert before is not None
    client.post(SEND, data={"csrf_token": before[1]})
    client.post(CHECK, data={"csrf_token": before[1], "code": last_code(app)})
    assert client.get("/me").text == "1"
    assert client.post(SEND, data={"csrf_token": before[1]}).status_code == 400
    fresh = client.get(STATUS).json["csrf_token"]
    assert client.post(SEND, data={"csrf_token": fresh}).status_code == 303


@pytest.mark.parametrize("gate", [False, True])
def test_an_inactive_user_gets_no_new_session(
    make_app: MakeApp, sqlite: str, monkeypatch: pytest.MonkeyPatch, gate: bool
) -> None:
    app = make_app(sqlite, SMSVERIFY_LOGIN_GATE=gate)
    user_class = app.extensions["smsverify"].users.model
    monkeypatch.setattr(user_class, "is_active", False)
    with app.test_request_context(), app.app_context():
        user = app.extensions["smsverify"].users.find("1")
        assert login_gate.login_user(user, remember=False) is False
        assert not session
