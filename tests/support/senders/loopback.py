"""A gateway on 127.0.0.1 with scripted answers, and helpers to read requests."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import parse_qsl

from flask_smsverify.testing import Exchange, LoopbackGateway, Misbehaviour, Reply, Request


def answer(
    body: bytes | str, *, status: int = 200, kind: str = "application/json", **headers: str
) -> Reply:
    """Return an answer for a script."""
    return Reply(status, body.encode() if isinstance(body, str) else body, kind, headers)


def answer_json(value: object, *, status: int = 200) -> Reply:
    return answer(json.dumps(value), status=status)


class Script:
    """A gateway with one step per request. The last step is repeated."""

    def __init__(self) -> None:
        self._steps: list[Reply | Misbehaviour] = []
        self._lock = threading.Lock()
        self._server = LoopbackGateway(lambda _request: Reply(500))
        self._server.misbehave = self._next
        self.url = self._server.url
        self.asked: list[Request] = self._server.requests

    def will(self, *steps: Reply | Misbehaviour) -> None:
        self._steps = list(steps)

    @property
    def last(self) -> Request:
        return self.asked[-1]

    def _next(self, exchange: Exchange) -> None:
        with self._lock:
            step = self._steps.pop(0) if len(self._steps) > 1 else self._steps[0]
        # Each answer announces the end of its connection, so that no step affects the next.
        return exchange.answer(step) if isinstance(step, Reply) else step(exchange)


@contextmanager
def scripted() -> Iterator[Script]:
    script = Script()
    with script._server:
        yield script


def form(request: Request) -> dict[str, str]:
    return dict(parse_qsl(request.body.decode(), keep_blank_values=True))


def query(request: Request) -> dict[str, str]:
    return dict(parse_qsl(request.target.partition("?")[2], keep_blank_values=True))


def check_no_secrets(error: BaseException, *secrets: str) -> None:
    """Check that an error shows no secret and has no library's exception as its context."""
    assert error.__cause__ is None
    assert error.__context__ is None
    shown = f"{error} {error!r} {vars(error)}"
    for secret in secrets:
        assert secret not in shown
    assert not re.search(r"\d{6,}", shown)
