"""`/verifications`: who has proved which mobile, and the actions of staff."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from flask import current_app
from flask.typing import ResponseReturnValue
from sqlalchemy import ColumnElement, Select, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from ..db.models import Challenge, Message, Verification
from ..db.types import by_bytes
from ..errors import InvalidCode, InvalidRequest, InvalidValues, MobileError, NotFound
from ..phone import ascii_digits
from ..state import AppState, get_state
from ..verification.challenges import is_open
from ..verification.rules import CLOCK_SKEW
from ..web.fields import read_fields
from ..web.interface import Interface, current_ui
from ..web.negotiation import wants_json
from . import audit_log, host_users
from .actions import act_on_many, act_on_one, selected_ids
from .blueprint import blueprint, staff_id
from .keyset import Key, Page, Source, cut, newest_first
from .lists import (
    Action,
    Column,
    Filter,
    Item,
    ListView,
    Query,
    as_json,
    explain_filters,
    read_query,
    render_list,
    respond,
)

#: How many searches by code one person may make within how long.
_CODE_SEARCHES, _CODE_WINDOW = 30, timedelta(hours=1)
#: How far back a user's last message is searched for.
_RECENT = timedelta(days=30)

_STATES = ("verified", "unverified", "expired", "pending", "exempt", "locked", "revoked")
#: The values of the filter `state`. Only the host can tell whether a user is exempt.
_FILTERED = ("verified", "unverified", "expired", "pending", "locked", "revoked")
#: User, or None if there was no account, and recipient → the last code message.
_LastCodes = Mapping[tuple[str | None, str], Message]
_CSV = (
    "user_id",
    "email",
    "mobile",
    "state",
    "verified_at",
    "expires_at",
    "channel",
    "sender",
    "locked",
    "last_sent_at",
    "delivery",
)


# --- the list ----------------------------------------------------------------------------------


@blueprint.get("/verifications")
@explain_filters(lambda: _view(current_ui()))
def verifications() -> ResponseReturnValue:
    """Show the verifications that match, or the newest."""
    query = read_query(_FILTERED)
    source, key_types = _source(query)
    return respond(
        _view(current_ui()),
        query,
        source,
        key_types,
        lambda user_ids: _items(user_ids, query),
        csv_columns=_CSV,
    )


def _source(query: Query) -> tuple[Source[str], tuple[type, ...]]:
    """Return the source of the ids of the users who match, and the types of its keys."""
    typed = ascii_digits(query.search)
    if not typed:
        return _by_state(query)
    if len(typed) == 4 and typed.isdecimal():
        return _by_mobile_end(typed, None), (str,)
    try:
        mobile = get_state().parse_mobile(typed)
    except MobileError:
        if host_users.find(query.search) is not None:
            return _fixed([query.search]), (str,)
        prefix = query.search
        return lambda after, limit: host_users.by_email(prefix, after, limit), (str, str)
    own = host_users.by_mobile(mobile)
    return _by_mobile_end(mobile[-4:], mobile, own), (str,)


def _fixed(user_ids: Sequence[str]) -> Source[str]:
    return lambda _after, _limit: Page(user_ids, None)


def _by_mobile_end(end: str, mobile: str | None, own: Sequence[str] = ()) -> Source[str]:
    """Return users by the last four digits of a mobile that they proved or were sent a code to.

    :param mobile: the whole mobile; None if only its end is known.
    :param own: more users, whose own column holds the mobile.
    """

    def source(after: Key | None, limit: int) -> Page[str]:
        def work(session: Session) -> set[str]:
            found: set[str] = set()
            for model in (Verification, Challenge):
                user_id = by_bytes(model.user_id, session)
                rows: Select[Any] = (
                    select(user_id)
                    .where(model.mobile_end == end, model.user_id.is_not(None))
                    .distinct()
                    .order_by(user_id)
                    .limit(limit + 1)
                )
                if mobile is not None:
                    rows = rows.where(model.mobile == mobile)
                if after is not None:
                    rows = rows.where(user_id > after[0])
                found.update(session.scalars(rows))
            return found

        others = {user_id for user_id in own if after is None or user_id > after[0]}
        user_ids = sorted(get_state().ledger.read(work) | others, key=str.encode)
        return cut(user_ids[: limit + 1], limit, lambda user_id: (user_id,))

    return source


def _by_state(query: Query) -> tuple[Source[str], tuple[type, ...]]:
    """Return users by the state of their row, the newest first, in the order of an index."""
    state = get_state()
    now = state.clock()
    row = Verification
    if query.state == "unverified":
        return _never_proved(), (str,)
    if query.state == "pending":
        pending = select(Challenge).where(
            Challenge.created_at
            > now - timedelta(seconds=state.settings.code_lifetime) - CLOCK_SKEW,
            Challenge.state == Challenge.PENDING,
            Challenge.purpose == "verify",
            Challenge.user_id.is_not(None),
            Challenge.expires_at > now,
            *query.within(Challenge.created_at),
        )
        return _newest(pending, Challenge.created_at, Challenge.user_id), (datetime, str)
    at: InstrumentedAttribute[Any] = row.created_at
    conditions: list[ColumnElement[bool]] = []
    days = state.live.current.revalidation_days
    if query.state in ("verified", "expired"):
        at = row.verified_at
        conditions = [row.verified_at.is_not(None), row.revoked_at.is_(None)]
        if query.state == "verified" and days:
            conditions.append(row.verified_at > now - timedelta(days=days))
        elif query.state == "expired":
            # Proofs without an end never expire.
            oldest = now - timedelta(days=days) if days else datetime.min.replace(tzinfo=now.tzinfo)
            conditions.append(row.verified_at <= oldest)
    elif query.state in ("locked", "revoked"):
        at = row.locked_at if query.state == "locked" else row.revoked_at
        conditions = [at.is_not(None)]
    rows = select(row).where(*conditions, *query.within(at))
    return _newest(rows, at, row.user_id), (datetime, str)


def _newest(rows: Select[Any], at: Any, user_id: Any) -> Source[str]:
    def source(after: Key | None, limit: int) -> Page[str]:
        page = get_state().ledger.read(
            lambda session: newest_first(session, rows, at, user_id, after, limit)
        )
        return Page([found.user_id for found in page.rows], page.next)

    return source


def _never_proved() -> Source[str]:
    def source(after: Key | None, limit: int) -> Page[str]:
        rows = select(Verification.user_id).where(Verification.verified_at.is_(None))
        if after is not None:
            rows = rows.where(Verification.user_id > after[0])
        ordered = rows.order_by(Verification.user_id).limit(limit + 1)
        user_ids = get_state().ledger.read(lambda session: session.scalars(ordered).all())
        return cut(user_ids, limit, lambda user_id: (user_id,))

    return source


# --- what a row shows --------------------------------------------------------------------------


def _items(user_ids: Sequence[str], query: Query | None = None) -> list[Item]:
    """Return the items of users.

    :param query: what was searched for. The search alone decides who is found, so the state and the
        days are compared here. Without a search, the rows already have the state, but a user whose
        mobile the host has changed since the proof is no longer verified.
    """
    state = get_state()
    users = host_users.load(user_ids)
    mobiles = {user_id: state.users.mobile_of(user) for user_id, user in users.items()}
    now = state.clock()

    def work(
        session: Session,
    ) -> tuple[dict[str, Verification], dict[str, Challenge], _LastCodes]:
        found = select(Verification).where(Verification.user_id.in_(user_ids))
        rows = {row.user_id: row for row in session.scalars(found)}
        pending = (
            select(Challenge)
            .where(Challenge.user_id.in_(user_ids), Challenge.purpose == "verify")
            .where(Challenge.state == Challenge.PENDING)
            .order_by(Challenge.created_at)
        )
        recipients = {mobile for mobile in mobiles.values() if mobile}
        recipients |= {row.mobile for row in rows.values() if row.mobile}
        sent = (
            select(Message)
            .where(Message.recipient.in_(recipients), Message.created_at > now - _RECENT)
            .where(Message.kind == Message.CODE)
            .order_by(Message.created_at)
        )
        last = {(message.user_id, message.recipient): message for message in session.scalars(sent)}
        return rows, {str(found.user_id): found for found in session.scalars(pending)}, last

    rows, pending, last = state.ledger.read(work)
    items = [
        _item(
            state,
            user_id,
            users.get(user_id),
            rows.get(user_id),
            now,
            challenge=pending.get(user_id),
            last=last,
        )
        for user_id in user_ids
    ]
    if query is None:
        return items
    if query.search:
        return [item for item in items if _matches(item, rows.get(item["user_id"]), query)]
    if query.state in ("verified", "expired", "pending"):
        return [item for item in items if item["state"] in (query.state, "exempt", "locked")]
    return items


def _matches(item: Item, row: Verification | None, query: Query) -> bool:
    """Return whether an item has the state and the days of a query."""
    has_state = {
        "": True,
        "unverified": row is None or row.verified_at is None,
        "locked": item["locked"],
        "revoked": item["revoked_at"] is not None,
    }
    if not has_state.get(query.state, item["state"] == query.state):
        return False
    if query.since is None and query.until is None:
        return True
    column = {
        "verified": Verification.verified_at,
        "expired": Verification.verified_at,
        "locked": Verification.locked_at,
        "revoked": Verification.revoked_at,
    }.get(query.state, Verification.created_at)
    at = getattr(row, column.key) if row is not None else None
    is_late_enough = query.since is None or (at is not None and at >= query.since)
    return is_late_enough and (query.until is None or (at is not None and at < query.until))


def _item(
    state: AppState,
    user_id: str,
    user: Any | None,
    row: Verification | None,
    now: datetime,
    *,
    challenge: Challenge | None,
    last: _LastCodes,
) -> Item:
    """Return the item of one user.

    :param user: None if the host has deleted the user.
    :param challenge: the user's pending challenge for `verify`.
    :param last: the last code messages. A code without an account is of the user with the number.
    """
    own = state.users.mobile_of(user) if user is not None else None
    mobile = own or (row.mobile if row is not None else None)
    status = state.policy.status(row, mobile, now)
    shown = status.state
    if user is not None and state.users.is_exempt(user):
        shown = "exempt"
    elif challenge is not None and is_open(challenge, own, now):
        shown = status.with_open_challenge().state
    codes = [last.get((sent_to, mobile or "")) for sent_to in (user_id, None)]
    message = max(filter(None, codes), key=lambda code: code.created_at, default=None)
    return {
        "user_id": user_id,
        "email": host_users.email_of(user),
        "mobile": mobile,
        "state": shown,
        "verified_at": status.verified_at,
        "expires_at": status.expires_at,
        "channel": row.channel if row is not None and status.verified_at else None,
        "sender": row.sender if row is not None and status.verified_at else None,
        "locked": status.locked,
        "revoked_at": row.revoked_at if row is not None else None,
        "last_sent_at": message.created_at if message is not None else None,
        "delivery": message.state if message is not None else None,
        "_badge": "locked" if status.locked else shown,
    }


def _view(ui: Interface) -> ListView:
    t = ui.t
    states = {
        "verified": (t("Confirmed"), "good"),
        "unverified": (t("Not confirmed"), "plain"),
        "expired": (t("Confirm again"), "wait"),
        "pending": (t("Waiting for code"), "wait"),
        "exempt": (t("Not required"), "plain"),
        "locked": (t("Locked"), "bad"),
        "revoked": (t("Revoked"), "bad"),
    }
    return ListView(
        title=t("Verifications"),
        endpoint="smsverify_admin.verifications",
        key="user_id",
        columns=(
            Column("user_id", t("User"), "user"),
            Column("mobile", t("Mobile number"), "mobile"),
            Column("_badge", t("State"), "state"),
            Column("verified_at", t("Confirmed on"), "time"),
            Column("expires_at", t("Valid until"), "time"),
            Column("last_sent_at", t("Last code"), "sent"),
        ),
        filters=(
            Filter(
                "q",
                t("Email, number or last four digits"),
                "search",
                hint=t(
                    "The beginning of an email, a mobile number, its last four digits or a user id"
                ),
            ),
            Filter("state", t("State"), "choice", {name: states[name][0] for name in _FILTERED}),
            Filter("from", t("From"), "date"),
            Filter("to", t("To"), "date"),
        ),
        empty=t("No verifications match."),
        states=states,
        actions=(
            Action("resend", t("Send a code")),
            Action("verify", t("Mark as confirmed")),
            Action("unlock", t("Unlock")),
            Action(
                "revoke",
                t("Revoke"),
                t("The user must confirm the number again to open protected pages."),
            ),
            Action(
                "delete",
                t("Delete"),
                t("This deletes the user's verification, codes and messages. It cannot be undone."),
            ),
        ),
        action_endpoint="smsverify_admin.verifications_act",
        many_endpoint="smsverify_admin.verifications_act_on_many",
        template="verifications.html",
    )


# --- search by code ----------------------------------------------------------------------------


@blueprint.post("/verifications")
def verifications_by_code() -> ResponseReturnValue:
    """Find the user to whom an open code was sent.

    It is a POST so that no URL contains a code, and it is recorded and limited: with enough
    searches, codes could be guessed.
    """
    typed = read_fields().get("q")
    if not isinstance(typed, str):
        raise InvalidRequest
    audit_log.record_limited("verifications", "", limit=_CODE_SEARCHES, window=_CODE_WINDOW)
    ui = current_ui()
    try:
        challenges = get_state().verifier.find_by_code(typed)
    except InvalidCode as error:
        wrong = {"q": ui.t(error.describe({"problem": error.problem}).title) + "."}
        if wants_json():
            raise InvalidValues(wrong) from None
        page = render_list(_view(ui), (), sv_code_error=wrong["q"], sv_is_code_search=True)
        return page, error.status
    user_ids = list(dict.fromkeys(row.user_id for row in challenges if row.user_id is not None))
    anonymous = {row.mobile: row for row in challenges if row.user_id is None}
    items = _items(user_ids) + [_anonymous_item(row) for row in anonymous.values()]
    if wants_json():
        return current_app.json.response({"items": as_json(items), "next": None})
    return render_list(_view(ui), items, sv_is_code_search=True)


def _anonymous_item(challenge: Challenge) -> Item:
    """Return the item of a mobile that is being proved before there is an account."""
    return {
        "user_id": None,
        "email": None,
        "mobile": challenge.mobile,
        "state": "pending",
        "verified_at": None,
        "expires_at": None,
        "channel": None,
        "sender": None,
        "locked": False,
        "revoked_at": None,
        "last_sent_at": challenge.created_at,
        "delivery": None,
        "_badge": "pending",
    }


# --- actions -----------------------------------------------------------------------------------


@blueprint.post("/verifications/<any(resend,verify,revoke,unlock,delete):action>")
def verifications_act_on_many(action: str) -> ResponseReturnValue:
    """Perform an action on the selected users."""
    user_ids = selected_ids("user_ids")
    n = current_ui().n
    return act_on_many(
        user_ids,
        lambda user_id: _act(action, user_id),
        lambda count: n("Done for %(count)s user.", "Done for %(count)s users.", count),
    )


@blueprint.post("/verifications/<path:user_id>/<any(resend,verify,revoke,unlock,delete):action>")
def verifications_act(user_id: str, action: str) -> ResponseReturnValue:
    """Perform an action on one user."""
    t = current_ui().t
    notices = {
        "resend": t("The code was sent."),
        "verify": t("The number is marked as confirmed."),
        "revoke": t("The verification was revoked."),
        "unlock": t("The user was unlocked."),
        "delete": t("The data of the user was deleted."),
    }
    return act_on_one(user_id, lambda key: _act(action, key), notices[action])


def _act(action: str, user_id: str) -> None:
    """Perform one action and record it.

    :raises ProblemError: it could not be performed; nothing is recorded.
    """
    verifier = get_state().verifier
    user = host_users.find(user_id)
    if user is None and (action != "delete" or not _has_row(user_id)):
        raise NotFound
    who = staff_id()
    acts: dict[str, Callable[[], object]] = {
        "resend": lambda: verifier.start(user),
        "verify": lambda: verifier.mark_verified(user, by=who),
        "revoke": lambda: verifier.revoke(user, by=who),
        "unlock": lambda: verifier.unlock(user),
        "delete": lambda: verifier.forget_id(user_id),
    }
    with audit_log.recorded("send_code" if action == "resend" else action, user_id):
        acts[action]()


def _has_row(user_id: str) -> bool:
    return get_state().ledger.read(lambda session: session.get(Verification, user_id)) is not None
