"""What listens to the whole suite does hear."""

from __future__ import annotations

import logging

import httpx
import leaks
import pytest
from flask import Flask
from hostapp import User, db

from flask_smsverify.errors import InvalidMobile
from flask_smsverify.testing import LoopbackGateway, Reply, outbox

pytestmark = pytest.mark.talks


@pytest.fixture
def code(app: Flask) -> str:
    """A code that went out, of which nobody may tell."""
    with app.app_context(), outbox(app) as box:
        app.extensions["smsverify"].verifier.start(db.session.get(User, 1))
        return box.last.code


def test_a_code_in_a_log_is_heard(code: str) -> None:
    logging.getLogger("flask_smsverify.anything").debug("typed: %s", code)


def test_a_code_in_a_traceback_that_is_logged_is_heard(code: str) -> None:
    try:
        {}[code]
    except KeyError:
        logging.getLogger("anybody").exception("this went wrong")


def test_a_code_in_an_answer_is_heard(app: Flask, code: str) -> None:
    app.add_url_rule("/tells", view_func=lambda: f"<b>{code}</b>")
    app.test_client().get("/tells")


def test_a_code_in_a_header_is_heard(app: Flask, code: str) -> None:
    app.add_url_rule("/tells", view_func=lambda: ("", {"X-Code": code}))
    app.test_client().get("/tells")


def test_a_mobile_in_an_error_is_heard() -> None:
    InvalidMobile("09123450001 is too long")


def test_a_mobile_in_what_caused_an_error_is_heard() -> None:
    InvalidMobile("this is no mobile").__cause__ = ValueError("+989123450001")


def test_a_mobile_in_an_address_that_an_http_client_logs_is_heard() -> None:
    with LoopbackGateway(lambda _: Reply(200)) as gateway:
        httpx.get(gateway.url, params={"to": "09123450001"}, trust_env=False)


@pytest.mark.parametrize(
    "text", ["09123450001", "to=+989123450001,", "00989123450001", "'9123450001'"]
)
def test_a_mobile_in_any_spelling_is_heard(text: str) -> None:
    logging.getLogger("anybody").warning(text)


def test_a_masked_mobile_and_an_id_are_nothing() -> None:
    with leaks.listening() as heard:
        logging.getLogger("anybody").warning("0912•••0001 99123450001 a9123450001f 91234500011")
    assert heard.found() == []
    logging.getLogger("anybody").warning("09123450001")  # for the one that listens to this
