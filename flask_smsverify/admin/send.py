"""`/send`: one text to many, with a preview first, and the progress of each send."""

from __future__ import annotations

import re
import secrets
import threading
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from flask import current_app, redirect, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy import select

from ..db.models import Batch
from ..errors import ConfigurationError, InvalidValues, MobileError, NotFound, SenderError
from ..messaging.bulk import ACTIVE, Preview
from ..messaging.recipients import CLUB, GROUP, is_source
from ..state import AppState, get_state
from ..web.fields import read_fields
from ..web.interface import Interface, current_ui
from ..web.negotiation import wants_json
from . import audit_log
from .actions import answer
from .blueprint import blueprint, is_read_only, staff_id
from .causes import explain_cause
from .keyset import Key, Page, newest_first
from .lists import Column, Item, ListView, as_json, json_number, read_query, respond
from .rendering import render

#: Between two numbers, unless they are parts of one number.
_SEPARATORS = re.compile(r"[,،;؛\n\r\t]+")
_MAX_TYPED = 1_000_000
#: The most parts of a number that is written with spaces: `+98 912 345 67 89`.
_MAX_NUMBER_PARTS = 6
#: For how many seconds the answer waits for a batch whose recipients are read in the background.
_ANSWER_SECONDS = 5.0


# --- the form and the list ---------------------------------------------------------------------


@blueprint.get("/send")
def send() -> ResponseReturnValue:
    """Show the form, and every send with its progress."""
    query = read_query()
    batches = select(Batch).where(*query.within(Batch.created_at))

    def source(after: Key | None, limit: int) -> Page[Batch]:
        return get_state().ledger.read(
            lambda session: newest_first(session, batches, Batch.created_at, Batch.id, after, limit)
        )

    return respond(
        _view(current_ui()),
        query,
        source,
        (datetime, str),
        lambda rows: [_item(row) for row in rows],
        csv_columns=(
            "at",
            "text",
            "source",
            "state",
            "recipients",
            "sent",
            "failed",
            "unknown",
            "skipped",
            "who",
        ),
        sv_typed={"text": "", "to": ""},
        sv_preview=None,
        sv_has_club=_has_club(get_state()),
        sv_token="",
    )


@blueprint.post("/send", endpoint="send_start")
def start() -> ResponseReturnValue:
    """Show what a send would do; with `confirm`, do it."""
    fields = read_fields()
    text, typed = fields.get("text"), fields.get("to")
    try:
        _require_both(text, typed)
        to = _recipients(typed)
        preview = _preview(str(text), to)
    except InvalidValues as error:
        if wants_json():
            raise
        return _form_page(text, typed, errors=error.errors), error.status
    if fields.get("confirm") not in (True, "1", "true"):
        if wants_json():
            return current_app.json.response(_preview_json(preview))
        return _form_page(text, typed, preview=preview)
    token = str(fields.get("token") or secrets.token_hex(16))[:64]
    subject = to if isinstance(to, str) else "list"
    with audit_log.recorded("send", subject, recipients=preview.recipients, text=preview.text):
        batch = _start(str(text), to, token)
    if wants_json():
        body = _preview_json(preview) | {"id": batch.id if batch else None}
        return current_app.json.response(body)
    if batch is None:
        return redirect(url_for("smsverify_admin.send"), 303)
    return redirect(url_for("smsverify_admin.send_one", id=batch.id), 303)


def _require_both(text: object, to: object) -> None:
    """Check that the form has recipients and a text, so that both are explained at once.

    :raises InvalidValues: one or both are missing.
    """
    t = current_ui().t
    errors = {}
    if not to or (isinstance(to, str) and not to.strip()):
        errors["to"] = t("Enter at least one recipient.")
    if not isinstance(text, str) or not text.strip():
        errors["text"] = t("Enter a text.")
    if errors:
        raise InvalidValues(errors)


def _recipients(typed: object) -> str | list[str]:
    """Return the recipients: `all`, `group:NAME`, `club`, or numbers and what is no number.

    :raises InvalidValues: there are none.
    """
    t = current_ui().t
    if isinstance(typed, list):
        numbers = [str(item) for item in typed]
    elif isinstance(typed, str) and is_source(typed.strip()):
        return typed.strip()
    else:
        if len(str(typed or "")) > _MAX_TYPED:
            raise InvalidValues({"to": t("There are too many numbers. Send to fewer at a time.")})
        numbers = list(_split(str(typed or "")))
    if not numbers:
        raise InvalidValues({"to": t("Enter at least one recipient.")})
    return numbers


def _split(text: str) -> Iterator[str]:
    """Yield the numbers of a text, whose separators may also stand inside a number."""
    for part in _SEPARATORS.split(text):
        words = part.split()
        while words:
            taken = next(
                (
                    count
                    for count in range(1, min(len(words), _MAX_NUMBER_PARTS) + 1)
                    if _is_mobile(" ".join(words[:count]))
                ),
                1,
            )
            yield " ".join(words[:taken])
            words = words[taken:]


def _is_mobile(text: str) -> bool:
    try:
        get_state().parse_mobile(text)
    except MobileError:
        return False
    return True


def _preview(text: str, to: str | Sequence[str]) -> Preview:
    ui, t = current_ui(), current_ui().t
    if to == CLUB and not _has_club(get_state()):
        raise InvalidValues({"to": t("No sender has a customer club.")})
    if isinstance(to, str) and to == GROUP:
        raise InvalidValues({"to": t("Enter the name of the group after the colon.")})
    try:
        return get_state().batches.preview(text, to)
    except ConfigurationError as error:
        raise InvalidValues({"to": str(error)}) from None
    except SenderError as error:
        raise InvalidValues({"to": explain_cause(error.reason, ui)}) from None


def _preview_json(preview: Preview) -> dict[str, Any]:
    return {
        "text": preview.text,
        "recipients": preview.recipients,
        "parts": preview.parts,
        "cost": None if preview.cost is None else json_number(preview.cost),
        "invalid": list(preview.invalid),
        "invalid_count": preview.invalid_count,
        "duplicates": preview.duplicates,
        "opted_out": preview.opted_out,
    }


def _start(text: str, to: str | list[str], token: str) -> Batch | None:
    """Start a send; the same token again starts none.

    Typed numbers are added before the answer. All users, a group or the club can be many, so they
    are added by a thread, and the answer waits only for the first of them.

    :returns: the batch; None if the thread has not begun yet.
    """
    state, who = get_state(), staff_id()
    key = f"staff {token}"
    if isinstance(to, list):
        return state.batches.send(text, to, dedupe_key=key, started_by=who)
    started: list[Batch] = []
    has_begun = threading.Event()
    app = state.app

    def progress(batch: Batch) -> None:
        started.append(batch)
        has_begun.set()

    def work() -> None:
        try:
            with app.app_context():
                batch = state.batches.send(
                    text, to, dedupe_key=key, started_by=who, progress=progress
                )
                progress(batch)
        finally:
            has_begun.set()

    state.workers.submit(work)
    has_begun.wait(_ANSWER_SECONDS)
    return started[0] if started else None


def _has_club(state: AppState) -> bool:
    return any(
        "contacts" in map(str, sender.capabilities)
        for sender in state.delivery.routes.senders.values()
    )


def _form_page(
    text: object,
    to: object,
    *,
    errors: Mapping[str, str] | None = None,
    preview: Preview | None = None,
) -> str:
    return render(
        "send_preview.html",
        sv_typed={"text": text or "", "to": to or ""},
        sv_errors=errors or {},
        sv_preview=preview,
        sv_are_users=isinstance(to, str) and is_source(to.strip()) and to.strip() != CLUB,
        sv_token=secrets.token_hex(16),
        sv_has_club=_has_club(get_state()),
    )


# --- one send ----------------------------------------------------------------------------------


@blueprint.get("/send/<id>")
def send_one(id: str) -> ResponseReturnValue:  # noqa: A002 -- the name in the path
    """Show the progress of a send."""
    batch = _find(id)
    item = _item(batch)
    if wants_json():
        return current_app.json.response(*as_json([item]))
    return render(
        "send_progress.html",
        sv_batch=item,
        sv_states=_states(current_ui()),
        sv_can_pause=batch.state in ACTIVE and batch.finished_at is None,
        sv_can_resume=batch.state == Batch.PAUSED,
        sv_can_stop=batch.state in (*ACTIVE, Batch.PAUSED) and batch.finished_at is None,
        sv_read_only=is_read_only(),
    )


@blueprint.post("/send/<id>/<any(pause,resume,stop):action>")
def send_act(id: str, action: str) -> ResponseReturnValue:  # noqa: A002 -- the name in the path
    """Pause, continue or stop a send. Calls that are in progress are completed."""
    batches, t = get_state().batches, current_ui().t
    _find(id)
    notices = {
        "pause": t("The send was paused."),
        "resume": t("The send was resumed."),
        "stop": t("The send was stopped."),
    }
    with audit_log.recorded(action, id):
        batch = {"pause": batches.pause, "resume": batches.resume, "stop": batches.stop}[action](id)
    had_effect = {
        "pause": batch.state == Batch.PAUSED,
        "resume": batch.state in ACTIVE and batch.finished_at is None,
        "stop": batch.state == Batch.STOPPED,
    }
    return answer([id], notices[action] if had_effect[action] else t("The send has already ended."))


def _find(batch_id: str) -> Batch:
    batch = get_state().ledger.read(lambda session: session.get(Batch, batch_id))
    if batch is None:
        raise NotFound
    return batch


def _item(batch: Batch) -> Item:
    done = batch.sent + batch.failed + batch.unknown + batch.skipped
    return {
        "id": batch.id,
        "at": batch.created_at,
        "name": batch.name,
        "text": batch.text,
        "parts": batch.parts,
        "source": batch.source,
        "who": batch.started_by,
        "state": batch.state,
        "recipients": batch.recipients,
        "sent": batch.sent,
        "failed": batch.failed,
        "unknown": batch.unknown,
        "skipped": batch.skipped,
        "invalid": batch.invalid,
        "duplicates": batch.duplicates,
        "opted_out": batch.opted_out,
        "_percent": min(100, 100 * done // batch.recipients) if batch.recipients else 0,
        "_link": url_for("smsverify_admin.send_one", id=batch.id),
        "_done": done,
    }


def _states(ui: Interface) -> dict[str, tuple[str, str]]:
    t = ui.t
    return {
        Batch.EXPANDING: (t("Adding recipients"), "wait"),
        Batch.RUNNING: (t("Being sent"), "wait"),
        Batch.PAUSED: (t("Paused"), "wait"),
        Batch.STOPPED: (t("Stopped"), "plain"),
        Batch.DONE: (t("Done"), "good"),
        Batch.INCOMPLETE: (t("Incomplete"), "bad"),
    }


def _view(ui: Interface) -> ListView:
    t = ui.t
    return ListView(
        title=t("Send"),
        endpoint="smsverify_admin.send",
        key="id",
        columns=(
            Column("text", t("Text"), "link"),
            Column("at", t("Time"), "time"),
            Column("state", t("State"), "state"),
            Column("recipients", t("Recipients"), "number"),
            Column("sent", t("Sent"), "number"),
            Column("failed", t("Failed"), "number"),
        ),
        filters=(),
        empty=t("Nothing has been sent yet."),
        states=_states(ui),
        template="send.html",
    )
