"""A host app with staff, and helpers for tests of the staff pages."""

from __future__ import annotations

import uuid
from typing import Any

from flask import Flask
from flask.testing import FlaskClient
from flask_login import UserMixin, current_user
from flask_sqlalchemy import SQLAlchemy
from hostapp import create_app
from schema import create_tables
from sqlalchemy import select

from flask_smsverify.db.models import Audit

ADMIN = "/admin/smsverify"
JSON = {"Accept": "application/json"}

db = SQLAlchemy()


class StaffUser(UserMixin, db.Model):
    """A user of the host. User 1 is staff, and user 2 has read-only access."""

    __tablename__ = "host_staff_user"

    id = db.Column(db.Integer, primary_key=True)
    mobile = db.Column(db.String(32), index=True)
    email = db.Column(db.String(100), index=True)
    groups: tuple[str, ...] = ()


class KeyedUser(UserMixin, db.Model):
    """A user whose key is a UUID, without an email."""

    __tablename__ = "host_keyed_user"

    id = db.Column(db.Uuid, primary_key=True, default=uuid.uuid4)
    mobile = db.Column(db.String(32))
    groups: tuple[str, ...] = ()


def staff_app(url: str, *, users: int = 4, open_pages: bool = True, **config: Any) -> Flask:
    """Return an app with users `user1@example.com` …, and the staff pages for users 1 and 2."""
    app = create_app(url, StaffUser, database=db, **config)
    if open_pages:
        app.extensions["test_smsverify"].staff_required(staff_level)
    with app.app_context():
        create_tables(db)
        db.session.add_all(
            StaffUser(mobile=f"+98912345{number:04}", email=f"user{number}@example.com")
            for number in range(1, users + 1)
        )
        db.session.commit()
    return app


def staff_level() -> bool | str:
    return {"1": True, "2": "read-only"}.get(current_user.get_id(), False)


def release(app: Flask) -> None:
    """Close the connections of an app."""
    app.extensions["smsverify"].close()
    with app.app_context():
        db.session.remove()
        for engine in db.engines.values():
            engine.dispose()


def logged_in(app: Flask, user: int | None = 1) -> FlaskClient:
    """Return a client of a user: 1 is staff, 2 has read-only access, the others are not staff."""
    client = app.test_client()
    client.environ_base["HTTP_ACCEPT_LANGUAGE"] = "en"
    if user is not None:
        client.get(f"/login/{user}")
    return client


def listed(client: FlaskClient, path: str, /, **query: Any) -> list[dict[str, Any]]:
    """Return the items of a list."""
    response = client.get(f"{ADMIN}{path}", query_string=query, headers=JSON)
    assert response.status_code == 200, response.text
    items: list[dict[str, Any]] = response.json["items"]
    return items


def audited(app: Flask) -> list[tuple[str, str, str]]:
    """Return the audit log, oldest first: the actor, the action and the target."""
    rows = app.extensions["smsverify"].ledger.read(
        lambda session: session.scalars(select(Audit).order_by(Audit.at)).all()
    )
    return [(row.who, row.action, row.subject) for row in rows]
