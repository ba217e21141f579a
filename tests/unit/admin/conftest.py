"""Fixtures for the tests of the staff pages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import staff
from flask import Flask
from flask.testing import FlaskClient

MakeStaffApp = Callable[..., Flask]


@pytest.fixture
def make_staff_app(sqlite: str) -> Iterator[MakeStaffApp]:
    """Return the factory of apps with staff."""
    made: list[Flask] = []

    def make(**config: Any) -> Flask:
        made.append(staff.staff_app(config.pop("url", sqlite), **config))
        return made[-1]

    yield make
    for app in made:
        staff.release(app)


@pytest.fixture
def app(make_staff_app: MakeStaffApp) -> Flask:
    return make_staff_app()


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """Return a browser of a member of the staff."""
    return staff.logged_in(app)
