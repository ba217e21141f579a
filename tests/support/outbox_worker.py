"""A process with a worker of the outbox, for tests that kill it.

Run as `python outbox_worker.py URL CONFIG HOLD`: the app's database, its config as JSON, and the
place at which the worker hangs. `leased` is before a gateway is called.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve()


@contextmanager
def worker(url: str, config: dict[str, Any], hold: str = "") -> Iterator[subprocess.Popen[str]]:
    """Start a worker that polls, and kill it at the end of the block if it still runs."""
    path = os.pathsep.join(
        [str(HERE.parent), str(HERE.parents[2]), os.environ.get("PYTHONPATH", "")]
    )
    process = subprocess.Popen(
        [sys.executable, str(HERE), url, json.dumps(config), hold],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait(30)
        assert process.stdout is not None
        process.stdout.close()


def _serve(url: str, config: dict[str, Any], hold: str) -> None:
    from hostapp import create_app

    from flask_smsverify.messaging.worker import DispatchProcess

    app = create_app(url, **config)
    # Only an app with staff pages reads the settings that staff change.
    app.extensions["test_smsverify"].staff_required(lambda: False)
    state = app.extensions["smsverify"]

    def stop_here(*_: object) -> None:
        # One string, because several threads write at once.
        print("holding\n", end="", flush=True)  # noqa: T201 -- read by the test
        while True:
            time.sleep(60)

    if hold == "leased":
        state.queues[0]._send_leased = stop_here
    process = DispatchProcess(state.queues, poll_seconds=0.1)
    signal.signal(signal.SIGTERM, lambda *_: process.stop())
    print("ready", flush=True)  # noqa: T201 -- read by the test
    process.run(watch=True)


if __name__ == "__main__":
    _serve(sys.argv[1], json.loads(sys.argv[2]), sys.argv[3])
