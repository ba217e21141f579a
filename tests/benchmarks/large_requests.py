"""How long the app takes to answer oversized requests, in CPU time, beside an ordinary one.

Run it by hand: `python tests/benchmarks/large_requests.py`. Times differ from machine to machine,
so the ratio to an ordinary request counts. What is refused unparsed is a test in
`tests/unit/web/test_fuzz.py`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from hostapp import User, create_app, db
from visiting import CHECK, PAGE, SEND
from web.fuzzing import HEAVY_BODIES, LONG_HEADERS, LONG_QUERIES, REFUSED_BODIES


def cpu_seconds(act: Callable[[], object], runs: int) -> float:
    """Return the CPU time of this thread for an action, the best of some runs."""
    times = []
    for _ in range(runs):
        started = time.thread_time()
        act()
        times.append(time.thread_time() - started)
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="the best of so many runs counts")
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as folder:
        app = create_app(f"sqlite:///{folder}/bench.sqlite")
        with app.app_context():
            db.create_all()
            db.session.add(User(mobile="09123450001"))
            db.session.commit()
        client = app.test_client()
        client.get("/login/1")
        client.post(SEND)
        ordinary = cpu_seconds(lambda: client.post(CHECK, data={"code": "1"}), runs)
        print(f"{ordinary * 1000:7.1f} ms  an ordinary request")  # noqa: T201 -- it is a script
        cases: list[tuple[str, Callable[[], object]]] = [
            (
                f"{name}: {kind} {body[:40]!r}",
                partial(client.post, CHECK, data=body, content_type=kind),
            )
            for name, bodies in (("refused", REFUSED_BODIES), ("parsed", HEAVY_BODIES))
            for kind, body in bodies
        ]
        cases += [
            (f"{headers!s:.40}", partial(client.get, PAGE, headers=headers))
            for headers in LONG_HEADERS
        ]
        cases += [
            (f"?{query:.40}", partial(client.get, PAGE, environ_overrides={"QUERY_STRING": query}))
            for query in LONG_QUERIES
        ]
        for name, act in cases:
            seconds = cpu_seconds(act, runs)
            print(f"{seconds * 1000:7.1f} ms {seconds / ordinary:6.1f}x  {name}")  # noqa: T201
        app.extensions["smsverify"].close()
        with app.app_context():
            db.engine.dispose()


if __name__ == "__main__":
    main()
