"""Run a command of `flask smsverify` in a test."""

from __future__ import annotations

from click.testing import Result
from flask import Flask

#: Timeouts in seconds for gateways that are not slow on purpose.
PATIENT = (60, 60, 60)
ACCOUNT = {"username": "an-account", "password": "open-sesame", "timeout": PATIENT}
SECRETS = ("an-account", "open-sesame", "a-token", "a-key", "9123450001")


def run(app: Flask, *arguments: str, ends: int = 0, answer: str | None = None) -> str:
    """Run a command and return its output, which has 80 columns and contains no secret."""
    result: Result = app.test_cli_runner().invoke(args=["smsverify", *arguments], input=answer)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    assert result.exit_code == ends, result.output
    lines = [line for line in result.output.splitlines() if not line.startswith("Error: ")]
    assert max(map(len, lines), default=0) <= 80, result.output
    for secret in SECRETS:
        assert secret not in result.output
    return result.output
