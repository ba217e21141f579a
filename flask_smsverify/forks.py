"""What a process must begin anew after a fork: pools, threads and locks are its parent's."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable


def after_fork(begin_anew: Callable[[], None]) -> None:
    """Call a method in every child process, as long as its object lives."""
    method = weakref.WeakMethod(begin_anew)

    def in_child() -> None:
        call = method()
        if call is not None:
            call()

    if hasattr(os, "register_at_fork"):  # where there are forks
        os.register_at_fork(after_in_child=in_child)
