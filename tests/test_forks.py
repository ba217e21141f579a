"""Servers that fork after the app was made, as `gunicorn --preload` does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent

#: The parent sends codes in the background until it has all its threads, then forks; the child
#: sends some too, and says how many arrived and whether the ledger's connections are its own.
SCRIPT = """
import os, signal, sys, threading
from flows import MEMORY, NO_BUDGETS
from hostapp import User, create_app, db

app = create_app(sys.argv[1], SMSVERIFY_SENDERS=MEMORY, SMSVERIFY_BUDGETS=NO_BUDGETS)
state = app.extensions["smsverify"]
memory = state.delivery.routes.senders["memory"]
real, together = memory.send_code, threading.Barrier(4)

def at_once(message):
    together.wait(20)
    return real(message)

memory.send_code = at_once
with app.app_context():
    db.create_all()
    for number in range(4):
        state.verifier.start_for(f"0912111{number:04}", purpose="sign-up")
    state.delivery.settle()
    memory.send_code = real
    db.session.remove()
    db.engine.dispose()
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        state.verifier.start_for("09121119999", purpose="sign-up")
        state.delivery.settle()
        print(len(memory.messages), os.waitstatus_to_exitcode(status))
        sys.exit()
    signal.alarm(30)  # should it wait for its parent's threads, nobody would end it
    for number in range(10, 14):
        state.verifier.start_for(f"0912111{number:04}", purpose="sign-up")
    state.delivery.settle()
    print(len(memory.messages), flush=True)
    os._exit(0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no forks")
def test_a_forked_process_sends_and_writes_by_itself(database: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT, database],
        cwd=TESTS,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert ran.stdout.split() == ["8", "5", "0"], ran.stderr
