"""Callbacks for forked processes.

A child process has none of its parent's threads. Pools, locks and thread pools that were created
before the fork must be replaced in it.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable


def after_fork(reset: Callable[[], None]) -> None:
    """Call a bound method in every child process for as long as its object is alive.

    :param reset: a bound method. Only a weak reference to its object is kept.
    """
    method = weakref.WeakMethod(reset)

    def reset_in_child() -> None:
        call = method()
        if call is not None:
            call()

    if hasattr(os, "register_at_fork"):  # Windows has no fork
        os.register_at_fork(after_in_child=reset_in_child)
