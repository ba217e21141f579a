"""Guards: decide whether a view may run, and refuse the request otherwise.

A guard is a decorator on a view, a blueprint or app passed to `SMSVerify.guard`, or an area with
endpoint patterns in `SMSVERIFY_AREAS`. All of them call `enforce`, which calls `decide`.
"""

from __future__ import annotations

import difflib
import fnmatch
import functools
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar, overload

from flask import Blueprint, Flask, current_app, request, session
from flask.typing import ResponseReturnValue
from sqlalchemy import Select, bindparam, exists, select

from . import request_cache
from .db.errors import explain_missing_tables
from .db.models import Challenge, Verification
from .errors import ConfigurationError
from .state import AppState, get_state
from .users import current_user, is_logged_in
from .verification.policy import Decision, Status

F = TypeVar("F", bound=Callable[..., Any])

#: The session key of the stamp that `SMSVERIFY_RECHECK_SECONDS` trusts.
_STAMP = "_smsverify_seen"
_BLUEPRINTS = ("smsverify", "smsverify_webhooks")


# --- decide -----------------------------------------------------------------------------------


def decide(user: object, *, area: str | None = None, within: timedelta | None = None) -> Decision:
    """Return a guard's decision about a user. Makes at most one SELECT per request.

    :param area: the area of the view; a view without one is always guarded.
    :param within: the maximal age of the proof.
    """
    state = get_state()
    if not state.policy.is_on(area):
        return Decision("off", area, within)
    if state.users.is_exempt(user):
        return Decision("exempt", area, within, Status("exempt", exempt=True))
    now = state.clock()
    user_id, mobile = state.users.id_of(user), state.users.mobile_of(user)
    # A demand for a recent proof is always looked up: a stamp does not show whether it is met.
    stamped = _read_stamp(state, user_id, mobile, now) if within is None else None
    if stamped is not None:
        decision = state.policy.decide(stamped, now, area=area, within=within)
        if decision.allowed:
            return decision  # a refusal is looked up: the user may have proved since the stamp
    status = state.policy.status(_look_up(state, user_id, now), mobile, now)
    if state.settings.recheck_seconds and status.state == "verified":
        _write_stamp(state, user_id, status, now)
    return state.policy.decide(status, now, area=area, within=within)


def current_status(user: object) -> Status:
    """Return a user's status without the challenge, for widgets and pages.

    It uses the same SELECT as `decide`, so on a guarded page it costs no query.
    """
    state = get_state()
    if state.users.is_exempt(user):
        return Status("exempt", state.users.mobile_of(user), exempt=True)
    now = state.clock()
    mobile = state.users.mobile_of(user)
    row = _look_up(state, state.users.id_of(user), now)
    status = state.policy.status(row, mobile, now)
    has_open_challenge = row is not None and row.has_open_challenge
    if has_open_challenge and status.state != "verified":
        return replace(status, state="pending")
    return status


def _lookup_query() -> Select[Any]:
    verification, challenge = Verification.__table__.c, Challenge.__table__.c
    open_challenge = exists().where(
        challenge.user_id == verification.user_id,
        challenge.purpose == "verify",
        challenge.state == Challenge.PENDING,
        challenge.expires_at > bindparam("now"),
    )
    return select(
        verification.mobile,
        verification.verified_at,
        verification.revoked_at,
        verification.settled_at,
        open_challenge.label("has_open_challenge"),
    ).where(verification.user_id == bindparam("user_id"))


_LOOKUP = _lookup_query()


def _look_up(state: AppState, user_id: str, now: datetime) -> Any:
    """Return the user's row, from this request's cache if it is there."""
    rows = request_cache.cached_rows()
    if user_id in rows:
        return rows[user_id]
    parameters = {"user_id": user_id, "now": now}
    if request_cache.has_changed():
        # The snapshot of the host's transaction may be older than the change.
        row = state.ledger.read(lambda session: session.execute(_LOOKUP, parameters).one_or_none())
    else:
        # A Core statement on tables, so that it does not flush the host's pending changes.
        schema_map = state.ledger.schema_map
        options = {"schema_translate_map": schema_map} if schema_map else {}
        with explain_missing_tables():
            row = state.db.session.execute(
                _LOOKUP, parameters, execution_options=options
            ).one_or_none()
    rows[user_id] = row
    return row


# --- the session stamp ------------------------------------------------------------------------


def _read_stamp(state: AppState, user_id: str, mobile: str | None, now: datetime) -> Status | None:
    """Return the status that this session saw within `SMSVERIFY_RECHECK_SECONDS`, if any."""
    max_age = state.settings.recheck_seconds
    stamp = session.get(_STAMP) if max_age else None
    if not isinstance(stamp, list) or len(stamp) != 3 or mobile is None:
        return None
    digest, verified, seen = stamp
    if digest != state.keyring.digest("seen", user_id, mobile):
        return None
    if not 0 <= now.timestamp() - seen < max_age:
        return None
    verified_at = datetime.fromtimestamp(verified, UTC)
    expires_at = state.policy.expiry(verified_at)
    if expires_at is not None and now >= expires_at:
        return None
    return Status("verified", mobile, verified_at, expires_at)


def drop_stamp(*_: object, **__: object) -> None:
    """Drop the stamp of this session: it ends with the login that it was written in."""
    session.pop(_STAMP, None)


def _write_stamp(state: AppState, user_id: str, status: Status, now: datetime) -> None:
    if status.mobile is not None and status.verified_at is not None:
        digest = state.keyring.digest("seen", user_id, status.mobile)
        session[_STAMP] = [digest, status.verified_at.timestamp(), now.timestamp()]


# --- enforce ----------------------------------------------------------------------------------


def enforce(
    *, area: str | None, within: timedelta | None = None, allow_anonymous: bool = False
) -> ResponseReturnValue | None:
    """Return the response that refuses this request; None if the view may run."""
    state = get_state()
    if _is_automatic_options() or _is_login_disabled(state.app):
        return None
    if not state.policy.is_on(area):
        return None
    user = current_user()
    if not is_logged_in(user):
        if allow_anonymous:
            return None
        response = state.guard_responses.anonymous()
        return _not_none(response, "Flask-Login's unauthorized_handler")
    decision = decide(user, area=area, within=within)
    if decision.allowed:
        return None
    handler = state.callbacks.unverified_handler or state.guard_responses.unverified
    return _not_none(handler(decision), "the unverified_handler")


def _is_automatic_options() -> bool:
    """Return whether Flask itself responds to this OPTIONS request, without calling the view."""
    return request.method == "OPTIONS" and bool(
        getattr(request.url_rule, "provide_automatic_options", False)
    )


def _is_login_disabled(app: Flask) -> bool:
    """Return Flask-Login's `LOGIN_DISABLED`.

    From the environment, `False` comes as text, which Python treats as true: it is refused.
    """
    value = app.config.get("LOGIN_DISABLED")
    if value in (True, False, None):
        return bool(value)
    raise ConfigurationError(
        "LOGIN_DISABLED must be true or false; in the environment, in lower case"
    )


def _not_none(response: ResponseReturnValue | None, source: str) -> ResponseReturnValue:
    """Refuse a None from the host: it would let the view run."""
    if response is None:
        raise ConfigurationError(f"{source} returned None; it must return a response")
    return response


# --- the decorator ----------------------------------------------------------------------------


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
    """Run a view, sync or async, only for users with a verified mobile and exempt users.

    Bare or called::

        @require_verified_mobile
        @require_verified_mobile(area="orders")
        @require_verified_mobile(within=timedelta(minutes=10))

    :param area: the area the view belongs to; a view without one is always guarded.
    :param within: the maximal age of the proof.
    :raises ConfigurationError: `within` is not a positive timedelta.
    """
    if within is not None and not (isinstance(within, timedelta) and within > timedelta(0)):
        raise ConfigurationError(
            "within must be a positive timedelta, such as timedelta(minutes=10)"
        )
    if callable(area):
        return _guarded(area, None, None)
    return lambda view: _guarded(view, area, within)


def _guarded(view: F, area: str | None, within: timedelta | None) -> F:
    @functools.wraps(view)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        refusal = enforce(area=area, within=within)
        if refusal is not None:
            return refusal
        return current_app.ensure_sync(view)(*args, **kwargs)

    return guarded  # type: ignore[return-value]  # the wrapper has the view's signature


# --- blueprints and apps ----------------------------------------------------------------------


def guard_endpoints(
    blueprint_or_app: Blueprint | Flask, area: str | None, except_: Iterable[str]
) -> None:
    """Guard every endpoint of a blueprint or app. `SMSVerify.guard` documents the parameters."""
    open_endpoints = frozenset([except_] if isinstance(except_, str) else except_)
    is_app = isinstance(blueprint_or_app, Flask)

    def is_open(endpoint: str) -> bool:
        if endpoint in open_endpoints:
            return True
        if is_app and is_own_or_static(current_app, endpoint):
            return True
        return any(
            endpoint.removeprefix(f"{name}.") in open_endpoints
            for name in request.blueprints
            if current_app.blueprints.get(name) is blueprint_or_app
        )

    def before_request() -> ResponseReturnValue | None:
        endpoint = request.endpoint
        if endpoint is None or is_open(endpoint):
            return None
        return enforce(area=area, allow_anonymous=is_app)

    try:
        blueprint_or_app.before_request(before_request)
    except AssertionError as error:  # Flask's own, for a function that is registered too late
        raise ConfigurationError(
            "call smsverify.guard before app.register_blueprint, and before the first request"
        ) from error


def is_own_or_static(app: Flask, endpoint: str) -> bool:
    """Return whether an endpoint is a page of this extension, or static files served by Flask."""
    blueprint, _, view = endpoint.rpartition(".")
    if view == "static":
        owner = app.blueprints.get(blueprint) if blueprint else app
        return owner is not None and owner.has_static_folder
    return is_own(endpoint)


def is_own(endpoint: str) -> bool:
    """Return whether an endpoint is a page of this extension."""
    return endpoint.partition(".")[0] in _BLUEPRINTS


# --- patterns ---------------------------------------------------------------------------------


def guard_patterns(app: Flask) -> None:
    """Guard the endpoints that match the patterns of `SMSVERIFY_AREAS`."""
    is_checked = False

    def before_request() -> ResponseReturnValue | None:
        nonlocal is_checked
        state = get_state()
        if not is_checked:  # at the first request, when every blueprint is registered
            _refuse_unmatched_patterns(app, state)
            is_checked = True
        endpoint = request.endpoint
        is_app_static = endpoint == "static" and app.has_static_folder
        if endpoint is None or is_app_static or is_own(endpoint):
            return None  # the static files of a blueprint that a pattern matches are guarded
        for area in state.policy.areas_of(endpoint):
            refusal = enforce(area=area)
            if refusal is not None:
                return refusal
        return None

    app.before_request(before_request)


def _refuse_unmatched_patterns(app: Flask, state: AppState) -> None:
    """Refuse a pattern that matches no endpoint: a misspelled one would guard nothing.

    :raises ConfigurationError: at every request, until the pattern matches.
    """
    for area, patterns in state.live.current.areas.items():
        for pattern in () if isinstance(patterns, bool) else patterns:
            if not any(fnmatch.fnmatchcase(name, pattern) for name in app.view_functions):
                near = difflib.get_close_matches(pattern, app.view_functions, n=1, cutoff=0.5)
                hint = f" Did you mean {near[0]!r}?" if near else ""
                raise ConfigurationError(
                    f"SMSVERIFY_AREAS[{area!r}]: no endpoint matches {pattern!r}.{hint} A view of "
                    "a nested blueprint has the names of both, as in 'parent.child.view'."
                )
