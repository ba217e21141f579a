"""Helpers for the tests of apps and of gateways.

`outbox` collects the messages of an app. It needs no pytest.

`SenderContract` is the pytest class that every sender must pass, built-in or the app's own. For a
sender that speaks HTTP it runs a `LoopbackGateway`, a server on 127.0.0.1 that gives the test's
answers, or misbehaves in the ways of gateways::

    class TestAcme(SenderContract):
        credentials = ("the-key",)

        def make_sender(self, base_url):
            return Acme(key="the-key", base_url=base_url)

        def answer(self, request):
            return Reply(200, b'{"sent": 17}')
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from .outbox import Outbox, outbox

if TYPE_CHECKING:
    from .contract import LOST_ANSWERS, SenderContract
    from .loopback import (
        Exchange,
        LoopbackGateway,
        Misbehaviour,
        Reply,
        Request,
        close,
        close_in_body,
        close_in_head,
        drip_body,
        drip_head,
        hang,
        hang_after_head,
        reset,
        send_endless_body,
        send_gzip_bomb,
        send_no_gzip,
        send_no_http,
    )

__all__ = [
    "LOST_ANSWERS",
    "Exchange",
    "LoopbackGateway",
    "Misbehaviour",
    "Outbox",
    "Reply",
    "Request",
    "SenderContract",
    "close",
    "close_in_body",
    "close_in_head",
    "drip_body",
    "drip_head",
    "hang",
    "hang_after_head",
    "outbox",
    "reset",
    "send_endless_body",
    "send_gzip_bomb",
    "send_no_gzip",
    "send_no_http",
]

_CONTRACT = frozenset({"LOST_ANSWERS", "SenderContract"})


def __getattr__(name: str) -> object:
    """Import the contract and the loopback gateway on first use: the contract needs pytest."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(".contract" if name in _CONTRACT else ".loopback", __name__)
    return getattr(module, name)
