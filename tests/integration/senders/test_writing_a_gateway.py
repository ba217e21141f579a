"""The guide's example passes the contract, can be registered, and sends codes."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from flask import Flask, current_app
from hostapp import User, db
from sqlalchemy import select

import flask_smsverify
from flask_smsverify import SMSVerify
from flask_smsverify.db.models import Attempt, Message
from flask_smsverify.errors import ConfigurationError, SendFailed
from flask_smsverify.senders import base
from flask_smsverify.testing import LoopbackGateway, Reply

DOCS = Path(__file__).parents[3] / "docs"


def load(name: str) -> ModuleType:
    """Import a module of the guide's examples."""
    spec = spec_from_file_location(name, DOCS / "examples" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


Acme: Any = load("acme").Acme
TestAcme: Any = load("test_acme").TestAcme


@pytest.fixture
def gateway() -> Iterator[LoopbackGateway]:
    with LoopbackGateway(lambda _: Reply(201, b'{"id": "m-17"}')) as gateway:
        yield gateway


def make_shop(tmp_path: Path, *, cls: Any = Acme, **options: object) -> Flask:
    app = Flask("shop")
    app.config.update(
        SECRET_KEY="a secret of the tests",
        TESTING=True,
        SQLALCHEMY_DATABASE_URI=f"sqlite:///{tmp_path / 'shop.sqlite'}",
        SMSVERIFY_SENDERS={"main": {"gateway": "acme", **options}},
    )
    db.init_app(app)
    smsverify = SMSVerify()
    smsverify.register_gateway("acme", cls)
    smsverify.init_app(app, db, user_model=User)
    app.extensions["test_smsverify"] = smsverify
    return app


@contextmanager
def with_a_user(app: Flask) -> Iterator[Flask]:
    """Create the tables and a user, and close the connections at the end."""
    with app.app_context():
        db.create_all()
        db.session.add(User(id=1, mobile="09123456789"))
        db.session.commit()
    yield app
    app.extensions["smsverify"].close()
    with app.app_context():
        db.session.remove()
        db.engine.dispose()


@pytest.fixture
def shop(tmp_path: Path, gateway: LoopbackGateway) -> Iterator[Flask]:
    app = make_shop(tmp_path, key="open-sesame", base_url=gateway.url)
    with with_a_user(app), app.app_context():
        yield app


def start(shop: Flask) -> None:
    user = db.session.get(User, 1)
    db.session.rollback()
    shop.extensions["smsverify"].verifier.start(user)


def test_a_registered_gateway_sends_codes(shop: Flask, gateway: LoopbackGateway) -> None:
    start(shop)
    [request] = gateway.requests
    assert request.headers["authorization"] == "Key open-sesame"
    body = json.loads(request.body)
    assert body["to"] == "+989123456789"
    [code] = re.findall(r"\b\d{6}\b", body["text"])
    shop.extensions["smsverify"].verifier.check(db.session.get(User, 1), code)


def test_an_error_of_a_registered_gateway_fails_the_send(
    shop: Flask, gateway: LoopbackGateway
) -> None:
    gateway.answer = lambda _: Reply(422, b'{"field": "to"}')
    with pytest.raises(SendFailed) as failed:
        start(shop)
    [cause] = failed.value.causes
    assert (cause.sender, cause.gateway, cause.code) == ("main", "acme", "422")


def test_the_senders_command_shows_a_registered_gateway(
    shop: Flask, gateway: LoopbackGateway
) -> None:
    gateway.answer = lambda _: Reply(200, b'{"credit": 120000}')
    message = shop.test_cli_runner().invoke(args=["smsverify", "senders"]).output
    assert "main (acme)" in message
    assert "120,000 IRR" in message


def test_the_options_of_a_registered_gateway_are_checked(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"no option 'kei'; did you mean 'key'\?"):
        make_shop(tmp_path, kei="open-sesame")
    with pytest.raises(ConfigurationError, match="the option 'key' is missing"):
        make_shop(tmp_path)


def test_only_a_sender_can_be_registered() -> None:
    with pytest.raises(ConfigurationError, match="a gateway must be a subclass of Sender"):
        SMSVerify().register_gateway("acme", dict)  # type: ignore[arg-type] -- the mistake


class Named(Acme):
    """A gateway that reads the app's configuration at each call."""

    def _call(self, *arguments: Any) -> Any:
        return {"id": current_app.name, "credit": len(current_app.name)}


@pytest.fixture
def named_shop(tmp_path: Path, gateway: LoopbackGateway) -> Iterator[Flask]:
    options = {"key": "open-sesame", "base_url": gateway.url}
    app = make_shop(tmp_path, cls=Named, **options)
    with with_a_user(app):
        yield app


def test_a_registered_gateway_is_in_an_app_context_in_every_thread(named_shop: Flask) -> None:
    smsverify = named_shop.extensions["test_smsverify"]
    state = named_shop.extensions["smsverify"]
    with named_shop.app_context():
        smsverify.verifier.start_for("09123456780", purpose="sign-up")
        smsverify.notify("client.registered", db.session.get(User, 1), client_name="Sara")
        db.session.commit()
        smsverify.send("Closed on Friday", ["09123456781", "09123456782"])
    state.workers.wait()
    for worker in state.inline_workers:
        worker.wait()
    with named_shop.app_context():
        sent = db.session.execute(
            select(Message.state, Attempt.gateway_id).join_from(
                Message, Attempt, Message.id == Attempt.message_id
            )
        ).all()
        assert [tuple(row) for row in sent] == [("queued", "shop")] * 4
    output = named_shop.test_cli_runner().invoke(args=["smsverify", "senders"]).output
    assert "credit: 4 IRR" in output


@pytest.mark.parametrize("method", ["send_batch", "send_code", "credit"])
def test_a_gateway_with_an_async_method_is_refused_by_name(method: str) -> None:
    async def asynchronous(*_arguments: Any) -> None: ...

    cls = type("Slow", (Acme,), {method: asynchronous})
    with pytest.raises(ConfigurationError, match=rf"Slow\.{method} must be a plain method"):
        SMSVerify().register_gateway("slow", cls)


def test_the_guides_example_is_short_and_imports_public_names_alone() -> None:
    source = (DOCS / "examples" / "acme.py").read_text()
    assert len(source.splitlines()) < 70
    imports = re.findall(r"^(?:from|import) (\S+)", source, re.M)
    assert set(imports) == {"decimal", "flask_smsverify"}


def test_every_name_in_the_guide_is_public_or_a_method_of_a_sender() -> None:
    guide = (DOCS / "writing-a-gateway.md").read_text()
    calls = set(re.findall(r"`(?:self\.)?(\w+)\(", guide)) - {"credit", "contacts"}
    functions = calls & set(flask_smsverify.__all__)
    assert {"to_national", "to_e164", "map_state", "isolate", "redact_reason"} <= functions
    classes = set(re.findall(r"`([A-Z][a-z]+[A-Z]\w+)`", guide)) - {"SenderContract"}
    for name in classes:
        assert name in flask_smsverify.__all__, name
    for name in calls - functions:
        assert callable(getattr(flask_smsverify.Sender, name)), name
    capabilities = set(re.findall(r"`([A-Z_]{4,})`", guide)) - {"UNKNOWN"}
    settings = {name for name in capabilities if name.startswith("SMSVERIFY_")}
    assert capabilities - settings == {capability.name for capability in base.Capability}
