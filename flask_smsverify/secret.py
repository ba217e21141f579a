"""Text that must not show in a `repr`: credentials, and values made from them.

Error collectors such as Sentry send the `repr` of the local variables of every frame of a
traceback. A dict with a password among them would be sent, too.
"""

from __future__ import annotations


class Secret(str):
    """Text whose `repr` hides it. In every other way it behaves like `str`."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"
