"""`flask smsverify simulator` as a process."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest


@pytest.fixture
def children_receive_sigint() -> Iterator[None]:
    """Let child processes receive SIGINT, which background processes of a shell ignore."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("children_receive_sigint")
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_simulator_serves_without_an_app_until_it_is_stopped(
    tmp_path: Path, sent: signal.Signals
) -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("FLASK")}
    with subprocess.Popen(
        [sys.executable, "-m", "flask", "smsverify", "simulator", "--port", "0"],
        cwd=tmp_path,
        env=environment | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            said = process.stdout.readline()
            [address] = re.findall(r"http://127\.0\.0\.1:\d+/", said)
            assert httpx.get(f"{address}_api/messages", trust_env=False).json() == []
            process.send_signal(sent)
            rest, _ = process.communicate(timeout=20)
            assert "Traceback" not in rest
            if sent is signal.SIGINT:
                assert process.returncode == 0
        finally:
            process.kill()
