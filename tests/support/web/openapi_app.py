"""The app whose OpenAPI document offers every operation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Flask, Request
from hostapp import User, db
from openapi_watch import EVERYTHING, whole_document

from flask_smsverify import SMSVerify

OPENAPI = "/verify-mobile/openapi.json"
SIGN_IN = "/verify-mobile/sign-in"
JSON = {"Accept": "application/json"}


def operations_of(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return operationId → operation."""
    return {
        described["operationId"]: described
        for path in document["paths"].values()
        for described in path.values()
        if isinstance(described, dict)
    }


def whole_app(make_app: Callable[..., Flask], url: str, **config: Any) -> Flask:
    """Return an app that offers every operation, and a program's token for each user."""
    smsverify = SMSVerify()
    smsverify.email_sender(lambda user, link: None)
    settings = EVERYTHING | {"SMSVERIFY_OPENAPI": True} | config
    app = make_app(url, users=6, smsverify=smsverify, **settings)

    def load(request: Request) -> Any:
        kind, _, key = request.headers.get("Authorization", "").partition(" ")
        return db.session.get(User, int(key)) if kind == "Token" else None

    app.login_manager.request_loader(load)  # type: ignore[attr-defined]  # Flask-Login sets it

    @app.route("/enter/<int:key>")
    def enter(key: int) -> Any:
        return smsverify.login_user(db.session.get(User, key)) or "refused"

    return app


def whole_operations() -> dict[str, dict[str, Any]]:
    """Return the operations of an app that offers every one."""
    return operations_of(whole_document())
