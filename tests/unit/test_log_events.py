"""Every log record has the name of its event."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from conftest import MakeApp
from flask import Flask
from visiting import SEND, browser, store_down

import flask_smsverify

PACKAGE = Path(flask_smsverify.__file__).parent
_LOGGERS = {"log", "logger"}
_METHODS = {"debug", "info", "warning", "error", "exception", "critical", "log"}
DOCS = (PACKAGE.parent / "docs" / "production.md").read_text("utf-8")


def log_calls(path: Path) -> list[ast.Call]:
    return [
        node
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id in _LOGGERS
        and node.func.attr in _METHODS
    ]


def external_errors(path: Path) -> set[str]:
    """Return the events of the exceptions of external code that a module logs."""
    return {
        ast.literal_eval(keyword.value)
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "log_external_error"
        for keyword in node.keywords
        if keyword.arg == "event"
    }


def test_every_log_call_names_an_event_and_the_docs_list_them() -> None:
    documented = set(re.findall(r"^\| `smsverify\.(\w+)` \|", DOCS, re.M))
    named: set[object] = set()
    for path in set(PACKAGE.rglob("*.py")) - {PACKAGE / "log_events.py"}:
        for call in log_calls(path):
            [extra] = [keyword.value for keyword in call.keywords if keyword.arg == "extra"]
            assert isinstance(extra, ast.Call), path
            assert ast.unparse(extra.func) == "log_event", path
            assert isinstance(extra.args[0], ast.Constant), path
            named.add(extra.args[0].value)
        named |= external_errors(path)
    assert named == documented


def test_a_record_has_its_event(app: Flask, caplog: pytest.LogCaptureFixture) -> None:
    with store_down(app):
        assert browser(app).post(SEND).status_code == 503
    assert "smsverify.service_unavailable" in [
        getattr(record, "event", None) for record in caplog.records
    ]


def test_a_weak_setting_has_its_event(
    make_app: MakeApp, sqlite: str, caplog: pytest.LogCaptureFixture
) -> None:
    make_app(sqlite, SMSVERIFY_CODE_LENGTH=4)
    assert [getattr(record, "event", None) for record in caplog.records] == [
        "smsverify.weak_setting"
    ]
