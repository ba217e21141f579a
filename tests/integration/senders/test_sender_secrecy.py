"""Case 71 of docs/safety.md: an error collector that keeps local variables gets no credential."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

import flask_smsverify
from flask_smsverify.errors import SenderError
from flask_smsverify.secret import Secret
from flask_smsverify.senders.base import CodeMessage, Sender, Text
from flask_smsverify.senders.registry import build
from flask_smsverify.testing import LoopbackGateway, Reply, close_in_body

PACKAGE = str(Path(flask_smsverify.__file__).parent)
MOBILE = "+989123456789"
CREDENTIALS = {
    "username": "an-account-name",
    "password": "open-sesame-1001",
    "token": "bearer-of-tokens-2002",
    "api_key": "key-of-keys-3003",
    "secret_key": "secret-of-secrets-4004",
}
SENDERS: dict[str, dict[str, Any]] = {
    "raygan": {"gateway": "raygan", "line": "50002910"},
    "wikipayam": {"gateway": "wikipayam", "line": "10002000"},
    "melipayamak": {"gateway": "melipayamak", "line": "50001000"},
    "asanak v1": {"gateway": "asanak", "line": "021999", "api": "v1rest"},
    "asanak v2": {"gateway": "asanak", "line": "021999", "api": "v2rest"},
    "smsir v1": {"gateway": "smsir", "line": "30001000"},
    "smsir legacy": {"gateway": "smsir", "line": "30001000", "api": "legacy"},
}
NEEDED = {
    "raygan": ("username", "password"),
    "wikipayam": ("token",),
    "melipayamak": ("username", "password"),
    "asanak v1": ("username", "password"),
    "asanak v2": ("username", "password"),
    "smsir v1": ("api_key",),
    "smsir legacy": ("api_key", "secret_key"),
}


def frames_of(error: BaseException) -> Iterator[tuple[str, dict[str, object]]]:
    """Yield each frame of the error and its causes, as an error collector sees them."""
    seen: BaseException | None = error
    while seen is not None:
        traceback: TracebackType | None = seen.__traceback__
        while traceback is not None:
            frame = traceback.tb_frame
            if not frame.f_code.co_filename.startswith(str(Path(__file__).parent)):
                yield f"{frame.f_code.co_filename}:{traceback.tb_lineno}", frame.f_locals
            traceback = traceback.tb_next
        seen = seen.__cause__ or seen.__context__


def calls_of(sender: Sender) -> Iterator[Any]:
    yield lambda: sender.send_text(MOBILE, "a text")
    yield lambda: next(iter(sender.send_many([Text(MOBILE, "a text")]))).error
    yield lambda: sender.send_code(CodeMessage(MOBILE, "481516", "code 481516"))
    yield lambda: sender.check_native_code(MOBILE, "481516")
    yield sender.credit
    yield lambda: sender.statuses(["1"])
    yield lambda: list(sender.received(datetime(2026, 1, 1, tzinfo=UTC)))


def errors_of(sender: Sender) -> Iterator[SenderError]:
    for call in calls_of(sender):
        try:
            result = call()
        except SenderError as error:
            yield error
        else:
            if isinstance(result, SenderError):
                yield result


@pytest.mark.parametrize("kind", SENDERS)
def test_no_frame_of_an_error_shows_a_credential(kind: str) -> None:
    secrets = {CREDENTIALS[name] for name in NEEDED[kind]}
    options = SENDERS[kind] | {name: CREDENTIALS[name] for name in NEEDED[kind]}
    found = 0
    with LoopbackGateway(lambda _request: Reply(500, b"down")) as gateway:
        sender = build("main", options | {"base_url": gateway.url}, registered={})
        for misbehave in (None, close_in_body):
            gateway.misbehave = misbehave
            for error in errors_of(sender):
                for place, values in frames_of(error):
                    shown = repr(values)
                    assert not [secret for secret in secrets if secret in shown], (place, error)
                    found += place.startswith(PACKAGE)
        sender.close()
    assert found > 10, "the test examined no frames"


def test_no_repr_shows_a_secret_that_is_otherwise_a_plain_text() -> None:
    secret = Secret("open-sesame")
    assert "sesame" not in repr([secret, {"password": secret}])
    assert secret == "open-sesame"
    assert f"{secret}" == "open-sesame"
