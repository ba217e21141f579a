"""The host app of most tests: users, a login and guarded views."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Hashable
from typing import Any, ClassVar

from flask import Flask
from flask_login import LoginManager, UserMixin, login_user, logout_user
from flask_sqlalchemy import SQLAlchemy
from werkzeug.routing import Rule

from flask_smsverify import SMSVerify, require_verified_mobile
from flask_smsverify.errors import ConfigurationError

db = SQLAlchemy()


class User(UserMixin, db.Model):
    __tablename__ = "host_user"

    id = db.Column(db.Integer, primary_key=True)
    mobile = db.Column(db.String(32))
    group = db.Column(db.String(32))
    note = db.Column(db.String(64))

    @property
    def groups(self) -> list[str]:
        return [self.group] if self.group else []


class TextUser(UserMixin, db.Model):
    """A user with a text key that distinguishes case and accents."""

    __tablename__ = "host_text_user"

    id = db.Column(
        db.String(32).with_variant(db.String(32, collation="utf8mb4_bin"), "mysql", "mariadb"),
        primary_key=True,
    )
    mobile = db.Column(db.String(32))
    groups: tuple[str, ...] = ()


class UuidUser(UserMixin, db.Model):
    __tablename__ = "host_uuid_user"

    id = db.Column(db.Uuid, primary_key=True, default=uuid.uuid4)
    mobile = db.Column(db.String(32))
    groups: tuple[str, ...] = ()


class _Rule(Rule):
    """A URL rule whose URL builder is compiled once for all apps.

    To compile the builders takes half of the time to create an app.
    """

    _compiled: ClassVar[dict[Hashable, Callable[..., tuple[str, str]]]] = {}

    def _compile_builder(self, append_unknown: bool = True) -> Callable[..., tuple[str, str]]:
        key = (self.rule, tuple(self._trace), repr(self.defaults), append_unknown)
        if key not in self._compiled:
            self._compiled[key] = super()._compile_builder(append_unknown)
        return self._compiled[key]


class HostFlask(Flask):
    """A Flask app with URL rules that are compiled once for all apps."""

    url_rule_class = _Rule


def create_app(
    database_url: str,
    user_model: Any = User,
    *,
    database: SQLAlchemy = db,
    prepare: Callable[[Flask], None] | None = None,
    smsverify: SMSVerify | None = None,
    **config: Any,
) -> Flask:
    """Return an app with a database, a login for tests and guarded views.

    :param database: the extension of `user_model`.
    :param prepare: called in an app context before `init_app`.
    :param smsverify: an extension that has callbacks already; by default a new one.
    :param config: keys of the Flask config, such as `SMSVERIFY_LIMITS`.
    """
    app = HostFlask("host")
    app.config.update(
        SECRET_KEY="a secret of the tests",
        TESTING=True,
        WTF_CSRF_ENABLED=False,
        SQLALCHEMY_DATABASE_URI=database_url,
    )
    app.config.update(config)
    if "CELERY_BROKER" in config:
        from celery import Celery

        celery = Celery(app.name, broker=config["CELERY_BROKER"], set_as_current=False)
        celery.conf.task_default_queue = config["CELERY_QUEUE"]
        celery.conf.broker_connection_retry_on_startup = True
        app.extensions["celery"] = celery
    database.init_app(app)
    login_manager = LoginManager(app)
    login_manager.user_loader(lambda key: _load(database, user_model, key))
    if prepare is not None:
        with app.app_context():
            prepare(app)
    smsverify = smsverify or SMSVerify()
    if "CREATES_USERS" in config:  # in a child process, to which a test cannot pass a function
        smsverify.user_factory(lambda mobile: user_model(mobile=mobile))
    try:
        smsverify.init_app(app, database, user_model=user_model)
    except ConfigurationError:
        with app.app_context():
            for engine in database.engines.values():
                engine.dispose()
        raise
    app.extensions["test_smsverify"] = smsverify

    @app.route("/login/<key>")
    def login(key: str) -> str:
        login_user(_load(database, user_model, key))
        return "logged in"

    @app.route("/logout")
    def logout() -> str:
        logout_user()
        return "logged out"

    @app.route("/open")
    def open_view() -> str:
        return "open"

    @app.route("/guarded", methods=["GET", "POST"])
    @require_verified_mobile
    def guarded() -> str:
        return "guarded"

    return app


def _load(database: SQLAlchemy, user_model: Any, key: str) -> Any:
    wanted = user_model.__mapper__.primary_key[0].type.python_type
    return database.session.get(user_model, key if wanted is str else wanted(key))
