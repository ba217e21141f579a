"""What an import, and an app, load and do not load."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import flask_smsverify
from flask_smsverify import senders, testing
from flask_smsverify.senders.registry import GATEWAYS

#: Modules that an app without a gateway's sender does not need.
HEAVY = {"httpx", "httpcore", "zeep", "lxml", "requests", "phonenumbers"}

#: Modules that are loaded on first use.
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

#: Modules that an app has loaded anyway. Flask-WTF loads Flask-Babel where it is installed.
APP_IMPORTS = """
import flask, flask_sqlalchemy, flask_login, flask_wtf, httpx
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
"""

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

APPS = {
    "raygan and wikipayam": {
        "main": {"gateway": "raygan", "username": "u", "password": "p"},
        "calls": {"gateway": "wikipayam", "token": "t"},
    },
    "smsir": {"main": {"gateway": "smsir", "api_key": "k", "template_id": 5}},
    "asanak": {"main": {"gateway": "asanak", "username": "u", "password": "p", "line": "9821"}},
    "melipayamak": {
        "main": {"gateway": "melipayamak", "username": "u", "password": "p", "line": "5000"}
    },
}


#: Imports the package once. Each code then runs in a fork and meets only what was loaded before.
MEASURE = """
loaded = set(sys.modules)
import flask_smsverify
for code in json.loads(sys.stdin.read()):
    child = os.fork()
    if child == 0:
        exec(code)
        print(json.dumps(sorted(set(sys.modules) - loaded)), flush=True)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert status == 0, code
"""


def modules_loaded_by(*codes: str, after: str = "") -> list[set[str]]:
    """Return the modules that the package and each code load in a process, after other imports."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", f"import json, os, sys\n{after}\n{MEASURE}"],
        input=json.dumps(codes),
        capture_output=True,
        text=True,
        check=True,
    )
    return [set(json.loads(line)) for line in done.stdout.splitlines()]


def gateways_in(modules: set[str]) -> set[str]:
    prefix = "flask_smsverify.senders."
    return {name.removeprefix(prefix) for name in modules if name.startswith(prefix)} & {*GATEWAYS}


def test_importing_the_package_loads_no_http_client_no_soap_and_no_phonenumbers() -> None:
    [loaded] = modules_loaded_by("pass")
    assert "flask_smsverify.extension" in loaded
    assert loaded & HEAVY == set()
    assert gateways_in(loaded) == set()
    assert loaded & (LATE - {"flask_babel", "babel"}) == set()


def test_an_app_loads_its_own_gateways_only_and_nothing_that_is_loaded_on_use() -> None:
    codes = [f"SENDERS = {configured!r}\n{APP}" for configured in APPS.values()]
    measured = modules_loaded_by(*codes, after=APP_IMPORTS)
    for (name, configured), loaded in zip(APPS.items(), measured, strict=True):
        expected = {options["gateway"] for options in configured.values()}
        assert gateways_in(loaded) == expected, name
        late = LATE - {"flask_smsverify.senders.soap"} if name == "melipayamak" else LATE
        assert loaded & late == set(), name


def test_the_package_and_its_outbox_need_no_pytest() -> None:
    script = """
import sys
sys.modules["pytest"] = None
from flask_smsverify import Sender
import flask_smsverify.senders.raygan
from flask_smsverify.testing import outbox, LoopbackGateway
import flask_smsverify.testing.outbox
from flask_smsverify.testing import outbox as again
assert again is outbox, "the module hides the function"
assert outbox.__module__ == "flask_smsverify.testing.outbox"
try:
    from flask_smsverify.testing import SenderContract
except ImportError as error:
    assert "pip install pytest" in str(error), error
else:
    raise SystemExit("SenderContract was imported")
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_every_public_name_can_be_imported_and_no_other() -> None:
    for module in (flask_smsverify, testing):
        for name in module.__all__:
            assert getattr(module, name) is not None, name
        assert len(set(module.__all__)) == len(module.__all__)
        with pytest.raises(AttributeError, match="no_such_name"):
            module.no_such_name  # noqa: B018 -- reading it is the test


def test_a_gateway_imports_only_small_modules_and_the_parts_that_senders_share() -> None:
    shared = {"base", "batching", "convert", "deadline", "http", "options", "soap"}
    folder = Path(senders.__file__).parent
    for gateway in GATEWAYS:
        single = folder / f"{gateway}.py"
        files = [single] if single.exists() else sorted((folder / gateway).glob("*.py"))
        assert files, gateway
        own = {file.stem for file in files}
        for file in files:
            # `..errors` in a single file is `...errors` in a folder.
            up = 1 if file == single else 2
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Import):
                    names = [alias.name for alias in node.names]
                    assert not [name for name in names if name.startswith("flask")], file
                if not isinstance(node, ast.ImportFrom) or not node.level:
                    continue
                name = node.module or ",".join(alias.name for alias in node.names)
                if node.level == up + 1:
                    assert name in ("errors", "forks", "log_events", "secret"), f"{file}: {name}"
                elif node.level == up:
                    assert name in shared, f"{file}: {name}"
                else:
                    assert set(name.split(",")) <= own, f"{file}: {name}"
