"""How fast a batch is sent, as a share of what the gateway could take.

Run it by hand: `python tests/benchmarks/bulk_throughput.py --help`. The gateway takes `--per-call`
texts in `--latency` seconds, and `--threads` calls are in flight, so it could take `threads *
per_call / latency` texts a second. Two workers share the batch with `--workers 2`, and the first
is killed on the way with `--kill`. The time counts from when the first worker is ready.

With `--simulator` the texts go to the simulator of WikiPayam in a thread of this process, which is
the slower one, and the phones are counted: the script fails if one got the text twice, or if one
has none and its message is not unknown.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from flask import Flask
from hostapp import create_app, db

from flask_smsverify.delivery import Routes
from flask_smsverify.messaging.worker import DispatchProcess
from flask_smsverify.senders.base import Capability, DeliveryState, Receipt, Sender, Text
from flask_smsverify.simulator import Simulator, running


class Sleeping(Sender):
    """A gateway that takes a batch in a fixed time, and counts what it took in a shared number."""

    gateway = "sleeping"

    def __init__(self, latency: float, taken: Any) -> None:
        super().__init__(name="bench")
        self._latency = latency
        self._taken = taken

    @property
    def capabilities(self) -> frozenset[Capability]:
        return frozenset({Capability.TEXT})

    def send_batch(self, batch: Sequence[Text]) -> list[Receipt]:
        time.sleep(self._latency)
        with self._taken.get_lock():
            self._taken.value += len(batch)
        return [
            Receipt(text.to, DeliveryState.SENT, text.reference, text.reference) for text in batch
        ]


def make_app(options: argparse.Namespace, taken: Any) -> Flask:
    config: dict[str, Any] = {
        "SMSVERIFY_SENDS_IN_FLIGHT": options.threads,
        "SMSVERIFY_SENDERS": {"bench": {"gateway": "wikipayam", "token": "t", "line": "3000"}},
        "SMSVERIFY_SIMULATOR_URL": options.simulator_url,
        "TESTING": True,
    }
    app = create_app(options.database, **config)
    state = app.extensions["smsverify"]
    if not options.simulator_url:
        Sleeping.batch_limit = options.per_call
        sender = Sleeping(options.latency, taken)
        state.delivery.use_routes(Routes({"bench": sender}, {}))
    for worker in state.inline_workers:
        worker.wake = lambda: None
    return app


def work(options: argparse.Namespace, taken: Any, peak: Any, began: Any) -> None:
    """Send what is due, as `flask smsverify dispatch` does.

    :param began: the time at which the first worker began to send; 0 before that.
    """
    app = make_app(options, taken)
    with began.get_lock():
        began.value = began.value or time.monotonic()
    start = time.process_time()
    process = DispatchProcess((app.extensions["smsverify"].queues[1],))
    process.run(watch=False)
    seconds = time.process_time() - start
    peak.value = max(peak.value, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    say(f"a worker used {seconds:.1f} s of processor time to send")


def numbers(count: int) -> Iterator[str]:
    return (f"+98912{number:07}" for number in range(count))


def measure(options: argparse.Namespace, simulator: Simulator | None = None) -> None:
    context = multiprocessing.get_context("spawn")
    taken, peak = context.Value("L", 0), context.Value("d", 0.0)
    began = context.Value("d", 0.0)
    app = make_app(options, taken)
    state = app.extensions["smsverify"]
    with app.app_context():
        db.create_all()
        begin = time.perf_counter()
        batch = state.batches.send("We are closed on Friday.", numbers(options.recipients))
        seconds = time.perf_counter() - begin
    rate = batch.recipients / seconds
    say(f"queued {batch.recipients:,} in {seconds:.1f} s: {rate:,.0f} a second")
    processes = [
        context.Process(target=work, args=(options, taken, peak, began))
        for _ in range(options.workers)
    ]
    for process in processes:
        process.start()
    if options.kill:
        while state.batches.get(batch.id).sent < options.recipients // 3:
            time.sleep(0.1)
        os.kill(processes[0].pid or 0, signal.SIGKILL)
    memory = watch_memory(processes[-1])
    for process in processes:
        process.join()
    seconds = time.monotonic() - began.value
    batch = state.batches.get(batch.id)
    rate = batch.sent / seconds
    say(f"sent {batch.sent:,} in {seconds:.1f} s: {rate:,.0f} a second")
    if not options.simulator_url:
        limit = options.workers * options.threads * options.per_call / options.latency
        say(f"the gateway could take {limit:,.0f} a second: share {rate / limit:.2f}")
    say(f"peak memory of a worker: {peak.value:.0f} MiB; each second: {' '.join(memory)}")
    if options.kill:
        start = state.clock.source()
        state.clock.source = lambda: start + timedelta(minutes=5)
        state.queues[1].send_due(threading.Event())
        batch = state.batches.get(batch.id)
    say(f"sent {batch.sent:,}, unknown {batch.unknown:,}, failed {batch.failed:,}, {batch.state}")
    if simulator is None:
        say(f"the gateway took {taken.value:,} texts")
        return
    phones = Counter(str(message["to"]) for message in simulator.messages())
    missing = options.recipients - len(phones)
    say(f"{len(phones):,} phones got the text, {phones.total() - len(phones):,} of them twice")
    say(f"{missing:,} phones without the text, of {batch.unknown:,} whose fate is unknown")
    if phones.total() != len(phones) or missing > batch.unknown:
        sys.exit("a text was repeated or lost")


def watch_memory(process: Any) -> list[str]:
    """Return the memory of a process in MiB, each second until it ends. Linux only."""
    pages = Path(f"/proc/{process.pid}/statm")
    found: list[str] = []
    while process.is_alive() and pages.exists():
        resident = int(pages.read_text().split()[1])
        found.append(f"{resident * resource.getpagesize() / 2**20:.0f}")
        process.join(1)
    return found


def say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 -- it is a script


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipients", type=int, default=20_000)
    parser.add_argument("--per-call", type=int, default=100)
    parser.add_argument("--latency", type=float, default=0.5, help="seconds of a call")
    parser.add_argument("--threads", type=int, default=8, help="calls in flight of a worker")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--kill", action="store_true", help="kill the first worker on the way")
    parser.add_argument("--simulator", action="store_true", help="send to the simulator by HTTP")
    parser.add_argument("--database", help="URL of an empty database; SQLite by default")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        options.database = options.database or f"sqlite:///{folder}/bench.sqlite"
        options.simulator_url = None
        if not options.simulator:
            measure(options)
            return
        with running() as simulator:
            options.simulator_url = simulator.url
            measure(options, simulator)


if __name__ == "__main__":
    main()
