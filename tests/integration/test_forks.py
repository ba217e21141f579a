"""Servers that fork after the app was created, as `gunicorn --preload` does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1] / "support"

#: The parent sends codes in the background with all its threads and forks. Then both send codes.
#: Each prints how many its own senders hold.
SCRIPT = """
import os, signal, sys, threading
from flows import MEMORY, NO_LIMITS
from hostapp import User, create_app, db

app = create_app(sys.argv[1], SMSVERIFY_SENDERS=MEMORY, SMSVERIFY_LIMITS=NO_LIMITS)
state = app.extensions["smsverify"]
memory = state.delivery.routes.senders["memory"]
send_code, all_started = memory.send_code, threading.Barrier(4)

def wait_for_the_others(message):
    all_started.wait(60)
    return send_code(message)

memory.send_code = wait_for_the_others
with app.app_context():
    db.create_all()
    for number in range(4):
        state.verifier.start_for(f"0912111{number:04}", purpose="sign-up")
    state.workers.wait()
    memory.send_code = send_code
    db.session.remove()
    db.engine.dispose()
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        state.verifier.start_for("09121119999", purpose="sign-up")
        state.workers.wait()
        print(len(memory.messages), os.waitstatus_to_exitcode(status))
        sys.exit()
    signal.alarm(120)  # a child that waits for its parent's threads would never end
    for number in range(10, 14):
        state.verifier.start_for(f"0912111{number:04}", purpose="sign-up")
    state.workers.wait()
    print(len(memory.messages), flush=True)
    os._exit(0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no fork")
def test_a_forked_process_uses_its_own_threads_and_connections(database: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, database],
        cwd=TESTS,
        capture_output=True,
        text=True,
        timeout=300,  # for a deadlock, not for a slow machine
        check=False,
    )
    assert done.stdout.split() == ["8", "5", "0"], done.stderr
