"""The pages that sign a visitor in with a mobile, and sign a new one up.

The session keeps the challenge. Until the right code is entered, a response depends only on the
number's own sends and guesses, so it does not reveal whether an account exists.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from types import MappingProxyType
from typing import Any
from urllib.parse import urlencode

import flask_login
from flask import abort, current_app, redirect, request, session, url_for
from flask.typing import ResponseReturnValue

from .. import fresh_login
from ..db.models import Challenge
from ..errors import (
    InvalidRequest,
    MobileRequired,
    NoAccount,
    NoChallenge,
    RateLimited,
    SendRefused,
    SMSVerifyError,
    StoreUnavailable,
    TooSoon,
)
from ..limits.other_counts import Charge
from ..login_gate import log_in
from ..senders.base import Channel
from ..settings import Settings
from ..state import get_state
from ..users import current_user, is_logged_in
from ..verification.check import Proof
from ..verification.issue import MIN_LIFETIME_LEFT
from ..verification.proof_of_work import BITS, PUZZLES, UNSOLVED
from ..verification.sign_in import SIGN_IN
from .blueprint import serve
from .bodies import (
    ChannelName,
    ProvedBody,
    PuzzleBody,
    SendRefusedMembers,
    SignedInBody,
    SignInBody,
)
from .csrf import csrf_field_name, csrf_token, is_csrf_valid
from .device import device_token, remember_device
from .fields import is_set, read_body, read_channel, read_mobile, read_query
from .flash import (
    MAX_SHOWN_INPUT,
    flash_notice,
    flash_problem,
    incomplete_code,
    notice_text,
    pop_notice,
    pop_problem,
)
from .interface import current_ui
from .negotiation import wants_json
from .operations import (
    CHECK_ERRORS,
    CODE,
    EVERYBODY,
    NEXT,
    SEND_ERRORS,
    Field,
    Operation,
)
from .problems import problem_from_error, problem_json, problem_view
from .redirects import next_url, safe_target
from .request_limits import is_rejected
from .responses import csrf_problem, json_response, refuse
from .security_headers import render_own_template
from .sign_in_view import is_open, sign_in_json, sign_in_view
from .times import seconds_left
from .view_models import is_on_its_way
from .visitor import client_address

#: The session key of the challenge that this visitor can answer.
_SIGN_IN = "_smsverify_sign_in"
#: The session key of the seed whose puzzles this visitor must solve.
_SEED = "_smsverify_seed"
#: The session key of a proof token for the host's own sign-up page. Documented.
PROOF_TOKEN = "smsverify_proof_token"  # noqa: S105 -- the name of a key
#: How long before a solution is needed the page solves a puzzle, because the page may load slowly.
_EARLY = timedelta(seconds=15)
#: How long a seed is still valid when a page gets it, so that there is time to solve its puzzles.
_TIME_TO_SOLVE = timedelta(minutes=1)
#: The owner of problems and notices: no user is known yet.
_VISITOR = "sign-in"


@dataclass(frozen=True, slots=True)
class _Open:
    """The sign-in of this session.

    :param challenge: None before the first code.
    """

    challenge: Challenge | None
    remember: bool


def _for_everybody(view: Callable[[], ResponseReturnValue]) -> Callable[[], ResponseReturnValue]:
    """Call a view if sign-in is on. Refuse invalid requests."""

    @functools.wraps(view)
    def wrapped() -> ResponseReturnValue:
        if not _is_on(get_state().settings):
            abort(404)
        try:
            if is_rejected():
                return refuse(problem_from_error(InvalidRequest()))
            if request.method == "POST" and not is_csrf_valid():
                return refuse(csrf_problem())
            return view()
        except (InvalidRequest, StoreUnavailable) as error:
            return refuse(problem_from_error(error))

    return wrapped


# --- the number --------------------------------------------------------------------------------


def _is_on(settings: Settings) -> bool:
    return settings.sign_in


@serve(
    "/sign-in",
    "sign_in",
    GET=Operation(
        summary="Get the state of the sign-in, and a CSRF token",
        returns=(SignInBody, SignedInBody),
        query=(
            NEXT,
            Field("change", str, "For browsers: whether the page asks for another number."),
        ),
        access=EVERYBODY,
        is_offered=_is_on,
    ),
    POST=Operation(
        summary="Send a code to a number, or send it again",
        returns=(SignInBody,),
        body=(
            Field("mobile", str, "A mobile number in any spelling. Without it, send again."),
            Field("channel", ChannelName, "How to send the code: by default `sms`, or as before."),
            Field("remember", bool, "Whether the login outlasts the browser's session."),
            Field("proof_of_work", str, "The nonces of the solved puzzle, with commas."),
            NEXT,
        ),
        errors=(*SEND_ERRORS, NoChallenge, SendRefused),
        access=EVERYBODY,
        is_offered=_is_on,
    ),
)
@_for_everybody
def sign_in() -> ResponseReturnValue:
    """Ask for the number, then for the code."""
    if request.method == "POST":
        return _send()
    target = _target(read_query())
    current = _load()
    if current.challenge is not None and current.challenge.state == Challenge.VERIFIED:
        current = _Open(None, current.remember)  # its code was used
    if wants_json():
        if current.challenge is None and is_logged_in(current_user()):
            return _signed_in(target)
        found = sign_in_json(current.challenge, next_url=target)
        if current.challenge is not None and is_on_its_way(found.get("delivery")):
            get_state().first_checks.request(current.challenge)
        return json_response({**found, **_puzzle_member(), "csrf_token": csrf_token()})
    if is_logged_in(current_user()) and fresh_login.is_fresh():
        return redirect(target)  # an older login may come here to be renewed
    problem, typed = pop_problem(_VISITOR)
    notice = pop_notice(_VISITOR)
    view = sign_in_view(
        current.challenge,
        next_url=target,
        remember=current.remember,
        is_changing="change" in read_query(),
    )
    ui = current_ui()
    return render_own_template(
        "sign_in.html",
        ("sign_in_form.html", "sign_in_below.html"),
        sv_sign_in=view,
        sv_puzzle=_puzzle(current.challenge if view.state != "number" else None),
        sv_typed=typed.get("mobile", ui.number(view.mobile)),
        sv_typed_code=typed.get("code", ""),
        sv_error=problem_view(problem, ui) if problem else None,
        sv_notice=notice_text(notice, ui) if notice and not problem else None,
        sv_csrf_field_name=csrf_field_name(),
        sv_csrf_token=csrf_token(),
    )


def _send() -> ResponseReturnValue:
    """Send a code to the number in the form, or without one send the code again."""
    form = read_body()
    target = _target(form)
    current = _load()
    typed = form.get("mobile")
    try:
        challenge = _resend(current.challenge, form) if typed is None else _start(typed, form)
    except TooSoon as error:
        if not wants_json() and _is_same_number(current.challenge, typed):
            return _to_page(target)  # the code page shows the wait
        return _fail(error, target, typed=typed)
    except SMSVerifyError as error:
        return _fail(error, target, typed=typed)
    remember = current.remember if typed is None else is_set(form.get("remember"))
    session[_SIGN_IN] = {"challenge": challenge.id, "remember": remember}
    if wants_json():
        return json_response(sign_in_json(challenge, next_url=target, just_sent=True))
    if typed is None and challenge.sends > 1:
        flash_notice(_resend_notice(challenge), _VISITOR)
    return _to_page(target)


def _start(typed: Any, form: Mapping[str, Any]) -> Challenge:
    channel = read_channel(form.get("channel", "sms"))
    get_state().parse_mobile(read_mobile(form))  # an invalid number costs no work
    return _send_new_code(typed, channel, form, subject=typed)


def _resend(challenge: Challenge | None, form: Mapping[str, Any]) -> Challenge:
    if challenge is None:
        raise MobileRequired
    channel = read_channel(form.get("channel", challenge.channel))
    try:
        return get_state().sign_in.resend(
            challenge, channel=channel, ip=client_address(), device=device_token()
        )
    except NoChallenge:
        return _send_new_code(challenge.mobile, channel, form, subject=challenge.id)


def _send_new_code(
    mobile: str, channel: Channel, form: Mapping[str, Any], *, subject: str
) -> Challenge:
    """Send a new code, if the proof of work allows it.

    :param subject: what the solution is for.
    """
    charges = _check_work(form, subject)
    try:
        return get_state().sign_in.start(
            mobile, channel=channel, ip=client_address(), device=device_token(), charges=charges
        )
    except RateLimited as error:
        if error.scope == UNSOLVED:
            raise SendRefused(SendRefused.PROOF_OF_WORK) from None
        raise


def _resend_notice(challenge: Challenge) -> str:
    if challenge.channel == "voice":
        return "calling"
    is_new = get_state().settings.resend == "new" and challenge.native_sender is None
    return "sent_new" if is_new else "sent_again"


def _is_same_number(challenge: Challenge | None, typed: object) -> bool:
    """Return whether the session has an open code for the number that was entered again."""
    if challenge is None or not is_open(challenge):
        return False
    return typed is None or get_state().parse_mobile(typed) == challenge.mobile


# --- the proof of work --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Puzzle:
    """What a browser must solve.

    :param subject: what the solution is for; None for the number that is entered.
    :param is_optional: whether some codes are sent without a solution.
    :param due_in: for how many seconds the open code is sent again without a solution.
    """

    seed: str
    puzzles: int
    bits: int
    subject: str | None
    is_optional: bool
    due_in: int


def _puzzle(challenge: Challenge | None) -> _Puzzle | None:
    """Return what must be solved before the next new code; None if nothing must.

    :param challenge: the challenge of the code that is sent again or replaced.
    """
    work = get_state().proof_of_work
    if not work.is_required():
        return None
    if not work.is_seed(session.get(_SEED), for_another=_TIME_TO_SOLVE):
        session[_SEED] = work.new_seed()
    subject, due_in = None, 0
    if challenge is not None:
        subject = challenge.id
        if is_open(challenge):
            due_at = challenge.expires_at - MIN_LIFETIME_LEFT - _EARLY
            due_in = seconds_left(due_at, get_state().clock())
    return _Puzzle(session[_SEED], PUZZLES, BITS, subject, work.is_optional, due_in)


def _puzzle_member() -> SendRefusedMembers:
    """Return the member `proof_of_work` of JSON; nothing if none is required."""
    puzzle = _puzzle(None)
    if puzzle is None:
        return {}
    shown = PuzzleBody(seed=puzzle.seed, puzzles=puzzle.puzzles, bits=puzzle.bits)
    return {"proof_of_work": shown}


def _check_work(form: Mapping[str, Any], subject: str) -> tuple[Charge, ...]:
    """Check the visitor's solution, if one is required now. A seed is good for one request.

    :returns: what a send without a solution takes.
    """
    work = get_state().proof_of_work
    if not work.is_required():
        return ()
    solution = form.get("proof_of_work")
    return work.check(session.pop(_SEED, None), subject, solution, ip=client_address())


# --- the code ----------------------------------------------------------------------------------


@serve(
    "/sign-in/check",
    "sign_in_check",
    POST=Operation(
        summary="Check the code, and sign in or up",
        returns=(SignedInBody, ProvedBody),
        body=(CODE, NEXT),
        errors=(*CHECK_ERRORS, NoAccount),
        access=EVERYBODY,
        is_offered=_is_on,
    ),
)
@_for_everybody
def sign_in_check() -> ResponseReturnValue:
    """Check the code; sign the visitor in, or up, if it is right."""
    form = read_body()
    target = _target(form)
    current = _load()
    state = get_state()
    try:
        proof = _check_code(current.challenge, form.get("code"))
    except NoChallenge as error:
        if _is_second_click(current.challenge):
            return redirect(target, 303)  # without a write to the session, which may be the old one
        return _fail(error, target)
    except SMSVerifyError as error:
        return _fail(error, target, kept=incomplete_code(error, form.get("code")))
    session.pop(_SIGN_IN, None)
    if state.settings.sign_in_token and wants_json():
        return _proved(proof, target)
    try:
        if _goes_to_host_page(proof):
            return _to_host_page(proof, target)
        account = state.sign_in.enter(proof)
        remember_device(proof.mobile, state.users.id_of(account.user))
    except SMSVerifyError as error:
        return _fail(error, target)
    _leave_other_account(account.user)
    log_in(account.user, remember=current.remember)
    state.sign_in.announce(account, proof.mobile)
    return _signed_in(target) if wants_json() else redirect(target, 303)


def _check_code(challenge: Challenge | None, code: object) -> Proof:
    if challenge is None:
        raise NoChallenge("no code was sent")
    return get_state().sign_in.check(challenge, code, ip=client_address())


def _is_second_click(challenge: Challenge | None) -> bool:
    """Return whether a browser sent the right code twice, and the first request has used it."""
    if wants_json():
        return False
    # Flask-Login writes to a session that it reads, so it is asked last.
    is_used = challenge is not None and _state_of(challenge) == Challenge.VERIFIED
    return is_used or is_logged_in(current_user())


def _state_of(challenge: Challenge) -> str:
    return get_state().verifier.load(challenge.id).state


def _leave_other_account(user: Any) -> None:
    """Empty a session of another user, because its values belong to that user."""
    users, present = get_state().users, current_user()
    if not is_logged_in(present):
        return
    # Flask-Login's object may be another one for the same row.
    if not users.stands_for_user(present) or users.id_of(present) != users.id_of(user):
        flask_login.logout_user()
        session.clear()


def _goes_to_host_page(proof: Proof) -> bool:
    """Return whether a page of the host creates the account."""
    state = get_state()
    is_configured = state.settings.sign_up_url is not None and state.settings.sign_up is not False
    return is_configured and not state.sign_in.has_account(proof)


def _to_host_page(proof: Proof, target: str) -> ResponseReturnValue:
    """Keep the proof in the session, and redirect to `SMSVERIFY_SIGN_UP_URL`."""
    state = get_state()
    token = state.verifier.proof_token(proof)
    session[PROOF_TOKEN] = token
    url = request.script_root + str(state.settings.sign_up_url)
    url += ("&" if "?" in url else "?") + urlencode({"next": target})
    if wants_json():
        return json_response(ProvedBody(state="proved", proof_token=token, next=url))
    return redirect(url, 303)


def _signed_in(target: str) -> ResponseReturnValue:
    return json_response(SignedInBody(state="signed_in", next=target, csrf_token=csrf_token()))


def _proved(proof: Proof, target: str) -> ResponseReturnValue:
    """Respond with a proof token, which the host exchanges for its own."""
    token = get_state().verifier.proof_token(proof)
    return json_response(ProvedBody(state="proved", proof_token=token, next=target))


# --- the session, fields, responses -------------------------------------------------------------


def _load() -> _Open:
    """Return the sign-in of this session. A challenge that was used or erased is left out."""
    kept = session.get(_SIGN_IN)
    if not isinstance(kept, dict):
        return _Open(None, remember=False)
    remember = bool(kept.get("remember"))
    try:
        challenge = get_state().verifier.load(kept.get("challenge", ""))
    except NoChallenge:
        return _Open(None, remember)
    return _Open(challenge if challenge.purpose == SIGN_IN else None, remember)


def _target(fields: Mapping[str, Any]) -> str:
    """Return where the visitor goes afterwards."""
    wanted = safe_target(fields.get("next"))
    if wanted is None and current_app.config.get("USE_SESSION_FOR_NEXT"):
        wanted = safe_target(session.get("next"))  # Flask-Login's place for it
    return next_url(wanted)


def _fail(
    error: SMSVerifyError,
    target: str,
    *,
    typed: object = None,
    kept: Mapping[str, str] = MappingProxyType({}),
) -> ResponseReturnValue:
    """Respond with a problem: at the number if one was entered or no code is open.

    :param typed: the number that was entered.
    :param kept: other input that the form shows again.
    """
    problem = problem_from_error(error)
    if wants_json():
        needs_work = getattr(error, "reason", None) == SendRefused.PROOF_OF_WORK
        return problem_json(problem, current_ui(), _puzzle_member() if needs_work else None)
    shown_again = {"mobile": typed[:MAX_SHOWN_INPUT]} if isinstance(typed, str) else {}
    flash_problem(problem, _VISITOR, **shown_again, **kept)
    return _to_page(target, is_changing=typed is not None and _SIGN_IN in session)


def _to_page(target: str, *, is_changing: bool = False) -> ResponseReturnValue:
    url = url_for("smsverify.sign_in", next=target, change=1 if is_changing else None)
    return redirect(url, 303)
