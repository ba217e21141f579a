"""The check of the whole suite for leaks finds what it must find."""

from __future__ import annotations

import logging

import httpx
import leaks
import pytest
from flask import Flask
from hostapp import User, db

from flask_smsverify.errors import InvalidMobile
from flask_smsverify.testing import LoopbackGateway, Reply, outbox

pytestmark = pytest.mark.leaks


@pytest.fixture
def code(app: Flask) -> str:
    """Return a code that was sent."""
    with app.app_context(), outbox(app) as box:
        app.extensions["smsverify"].verifier.start(db.session.get(User, 1))
        return box.last.code


def test_a_code_in_a_log_is_found(code: str) -> None:
    logging.getLogger("flask_smsverify.anything").debug("typed: %s", code)


def test_a_code_in_a_logged_traceback_is_found(code: str) -> None:
    try:
        {}[code]
    except KeyError:
        logging.getLogger("any").exception("this went wrong")


def test_a_code_in_a_response_is_found(app: Flask, code: str) -> None:
    app.add_url_rule("/leak", view_func=lambda: f"<b>{code}</b>")
    app.test_client().get("/leak")


def test_a_code_in_a_header_is_found(app: Flask, code: str) -> None:
    app.add_url_rule("/leak", view_func=lambda: ("", {"X-Code": code}))
    app.test_client().get("/leak")


def test_a_mobile_in_an_error_is_found() -> None:
    InvalidMobile("09123450001 is too long")


def test_a_mobile_in_the_cause_of_an_error_is_found() -> None:
    InvalidMobile("this is no mobile").__cause__ = ValueError("+989123450001")


def test_a_mobile_in_a_url_that_an_http_client_logs_is_found() -> None:
    with LoopbackGateway(lambda _: Reply(200)) as gateway:
        httpx.get(gateway.url, params={"to": "09123450001"}, trust_env=False)


@pytest.mark.parametrize(
    "text", ["09123450001", "to=+989123450001,", "00989123450001", "'9123450001'"]
)
def test_a_mobile_in_any_spelling_is_found(text: str) -> None:
    logging.getLogger("any").warning(text)


def test_a_masked_mobile_and_an_id_are_not_leaks() -> None:
    with leaks.watch() as watched:
        logging.getLogger("any").warning("0912•••0001 99123450001 a9123450001f 91234500011")
    assert watched.found() == []
    logging.getLogger("any").warning("09123450001")  # for the fixture, which expects a leak
