"""How often the page returns a visitor to the guarded view without a click.

A guard and the page read the user through the host's session. A host may bind the session of its
own views to a replica, or load exemptions from elsewhere. Then the guard may refuse a user who, for
the page, has nothing left to prove, and the two would redirect to each other until the browser
gives up.
"""

from __future__ import annotations

import logging
import math

from flask import session

from ..log_events import log_event
from ..state import get_state

log = logging.getLogger(__name__)

#: The session key of the time at which the page first returned the visitor, and of the count since.
_RETURNS = "_smsverify_returns"
#: Returns without a click within `_WINDOW` seconds. Several tabs may ask at the same time.
_MAX_RETURNS = 5
_WINDOW = 60


def may_return() -> bool:
    """Return whether the page may redirect to `next` without a click, and count that it does.

    The count is for all URLs together: a guard that refuses the same view again may have another
    query in `next`.
    """
    now = get_state().clock().timestamp()
    began_at, count = _read()
    if not 0 <= now - began_at < _WINDOW:
        began_at, count = now, 0
    if count >= _MAX_RETURNS:
        log.warning(
            "the page finds nothing to prove, but a guard has sent the visitor here %d times in "
            "%d seconds. The guarded views may read the users from a replica that lags",
            count,
            math.ceil(now - began_at),
            extra=log_event("guard_disagrees"),
        )
        return False
    session[_RETURNS] = [began_at, count + 1]
    return True


def _read() -> tuple[float, int]:
    stored = session.get(_RETURNS)
    return (stored[0], stored[1]) if isinstance(stored, list) and len(stored) == 2 else (0.0, 0)
