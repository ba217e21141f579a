"""`/messages`: every message and its state. The text of a code is never stored."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal

from flask import request
from flask.typing import ResponseReturnValue
from sqlalchemy import ColumnElement, delete, select
from sqlalchemy.orm import Session

from ..db.models import Attempt, Message
from ..errors import InvalidValues, MobileError, NoChallenge, NotFound
from ..messaging.outbox import KINDS as OUTBOX_KINDS
from ..messaging.outbox import RESENDABLE
from ..state import get_state
from ..web.interface import Interface, current_ui
from . import audit_log, host_users
from .actions import act_on_many, act_on_one, selected_ids
from .blueprint import blueprint
from .causes import explain_cause
from .keyset import Key, Page, Source, merged, newest_first
from .lists import (
    Action,
    Column,
    Filter,
    Item,
    ListView,
    Query,
    deliveries,
    explain_filters,
    read_query,
    respond,
)

#: The states of messages that staff should look at, as one choice of the filter.
_UNRESOLVED = ("failed", "unknown", "rejected", "undelivered")
KINDS = (Message.CODE, Message.NOTICE, Message.EVENT, Message.BULK)
_CSV = (
    "at",
    "kind",
    "event",
    "recipient",
    "channel",
    "sender",
    "state",
    "parts",
    "cost",
    "cause",
    "text",
)


@blueprint.get("/messages")
@explain_filters(lambda: _view(current_ui()))
def messages() -> ResponseReturnValue:
    """Show the messages that match, the newest first; `q` is the recipient's number."""
    ui = current_ui()
    query = read_query((*_states(ui), "unresolved"))
    return respond(_view(ui), query, _source(query), (datetime, str), _items, csv_columns=_CSV)


def _source(query: Query) -> Source[Message]:
    within = query.within(Message.created_at)
    parts = [select(Message).where(*within, *conditions) for conditions in _parts(query)]

    def source(after: Key | None, limit: int) -> Page[Message]:
        def work(session: Session) -> Page[Message]:
            at, id_ = Message.created_at, Message.id
            pages = [newest_first(session, rows, at, id_, after, limit) for rows in parts]
            return merged(pages, at, id_, limit)

        return get_state().ledger.read(work)

    return source


def _parts(query: Query) -> list[list[ColumnElement[bool]]]:
    """Return the conditions of the queries that together find the rows of the filters.

    An index has the order of one kind and one state, or of one send and one state. So there is one
    query for each kind and state that may match: a few short queries, however rare a match is.
    """
    kind, batch = request.args.get("kind", ""), request.args.get("batch", "")
    if kind and kind not in KINDS:
        raise InvalidValues({"kind": current_ui().t("Choose one of the listed kinds.")})
    states: Sequence[str] = _UNRESOLVED if query.state == "unresolved" else (query.state,)
    if query.search:  # the messages to one mobile are few
        conditions = [Message.recipient == _recipient(query.search)]
        if batch:
            conditions.append(Message.batch_id == batch)
        if kind:
            conditions.append(Message.kind == kind)
        if query.state:
            conditions.append(Message.state.in_(states))
        return [conditions]
    if not (kind or batch or query.state):
        return [[]]
    if not query.state:
        states = list(_states(current_ui()))
    if batch:
        of_batch = [Message.batch_id == batch] + ([Message.kind == kind] if kind else [])
        return [[*of_batch, Message.state == state] for state in states]
    kinds = (kind,) if kind else KINDS
    return [[Message.kind == kind, Message.state == state] for kind in kinds for state in states]


def _recipient(typed: str) -> str:
    """Return a number in E.164.

    :raises InvalidValues: it is not a mobile.
    """
    try:
        return get_state().parse_mobile(typed)
    except MobileError:
        raise InvalidValues({"q": current_ui().t("Enter the full mobile number.")}) from None


def _items(rows: Sequence[Message]) -> list[Item]:
    attempts: dict[str, list[Attempt]] = {row.id: [] for row in rows}
    found = (
        select(Attempt)
        .where(Attempt.message_id.in_(attempts))
        .order_by(Attempt.created_at, Attempt.id)
    )
    for attempt in get_state().ledger.read(lambda session: session.scalars(found).all()):
        attempts[attempt.message_id].append(attempt)
    return [_item(row, attempts[row.id]) for row in rows]


def _item(row: Message, attempts: Sequence[Attempt]) -> Item:
    last = attempts[-1] if attempts else None
    cause = row.cause or (last.cause if last is not None else None)
    return {
        "id": row.id,
        "at": row.created_at,
        "kind": row.kind,
        "event": row.event,
        "recipient": row.recipient,
        "user_id": row.user_id,
        "channel": row.channel,
        "sender": last.sender if last is not None else None,
        "attempts": len(attempts),
        "state": row.state,
        "parts": row.parts,
        "cost": _cost(attempts),
        "cause": cause,
        "text": row.text if row.kind != Message.CODE else None,
        "batch": row.batch_id,
        "_what": _what(row),
        "_without": () if _may_be_sent_again(row) else ("resend",),
        "_cause": explain_cause(cause, current_ui()) if cause else "",
    }


def _may_be_sent_again(row: Message) -> bool:
    """Return whether "Send again" is offered. The texts of a stopped send are refused later."""
    if row.kind == Message.CODE:
        return True
    return row.kind in OUTBOX_KINDS and row.next_try_at is None and row.state in RESENDABLE


def _cost(attempts: Iterable[Attempt]) -> Decimal | None:
    """Return the cost of a message at every gateway that sent it.

    :returns: None if no gateway has reported a cost, or if gateways with different units have.
    """
    senders = get_state().delivery.routes.senders
    costs: dict[str, Decimal] = {}
    for attempt in attempts:
        if attempt.cost is not None:
            sender = senders.get(attempt.sender)
            gateway = attempt.sender if sender is None else sender.gateway
            costs[gateway] = costs.get(gateway, Decimal(0)) + attempt.cost
    return next(iter(costs.values())) if len(costs) == 1 else None


def _what(row: Message) -> str:
    """Return what a message is about: its text, or its kind if the text is not stored."""
    kinds = kind_labels(current_ui())
    if row.kind == Message.CODE:
        return kinds[row.kind]
    return "\n".join(filter(None, (row.event or kinds[row.kind], row.text)))


def kind_labels(ui: Interface) -> dict[str, str]:
    """Return the kind of a message → its name on the page."""
    t = ui.t
    return {
        Message.CODE: t("Code"),
        Message.NOTICE: t("Notice"),
        Message.EVENT: t("Event"),
        Message.BULK: t("Bulk send"),
    }


def _states(ui: Interface) -> dict[str, tuple[str, str]]:
    t = ui.t
    return {
        Message.WAITING: (t("Waiting"), "wait"),
        **deliveries(ui),
        Message.EXPIRED: (t("Expired"), "plain"),
        Message.SKIPPED: (t("Not sent"), "plain"),
    }


def _view(ui: Interface) -> ListView:
    t = ui.t
    states = _states(ui)
    labels = {"unresolved": t("Needs a decision")} | {
        name: label for name, (label, _) in states.items()
    }
    return ListView(
        title=t("Messages"),
        endpoint="smsverify_admin.messages",
        key="id",
        columns=(
            Column("recipient", t("Recipient"), "mobile"),
            Column("_what", t("Message"), "body"),
            Column("at", t("Time"), "time"),
            Column("state", t("State"), "outcome"),
            Column("sender", t("Sender"), "code"),
            Column("parts", t("Parts"), "number"),
            Column("cost", t("Cost"), "cost"),
        ),
        filters=(
            Filter("q", t("Recipient's number"), "search"),
            Filter("state", t("State"), "choice", labels),
            Filter("kind", t("Kind"), "choice", kind_labels(ui)),
            Filter("from", t("From"), "date"),
            Filter("to", t("To"), "date"),
            Filter("batch", "", "hidden"),
        ),
        empty=t("No messages match."),
        states=states,
        actions=(
            Action("resend", t("Send again")),
            Action("delete", t("Delete"), t("The message will be deleted. This cannot be undone.")),
        ),
        action_endpoint="smsverify_admin.messages_act",
        many_endpoint="smsverify_admin.messages_act_on_many",
    )


# --- actions -----------------------------------------------------------------------------------


@blueprint.post("/messages/<any(resend,delete):action>")
def messages_act_on_many(action: str) -> ResponseReturnValue:
    """Send the selected messages again, or delete them."""
    n = current_ui().n
    return act_on_many(
        selected_ids("ids"),
        lambda key: _act(action, key),
        lambda count: n("Done for %(count)s message.", "Done for %(count)s messages.", count),
    )


@blueprint.post("/messages/<id>/<any(resend,delete):action>")
def messages_act(id: str, action: str) -> ResponseReturnValue:  # noqa: A002 -- the name in the path
    """Send one message again, or delete it."""
    n = current_ui().n
    done = n("Done for %(count)s message.", "Done for %(count)s messages.", 1)
    return act_on_one(id, lambda key: _act(action, key), done)


def _act(action: str, key: str) -> None:
    """Perform one action and record it.

    :raises ProblemError: it could not be performed; nothing is recorded.
    """
    message = get_state().ledger.read(lambda session: session.get(Message, key))
    if message is None:
        raise NotFound
    with audit_log.recorded(action, key):
        if action == "delete":
            get_state().ledger.run(lambda session: _delete(session, key))
        elif message.kind == Message.CODE:
            _resend_code(message)
        elif not get_state().outbox.resend([key]):
            wrong = current_ui().t(
                "Only a message that failed, of a send that was not stopped, can be sent again."
            )
            raise InvalidValues({"id": wrong})


def _delete(session: Session, key: str) -> None:
    session.execute(delete(Attempt).where(Attempt.message_id == key))
    session.execute(delete(Message).where(Message.id == key))


def _resend_code(message: Message) -> None:
    """Send the code again; a new one to the user's mobile if the old one is not open any more."""
    verifier = get_state().verifier
    try:
        verifier.resend(verifier.load(message.challenge_id or ""))
    except NoChallenge:
        user = host_users.find(message.user_id) if message.user_id is not None else None
        if user is None:
            raise
        verifier.start(user)
