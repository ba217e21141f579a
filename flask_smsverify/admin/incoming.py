"""`/incoming`: messages from phones."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from flask.typing import ResponseReturnValue
from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from ..db.models import Incoming
from ..errors import MobileError, NotFound
from ..phone import ascii_digits
from ..state import get_state
from ..web.interface import Interface, current_ui
from . import audit_log
from .actions import act_on_many, act_on_one, selected_ids
from .blueprint import blueprint
from .keyset import Key, Page, newest_first
from .lists import Action, Column, Filter, Item, ListView, explain_filters, read_query, respond

_STATES = ("unread", "read")


@blueprint.get("/incoming")
@explain_filters(lambda: _view(current_ui()))
def incoming() -> ResponseReturnValue:
    """Show received messages, the newest first; `q` is the number of the author."""
    query = read_query(_STATES)
    rows = select(Incoming).where(*query.within(Incoming.received_at))
    if query.search:
        rows = rows.where(Incoming.originator == _originator(query.search))
    if query.state == "unread":
        rows = rows.where(Incoming.read_at.is_(None))
    elif query.state == "read":
        rows = rows.where(Incoming.read_at.is_not(None))

    def source(after: Key | None, limit: int) -> Page[Incoming]:
        return get_state().ledger.read(
            lambda session: newest_first(
                session, rows, Incoming.received_at, Incoming.id, after, limit
            )
        )

    return respond(
        _view(current_ui()),
        query,
        source,
        (datetime, str),
        _items,
        csv_columns=("received_at", "from", "to", "text", "sender", "read_at"),
    )


def _originator(typed: str) -> str:
    """Return a number as it is stored: E.164 for a mobile, otherwise as it was typed."""
    try:
        return get_state().parse_mobile(typed)
    except MobileError:
        return ascii_digits(typed)


def _items(rows: Sequence[Incoming]) -> list[Item]:
    return [
        {
            "id": row.id,
            "received_at": row.received_at,
            "from": row.originator,
            "to": row.line,
            "text": row.text,
            "sender": row.sender,
            "read_at": row.read_at,
            "state": "unread" if row.read_at is None else "read",
        }
        for row in rows
    ]


def _view(ui: Interface) -> ListView:
    t = ui.t
    states = {"unread": (t("Unread"), "wait"), "read": (t("Read"), "plain")}
    return ListView(
        title=t("Incoming"),
        endpoint="smsverify_admin.incoming",
        key="id",
        columns=(
            Column("from", t("From number"), "mobile"),
            Column("text", t("Message"), "body"),
            Column("received_at", t("Received"), "time"),
            Column("to", t("Line"), "code"),
            Column("state", t("State"), "state"),
        ),
        filters=(
            Filter("q", t("From number"), "search"),
            Filter("state", t("State"), "choice", {name: states[name][0] for name in _STATES}),
            Filter("from", t("From"), "date"),
            Filter("to", t("To"), "date"),
        ),
        empty=t("No messages match."),
        states=states,
        actions=(
            Action("read", t("Mark as read")),
            Action("unread", t("Mark as unread")),
            Action("delete", t("Delete"), t("The message will be deleted. This cannot be undone.")),
        ),
        action_endpoint="smsverify_admin.incoming_act",
        many_endpoint="smsverify_admin.incoming_act_on_many",
    )


@blueprint.post("/incoming/<any(read,unread,delete):action>")
def incoming_act_on_many(action: str) -> ResponseReturnValue:
    """Mark or delete the selected messages."""
    n = current_ui().n
    return act_on_many(
        selected_ids("ids"),
        lambda key: _act(action, key),
        lambda count: n("Done for %(count)s message.", "Done for %(count)s messages.", count),
    )


@blueprint.post("/incoming/<id>/<any(read,unread,delete):action>")
def incoming_act(id: str, action: str) -> ResponseReturnValue:  # noqa: A002 -- the name in the path
    """Mark or delete one message."""
    n = current_ui().n
    done = n("Done for %(count)s message.", "Done for %(count)s messages.", 1)
    return act_on_one(id, lambda key: _act(action, key), done)


def _act(action: str, key: str) -> None:
    """Perform one action and record it.

    :raises NotFound: there is no such message.
    """
    state = get_state()

    def work(session: Session) -> bool:
        if session.get(Incoming, key) is None:
            return False
        if action == "delete":
            session.execute(delete(Incoming).where(Incoming.id == key))
        else:
            read_at = state.clock() if action == "read" else None
            session.execute(update(Incoming).where(Incoming.id == key).values(read_at=read_at))
        return True

    with audit_log.recorded(action, key):
        if not state.ledger.run(work):
            raise NotFound
