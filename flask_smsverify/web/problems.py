"""What a reader is told of a problem: a title, and a sentence that says what to do.

One text for each problem code of the JSON interface (RFC 9457, `title` and `detail`), used on the
pages too. Nothing here looks at a request; the language comes with `t`. Which exception is which
code is said elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from .i18n import Translate, in_how_long


class ProblemText(NamedTuple):
    """A problem in words: a short title without a full stop, and one or two whole sentences."""

    title: str
    detail: str


def problem_text(code: str, data: Mapping[str, object], t: Translate) -> ProblemText:
    """Put the problem `code` into words.

    A code that is not in the table gets a text that fits any failure.

    :param code: a problem code, such as `wrong_code`.
    :param data: what is known of it; each may be missing. `attempts_left` (whole number),
        `retry_after` (seconds), `problem` (of `invalid_code`: `empty`, `not_digits`, `too_short`
        or `too_long`), `scope` (of `budget_spent`: the budget's name), `channel` (`sms` or
        `voice`), `maybe_sent` (of `send_failed`: whether a message may have gone out after all),
        `status_url` and `header` (of `csrf`, to a program: where it gets a token, how it sends it).
    """
    return _TEXTS.get(code, _unknown)(data, t)


def _number(data: Mapping[str, object], key: str) -> int | None:
    value = data.get(key)
    return int(value) if isinstance(value, int | float) else None


def _try_again(data: Mapping[str, object], t: Translate) -> str:
    seconds = _number(data, "retry_after")
    if seconds is None:
        return t("Please try again later.")
    return t("You can try again %(when)s.", when=in_how_long(seconds, t))


def _csrf(data: Mapping[str, object], t: Translate) -> ProblemText:
    if "status_url" in data:
        return ProblemText(
            t("The CSRF token is missing or no longer good"),
            t(
                "Send the %(field)s of %(url)s in the header %(header)s.",
                field="`csrf_token`",
                url=data["status_url"],
                header=data["header"],
            ),
        )
    return ProblemText(
        t("This page was open too long"),
        t("For your safety we did not accept the form. Please go back and send it once more."),
    )


def _login_required(_data: Mapping[str, object], t: Translate) -> ProblemText:
    return ProblemText(
        t("Please sign in"), t("You need to be signed in to your account to do this.")
    )


def _verification_required(_data: Mapping[str, object], t: Translate) -> ProblemText:
    return ProblemText(
        t("Please confirm your mobile first"),
        t("This part of the site opens after you have confirmed your mobile number."),
    )


def _fresh_login_required(_data: Mapping[str, object], t: Translate) -> ProblemText:
    return ProblemText(
        t("Please sign in again"),
        t("To keep your account safe, please sign in again before you change a confirmed number."),
    )


def _no_challenge(_data: Mapping[str, object], t: Translate) -> ProblemText:
    return ProblemText(
        t("No code is waiting"),
        t("There is no open code to compare with. Please have a new one sent."),
    )


def _mobile_taken(_data: Mapping[str, object], t: Translate) -> ProblemText:
    return ProblemText(
        t("This number belongs to another account"),
        t(
            "Another account has already confirmed this number. Use a different number, or contact"
            " support if it is yours."
        ),
    )


def _mobile_required(_data: Mapping[str, object], t: Translate) -> ProblemText:
    return ProblemText(
        t("Your mobile number is missing"),
        t("Type your mobile number, so that we can send you a code."),
    )


def _invalid_mobile(_data: Mapping[str, object], t: Translate) -> ProblemText:
    return ProblemText(
        t("This is not a mobile number"),
        t(
            "Check the digits you typed. It has to be a mobile that can get messages, not a"
            " landline."
        ),
    )


def _region_not_allowed(_data: Mapping[str, object], t: Translate) -> ProblemText:
    return ProblemText(
        t("We cannot send to this country"),
        t("We do not send codes to numbers of this country. Please use a different number."),
    )


def _channel_unavailable(data: Mapping[str, object], t: Translate) -> ProblemText:
    if data.get("channel") == "voice":
        return ProblemText(
            t("We cannot call you"),
            t("Codes by call are not available at the moment. Please have it sent by SMS."),
        )
    if data.get("channel") == "sms":
        return ProblemText(
            t("We cannot send you an SMS"),
            t("Codes by SMS are not available at the moment. Please choose another way."),
        )
    return ProblemText(
        t("This way is not available"),
        t("We cannot send a code this way at the moment. Please choose another one."),
    )


def _invalid_code(data: Mapping[str, object], t: Translate) -> ProblemText:
    problem = data.get("problem")
    if problem == "empty":
        return ProblemText(
            t("The code is missing"), t("Type the digits of the code, then confirm.")
        )
    if problem == "not_digits":
        return ProblemText(
            t("The code has digits only"),
            t("There is something other than digits in what you typed. Please correct it."),
        )
    if problem == "too_short":
        return ProblemText(
            t("The code is too short"),
            t("Some digits are missing. Please type the whole code; no try was used up."),
        )
    if problem == "too_long":
        return ProblemText(
            t("The code is too long"),
            t("There are too many digits. Please type only the code; no try was used up."),
        )
    return ProblemText(t("This cannot be a code"), t("Please check what you typed."))


def _wrong_code(data: Mapping[str, object], t: Translate) -> ProblemText:
    title = t("The code is wrong")
    left = _number(data, "attempts_left")
    if left is None:
        return ProblemText(title, t("Please check it and type it once more."))
    if left <= 0:
        return ProblemText(
            title, t("That was the last try for this code. Please have a new one sent.")
        )
    if left == 1:
        return ProblemText(title, t("Please check it and type it once more. You have 1 try left."))
    return ProblemText(
        title,
        t(
            "Please check it and type it once more. You have %(tries)s tries left.",
            tries=left,
        ),
    )


def _code_expired(_data: Mapping[str, object], t: Translate) -> ProblemText:
    return ProblemText(
        t("The code has expired"), t("This code is no longer good. Please have a new one sent.")
    )


def _invalid_request(_data: Mapping[str, object], t: Translate) -> ProblemText:
    return ProblemText(
        t("We could not read the request"),
        t("What was sent to us does not have the form we expect. Please try once more."),
    )


def _too_soon(data: Mapping[str, object], t: Translate) -> ProblemText:
    seconds = _number(data, "retry_after")
    title = t("One moment, please")
    if seconds is None:
        return ProblemText(title, t("The last code may still be on its way. Please wait a little."))
    return ProblemText(
        title,
        t(
            "The last code may still be on its way. You can send another one %(when)s.",
            when=in_how_long(seconds, t),
        ),
    )


def _budget_spent(data: Mapping[str, object], t: Translate) -> ProblemText:
    scope = data.get("scope")
    if scope in ("mobile", "user"):
        title = t("Too many codes were sent")
        why = t("We have sent as many codes as we may for now.")
    elif scope == "mobiles_per_user":
        title = t("Too many different numbers")
        why = t("You have tried as many different numbers as we allow for now.")
    elif scope == "ip":
        title = t("Too many codes were sent")
        why = t("Too many codes were asked for from your network.")
    else:
        title = t("We cannot send codes just now")
        why = t("Very many codes are being asked for at the moment.")
    return ProblemText(title, f"{why} {_try_again(data, t)}")


def _too_many_attempts(data: Mapping[str, object], t: Translate) -> ProblemText:
    why = t("To keep your account safe we take no more codes for now.")
    return ProblemText(t("Too many wrong codes"), f"{why} {_try_again(data, t)}")


def _account_locked(_data: Mapping[str, object], t: Translate) -> ProblemText:
    return ProblemText(
        t("Verification is locked"),
        t(
            "Too many wrong codes were typed for this account. Please contact support; waiting"
            " does not help."
        ),
    )


def _send_failed(data: Mapping[str, object], t: Translate) -> ProblemText:
    if data.get("maybe_sent"):
        return ProblemText(
            t("We are not sure the code was sent"),
            t("If it does not arrive within a minute, please try again."),
        )
    return ProblemText(
        t("The code could not be sent"),
        t("The messaging service did not take it. Please try again in a minute."),
    )


def _check_failed(_data: Mapping[str, object], t: Translate) -> ProblemText:
    return ProblemText(
        t("We could not check your code"),
        t("The service that checks it did not answer. Please confirm once more in a moment."),
    )


def _store_unavailable(_data: Mapping[str, object], t: Translate) -> ProblemText:
    return ProblemText(
        t("Something is not working on our side"),
        t("Nothing was sent and nothing was checked. Please try again in a moment."),
    )


def _unknown(_data: Mapping[str, object], t: Translate) -> ProblemText:
    return ProblemText(
        t("That did not work"), t("Please go back and try once more, or contact support.")
    )


_TEXTS: Mapping[str, Callable[[Mapping[str, object], Translate], ProblemText]] = {
    "csrf": _csrf,
    "login_required": _login_required,
    "verification_required": _verification_required,
    "fresh_login_required": _fresh_login_required,
    "no_challenge": _no_challenge,
    "mobile_taken": _mobile_taken,
    "mobile_required": _mobile_required,
    "invalid_mobile": _invalid_mobile,
    "region_not_allowed": _region_not_allowed,
    "channel_unavailable": _channel_unavailable,
    "invalid_code": _invalid_code,
    "wrong_code": _wrong_code,
    "code_expired": _code_expired,
    "invalid_request": _invalid_request,
    "too_soon": _too_soon,
    "budget_spent": _budget_spent,
    "too_many_attempts": _too_many_attempts,
    "account_locked": _account_locked,
    "send_failed": _send_failed,
    "check_failed": _check_failed,
    "store_unavailable": _store_unavailable,
}
