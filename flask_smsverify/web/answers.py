"""The two heads: what a browser gets, and what a program gets.

A problem is an exception of ours by its HTTP status and code (RFC 9457). Programs get it as JSON;
for browsers the pages keep it over the redirect that every POST ends in.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

from flask import Response, current_app, render_template, request, session, url_for
from flask_wtf.csrf import generate_csrf, validate_csrf
from werkzeug.exceptions import BadRequest, RequestEntityTooLarge
from wtforms import ValidationError

from .. import errors
from ..extension import State
from .i18n import Interface
from .problems import problem_text
from .targets import safe_path

log = logging.getLogger(__name__)

#: A body larger than this is refused before it is read, unless the host refuses smaller ones.
MAX_BODY_BYTES = 1_200_000
#: A body with more of these is refused before it is parsed. A megabyte of text is read in a few
#: milliseconds, a megabyte of `[],[],…`, `a=1&a=1&…` or `%2f%2f…` in some hundred. (What is deep
#: instead is refused by the parser itself, at its first thousand levels.)
MAX_SEPARATORS = 20_000
_SEPARATORS = (b",", b"&", b"%")
#: No form of ours is multipart, whose parser is slow at many things.
_MAX_MULTIPART_BYTES = 32 * 1024
#: An `Accept` longer than this says nothing: what it accepts would take long to find out.
_LONGEST_ACCEPT = 1_000

_PROBLEMS: tuple[tuple[type[errors.SMSVerifyError], int, str, str | None], ...] = (
    (errors.MobileRequired, 422, "mobile_required", "mobile"),
    (errors.InvalidMobile, 422, "invalid_mobile", "mobile"),
    (errors.RegionNotAllowed, 422, "region_not_allowed", "mobile"),
    (errors.MobileTaken, 409, "mobile_taken", None),
    (errors.ChannelUnavailable, 422, "channel_unavailable", None),
    (errors.TooSoon, 429, "too_soon", None),
    (errors.BudgetSpent, 429, "budget_spent", None),
    (errors.TooManyAttempts, 429, "too_many_attempts", None),
    (errors.AccountLocked, 429, "account_locked", None),
    (errors.InvalidCode, 422, "invalid_code", "code"),
    (errors.WrongCode, 422, "wrong_code", "code"),
    (errors.CodeExpired, 422, "code_expired", None),
    (errors.NoChallenge, 404, "no_challenge", None),
    (errors.SendFailed, 503, "send_failed", None),
    (errors.CheckFailed, 503, "check_failed", None),
    (errors.StoreUnavailable, 503, "store_unavailable", None),
)
#: Problems that waiting or typing again does not help.
_FINAL = frozenset({"mobile_taken", "region_not_allowed", "account_locked", "channel_unavailable"})
_CARRIED = ("retry_after", "attempts_left", "problem", "scope", "channel", "maybe_sent")


@dataclass(frozen=True, slots=True)
class Problem:
    """What went wrong.

    :param code: a word of the JSON interface, such as `wrong_code`.
    :param field: the form field it is about: `code`, `mobile` or None.
    :param data: what the exception carried: `retry_after`, `attempts_left` …
    """

    status: int
    code: str
    field: str | None
    data: Mapping[str, Any]


def problem_of(error: errors.SMSVerifyError) -> Problem:
    """An exception as a problem; one that is no answer to a visitor goes on as it is."""
    if isinstance(error, errors.StoreUnavailable):
        log.error("answered with 503: %s", error)  # a visitor cannot mend it, the host may
    for kind, status, code, field in _PROBLEMS:
        if isinstance(error, kind):
            data = {name: getattr(error, name) for name in _CARRIED if hasattr(error, name)}
            return Problem(status, code, field, data)
    raise error


def problem(status: int, code: str) -> Problem:
    """A problem that no exception stands for."""
    return Problem(status, code, None, {})


def problem_json(found: Problem, ui: Interface, **extra: object) -> Response:
    """RFC 9457 problem details; `retry_after` is a header too (RFC 9110, 10.2.3)."""
    text = problem_text(found.code, found.data, ui.t)
    body: dict[str, object] = {
        "type": f"urn:flask-smsverify:{found.code}",
        "title": text.title,
        "status": found.status,
        "detail": text.detail,
        "code": found.code,
        "final": found.code in _FINAL,
    }
    for name in ("retry_after", "attempts_left"):
        if name in found.data:
            body[name] = found.data[name]
    response = cast(Response, current_app.json.response(body | extra))
    response.status_code = found.status
    response.mimetype = "application/problem+json"
    if "retry_after" in found.data:
        response.headers["Retry-After"] = str(found.data["retry_after"])
    return response


def problem_page(found: Problem, state: State, ui: Interface) -> Response:
    """A whole page for a problem that no form of ours can be shown with."""
    response = current_app.make_response(
        render_template(
            "smsverify/problem.html",
            sv_error=shown(found, ui),
            sv_site_name=state.site_name,
            sv_back_url=url_for("smsverify.page", next=safe_path(request.values.get("next"))),
        )
    )
    response.status_code = found.status
    if "retry_after" in found.data:
        response.headers["Retry-After"] = str(found.data["retry_after"])
    return response


@dataclass(frozen=True, slots=True)
class Shown:
    """A problem as the templates show it."""

    code: str
    title: str
    detail: str
    field: str | None
    retry_at: datetime | None


def shown(found: Problem, ui: Interface) -> Shown:
    """A problem in the reader's words."""
    text = problem_text(found.code, found.data, ui.t)
    wait = found.data.get("retry_after")
    retry_at = None
    if wait is not None:
        retry_at = datetime.fromtimestamp(datetime.now(UTC).timestamp() + wait, UTC)
    return Shown(found.code, text.title, text.detail, found.field, retry_at)


# --- a problem, over the redirect that a browser's POST ends in --------------------------------

_KEPT = "_smsverify_problem"


def keep(found: Problem, whose: str, **typed: str) -> None:
    """Have the next page of that user's show it."""
    session[_KEPT] = {
        "whose": whose,
        "status": found.status,
        "code": found.code,
        "field": found.field,
        "data": dict(found.data),
        "at": datetime.now(UTC).timestamp(),
        "typed": typed,
    }


def kept(whose: str) -> tuple[Problem | None, dict[str, str]]:
    """What `keep` kept, once, with its wait shortened by the time since; and what was typed.

    The next user of the same browser is shown nothing of the last one's.
    """
    found = session.pop(_KEPT, None)
    if not isinstance(found, dict) or found.get("whose") != whose:
        return None, {}
    data = found["data"]
    if "retry_after" in data:
        gone = datetime.now(UTC).timestamp() - found["at"]
        data = data | {"retry_after": max(1, round(data["retry_after"] - gone))}
    return Problem(found["status"], found["code"], found["field"], data), found["typed"]


_NOTICE = "_smsverify_notice"


def keep_notice(word: str, whose: str) -> None:
    """Have the next page of that user's say what was done.

    :param word: one that `notice_text` knows.
    """
    session[_NOTICE] = [whose, word]


def kept_notice(whose: str) -> str | None:
    """What `keep_notice` kept, once, and for that user alone."""
    user_id, word = session.pop(_NOTICE, None) or (None, None)
    return word if user_id == whose else None


def notice_text(word: str, ui: Interface) -> str:
    """What was done, in the reader's words."""
    t = ui.t
    texts = {
        "sent_again": t("We have sent the code again."),
        "sent_new": t("We have sent a new code; the one before it is no longer good."),
        "calling": t("We are calling you now."),
        "calling_again": t("We are calling you again."),
        "noted": t(
            "Your new number is noted. You can have the code sent as soon as the time below is"
            " over."
        ),
    }
    return texts[word]


# --- what a request is -------------------------------------------------------------------------

_JSON = ("application/json", "application/problem+json")


def wants_json() -> bool:
    """Whether a program is asking: it sends JSON, or accepts it rather than HTML."""
    if request.is_json:
        return True
    if len(request.headers.get("Accept", "")) > _LONGEST_ACCEPT:
        return False
    return request.accept_mimetypes.best_match(["text/html", *_JSON]) in _JSON


#: Where a request's environment says that it was refused unread.
_REFUSED = "smsverify.refused"


def look_over(largest: int = MAX_BODY_BYTES) -> None:
    """Refuse what would take long to read, or cannot be, before anybody parses it.

    A view answers it later, since the host's own functions come first, and its layout may need
    what they do.

    :param largest: how many bytes the body may have.
    """
    try:
        _measure(largest)
        request.query_string.decode()
    except (RequestEntityTooLarge, UnicodeDecodeError):
        refuse()


def refuse() -> None:
    """Let this be an empty request to whoever looks at it from now on."""
    request.environ[_REFUSED] = True
    request.environ |= {"CONTENT_TYPE": "", "CONTENT_LENGTH": "0"}
    request.query_string = b""


def is_refused() -> bool:
    """Whether this request was refused, and is empty therefore."""
    return _REFUSED in request.environ


def _measure(largest: int) -> None:
    if request.mimetype.startswith("multipart/"):
        largest = min(largest, _MAX_MULTIPART_BYTES)
    if request.max_content_length is not None:
        largest = min(largest, request.max_content_length)
    request.max_content_length = largest
    body = request.get_data()
    # A body that does not tell its length is cut there without a word.
    cut = body and request.content_length is None and len(body) >= largest
    if cut or sum(map(body.count, _SEPARATORS)) > MAX_SEPARATORS:
        raise RequestEntityTooLarge


class InvalidRequestError(Exception):
    """A body that cannot be read as fields."""


def fields() -> Mapping[str, Any]:
    """The fields of a form or of a JSON object.

    :raises InvalidRequestError: JSON that is no object, a body too large or too deep.
    """
    try:
        if not request.is_json:
            return request.form
        body = request.get_json()
    except (BadRequest, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise InvalidRequestError
    return body


def csrf_holds() -> bool:
    """Whether the request carries a good CSRF token, or the host wants none."""
    config = current_app.config
    if not config.get("WTF_CSRF_ENABLED", True):
        return True
    token: Any = next(filter(None, map(request.headers.get, csrf_headers())), None)
    if not token and not request.is_json:
        token = request.form.get(csrf_field_name())
    try:
        validate_csrf(token)
    except ValidationError:
        return False
    return True


def csrf_headers() -> Sequence[str]:
    """The headers in which a program may send the token."""
    named: Sequence[str] = current_app.config.get(
        "WTF_CSRF_HEADERS", ("X-CSRFToken", "X-CSRF-Token")
    )
    return named


def csrf_field_name() -> str:
    """The name of the hidden field."""
    return str(current_app.config.get("WTF_CSRF_FIELD_NAME", "csrf_token"))


def csrf_token() -> str:
    """A token for the reader's session; empty where the host wants none."""
    return generate_csrf() if current_app.config.get("WTF_CSRF_ENABLED", True) else ""


def no_store(response: Response) -> Response:
    """What we say to one person is kept by no cache."""
    response.headers["Cache-Control"] = "no-store"
    response.vary.update(["Cookie", "Accept", "Accept-Language"])
    return response


def keep_private(url_prefix: str, response: Response) -> Response:
    """`no_store` on every answer below our prefix, also where no view of ours was reached."""
    under_us = f"{request.path}/".startswith(f"{url_prefix}/")
    return no_store(response) if under_us and request.endpoint != "smsverify.static" else response
