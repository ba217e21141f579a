"""Guards: decide whether a view may run, and refuse the request otherwise.

A guard is a decorator on a view, a blueprint or app passed to `SMSVerify.guard`, or an area with
endpoint patterns in `SMSVERIFY_AREAS`. All of them call `enforce`, which calls `decide`.

The guards of blueprints, apps and patterns run last before the view. The host's own
`before_request` functions run before them, including those that are registered later or on a
blueprint: they may log a user in, choose a tenant, or respond themselves.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypeVar, overload

from flask import Blueprint, Flask, current_app, request, session
from flask.typing import ResponseReturnValue
from sqlalchemy import Select, bindparam, exists, func, or_, select

from . import request_cache
from .db.errors import own_statements
from .db.models import Challenge, Verification
from .db.prepared import PreparedSelect, RowValues
from .errors import ConfigurationError
from .open_endpoints import is_login_or_logout, is_own, is_static, matches, unmatched
from .state import AppState, get_state
from .users import current_user, is_logged_in, without_proxy
from .verification.policy import Decision, Status
from .verification.rules import CLOCK_SKEW

F = TypeVar("F", bound=Callable[..., Any])
Answer = Literal["auto", "json"]
Check = Callable[[], ResponseReturnValue | None]

#: The session key of the stamp: a guard reads no row again for `SMSVERIFY_RECHECK_SECONDS`.
_STAMP = "_smsverify_seen"
#: The key in the WSGI environment that holds the checks to run last before the view.
_LAST_CHECKS = "smsverify.checks"


# --- decide -----------------------------------------------------------------------------------


def decide(user: object, *, area: str | None = None, within: timedelta | None = None) -> Decision:
    """Return a guard's decision about a user.

    It makes one SELECT, which the other guards and the widgets of a request use as well. Before a
    refusal it makes another one in the ledger, which can still let the view run.

    :param area: the area of the view; a view without one is always guarded.
    :param within: the maximal age of the proof.
    """
    state = get_state()
    if not state.policy.is_on(area):
        return Decision("off", area, within)
    return _decide(state, user, area, within)


def _decide(state: AppState, user: object, area: str | None, within: timedelta | None) -> Decision:
    """Return the decision about a user in an area that is on."""
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
    row = _look_up(state, _SELECT, user_id, mobile, now)
    status = state.policy.status(row, mobile, now)
    decision = state.policy.decide(status, now, area=area, within=within)
    if not decision.allowed:
        # The page reads the ledger. If the host's replica lags or its snapshot is old, the page and
        # this guard would redirect to each other.
        row = _read_again(state, user_id, mobile, now)
        status = state.policy.status(row, mobile, now)
        decision = state.policy.decide(status, now, area=area, within=within)
    if state.settings.recheck_seconds and status.state == "verified":
        _write_stamp(state, user_id, status, now)
    if row is not None and row.has_open_challenge:
        return replace(decision, status=status.with_open_challenge())
    return decision


def current_status(user: object) -> Status:
    """Return a user's status without the challenge, for widgets and pages.

    It uses the same SELECT as `decide`, so on a guarded page it costs no query.
    """
    state = get_state()
    if state.users.is_exempt(user):
        return Status("exempt", state.users.mobile_of(user), exempt=True)
    now = state.clock()
    user_id, mobile = state.users.id_of(user), state.users.mobile_of(user)
    row = _look_up(state, _SELECT_WITH_CHALLENGE, user_id, mobile, now)
    status = state.policy.status(row, mobile, now)
    if row is not None and row.has_open_challenge is None and status.state != "verified":
        # A guard has seen a proof that has ended since, or it could not read the ledger.
        row = _read(state, _SELECT_WITH_CHALLENGE, user_id, mobile, now)
        request_cache.lookups().rows[user_id, mobile] = row
        status = state.policy.status(row, mobile, now)
    if row is not None and row.has_open_challenge:
        return status.with_open_challenge()
    return status


@dataclass(frozen=True, slots=True)
class _Row:
    """The columns of a user's verification that guards and widgets read.

    :param has_open_challenge: None if it was not read.
    """

    mobile: str | None = field(repr=False)
    verified_at: datetime | None
    revoked_at: datetime | None
    settled_at: datetime | None
    failures: int
    locked_at: datetime | None
    has_open_challenge: bool | None = None


def _row_query() -> Select[Any]:
    verification = Verification.__table__.c
    return select(
        verification.mobile,
        verification.verified_at,
        verification.revoked_at,
        verification.settled_at,
        verification.failures,
        verification.locked_at,
    ).where(verification.user_id == bindparam("user_id"))


def _query_with_challenge() -> Select[Any]:
    verification, challenge = Verification.__table__.c, Challenge.__table__.c
    # `verification.challenges.is_open` in SQL.
    open_challenge = exists().where(
        challenge.user_id == verification.user_id,
        challenge.purpose == "verify",
        challenge.state == Challenge.PENDING,
        challenge.expires_at > bindparam("now"),
        challenge.created_at <= bindparam("created_before"),
        or_(
            challenge.mobile == bindparam("mobile"),
            func.coalesce(challenge.user_mobile, "") == bindparam("mobile"),
        ),
    )
    return _row_query().add_columns(open_challenge.label("has_open_challenge"))


#: Enough for a user who is verified, which nearly every user on a guarded page is.
_SELECT = PreparedSelect(_row_query())
_SELECT_WITH_CHALLENGE = PreparedSelect(_query_with_challenge())


def _parameters(user_id: str, mobile: str | None, now: datetime) -> dict[str, Any]:
    return {
        "user_id": user_id,
        "mobile": mobile or "",
        "now": now,
        "created_before": now + CLOCK_SKEW,
    }


def _look_up(
    state: AppState, query: PreparedSelect, user_id: str, mobile: str | None, now: datetime
) -> _Row | None:
    """Return the user's row, from this request's cache if it is there.

    The cached row may lack the challenge.
    """
    lookups = request_cache.lookups()
    rows: dict[tuple[str, str | None], _Row | None] = lookups.rows
    if (user_id, mobile) in rows:
        return rows[user_id, mobile]
    if lookups.has_changed:
        # The snapshot of the host's transaction may be older than the change.
        return _read_again(state, user_id, mobile, now)
    row = rows[user_id, mobile] = _read(state, query, user_id, mobile, now)
    return row


def _read(
    state: AppState, query: PreparedSelect, user_id: str, mobile: str | None, now: datetime
) -> _Row | None:
    """Return the user's row as the host's transaction sees it."""
    state.ledger.find_identity()  # the rows may be another app's
    with own_statements:
        # The session's connection, not the session, so that the host's changes are not flushed.
        connection = state.db.session.connection({"clause": query.statement})
        parameters = _parameters(user_id, mobile, now)
        return _only_row(query.rows(connection, parameters, schema=state.ledger.schema))


def _read_again(state: AppState, user_id: str, mobile: str | None, now: datetime) -> _Row | None:
    """Return the user's row from the ledger, which sees every committed row."""
    parameters = _parameters(user_id, mobile, now)
    row = _only_row(
        state.ledger.read(lambda session: _SELECT_WITH_CHALLENGE.all(session, parameters))
    )
    request_cache.lookups().rows[user_id, mobile] = row
    return row


def _only_row(rows: list[RowValues]) -> _Row | None:
    return _Row(**rows[0]) if rows else None


# --- the session stamp ------------------------------------------------------------------------


def _read_stamp(state: AppState, user_id: str, mobile: str | None, now: datetime) -> Status | None:
    """Return the status that this session saw within `SMSVERIFY_RECHECK_SECONDS`, if any."""
    max_age = state.settings.recheck_seconds
    stamp = session.get(_STAMP) if max_age else None
    if not isinstance(stamp, list) or len(stamp) != 3 or mobile is None:
        return None
    digest, verified, seen = stamp
    if digest != _stamp_digest(state, user_id, mobile):
        return None
    if not 0 <= now.timestamp() - seen < max_age:
        return None
    verified_at = datetime.fromtimestamp(verified, UTC)
    expires_at = state.policy.expiry(verified_at)
    if expires_at is not None and now >= expires_at:
        return None
    return Status("verified", mobile, verified_at, expires_at)


def drop_stamp(*_: object, **__: object) -> None:
    """Drop the stamp of this session: it ends with the login in which it was written."""
    session.pop(_STAMP, None)


def _write_stamp(state: AppState, user_id: str, status: Status, now: datetime) -> None:
    if not request_cache.has_session():
        return
    if status.mobile is not None and status.verified_at is not None:
        digest = _stamp_digest(state, user_id, status.mobile)
        session[_STAMP] = [digest, status.verified_at.timestamp(), now.timestamp()]


def _stamp_digest(state: AppState, user_id: str, mobile: str) -> str:
    """Return a digest of the stamp that differs in every other app and database."""
    return state.keyring.digest("seen", state.ledger.find_identity() or "", user_id, mobile)


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
    user = without_proxy(current_user())
    if not is_logged_in(user):
        if allow_anonymous:
            return None
        response = state.guard_responses.anonymous()
        return _not_none(response, "Flask-Login's unauthorized_handler")
    decision = _decide(state, user, area, within)
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

    From the environment, `False` comes as text, which Python treats as true. Such text is refused.
    """
    value = app.config.get("LOGIN_DISABLED")
    if value in (True, False, None):
        return bool(value)
    raise ConfigurationError(
        "LOGIN_DISABLED must be true or false; in the environment, in lower case"
    )


def _not_none(response: ResponseReturnValue | None, source: str) -> ResponseReturnValue:
    """Refuse None as the host's response, because it would let the view run."""
    if response is None:
        raise ConfigurationError(f"{source} returned None; it must return a response")
    return response


# --- who gets JSON ----------------------------------------------------------------------------


def _check_answer(answer: object) -> None:
    if answer not in ("auto", "json"):
        raise ConfigurationError('answer must be "auto" or "json"')


def _set_answer(answer: Answer) -> None:
    if answer == "json":
        request_cache.demand_json()


# --- the decorator ----------------------------------------------------------------------------


@overload
def require_verified_mobile(view: F, /) -> F: ...
@overload
def require_verified_mobile(
    area: str | None = None, within: timedelta | None = None, answer: Answer = "auto"
) -> Callable[[F], F]: ...


def require_verified_mobile(
    area: Any = None, within: timedelta | None = None, answer: Answer = "auto"
) -> Any:
    """Run a view, sync or async, only for users with a verified mobile and exempt users.

    Bare or called::

        @require_verified_mobile
        @require_verified_mobile(area="orders")
        @require_verified_mobile(within=timedelta(minutes=10))

    :param area: the area the view belongs to; a view without one is always guarded.
    :param within: the maximal age of the proof.
    :param answer: `"json"` answers every client with problem JSON, `"auto"` only programs.
    :raises ConfigurationError: `within` is not a positive timedelta, or `answer` is another word.
    """
    if within is not None and not (isinstance(within, timedelta) and within > timedelta(0)):
        raise ConfigurationError(
            "within must be a positive timedelta, such as timedelta(minutes=10)"
        )
    _check_answer(answer)
    if callable(area):
        return _guarded(area, None, None, "auto")
    return lambda view: _guarded(view, area, within, answer)


def _guarded(view: F, area: str | None, within: timedelta | None, answer: Answer) -> F:
    @functools.wraps(view)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        _set_answer(answer)
        refusal = enforce(area=area, within=within)
        if refusal is not None:
            return refusal
        return current_app.ensure_sync(view)(*args, **kwargs)

    guarded.smsverify_area = area  # type: ignore[attr-defined]  # staff pages list the areas
    # `doctor` reports a route that bypasses the guard. A callable object may take no attributes.
    with contextlib.suppress(AttributeError):
        inspect.unwrap(view).smsverify_guarded = True
    return guarded  # type: ignore[return-value]  # the wrapper has the view's signature


# --- last before the view ---------------------------------------------------------------------


def run_checks_last(app: Flask) -> None:
    """After all `before_request` functions, run the checks that `_check_last` collected."""
    preprocess = app.preprocess_request

    @functools.wraps(preprocess)
    def preprocess_request(*args: Any, **kwargs: Any) -> ResponseReturnValue | None:
        checks: list[Check] = []
        request.environ[_LAST_CHECKS] = checks
        try:
            response = preprocess(*args, **kwargs)
        finally:
            request.environ.pop(_LAST_CHECKS, None)
        for check in checks:
            if response is not None:
                break
            response = check()
        return response

    app.preprocess_request = preprocess_request  # type: ignore[method-assign]  # no hook runs as late


def _check_last(check: Check) -> ResponseReturnValue | None:
    """Run a check last before the view, or at once if `preprocess_request` was replaced."""
    checks: list[Check] | None = request.environ.get(_LAST_CHECKS)
    if checks is None:
        return check()
    checks.append(check)
    return None


# --- blueprints and apps ----------------------------------------------------------------------


def guard_endpoints(
    blueprint_or_app: Blueprint | Flask, area: str | None, except_: Iterable[str], answer: Answer
) -> None:
    """Guard every endpoint of a blueprint or app. `SMSVerify.guard` documents the parameters."""
    _check_answer(answer)
    open_endpoints = tuple([except_] if isinstance(except_, str) else except_)
    is_app = isinstance(blueprint_or_app, Flask)

    def is_open(endpoint: str) -> bool:
        if matches(endpoint, open_endpoints) or is_login_or_logout(current_app, endpoint):
            return True
        if is_app:
            return _is_open_in_app(endpoint) or request.method == "OPTIONS"
        return any(
            matches(endpoint.removeprefix(f"{name}."), open_endpoints)
            for name in request.blueprints
            if current_app.blueprints.get(name) is blueprint_or_app
        )

    def check() -> ResponseReturnValue | None:
        endpoint = request.endpoint
        if endpoint is None or is_open(endpoint):
            return None
        return enforce(area=area, allow_anonymous=is_app)

    def before_request() -> ResponseReturnValue | None:
        _set_answer(answer)
        return _check_last(check)

    before_request.smsverify_area = area  # type: ignore[attr-defined]  # staff pages list the areas
    before_request.smsverify_except = open_endpoints  # type: ignore[attr-defined]  # the doctor reads it
    try:
        blueprint_or_app.before_request(before_request)
    except AssertionError as error:  # Flask's own, for a function that is registered too late
        raise ConfigurationError(
            "call smsverify.guard before app.register_blueprint, and before the first request"
        ) from error


def _is_open_in_app(endpoint: str) -> bool:
    """Return whether every guard of a whole app leaves an endpoint open."""
    if is_own(endpoint) or is_static(current_app, endpoint):
        return True
    return matches(endpoint, get_state().settings.open_endpoints)


# --- patterns ---------------------------------------------------------------------------------


def guard_patterns(app: Flask) -> None:
    """Guard the endpoints that match the patterns of `SMSVERIFY_AREAS`."""
    is_checked = False

    def check() -> ResponseReturnValue | None:
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
            if _is_left_open(state, area, endpoint):
                continue
            refusal = enforce(area=area)
            if refusal is not None:
                return refusal
        return None

    app.before_request(lambda: _check_last(check))


def _is_left_open(state: AppState, area: str, endpoint: str) -> bool:
    """Return whether a pattern with `*` leaves an endpoint open, such as the login view."""
    patterns = state.live.current.areas.get(area, True)  # staff may have changed it meanwhile
    if not isinstance(patterns, bool) and endpoint in patterns:
        return False  # the endpoint is named
    return matches(endpoint, state.settings.open_endpoints) or is_login_or_logout(
        state.app, endpoint
    )


def _refuse_unmatched_patterns(app: Flask, state: AppState) -> None:
    """Refuse a pattern that matches no endpoint: a misspelled one would guard nothing.

    :raises ConfigurationError: on every request, until the pattern matches.
    """
    for area, patterns in state.live.current.areas.items():
        named = () if isinstance(patterns, bool) else patterns
        for pattern in unmatched(named, app.view_functions):
            near = difflib.get_close_matches(pattern, app.view_functions, n=1, cutoff=0.5)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ConfigurationError(
                f"SMSVERIFY_AREAS[{area!r}]: no endpoint matches {pattern!r}.{hint} A view of "
                "a nested blueprint has the names of both, as in 'parent.child.view'."
            )
