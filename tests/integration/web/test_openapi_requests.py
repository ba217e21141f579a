"""Generated requests to every operation of the OpenAPI document: the app does what it says."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from conftest import MakeApp
from examples import examples
from flask import Flask
from flask.testing import FlaskClient
from visiting import CHECK, MOBILE, OTHER, SEND, browser, last_code
from web.openapi_app import JSON, OPENAPI, SIGN_IN, whole_app, whole_operations

from flask_smsverify.settings import DEFAULT_LIMITS

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment


class Visitors:
    """The app, called by the next of several visitors at each request.

    Each has a session in another state, and a CSRF token that is sent where a request has any.
    """

    def __init__(self, app: Flask) -> None:
        self._app = app
        sessions = [self._session_of(*one) for one in self._prepared()]
        program = {"HTTP_AUTHORIZATION": "Token 6"}
        self._visitors = itertools.cycle([*sessions, program])

    def _prepared(self) -> list[tuple[FlaskClient, str]]:
        app = self._app
        verified, changing, waiting = browser(app, 2), browser(app, 3), browser(app, None)
        clients = [browser(app, None), browser(app, 1), verified, changing, waiting]
        clients.append(browser(app, None))
        tokens = [client.get(SIGN_IN, headers=JSON).json["csrf_token"] for client in clients]
        posts = dict(zip(clients, map(self._poster, clients, tokens), strict=True))
        posts[clients[1]](SEND)
        for client in (verified, changing):
            posts[client](SEND)
            posts[client](CHECK, code=last_code(app))
        posts[changing](MOBILE, mobile=OTHER, send=True)
        assert posts[changing](CHECK, code=last_code(app))["change"]["state"] == "confirming"
        posts[clients[-1]](SIGN_IN, mobile="0935 111 2244")
        waiting.get("/enter/5", headers=JSON)
        return [
            (client, client.get(SIGN_IN, headers=JSON).json["csrf_token"]) for client in clients
        ]

    def _poster(self, client: FlaskClient, token: str) -> Callable[..., Any]:
        def post(path: str, **body: Any) -> Any:
            answer = client.post(path, json=body, headers={"X-CSRFToken": token})
            assert answer.status_code == 200, answer.text
            return answer.json

        return post

    def _session_of(self, client: FlaskClient, token: str) -> dict[str, str]:
        cookie = client.get_cookie("session")
        assert cookie is not None
        return {"HTTP_COOKIE": f"session={cookie.value}", "HTTP_X_CSRFTOKEN": token}

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        visitor = next(self._visitors)
        for name in ("HTTP_COOKIE", "HTTP_AUTHORIZATION"):
            environ.pop(name, None)
        has_token = environ.pop("HTTP_X_CSRFTOKEN", None) is not None
        environ.update(visitor if has_token else {**visitor, "HTTP_X_CSRFTOKEN": ""})
        return self._app.wsgi_app(environ, start_response)


REQUESTS: dict[str, Any] = {
    "headers": JSON,
    "workers": 1,
    "continue-on-failure": True,
    "generation": {"max-examples": examples(4), "deterministic": True, "database": "none"},
    "phases": {
        "coverage": {"unexpected-methods": ["put"]},  # Flask answers them all alike
        "examples": {"enabled": False},
        "stateful": {"enabled": False},
    },
    "checks": {
        # Fields of a wrong type and of no meaning are treated as missing, as in forms.
        "negative_data_rejection": {"enabled": False},
        # A code or a number of the declared type may still be a wrong one.
        "positive_data_acceptance": {"enabled": False},
        # `Visitors` chooses the session.
        "ignored_auth": {"enabled": False},
    },
}


#: What the generated requests must have reached at least once.
STATUSES = {"200", "400", "401", "403", "404", "405", "422"}


def test_schemathesis_finds_no_deviation_from_the_document(make_app: MakeApp, sqlite: str) -> None:
    # Imported here, because the import takes each worker of a run a second.
    import schemathesis
    from schemathesis.engine import events, from_schema

    app = whole_app(
        make_app,
        sqlite,
        SMSVERIFY_LIMITS=dict.fromkeys(DEFAULT_LIMITS),
        SMSVERIFY_RESEND_DELAYS=[0],
        SMSVERIFY_MAX_ATTEMPTS=100,
    )
    config = schemathesis.Config.from_dict(REQUESTS)
    schema = schemathesis.openapi.from_wsgi(OPENAPI, Visitors(app), config=config)
    failures, seen = [], Counter[str]()
    for happened in from_schema(schema).execute():
        assert not isinstance(happened, events.NonFatalError | events.FatalError), happened
        if not isinstance(happened, events.ScenarioFinished):
            continue
        recorder = happened.recorder
        failures += [
            f"{recorder.label}: {check.name}: {check.failure_info}"
            for checks in recorder.checks.values()
            for check in checks
            if check.failure_info is not None
        ]
        seen += Counter(
            f"{recorder.label} {interaction.response.status_code}"
            for interaction in recorder.interactions.values()
            if interaction.response is not None
        )
    assert failures == []
    called = {label.rpartition(" ")[0] for label in seen}
    assert len(called) == len(whole_operations())
    assert {label.rpartition(" ")[2] for label in seen} >= STATUSES
