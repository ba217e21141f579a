"""Real parallelism for tests: threads or processes that start at a barrier.

Only names and plain values can be passed to a process, so `ACTIONS` names the functions that it can
run. Tests with parallel work are marked `race`, so that they can be repeated:
`pytest -m race --count 100`.
"""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from flask import Flask
from hostapp import User, create_app, db
from sqlalchemy import Engine, text

PROCESSES = 4
#: Threads of each process. Each may use a connection of the host and one of the ledger, so 48 in
#: all, which is half of PostgreSQL's default limit.
THREADS = 6
TOTAL = PROCESSES * THREADS
#: Seconds until a thread counts as deadlocked.
_TIMEOUT = 60

_barrier: Any = None
_apps: dict[str, Flask] = {}


def outcome(act: Callable[[], object]) -> str:
    """Return `ok`, or the name of the exception that was raised."""
    try:
        act()
    except Exception as error:  # noqa: BLE001 -- a test counts every outcome
        return type(error).__name__
    return "ok"


def race(count: int, act: Callable[[int], object], *, timeout: float = _TIMEOUT) -> Counter[str]:
    """Run a function in parallel threads; return how often each outcome occurred.

    :param count: the number of threads.
    :param act: called with the number of the thread.
    :param timeout: seconds until a thread counts as deadlocked.
    """
    barrier = threading.Barrier(count)
    ends: Counter[str] = Counter()
    lock = threading.Lock()

    def run(number: int) -> None:
        barrier.wait(_TIMEOUT)
        end = outcome(lambda: act(number))
        with lock:
            ends[end] += 1

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout)
    assert not any(thread.is_alive() for thread in threads), "a thread hangs"
    return ends


def wait_until(condition: Callable[[], bool], *, timeout: float = _TIMEOUT) -> None:
    """Wait until a condition of other threads holds.

    :param timeout: seconds until the test fails.
    """
    give_up_at = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < give_up_at, "the condition does not hold"
        time.sleep(0.01)


_WAITING = {
    "postgresql": "SELECT count(*) FROM pg_stat_activity "
    "WHERE datname = current_database() AND wait_event_type = 'Lock'",
    "mysql": "SELECT count(*) FROM information_schema.innodb_trx JOIN "
    "information_schema.processlist ON id = trx_mysql_thread_id "
    "WHERE db = database() AND trx_state = 'LOCK WAIT'",
}


def is_waiting(engine: Engine) -> bool:
    """Return whether a transaction in an engine's database waits for a lock of another one."""
    if engine.dialect.name == "mysql":
        time.sleep(0.11)  # InnoDB shows the same answer again if it is asked sooner
    with engine.connect() as connection:
        return bool(connection.execute(text(_WAITING[engine.dialect.name])).scalar_one())


def in_app(app: Flask, act: Callable[[Any], object]) -> object:
    """Call a function with the verifier, in an app context of its own."""
    with app.app_context():
        return act(app.extensions["smsverify"].verifier)


def guess(app: Flask, challenge_id: str, code: str) -> None:
    in_app(app, lambda verifier: verifier.check(verifier.load(challenge_id), code))


def send_to(app: Flask, user_id: int, mobile: str | None) -> None:
    with app.app_context():
        user = db.session.get(User, user_id)
        app.extensions["smsverify"].verifier.start(user, mobile=mobile)


def guess_one_of(app: Flask, pairs: list[tuple[str, str]], number: int) -> None:
    guess(app, *pairs[number % len(pairs)])


def send_by(app: Flask, mobile: str | None, number: int) -> None:
    send_to(app, number + 1, mobile)


def sign_in_with(app: Flask, pairs: list[tuple[str, str]], number: int) -> None:
    """Enter the code of one session.

    :param pairs: the cookie and the code of each session.
    """
    cookie, code = pairs[number]
    client = app.test_client()
    client.set_cookie("session", cookie)
    answer = client.post("/verify-mobile/sign-in/check", json={"code": code})
    assert (answer.json or {}).get("state") == "signed_in", answer.text


ACTIONS: dict[str, Callable[..., None]] = {
    "guess": guess_one_of,
    "send": send_by,
    "sign in": sign_in_with,
}


class Processes:
    """A pool of processes that start their work at a barrier."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool

    def race(
        self, url: str, config: dict[str, Any], action: str, *args: Any, threads: int = THREADS
    ) -> Counter[str]:
        """Run an action in the threads of each process; return how often each outcome occurred."""
        jobs = [(url, config, action, args, threads, at) for at in range(PROCESSES)]
        ends: Counter[str] = Counter()
        for counted in self._pool.map(_work, jobs, chunksize=1):
            ends.update(counted)
        return ends


@contextmanager
def processes() -> Iterator[Processes]:
    # The fork server imports the package once, so the processes that it forks need not import it.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["flask_smsverify", "flask_sqlalchemy", "flask_login"])
    barrier = context.Barrier(PROCESSES)
    pool = context.Pool(PROCESSES, initializer=_join, initargs=(barrier,))
    try:
        yield Processes(pool)
    finally:
        pool.close()
        pool.join()


def _join(barrier: Any) -> None:
    global _barrier  # noqa: PLW0603 -- a barrier can be inherited, but not pickled
    _barrier = barrier


def _work(
    job: tuple[str, dict[str, Any], str, tuple[Any, ...], int, int],
) -> Counter[str]:
    url, config, action, args, threads, at = job
    app = create_app(url, **config)
    first = at * threads
    _barrier.wait(_TIMEOUT)  # no job ends before all have started, so each process runs one
    try:
        return race(threads, lambda number: ACTIONS[action](app, *args, first + number))
    finally:
        app.extensions["smsverify"].close()
        with app.app_context():
            for engine in db.engines.values():
                engine.dispose()
