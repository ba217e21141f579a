"""Log records of the pages and of the start have the name of their event."""

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
FILES = [*(PACKAGE / "web").glob("*.py"), PACKAGE / "build.py", PACKAGE / "announcer.py"]
DOCS = (PACKAGE.parent / "docs" / "production.md").read_text("utf-8")


def log_calls(path: Path) -> list[ast.Call]:
    return [
        node
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "log"
    ]


def test_every_log_call_names_an_event_that_is_documented() -> None:
    documented = set(re.findall(r"^\| `smsverify\.(\w+)` \|", DOCS, re.M))
    calls = [(path, call) for path in FILES for call in log_calls(path)]
    assert len(calls) > 8
    for path, call in calls:
        [extra] = [keyword.value for keyword in call.keywords if keyword.arg == "extra"]
        assert isinstance(extra, ast.Call), path
        assert isinstance(extra.args[0], ast.Constant), path
        assert extra.args[0].value in documented, path


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
