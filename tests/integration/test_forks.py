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


#: A thread of the parent holds every lock of the package while the process forks. Then the child
#: sends a code, changes a setting and sends what waits.
LOCKS_HELD = """
import gc, os, signal, sys, threading
from flows import MEMORY, NO_LIMITS
from hostapp import User, create_app, db
import flask_smsverify.senders.soap
import flask_smsverify.senders.smsir.legacy
from flask_wtf import CSRFProtect
from visiting import SEND, api, browser

app = create_app(sys.argv[1], SMSVERIFY_SENDERS=MEMORY, SMSVERIFY_LIMITS=NO_LIMITS)
app.extensions["test_smsverify"].staff_required(lambda: True)
CSRFProtect(app)
state = app.extensions["smsverify"]
with app.app_context():
    db.create_all()
    db.session.add(User(mobile="09123450001"))
    db.session.commit()
    app.extensions["test_smsverify"].send("hello", ["09123450002"])
    for worker in state.inline_workers:
        worker.wait()
    db.session.remove()
    db.engine.dispose()
state.queues[0]._held.add("a lease of the parent")

KINDS = type(threading.Lock()), type(threading.RLock())

def attributes(owner):
    names = [name for cls in type(owner).__mro__ for name in getattr(cls, "__slots__", ())]
    return {**getattr(owner, "__dict__", {}), **{n: getattr(owner, n, None) for n in names}}

def locks():
    for owner in gc.get_objects():
        module = owner.__name__ if isinstance(owner, type(os)) else type(owner).__module__
        if isinstance(module, str) and module.startswith("flask_smsverify."):
            for name, value in attributes(owner).items():
                if isinstance(value, KINDS):
                    yield f"{module}.{name}", value

found = dict(locks())
held, forked = threading.Event(), threading.Event()

def hold():
    taken = [lock for _, lock in locks() if lock.acquire(blocking=False)]
    held.set()
    forked.wait(60)
    for lock in taken:
        lock.release()

holding = threading.Thread(target=hold)
holding.start()
held.wait(60)
child = os.fork()
if child:
    forked.set()
    holding.join()
    _, status = os.waitpid(child, 0)
    print(len(found), os.waitstatus_to_exitcode(status))
    sys.exit()
signal.alarm(120)  # a child that waits for a lock would never end
assert not any(lock.locked() for _, lock in locks() if hasattr(lock, "locked")), [
    name for name, lock in locks() if hasattr(lock, "locked") and lock.locked()
]
app.config["WTF_CSRF_ENABLED"] = False
assert api(browser(app, 1), SEND).status_code == 200
state.setting_store.save({"signature": "Chenar"}, lambda *_: None)
assert state.live.current.signature
with app.app_context():
    app.extensions["test_smsverify"].send("hello again", ["09123450003"])
for worker in state.inline_workers:
    worker.wait()
assert [queue.abandon() for queue in state.queues] == [0, 0]
print(state.queues[0]._held, flush=True)
os._exit(0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no fork")
def test_a_process_that_is_forked_while_every_lock_is_held_waits_for_none(sqlite: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOCKS_HELD, sqlite],
        cwd=TESTS,
        capture_output=True,
        text=True,
        timeout=300,  # for a deadlock, not for a slow machine
        check=False,
    )
    assert done.stdout.split()[0] == "set()", done.stderr
    found, status = done.stdout.split()[1:]
    assert int(found) > 10, done.stdout
    assert status == "0", done.stderr
