"""The deadline of the calls in progress.

A deadline is kept in a context variable, so that it applies to every sender and transport that a
block of code calls, including failover.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from contextvars import ContextVar

_deadline: ContextVar[float | None] = ContextVar("smsverify_deadline", default=None)


@contextlib.contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Limit the total time of the calls in this block.

    An outer deadline that ends sooner still applies.
    """
    ends = time.monotonic() + seconds
    outer = _deadline.get()
    token = _deadline.set(ends if outer is None else min(ends, outer))
    try:
        yield
    finally:
        _deadline.reset(token)


def remaining() -> float | None:
    """Return the seconds until the deadline, at least 0; None if there is no deadline."""
    ends = _deadline.get()
    return None if ends is None else max(0.0, ends - time.monotonic())
