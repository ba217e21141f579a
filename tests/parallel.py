"""Real parallelism for tests: threads behind a barrier, and processes behind one.

What a process does is named in `ACTIONS`, since only names and plain values travel to it.
A test that races is marked `race`, so that all of them can be repeated:
`pytest -m race --count 100`.
"""

from __future__ import annotations

import multiprocessing
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from flask import Flask
from hostapp import User, create_app, db

PROCESSES = 4
#: In each process. Each may hold two connections, the host's and ours: 48 in all, the half of what
#: PostgreSQL takes.
THREADS = 6
CROWD = PROCESSES * THREADS
_PATIENCE = 60

_barrier: Any = None
_apps: dict[str, Flask] = {}


def outcome(act: Callable[[], object]) -> str:
    """`ok`, or the name of what was raised."""
    try:
        act()
    except Exception as error:  # noqa: BLE001 -- a test counts whatever comes
        return type(error).__name__
    return "ok"


def race(count: int, act: Callable[[int], object], *, patience: float = _PATIENCE) -> Counter[str]:
    """Let so many threads act at one moment; count how they ended.

    :param patience: how many seconds a thread may take. It detects deadlocks.
    """
    barrier = threading.Barrier(count)
    ends: Counter[str] = Counter()
    lock = threading.Lock()

    def run(number: int) -> None:
        barrier.wait(_PATIENCE)
        end = outcome(lambda: act(number))
        with lock:
            ends[end] += 1

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(patience)
    assert not any(thread.is_alive() for thread in threads), "somebody hangs"
    return ends


def in_app(app: Flask, act: Callable[[Any], object]) -> object:
    """Act as a request does: with the user's row read by the host's session first."""
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


ACTIONS: dict[str, Callable[..., None]] = {"guess": guess_one_of, "send": send_by}


class Crowd:
    """Processes that act at one moment."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool

    def race(
        self, url: str, config: dict[str, Any], action: str, *args: Any, threads: int = THREADS
    ) -> Counter[str]:
        """`threads` acts in each of `PROCESSES` processes; count how they ended."""
        jobs = [(url, config, action, args, threads, at) for at in range(PROCESSES)]
        ends: Counter[str] = Counter()
        for counted in self._pool.map(_work, jobs, chunksize=1):
            ends.update(counted)
        return ends


@contextmanager
def crowd() -> Iterator[Crowd]:
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(PROCESSES)
    pool = context.Pool(PROCESSES, initializer=_join, initargs=(barrier,))
    try:
        yield Crowd(pool)
    finally:
        pool.close()
        pool.join()


def _join(barrier: Any) -> None:
    global _barrier  # noqa: PLW0603 -- a barrier can only be inherited, not sent
    _barrier = barrier


def _work(
    job: tuple[str, dict[str, Any], str, tuple[Any, ...], int, int],
) -> Counter[str]:
    url, config, action, args, threads, at = job
    app = create_app(url, **config)
    first = at * threads
    _barrier.wait(_PATIENCE)  # each process takes one job, since none ends before all have begun
    try:
        return race(threads, lambda number: ACTIONS[action](app, *args, first + number))
    finally:
        app.extensions["smsverify"].close()
        with app.app_context():
            for engine in db.engines.values():
                engine.dispose()
