"""The documentation is complete and its examples work."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import re
import sys
import types
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import flask
import flask_login
import pytest
import sqlalchemy.orm
from flask import Flask
from jinja2 import DictLoader

import flask_smsverify
from flask_smsverify import cli, errors, signals
from flask_smsverify.db import models
from flask_smsverify.messaging.event_catalogue import BUILT_IN
from flask_smsverify.settings import Settings
from flask_smsverify.settings.schema import DEFAULT_LIMITS
from flask_smsverify.simulator import running
from flask_smsverify.testing import outbox

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
PICTURE = re.compile(r'!\[[^\]]+\]\(([^)]+)\)|<img src="([^"]+)"')
PYTHON = re.compile(r"^```python\n(.*?)^```", re.M | re.S)


def read(page: str) -> str:
    return (DOCS / page).read_text("utf-8")


def table(page: str, *columns: str) -> list[list[str]]:
    """Return the rows of every table on a page with these columns."""
    head = f"| {' | '.join(columns)} |\n| {' | '.join(['---'] * len(columns))} |\n"
    found = read(page).split(head)[1:]
    assert found, f"{page} has no table with the columns {columns}"
    rows = [row for part in found for row in part.split("\n\n")[0].splitlines()]
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows]


def settings_in(source: str) -> dict[str, Any]:
    """Return the settings that an example assigns."""
    return {
        target.id: ast.literal_eval(node.value)
        for node in ast.parse(source).body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name) and target.id.startswith("SMSVERIFY_")
    }


# --- completeness -------------------------------------------------------------------------------


def test_every_setting_is_documented_once_with_its_default() -> None:
    rows = table("configuration.md", "key", "type", "default", "meaning")
    documented = {row[0].strip("`"): ast.literal_eval(row[2].strip("`")) for row in rows}
    assert len(documented) == len(rows), "a key is documented twice"
    defaults = {
        field.name.upper(): field.metadata["default"] for field in dataclasses.fields(Settings)
    }
    assert documented == defaults


def test_every_limit_is_documented_with_its_default() -> None:
    rows = table("configuration.md", "scope", "default", "counts")
    documented = {row[0].strip("`"): ast.literal_eval(row[1].strip("`")) for row in rows}
    assert documented == DEFAULT_LIMITS


def test_every_signal_is_documented() -> None:
    documented = re.findall(r"autodata:: flask_smsverify\.signals\.(\w+)", read("signals.md"))
    assert sorted(documented) == sorted(
        name for name, value in vars(signals).items() if hasattr(value, "connect_via")
    )


def test_every_command_is_documented() -> None:
    rows = table("commands.md", "command", "does")
    documented = [row[0].strip("`").split()[2] for row in rows]
    assert sorted(documented) == sorted(cli.smsverify.commands)


def test_each_row_of_the_whmcs_add_on_names_what_exists(quickstart_app: Flask) -> None:
    page = read("smsir-addon.md")
    by_audience = {
        "user": page.split("## Client templates")[1].split("## Admin templates")[0],
        "staff": page.split("## Admin templates")[1].split("## Other pages")[0],
    }
    for audience, part in by_audience.items():
        named = set(re.findall(r"^\| .* \| `([a-z_]+\.[a-z_]+)`", part, re.M))
        ours = ("verification.", "mobile.", "limit.", "text.")
        assert named == {
            event.name
            for event in BUILT_IN
            if audience in event.audiences and not event.name.startswith(ours)
        }
    fields = {f"SMSVERIFY_{field.name.upper()}" for field in dataclasses.fields(Settings)}
    assert set(re.findall(r"`(SMSVERIFY_[A-Z_]+)`", page)) <= fields
    prefix = quickstart_app.extensions["smsverify"].settings.admin_url
    rules = {rule.rule.removeprefix(prefix) for rule in quickstart_app.url_map.iter_rules()}
    paths = set(re.findall(r"`(/[a-z]*)`", page))
    assert len(paths) == 9
    assert paths <= rules


def test_the_errors_page_lists_every_problem_class() -> None:
    assert "```{problems}```" in read("errors.md").replace("\n", "")
    classes = {
        value
        for value in vars(errors).values()
        if inspect.isclass(value) and issubclass(value, errors.ProblemError)
    }
    concrete = {error for error in classes if "code" in vars(error)} - {errors.ProblemError}
    assert concrete == set(errors.PROBLEMS.values())


def test_every_public_name_is_in_the_reference() -> None:
    reference = "\n".join(map(read, ("api.md", "errors.md")))
    modules = set(re.findall(r"automodule:: ([\w.]+)", reference))
    objects = set(re.findall(r"auto(?:class|function):: ([\w.]+)", reference))
    for name in set(flask_smsverify.__all__) - {"errors", "signals", "DEFAULT_TIMEOUT"}:
        value = getattr(flask_smsverify, name)
        full_name = f"{value.__module__}.{value.__qualname__}"
        assert value.__module__ in modules or full_name in objects, name


def test_the_architecture_page_has_every_module_and_table() -> None:
    page = read("architecture.md")
    for path in Path(flask_smsverify.__file__).parent.iterdir():
        is_code = path.suffix == ".py" or (path / "__init__.py").exists()
        if is_code:
            assert f"`{path.stem}{'' if path.suffix else '/'}`" in page, path.name
    documented = {row[0].strip("`") for row in table("architecture.md", "table", "one row is")}
    assert documented == set(models.Base.metadata.tables)


def test_the_architecture_page_names_files_that_exist() -> None:
    package = Path(flask_smsverify.__file__).parent
    files = [path.relative_to(package).as_posix() for path in package.rglob("*.py")]
    named = re.findall(r"`([\w/]+\.py)`", read("architecture.md"))
    missing = [name for name in named if not any(f"/{file}".endswith(f"/{name}") for file in files)]
    assert missing == []


# --- examples -----------------------------------------------------------------------------------


def test_every_picture_is_shown_and_small() -> None:
    shown = {
        (page.parent / target).resolve()
        for page in PAGES
        for found in re.findall(
            r'!\[[^\]]+\]\(([^)]+)\)|<img src="([^"]+)"', page.read_text("utf-8")
        )
        for target in found
        if target
    }
    pictures = set((DOCS / "images").iterdir())
    assert shown == pictures
    assert [one.name for one in pictures if one.stat().st_size > 60_000] == []


def test_the_readme_has_the_quickstart_of_the_guide() -> None:
    source = (DOCS / "examples" / "quickstart.py").read_text("utf-8")
    assert source in PYTHON.findall((ROOT / "README.md").read_text("utf-8"))


def test_python_examples_parse_and_import_public_names() -> None:
    for page in PAGES:
        for source in PYTHON.findall(page.read_text("utf-8")):
            for node in ast.walk(ast.parse(source, filename=str(page))):
                if not isinstance(node, ast.ImportFrom) or node.module is None:
                    continue
                if node.module.startswith("flask_smsverify"):
                    module = importlib.import_module(node.module)
                    for name in node.names:
                        assert hasattr(module, name.name), f"{page.name}: {name.name}"


def test_settings_in_examples_are_valid() -> None:
    found: set[str] = set()
    for page in PAGES:
        for source in PYTHON.findall(page.read_text("utf-8")):
            config = settings_in(source)
            Settings.read(config, development=True)
            found |= set(config)
    assert "SMSVERIFY_SENDERS" in found


@pytest.fixture
def quickstart(monkeypatch: pytest.MonkeyPatch) -> Iterator[types.ModuleType]:
    """The quickstart's module, importable as `app`, as in the guide."""
    monkeypatch.syspath_prepend(str(DOCS / "examples"))
    module = importlib.import_module("quickstart")
    monkeypatch.setitem(sys.modules, "app", module)
    yield module
    for name in ("quickstart", "test_quickstart", "sign_up"):
        sys.modules.pop(name, None)


@pytest.fixture
def quickstart_app(quickstart: Any, tmp_path: Path) -> Iterator[Flask]:
    app = quickstart.create_app(
        {
            "TESTING": True,
            "WTF_CSRF_ENABLED": False,
            "SQLALCHEMY_DATABASE_URI": f"sqlite:///{tmp_path / 'test.sqlite'}",
        }
    )
    yield app
    with app.app_context():
        quickstart.smsverify.close()
        quickstart.db.engine.dispose()


def test_the_example_tests_of_the_quickstart_pass(quickstart_app: Flask) -> None:
    example = importlib.import_module("test_quickstart")
    tests = [value for name, value in vars(example).items() if name.startswith("test_")]
    assert len(tests) == 2
    for test in tests:
        client = quickstart_app.test_client()
        with quickstart_app.app_context():
            example.db.session.execute(example.db.delete(example.User))
            example.db.session.commit()
        client.get("/")
        test(quickstart_app, client)


def test_the_names_of_the_site_come_from_the_environment_as_documented(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    [(name, value)] = re.findall(
        r"^(FLASK_SMSVERIFY_SITE_NAME)='(.+)'$", read("configuration.md"), re.M
    )
    monkeypatch.setenv(name, value)
    app = request.getfixturevalue("quickstart_app")
    names = app.extensions["smsverify"].live.current.site_name
    assert (names["fa"], names["en"]) == ("چنار", "Chenar")


def test_the_settings_of_the_simulator_page_send_to_the_simulator(
    quickstart: Any, tmp_path: Path
) -> None:
    [source] = [one for one in PYTHON.findall(read("simulator.md")) if "SENDERS" in one]
    config = settings_in(source)
    assert config["SMSVERIFY_SIMULATOR_URL"] == "http://127.0.0.1:8025"
    with running() as simulator:
        app = quickstart.create_app(
            config
            | {
                "SMSVERIFY_SIMULATOR_URL": simulator.url,
                "SQLALCHEMY_DATABASE_URI": f"sqlite:///{tmp_path / 'test.sqlite'}",
                "TESTING": True,
                "WTF_CSRF_ENABLED": False,
            }
        )
        client = app.test_client()
        client.get("/")
        client.post("/verify-mobile/mobile", data={"mobile": "0912 345 6789", "send": "1"})
        [message] = simulator.messages(to="+989123456789")
        client.post("/verify-mobile/check", data={"code": message["code"]})
        assert client.get("/orders/new").status_code == 200
        with app.app_context():
            quickstart.smsverify.close()
            quickstart.db.engine.dispose()


def test_the_sign_up_example_creates_a_verified_account(
    quickstart: Any, quickstart_app: Flask
) -> None:
    app = quickstart_app
    app.register_blueprint(importlib.import_module("sign_up").sign_up)
    app.jinja_loader = DictLoader(
        {f"sign_up/{name}.html": "form" for name in ("mobile", "code", "account")}
    )
    client = app.test_client()
    client.environ_base["HTTP_ACCEPT_LANGUAGE"] = "en"
    with outbox(app) as box:
        for path in ("/sign-up/", "/sign-up/code", "/sign-up/account"):
            assert client.get(path).text == "form"
        assert "valid mobile" in client.post("/sign-up/", data={"mobile": "12"}).text
        without_code = client.post("/sign-up/code", data={"code": "123456"})
        assert without_code.status_code == 404
        assert 'href="/sign-up/">Back<' in without_code.text
        sent = client.post("/sign-up/", data={"mobile": "0912 345 6789"})
        assert sent.location == "/sign-up/code"
        code = box.last.code
        assert code is not None
        wrong = f"{(int(code) + 1) % 10**6:06}"
        refused = client.post("/sign-up/code", data={"code": wrong})
        assert "code is wrong" in refused.text
        assert refused.status_code == 422
        assert 'href="/sign-up/code">Back<' in refused.text
        without_proof = client.post("/sign-up/account")
        assert without_proof.status_code == 422
        assert 'href="/sign-up/">Back<' in without_proof.text
        checked = client.post("/sign-up/code", data={"code": code})
        assert checked.location == "/sign-up/account"
        assert client.post("/sign-up/account").location == "/"
        assert client.get("/orders/new").status_code == 200
    with app.app_context():
        [user] = quickstart.db.session.scalars(quickstart.db.select(quickstart.User))
        assert user.mobile == "+989123456789"


@pytest.fixture
def sign_in_app(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Flask]:
    """The app of the page about the sign-in."""
    monkeypatch.syspath_prepend(str(DOCS / "examples"))
    module = importlib.import_module("sign_in")
    app = module.create_app(
        {
            "TESTING": True,
            "SQLALCHEMY_DATABASE_URI": f"sqlite:///{tmp_path / 'test.sqlite'}",
        }
    )
    yield app
    with app.app_context():
        module.smsverify.close()
        module.db.engine.dispose()
    sys.modules.pop("sign_in", None)


def test_the_sign_in_example_signs_a_new_user_up_and_in_again(sign_in_app: Flask) -> None:
    """As a browser does it: the forms as they are, with their CSRF tokens."""
    for user in ("1", "1"):
        client = sign_in_app.test_client()
        with outbox(sign_in_app) as box:
            page = client.get("/", follow_redirects=True)
            answer = submit(client, page.text, "/sign-in", mobile="۰۹۱۲ ۳۴۵ ۶۷۸۹")
            page = client.get(answer.location)
            answer = submit(client, page.text, "/check", code=box.last.code or "")
            assert answer.location == "/"
            assert client.get("/").text == f"You are signed in as user {user}."


def submit(client: Any, page: str, action: str, **fields: str) -> Any:
    """Submit the first form whose action ends so, with its hidden fields."""
    [form, *_] = re.findall(rf'<form[^>]*action="[^"]*{action}".*?</form>', page, re.S)
    hidden = dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', form))
    url = re.findall(r'action="([^"]*)"', form)[0]
    return client.post(url, data=hidden | fields)


def make_namespace(quickstart: Any, app: Flask) -> dict[str, Any]:
    """Return the names that the examples of the guide use without importing them."""
    namespace: dict[str, Any] = {}
    for module in (flask, flask_login, sqlalchemy, sqlalchemy.orm, flask_smsverify):
        namespace |= {name: getattr(module, name) for name in dir(module) if name[0] != "_"}
    return namespace | {
        "__name__": "app",
        "app": app,
        "db": quickstart.db,
        "smsverify": quickstart.smsverify,
        "timedelta": timedelta,
        "find_user": lambda email, password: None,
        "User": quickstart.User,
        "ProblemError": flask_smsverify.ProblemError,
    }


def test_the_definitions_in_the_guide_are_accepted(quickstart: Any, quickstart_app: Flask) -> None:
    for page in (
        "guarding",
        "user-model",
        "login-gate",
        "sign-in",
        "templates",
        "signals",
        "webhooks",
    ):
        namespace = make_namespace(quickstart, quickstart_app)
        sources = PYTHON.findall(read(f"{page}.md"))
        assert sources, page
        for source in sources:
            with quickstart_app.app_context():
                exec(compile(source, page, "exec"), namespace)  # noqa: S102 -- the repository's own text


def test_the_calls_in_the_guide_to_the_verifier_work(
    quickstart: Any, quickstart_app: Flask
) -> None:
    app, db = quickstart_app, quickstart.db
    sources = PYTHON.findall(read("verifier.md"))
    assert len(sources) > 5
    for number, source in enumerate(sources):
        with app.test_request_context(), outbox(app) as box:
            user = quickstart.User(mobile=f"0912345{number:04}")
            db.session.add(user)
            db.session.commit()
            quickstart.smsverify.verifier.start(user)
            namespace = make_namespace(quickstart, app) | {"user": user, "code": box.last.code}
            for statement in ast.parse(source).body:
                box.advance(timedelta(minutes=5))
                exec(compile(ast.Module([statement], []), "verifier", "exec"), namespace)  # noqa: S102 -- likewise
