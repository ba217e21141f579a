"""Problems and notices that are stored in the session for the page after a redirect.

A browser's POST always ends in a redirect. Each entry is bound to a user, so that the next user of
the same browser does not see it, and is shown once.
"""

from __future__ import annotations

import flask
from flask import session

from ..errors import PROBLEMS, InvalidCode, SMSVerifyError
from ..state import get_state
from .interface import Interface, current_ui
from .problems import Problem

_PROBLEM = "_smsverify_problem"
_NOTICE = "_smsverify_notice"
#: How much of rejected input is shown again in its field.
MAX_SHOWN_INPUT = 48


def flash_problem(problem: Problem, user_id: str, **typed: str) -> None:
    """Store a problem for the user's next page.

    :param typed: rejected form input, which the form shows again.
    """
    session[_PROBLEM] = {
        "user": user_id,
        "code": problem.code,
        "values": dict(problem.values),
        "at": get_state().clock().timestamp(),
        "typed": typed,
    }


def pop_problem(user_id: str) -> tuple[Problem | None, dict[str, str]]:
    """Return the stored problem and form input; `retry_after` is reduced by the time since."""
    entry = session.pop(_PROBLEM, None)
    if not isinstance(entry, dict) or entry.get("user") != user_id:
        return None, {}
    values = entry["values"]
    if "retry_after" in values:
        elapsed = get_state().clock().timestamp() - entry["at"]
        values = values | {"retry_after": max(1, round(values["retry_after"] - elapsed))}
    return Problem(PROBLEMS[entry["code"]], values), entry["typed"]


def incomplete_code(error: SMSVerifyError, typed: object) -> dict[str, str]:
    """Return the form input to keep with an error: a code with missing digits."""
    is_incomplete = isinstance(error, InvalidCode) and error.problem == "too_short"
    return {"code": typed[:MAX_SHOWN_INPUT]} if is_incomplete and isinstance(typed, str) else {}


def flash_success() -> None:
    """Flash a message of the category `success` for the host's next page, at most once."""
    message = ("success", current_ui().t("Your mobile number is confirmed."))
    if message not in [tuple(one) for one in session.get("_flashes", ())]:
        flask.flash(message[1], message[0])


def flash_notice(key: str, user_id: str) -> None:
    """Store a notice for the user's next page.

    :param key: a notice that `notice_text` knows.
    """
    session[_NOTICE] = [user_id, key]


def pop_notice(user_id: str) -> str | None:
    """Return the key of the stored notice."""
    owner, key = session.pop(_NOTICE, None) or (None, None)
    return key if owner == user_id else None


def notice_text(key: str, ui: Interface) -> str:
    """Return the text of a notice in the reader's language."""
    t = ui.t
    texts = {
        "sent_again": t("We sent the code again."),
        "sent_new": t("We sent a new code. The previous code no longer works."),
        "calling": t("We are calling you now."),
        "calling_again": t("We are calling you again."),
        "number_saved": t(
            "Your new number is saved. You can get a code when the time below is up."
        ),
        "own_number": t("This is already your confirmed number. To change it, enter another one."),
        "email_sent": t("We sent a link to your email. Open it in this browser within 30 minutes."),
        "change_cancelled": t("The change was cancelled. Your number stays the same."),
    }
    return texts[key]
