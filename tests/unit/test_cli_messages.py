"""`flask smsverify send`, `dispatch` and `sync`: what they print, ask, send and leave alone."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from commands import ACCOUNT, run
from conftest import MakeApp
from flask import Flask
from flows import MEMORY
from hostapp import User, db
from outbox_app import (
    memory_of,
    messages,
    notify,
    set_time,
    smsverify_of,
    state_of,
    states,
    without_inline_workers,
)

from flask_smsverify.db.models import Batch, Message
from flask_smsverify.delivery import Routes
from flask_smsverify.errors import Unavailable
from flask_smsverify.senders.base import Capability
from flask_smsverify.senders.memory import Memory
from flask_smsverify.simulator import Simulator

TEXT = "We are closed on Friday."
RAYGAN = {"main": {"gateway": "raygan", **ACCOUNT, "line": "50002910"}}


@pytest.fixture
def app(make_app: MakeApp, sqlite: str) -> Flask:
    return make_app(sqlite, users=3, SMSVERIFY_SENDERS=MEMORY)


@pytest.fixture
def shop(make_app: MakeApp, sqlite: str, simulator: Simulator) -> Flask:
    app = make_app(sqlite, SMSVERIFY_SENDERS=RAYGAN, SMSVERIFY_SIMULATOR_URL=simulator.url)
    without_inline_workers(app)
    return app


def recipients(app: Flask) -> list[str]:
    return sorted(message.to for message in memory_of(app).messages)


def fields(output: str) -> dict[str, str]:
    """Return the names and values that a command printed."""
    return dict(re.findall(r"^([a-z ]+): +(.+)$", output, re.MULTILINE))


# --- send -------------------------------------------------------------------------------------


def test_send_shows_first_what_it_would_do(app: Flask) -> None:
    with app.app_context():
        smsverify_of(app).opt_out("09120000003")
    numbers = ("09120000001", "+98 912 000 0001", "09120000002", "09120000003", "021 1234", "x")
    options = [part for number in numbers for part in ("--to", number)]
    output = run(app, "send", "--text", "x" * 161, *options, "--dry-run")
    assert fields(output) == {
        "text": output.splitlines()[0].partition(": ")[2].strip(),
        "recipients": "2",
        "parts": "2 each, 4 in all",
        "cost": "unknown",
        "duplicates": "1",
        "opted out": "1",
        "invalid": "2",
        "such as": "021 1234, x",
    }
    assert (messages(app), memory_of(app).messages) == ([], [])


def test_send_fails_if_no_number_is_valid(app: Flask) -> None:
    output = run(app, "send", "--text", TEXT, "--to", "abc", "--yes", ends=1)
    assert output.endswith("Error: no number is valid\n")


def test_send_to_numbers_that_all_opted_out_sends_nothing_and_is_no_error(app: Flask) -> None:
    with app.app_context():
        smsverify_of(app).opt_out("09120000003")
    output = run(app, "send", "--text", TEXT, "--to", "09120000003", "--to", "021 1234", "--yes")
    assert (fields(output)["recipients"], fields(output)["opted out"]) == ("0", "1")
    assert messages(app) == []
    assert "no number is valid" in run(app, "send", "--text", TEXT, "--to", "021", ends=1)


def test_send_asks_before_it_sends(app: Flask) -> None:
    command = ("send", "--text", TEXT, "--to", "09120000001")
    assert run(app, *command, answer="n\n").endswith("Send? [y/N]: n\n")
    assert "Send? [y/N]" in run(app, *command, ends=1)  # nobody answers
    assert (messages(app), memory_of(app).messages) == ([], [])
    assert fields(run(app, *command, answer="y\n"))["sent"] == "1"
    assert recipients(app) == ["+989120000001"]


@pytest.mark.parametrize(
    ("options", "sent"), [(("--all",), 3), (("--group", "vip"), 1), (("--group", "nobody"), 0)]
)
def test_send_reads_all_users_or_a_group(app: Flask, options: tuple[str, ...], sent: int) -> None:
    with app.app_context():
        db.session.get(User, 2).group = "vip"
        db.session.commit()
    output = run(app, "send", "--text", TEXT, *options, "--yes")
    assert fields(output)["recipients"] == str(sent)
    assert len(memory_of(app).messages) == sent
    assert sent == 0 or fields(output)["state"] == "done"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1256"])
def test_send_reads_a_file_of_any_editor(app: Flask, tmp_path: Path, encoding: str) -> None:
    file = tmp_path / "numbers.txt"
    lines = "09120000001\r\n\r\n  0912 000 0002  \r\nعلی\r\n09120000001\r\n"
    file.write_bytes(lines.encode(encoding, "replace"))
    output = run(app, "send", "--text", TEXT, "--file", str(file), "--yes")
    found = fields(output)
    assert (found["recipients"], found["duplicates"], found["invalid"]) == ("2", "1", "1")
    assert recipients(app) == ["+989120000001", "+989120000002"]


def test_send_ends_only_when_its_batch_is_finished(app: Flask, tmp_path: Path) -> None:
    """An inline worker in the same process would hold texts that the command does not wait for."""
    memory, threads = memory_of(app), set()
    keep = memory.send_batch

    def send_batch(batch: Any) -> Any:
        threads.add(threading.current_thread().name)
        return keep(batch)

    memory.send_batch = send_batch
    file = tmp_path / "numbers.txt"
    file.write_text("".join(f"0912{number:07}\n" for number in range(1200)))
    output = run(app, "send", "--text", TEXT, "--file", str(file), "--yes", "--name", "closed")
    found = fields(output)
    assert (found["state"], found["sent"], found["skipped"]) == ("done", "1200", "0")
    assert len(set(recipients(app))) == len(recipients(app)) == 1200
    assert threads == {"smsverify-outbox"}
    batch = state_of(app).batches.get(found["batch"])
    assert (batch.name, batch.started_by) == ("closed", "flask smsverify send")
    assert all(worker._thread is None for worker in state_of(app).inline_workers)


def test_send_is_continued_when_the_gateway_has_recovered(app: Flask) -> None:
    memory, now = memory_of(app), datetime.now(UTC)
    memory.fail_with(Unavailable("memory", "no credit"), times=None)
    output = run(app, "send", "--text", TEXT, "--all", "--yes", "--key", "friday")
    batch = fields(output)["batch"]
    assert (fields(output)["state"], fields(output)["sent"]) == ("running", "0")
    assert output.endswith(f"Continue with: flask smsverify send --resume {batch}\n")
    memory.clear()
    set_time(app, now, hours=1)
    assert fields(run(app, "send", "--resume", batch))["state"] == "done"
    again = fields(run(app, "send", "--text", TEXT, "--all", "--yes", "--key", "friday"))
    assert (again["batch"], again["state"], len(memory.messages)) == (batch, "done", 3)
    assert "there is no batch 'x'" in run(app, "send", "--resume", "x", ends=1)


def test_send_is_continued_at_once_after_a_crash_while_recipients_were_added(app: Flask) -> None:
    without_inline_workers(app)
    with app.app_context():
        smsverify = smsverify_of(app)
        batch, listed = smsverify.send(TEXT, "all"), smsverify.send(TEXT, ["09120000009"])

    def crash(session: Any) -> None:
        for stored in session.query(Batch):
            stored.state = Batch.EXPANDING
        for message in session.query(Message).filter_by(batch_id=batch.id)[1:]:
            session.delete(message)
        session.get(Batch, batch.id).recipients = 1

    state_of(app).ledger.run(crash)
    output = run(app, "send", "--resume", batch.id)
    assert (fields(output)["state"], fields(output)["sent"]) == ("done", "3")
    output = run(app, "send", "--resume", listed.id)
    assert (fields(output)["state"], fields(output)["sent"]) == ("expanding", "1")
    assert "first command again with the same --key" in output


def test_send_with_the_key_of_a_command_that_has_just_crashed_adds_the_other_numbers(
    app: Flask, tmp_path: Path
) -> None:
    file = tmp_path / "numbers.txt"
    command = ("send", "--text", TEXT, "--file", str(file), "--yes", "--key", "friday")
    file.write_text("09120000001\n")
    batch = fields(run(app, *command))["batch"]

    def crash(session: Any) -> None:
        stored = session.get(Batch, batch)
        stored.state, stored.finished_at = Batch.EXPANDING, None

    state_of(app).ledger.run(crash)
    file.write_text("09120000001\n09120000002\n")
    found = fields(run(app, *command))
    assert (found["batch"], found["state"], found["sent"]) == (batch, "done", "2")
    assert recipients(app) == ["+989120000001", "+989120000002"]


@pytest.mark.parametrize(
    "options",
    [
        ("--to", "09120000001"),
        ("--text", TEXT),
        ("--text", "  ", "--to", "09120000001"),
        ("--text", TEXT, "--all", "--to", "09120000001"),
    ],
)
def test_send_without_a_text_or_one_kind_of_recipients_is_a_usage_error(
    app: Flask, options: tuple[str, ...]
) -> None:
    assert "give --text and one of" in run(app, "send", *options, "--yes", ends=2)
    assert memory_of(app).messages == []


@pytest.mark.parametrize(
    ("text", "cost"), [("سلام", "224"), ("hello", "550"), ("x" * 161, "1,100")]
)
def test_the_preview_has_the_gateways_price(shop: Flask, text: str, cost: str) -> None:
    numbers = ("--to", "09120000001", "--to", "09120000002")
    assert fields(run(shop, "send", "--text", text, *numbers, "--dry-run"))["cost"] == cost


def test_a_preview_needs_no_price(shop: Flask, simulator: Simulator) -> None:
    simulator.fault("raygan", "http_500", times=None)
    output = run(shop, "send", "--text", TEXT, "--to", "09120000001", "--dry-run")
    assert fields(output)["cost"] == "unknown"


# --- dispatch ---------------------------------------------------------------------------------


def test_dispatch_sends_what_is_due_and_leaves_the_rest(app: Flask) -> None:
    without_inline_workers(app)
    now = datetime.now(UTC)
    with app.app_context():
        notify(app)
        notify(app, 2, not_before=now.replace(year=now.year + 1))
        db.session.commit()
        smsverify_of(app).send(TEXT, ["09120000001", "09120000002"])
    assert run(app, "dispatch") == "events: 1 taken\nbulk: 2 taken\n"
    assert recipients(app) == ["+989120000001", "+989120000002", "+989123450001"]
    assert run(app, "dispatch") == "events: 0 taken\nbulk: 0 taken\n"
    assert len(memory_of(app).messages) == 3


def test_dispatch_watches_until_a_signal(app: Flask) -> None:
    """The gateway sends the signal, in the middle of a batch of one text a call."""
    without_inline_workers(app)

    class Stopping(Memory):
        def send_batch(self, batch: Any) -> Any:
            os.kill(os.getpid(), signal.SIGTERM)
            return super().send_batch(batch)

    gateway = Stopping()
    state_of(app).delivery.use_routes(Routes({"memory": gateway}, {}))
    before = signal.getsignal(signal.SIGTERM)
    with app.app_context():
        notify(app)
        db.session.commit()
    assert run(app, "dispatch", "--watch").startswith("events: 1 taken\n")
    assert signal.getsignal(signal.SIGTERM) is before
    assert [message.state for message in messages(app)] == ["sent"]
    assert len(gateway.messages) == 1


# --- sync -------------------------------------------------------------------------------------


def table(output: str) -> list[list[str]]:
    return [re.split(r" {2,}", line) for line in output.splitlines()]


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_sync_fetches_states_and_messages_from_phones(shop: Flask, simulator: Simulator) -> None:
    run(shop, "send", "--text", TEXT, "--to", "09120000001", "--to", "09120000002", "--yes")
    received = {"gateway": "raygan", "from": "09120000001", "to": "50002910", "text": "۱۱"}
    httpx.post(f"{simulator.url}/_api/incoming", json=received).raise_for_status()
    wait_for(lambda: {message["state"] for message in simulator.messages()} == {"delivered"})
    set_time(shop, datetime.now(UTC), hours=1)
    heads, row = table(run(shop, "sync"))
    assert heads == ["SENDER", "STATES", "FOUND", "RECEIVED", "PROBLEM"]
    assert row == ["main", "2", "0", "1", "-"]
    assert states(shop) == {"delivered"}
    assert state_of(shop).opt_outs.opted_out("+989120000001")
    assert table(run(shop, "sync"))[1][:2] == ["main", "0"], "final states are not asked for again"


def test_sync_names_the_problem_of_a_gateway(shop: Flask, simulator: Simulator) -> None:
    simulator.fault("raygan", "bad_credentials", times=None)
    [_, row] = table(run(shop, "sync"))
    assert row[0] == "main"
    assert row[4] == "the credentials were refused"


def test_sync_asks_other_gateways_when_one_fails(app: Flask) -> None:
    class Failing(Memory):
        @property
        def capabilities(self) -> Any:
            return super().capabilities | {Capability.INCOMING}

        def received(self, since: datetime) -> Any:
            raise Unavailable(self.name, "no answer")

    senders = {"first": Failing(name="first"), "second": Memory(name="second")}
    state_of(app).delivery.use_routes(Routes(senders, {}))
    assert table(run(app, "sync"))[1:] == [
        ["first", "0", "0", "0", "no answer"],
        ["second", "0", "0", "0", "-"],
    ]
