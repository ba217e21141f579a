"""The senders without a gateway: the console and the memory."""

import logging
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from senders.cases import each_case

from flask_smsverify.errors import ConfigurationError, Rejected, Unavailable, Unknown
from flask_smsverify.senders.base import CodeMessage, DeliveryState, Sender, Text
from flask_smsverify.senders.console import Console
from flask_smsverify.senders.memory import Memory, SentMessage
from flask_smsverify.testing import SenderContract

TO, OTHER = "+989123456789", "+989356789012"
CODE = CodeMessage(TO, "123456", "Your code: 123456\n@shop.example #123456", reference="r1")
CALL = CodeMessage(TO, "123456", "Your code: 123456", channel="voice", reference="r2")


class TestMemoryContract(SenderContract):
    speaks_http = False

    @pytest.fixture
    def sender(self) -> Sender:
        return Memory()


class TestConsoleContract(SenderContract):
    speaks_http = False
    logs_messages = True

    @pytest.fixture
    def sender(self) -> Sender:
        return Console(enabled=True)


# --- the console ---------------------------------------------------------------------------------


@each_case("enabled", [False, None, "yes", 1])
def test_the_console_works_in_debug_mode_only(enabled: object) -> None:
    with pytest.raises(ConfigurationError, match="debug mode only"):
        Console(enabled=enabled)  # type: ignore[arg-type] -- on purpose


def test_the_console_logs_each_message_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    console = Console(enabled=True)
    console.send_code(CODE)
    console.send_code(CALL)
    console.send_text(OTHER, "سلام\r\nforged line")
    assert caplog.record_tuples == [
        ("flask_smsverify.console", logging.WARNING, text)
        for text in (
            f"sms to {TO}: 'Your code: 123456\\n@shop.example #123456'",
            f"voice to {TO}: '123456'",
            f"sms to {OTHER}: 'سلام\\r\\nforged line'",
        )
    ]


# --- the memory ----------------------------------------------------------------------------------


@pytest.fixture
def memory() -> Iterator[Memory]:
    memory = Memory(name="box")
    yield memory
    memory.close()


def test_the_memory_keeps_messages_in_order(memory: Memory) -> None:
    memory.send_code(CODE)
    memory.send_code(CALL)
    receipts = list(memory.send_many([Text(TO, "a", "r3"), Text(OTHER, "b", "r4")]))
    assert memory.messages == [
        SentMessage(TO, CODE.text, "123456", "sms", "r1"),
        SentMessage(TO, CALL.text, "123456", "voice", "r2"),
        SentMessage(TO, "a", None, "sms", "r3"),
        SentMessage(OTHER, "b", None, "sms", "r4"),
    ]
    assert memory.last.text == "b"
    assert [(one.id, one.status) for one in receipts] == [
        ("3", DeliveryState.SENT),
        ("4", DeliveryState.SENT),
    ]
    assert "123456" not in repr(memory.messages)
    memory.clear()
    assert memory.messages == []
    with pytest.raises(IndexError):
        memory.last  # noqa: B018 -- reading it is the test


def test_failures_are_used_in_their_order(memory: Memory) -> None:
    memory.fail_with(Unavailable("box", "down", code="7"), times=2)
    memory.fail_with(Rejected("box", "this number"))
    for kind in (Unavailable, Unavailable, Rejected):
        with pytest.raises(kind):
            memory.send_code(CODE)
    assert memory.messages == []
    assert memory.send_code(CODE).id == "1"


def test_a_failure_without_end_lasts_until_clear(memory: Memory) -> None:
    memory.fail_with(Unavailable("box", "down", code="7", written=False), times=None)
    raised = []
    for _ in range(3):
        with pytest.raises(Unavailable) as error:
            memory.send_text(TO, "a")
        raised.append(error.value)
    assert [(one.code, one.written) for one in raised] == [("7", False)] * 3
    assert len({id(one) for one in raised}) == 3
    memory.clear()
    assert memory.send_text(TO, "a").error is None


def test_a_failure_can_apply_to_one_mobile(memory: Memory) -> None:
    memory.fail_with(Rejected("box", "black list"), to=OTHER)
    first, second, third = memory.send_many([Text(to, "a") for to in (TO, OTHER, TO)])
    assert (first.error, third.error) == (None, None)
    assert isinstance(second.error, Rejected)
    assert second.status is DeliveryState.REJECTED


def test_a_message_can_arrive_although_the_send_fails(memory: Memory) -> None:
    memory.fail_with(Unknown("box", "no whole answer"), arrives=True)
    with pytest.raises(Unknown):
        memory.send_code(CODE)
    assert memory.last.code == "123456"


def test_threads_can_share_the_memory(memory: Memory) -> None:
    memory.fail_with(Unavailable("box", "down"), times=50)
    barrier = threading.Barrier(8)

    def send(worker: int) -> int:
        barrier.wait()
        texts = [Text(TO, "a", f"{worker}-{number}") for number in range(50)]
        return sum(receipt.error is None for receipt in memory.send_many(texts))

    with ThreadPoolExecutor(8) as threads:
        taken = sum(threads.map(send, range(8)))
    assert taken == len(memory.messages) == 350
