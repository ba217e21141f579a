"""Nobody pays for another's gateway: what an import, and an app, load and do not load."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from flask_smsverify import senders

#: What an app that uses the package has loaded anyway. Flask-WTF loads Flask-Babel where it is.
BASE = "import flask, flask_sqlalchemy, flask_login, flask_wtf, httpx"

#: What is loaded when it is used, and not before.
LATE = {
    "zeep",
    "lxml",
    "requests",
    "persiantools",
    "flask_babel",
    "babel",
    "flask_admin",
    "celery",
    "redis",
    "pytest",
    "flask_smsverify.testing",
    "flask_smsverify.simulator",
    "flask_smsverify.senders.soap",
}

GATEWAYS = {"raygan", "wikipayam", "melipayamak", "asanak", "smsir", "console", "memory"}

APP = """
class Base(DeclarativeBase): pass
db = SQLAlchemy(model_class=Base)
class User(db.Model):
    id: Mapped[int] = mapped_column(primary_key=True)
    mobile: Mapped[str | None]
app = flask.Flask("host")
app.config.update(SECRET_KEY="s", SQLALCHEMY_DATABASE_URI="sqlite://", SMSVERIFY_SENDERS=SENDERS)
db.init_app(app)
flask_smsverify.SMSVerify(app, db, user_model=User)
"""

APP_BASE = f"""
{BASE}
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
"""


def newly_loaded(before: str, then: str) -> set[str]:
    """The modules that a new Python loads by `then`, after `before`."""
    script = f"import json, sys\n{before}\nthere = set(sys.modules)\n{then}\n"
    script += "print(json.dumps(sorted(set(sys.modules) - there)))"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=True
    )
    return set(json.loads(done.stdout))


def gateways(loaded: set[str]) -> set[str]:
    return {name.rpartition(".")[2] for name in loaded if name.startswith("flask_smsverify.send")}


def test_importing_the_package_loads_no_gateway_and_nothing_late() -> None:
    loaded = newly_loaded(BASE, "import flask_smsverify")
    assert "flask_smsverify.extension" in loaded
    assert loaded & LATE == set()
    assert gateways(loaded) & GATEWAYS == set()


@pytest.mark.parametrize(
    ("configured", "expected"),
    [
        (
            {
                "main": {"gateway": "raygan", "username": "u", "password": "p"},
                "calls": {"gateway": "wikipayam", "token": "t"},
            },
            {"raygan", "wikipayam"},
        ),
        (
            {"main": {"gateway": "smsir", "api_key": "k", "template_id": 5}},
            {"smsir"},
        ),
        (
            {"main": {"gateway": "asanak", "username": "u", "password": "p", "line": "9821"}},
            {"asanak"},
        ),
    ],
    ids=lambda value: "+".join(sorted(value)) if isinstance(value, set) else "",
)
def test_an_app_loads_the_gateways_that_it_has_and_no_others(
    configured: dict[str, object], expected: set[str]
) -> None:
    loaded = newly_loaded(APP_BASE, f"SENDERS = {configured!r}\nimport flask_smsverify\n{APP}")
    assert gateways(loaded) & GATEWAYS == expected
    assert loaded & LATE == set()


def test_an_app_with_a_soap_gateway_loads_soap_when_it_is_used() -> None:
    options = {"gateway": "melipayamak", "username": "u", "password": "p", "line": "5000"}
    configured = {"main": options}
    loaded = newly_loaded(APP_BASE, f"SENDERS = {configured!r}\nimport flask_smsverify\n{APP}")
    assert "melipayamak" in gateways(loaded)
    assert loaded & {"zeep", "lxml", "requests"} == set()


@pytest.mark.parametrize("gateway", sorted(GATEWAYS))
def test_a_gateways_file_imports_of_ours_what_a_sender_is_and_its_transport(gateway: str) -> None:
    tree = ast.parse((Path(senders.__file__).parent / f"{gateway}.py").read_text())
    ours = {
        "." * node.level + (node.module or "")
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.level
    }
    assert ours <= {"..errors", ".base", ".http", ".soap"}
    named = [
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    ]
    assert not [name for name in named if name.startswith("flask")]
