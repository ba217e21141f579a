"""Host apps with a user model of the test's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from flask import Flask
from flask_login import LoginManager, UserMixin, login_user
from flask_sqlalchemy import SQLAlchemy
from hostapp import HostFlask

from flask_smsverify import SMSVerify, require_verified_mobile


def model_of(db: SQLAlchemy, **attributes: Any) -> Any:
    """Return a user model with these columns and attributes, in addition to `id` and `email`."""
    defaults = {
        "__tablename__": "users",
        "id": db.Column(db.Integer, primary_key=True),
        "email": db.Column(db.String(64)),
        "groups": (),
    }
    return type("User", (UserMixin, db.Model), defaults | attributes)


@contextmanager
def host(
    url: str,
    define: Callable[[SQLAlchemy], Any],
    *,
    loader: Callable[[SQLAlchemy, Any, str], Any] | None = None,
    prepare: Callable[[SMSVerify], None] | None = None,
    extension: Mapping[str, Any] | None = None,
    **config: Any,
) -> Iterator[tuple[Flask, SQLAlchemy, Any]]:
    """Yield an app, its database with empty tables, and its user model.

    :param define: returns the user model.
    :param loader: the app's user loader.
    :param prepare: registers callbacks before `init_app`.
    :param extension: options of the `SQLAlchemy` object.
    """
    db = SQLAlchemy(**(extension or {}))
    model = define(db)
    app = HostFlask("host")
    app.config.update(
        SECRET_KEY="a secret of the tests",
        TESTING=True,
        WTF_CSRF_ENABLED=False,
        SQLALCHEMY_DATABASE_URI=url,
        **config,
    )
    db.init_app(app)
    manager = LoginManager(app)
    model.get_id = lambda user: app.extensions["smsverify"].users.id_of(user)  # noqa: PLW0108 -- a method

    def load(key: str) -> Any:
        if loader is not None:
            return loader(db, model, key)
        return app.extensions["smsverify"].users.find(key)

    manager.user_loader(load)
    smsverify = SMSVerify()
    if prepare is not None:
        prepare(smsverify)
    smsverify.init_app(app, db, user_model=model)
    app.extensions["test_smsverify"] = smsverify

    @app.route("/login/<key>")
    def login(key: str) -> str:
        login_user(load(key))
        return "logged in"

    @app.route("/guarded")
    @require_verified_mobile
    def guarded() -> str:
        return "guarded"

    with app.app_context():
        db.create_all()
    try:
        yield app, db, model
    finally:
        smsverify.close()
        with app.app_context():
            db.session.remove()
            db.drop_all()
            for engine in db.engines.values():
                engine.dispose()
