"""`/audit`: which member of the staff did what."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime

from flask.typing import ResponseReturnValue
from sqlalchemy import or_, select

from ..db.models import Audit
from ..errors import MobileError
from ..state import get_state
from ..web.interface import Interface, current_ui
from . import host_users
from .blueprint import blueprint
from .keyset import Key, Page, newest_first
from .language_names import language_name
from .lists import Column, Filter, Item, ListView, explain_filters, read_query, respond
from .rendering import mobile_text


@blueprint.get("/audit")
@explain_filters(lambda: _view(current_ui()))
def audit() -> ResponseReturnValue:
    """Show what staff did, the newest first; `q` is a staff member's id or a subject."""
    query = read_query()
    rows = select(Audit).where(*query.within(Audit.at))
    if query.search:
        rows = rows.where(or_(Audit.who == query.search, Audit.subject == query.search))

    def source(after: Key | None, limit: int) -> Page[Audit]:
        return get_state().ledger.read(
            lambda session: newest_first(session, rows, Audit.at, Audit.id, after, limit)
        )

    return respond(
        _view(current_ui()),
        query,
        source,
        (datetime, str),
        _items,
        csv_columns=("at", "who", "action", "subject", "detail"),
    )


def _items(rows: Sequence[Audit]) -> list[Item]:
    emails = {
        user_id: host_users.email_of(user)
        for user_id, user in host_users.load({row.who for row in rows}).items()
    }
    labels, subjects = action_labels(current_ui()), _subject_labels(current_ui())
    return [
        {
            "id": row.id,
            "at": row.at,
            "who": row.who,
            "action": row.action,
            "subject": row.subject,
            "detail": json.loads(row.detail),
            "_email": emails.get(row.who),
            "_action": labels.get(row.action, row.action),
            "_subject": subjects.get(row.action, {}).get(row.subject),
            "_detail": _describe(row.subject, json.loads(row.detail), current_ui()),
        }
        for row in rows
    ]


def _describe(subject: str, detail: dict[str, object], ui: Interface) -> list[tuple[str, str]]:
    """Return the details of a row as labels and values in the reader's language."""
    t = ui.t
    labels = {
        "before": t("Before"),
        "after": t("After"),
        "mobile": t("Mobile number"),
        "recipients": t("Recipients"),
        "text": t("Text"),
        "enabled": t("Send this text"),
    }
    pairs = []
    for name, value in detail.items():
        is_mobile = name in ("mobile", "recipients") or subject == "staff_mobiles"
        if name == "texts" and isinstance(value, dict):
            reader = ui.translator.locale
            pairs += [
                (language_name(locale, reader), _plain(text, ui)) for locale, text in value.items()
            ]
        else:
            shown = _plain(value, ui, is_mobile=is_mobile)
            pairs.append((labels.get(name, name), shown))
    return pairs


def _plain(value: object, ui: Interface, *, is_mobile: bool = False) -> str:
    """Return a value of JSON in words, with a line for each entry of an object.

    :param is_mobile: whether its texts are mobiles, as staff typed them.
    """
    if isinstance(value, bool):
        return ui.t("On") if value else ui.t("Off")
    if isinstance(value, int):
        return ui.number(value)
    if not value:
        return "–"
    if isinstance(value, list):
        return ui.t(", ").join(_plain(one, ui, is_mobile=is_mobile) for one in value)
    if isinstance(value, dict):
        return "\n".join(f"{key}: {_plain(one, ui)}" for key, one in value.items())
    return _mobile(str(value)) if is_mobile else str(value)


def _mobile(typed: str) -> str:
    try:
        return mobile_text(get_state().parse_mobile(typed))
    except MobileError:
        return typed


def _subject_labels(ui: Interface) -> dict[str, dict[str, str]]:
    """Return action → the subjects that are not a name or an id, and what the page calls them."""
    t = ui.t
    return {
        "settings": {
            "areas": t("Areas that need a confirmed number"),
            "exempt_groups": t("Groups that need no confirmation"),
            "quiet_hours": t("Quiet hours"),
            "revalidation_days": t("Days until a number must be confirmed again"),
            "signature": t("Signature"),
            "staff_mobiles": t("Staff numbers"),
        },
        "send": {
            "all": t("All users"),
            "club": t("Customer club"),
            "list": t("Numbers"),
        },
    }


def action_labels(ui: Interface) -> dict[str, str]:
    """Return action → its name on the page."""
    t = ui.t
    return {
        "verifications": t("Searched by code"),
        "send_code": t("Sent a code"),
        "resend": t("Sent again"),
        "verify": t("Marked as confirmed"),
        "revoke": t("Revoked a verification"),
        "unlock": t("Unlocked"),
        "delete": t("Deleted"),
        "read": t("Marked as read"),
        "unread": t("Marked as unread"),
        "settings": t("Changed a setting"),
        "texts": t("Changed a text"),
        "test": t("Sent a test message"),
        "send": t("Started a send"),
        "pause": t("Paused a send"),
        "resume": t("Resumed a send"),
        "stop": t("Stopped a send"),
    }


def _view(ui: Interface) -> ListView:
    t = ui.t
    return ListView(
        title=t("Activity"),
        endpoint="smsverify_admin.audit",
        key="id",
        columns=(
            Column("at", t("Time"), "time"),
            Column("who", t("Staff member"), "who"),
            Column("_action", t("Action")),
            Column("subject", t("Subject"), "subject"),
            Column("_detail", t("Details"), "details"),
        ),
        filters=(
            Filter("q", t("Staff member or user"), "search", hint=t("The full id")),
            Filter("from", t("From"), "date"),
            Filter("to", t("To"), "date"),
        ),
        empty=t("No activity matches."),
    )
