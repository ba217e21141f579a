"""The delivery state while a page waits: a poll lets the gateway be asked once."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from conftest import MakeApp
from flask import Flask
from outbox_app import set_time, state_of
from visiting import SEND, STATUS, api, browser, statements

from flask_smsverify.delivery import Routes
from flask_smsverify.errors import Unavailable
from flask_smsverify.senders.base import Capability, DeliveryState
from flask_smsverify.senders.memory import Memory

SIGN_IN = "/verify-mobile/sign-in"


class Asked(Memory):
    """A sender that knows delivery states, and counts how often it is asked."""

    def __init__(self) -> None:
        super().__init__(name="asked")
        self.asked: list[list[str]] = []
        self.fails = False
        self.answer = DeliveryState.DELIVERED
        self.held: threading.Event | None = None
        self.is_asked = threading.Event()

    @property
    def capabilities(self) -> frozenset[Capability]:
        return super().capabilities | {Capability.STATUS}

    def statuses(self, ids: Sequence[str]) -> dict[str, DeliveryState]:
        self.asked.append(list(ids))
        self.is_asked.set()
        if self.held is not None:
            self.held.wait()
        if self.fails:
            raise Unavailable(self.name, "no answer")
        return dict.fromkeys(ids, self.answer)


@pytest.fixture
def gateway() -> Asked:
    return Asked()


@pytest.fixture
def site(make_app: MakeApp, sqlite: str, gateway: Asked) -> Flask:
    app = make_app(sqlite, users=2, SMSVERIFY_SIGN_IN=True)
    state_of(app).delivery.use_routes(Routes({"asked": gateway}, {}))
    return app


def poll(app: Flask, client: Any, url: str = STATUS) -> str | None:
    """Return the delivery state that the next poll finds."""
    client.get(url, headers={"Accept": "application/json"})
    state_of(app).workers.wait()
    found: str | None = client.get(url, headers={"Accept": "application/json"}).json["delivery"]
    return found


def test_a_poll_ten_seconds_after_the_send_asks_the_gateway_once(
    site: Flask, gateway: Asked
) -> None:
    client, start = browser(site), datetime.now(UTC)
    set_time(site, start)
    api(client, SEND)
    assert poll(site, client) == "sent"
    assert gateway.asked == [], "operators need a few seconds"
    set_time(site, start, seconds=11)
    assert poll(site, client) == "delivered"
    assert gateway.asked == [["1"]]


def test_after_the_question_a_poll_reads_once(site: Flask, gateway: Asked) -> None:
    client, start = browser(site), datetime.now(UTC)
    set_time(site, start)
    api(client, SEND)
    gateway.answer = DeliveryState.SENT
    set_time(site, start, seconds=11)
    assert poll(site, client) == "sent"
    with statements(site) as seen:
        assert poll(site, client) == "sent"
    assert len(seen) == 2, "one for each poll"
    assert len(gateway.asked) == 1


@pytest.mark.parametrize("place", ["submit", "context"])
def test_a_question_that_cannot_begin_fails_no_poll_and_stops_no_later_one(
    site: Flask, gateway: Asked, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    def fail(*_arguments: object, **_options: object) -> Any:
        raise RuntimeError("can't start new thread")

    client, start = browser(site), datetime.now(UTC)
    set_time(site, start)
    api(client, SEND)
    set_time(site, start, seconds=11)
    workers = state_of(site).workers
    with monkeypatch.context() as patched:
        patched.setattr(workers, {"submit": "submit", "context": "_context"}[place], fail)
        assert client.get(STATUS).status_code == 200
        workers.wait()
    assert gateway.asked == []
    later = time.monotonic() + 61
    monkeypatch.setattr(state_of(site).first_checks, "_monotonic", lambda: later)
    assert poll(site, client) == "delivered"


def test_a_gateway_that_fails_is_left_to_the_next_sync(
    site: Flask, gateway: Asked, caplog: pytest.LogCaptureFixture
) -> None:
    client, start = browser(site), datetime.now(UTC)
    set_time(site, start)
    api(client, SEND)
    gateway.fails = True
    set_time(site, start, seconds=11)
    assert [poll(site, client), poll(site, client)] == ["sent", "sent"]
    assert len(gateway.asked) == 1
    assert "asked could not be asked: asked: no answer" in caplog.text
    gateway.fails = False
    set_time(site, start, minutes=2)
    state_of(site).sync.run()
    assert poll(site, client) == "delivered"


def test_while_a_gateway_hangs_the_polls_of_others_do_not_wait_for_it(
    site: Flask, gateway: Asked
) -> None:
    first, second, start = browser(site), browser(site, 2), datetime.now(UTC)
    set_time(site, start)
    api(first, SEND)
    api(second, SEND)
    set_time(site, start, seconds=11)
    gateway.held = threading.Event()
    try:
        first.get(STATUS)
        assert gateway.is_asked.wait(60)
        assert second.get(STATUS).json["delivery"] == "sent"
        assert len(gateway.asked) == 1, "the threads are there for sends"
    finally:
        gateway.held.set()
    state_of(site).workers.wait()
    assert poll(site, second) == "delivered"


def test_a_poll_of_the_sign_in_asks_the_gateway_as_well(site: Flask, gateway: Asked) -> None:
    client, start = site.test_client(), datetime.now(UTC)
    set_time(site, start)
    sent = client.post(SIGN_IN, data={"mobile": "09123450001"})
    assert sent.status_code == 303
    state_of(site).workers.wait()
    set_time(site, start, seconds=11)
    assert poll(site, client, SIGN_IN) == "delivered"
    assert gateway.asked == [["1"]]


def test_a_poll_reads_once_where_no_gateway_can_be_asked(make_app: MakeApp, sqlite: str) -> None:
    app = make_app(sqlite)
    client = browser(app)
    api(client, SEND)
    with statements(app) as seen:
        assert poll(app, client) == "sent"
    assert len(seen) == 2, "one for each poll"
