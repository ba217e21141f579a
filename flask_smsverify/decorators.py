"""`require_verified_mobile`: a guard before one view."""

from __future__ import annotations

import functools
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar, overload

from flask import current_app

from .errors import ConfigurationError
from .extension import state_of

F = TypeVar("F", bound=Callable[..., Any])


@overload
def require_verified_mobile(view: F, /) -> F: ...
@overload
def require_verified_mobile(
    *, area: str | None = None, within: timedelta | None = None
) -> Callable[[F], F]: ...
@overload
def require_verified_mobile(
    area: str | None = None, within: timedelta | None = None
) -> Callable[[F], F]: ...


def require_verified_mobile(area: Any = None, within: timedelta | None = None) -> Any:
    """Let only users with a verified mobile, or exempt ones, reach a view, sync or async.

    Bare or called::

        @require_verified_mobile
        @require_verified_mobile(area="orders")
        @require_verified_mobile(within=timedelta(minutes=10))

    :param area: the area the view belongs to; without one it is always guarded.
    :param within: demand a proof no older than that.
    :raises ConfigurationError: `within` is no span of time above none.
    """
    if within is not None and not (isinstance(within, timedelta) and within > timedelta(0)):
        raise ConfigurationError(
            "within must be a span that a proof can be younger than, such as timedelta(minutes=10)"
        )
    if callable(area):
        return _guarded(area, None, None)
    return lambda view: _guarded(view, area, within)


def _guarded(view: F, area: str | None, within: timedelta | None) -> F:
    @functools.wraps(view)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        refused = state_of().stand_guard(area=area, within=within)
        if refused is not None:
            return refused
        return current_app.ensure_sync(view)(*args, **kwargs)

    return guarded  # type: ignore[return-value]  # the wrapper takes and gives what the view does
