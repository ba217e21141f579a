"""Fixtures for the tests of the example shop."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from example_app import create_app
from example_app.extensions import db

MakeShop = Callable[..., Flask]


@pytest.fixture(scope="module")
def filled_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database after the first start. It is made once, because hashing passwords is slow."""
    path = tmp_path_factory.mktemp("filled") / "shop.sqlite"
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("EXAMPLE_DATABASE", str(path))
        app = create_app({"TESTING": True, "SECRET_KEY": "only for tests"})
    _close(app)
    return path


def _close(app: Flask) -> None:
    """Stop the threads of a shop, which may be using a connection, and then close all."""
    app.extensions["smsverify"].close()
    with app.app_context():
        db.engine.dispose()


@pytest.fixture
def make_shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeShop]:
    """Return a function that creates shops on a new database, unaffected by the environment."""
    for name in list(os.environ):
        if name.startswith("SMSVERIFY_") or name == "SECRET_KEY":
            monkeypatch.delenv(name)
    monkeypatch.setenv("EXAMPLE_DATABASE", str(tmp_path / "shop.sqlite"))
    apps = []

    def make(**config: object) -> Flask:
        app = create_app({"TESTING": True, "SECRET_KEY": "only for tests", **config})
        apps.append(app)
        return app

    yield make
    for app in apps:
        _close(app)


@pytest.fixture
def shop(make_shop: MakeShop, filled_database: Path, tmp_path: Path) -> Flask:
    """A shop with an in-memory sender and without CSRF tokens."""
    shutil.copy(filled_database, tmp_path / "shop.sqlite")
    return make_shop(WTF_CSRF_ENABLED=False, SMSVERIFY_SENDERS={"memory": {"gateway": "memory"}})


@pytest.fixture
def visitor(shop: Flask) -> FlaskClient:
    """An anonymous client."""
    return shop.test_client()
