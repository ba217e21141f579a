"""`/senders`: whether each sender works, its credit and prices, and a test message."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from flask import current_app, request
from flask.typing import ResponseReturnValue
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from ..db.models import Attempt
from ..delivery.health import Health
from ..errors import (
    InvalidMobile,
    InvalidValues,
    MobileError,
    NotFound,
    SenderError,
    SendFailed,
)
from ..i18n.numbers import format_amount
from ..senders.base import Capability, Sender, Text
from ..state import AppState, get_state
from ..web.fields import read_fields, read_mobile
from ..web.flash import MAX_SHOWN_INPUT
from ..web.interface import Interface, current_ui
from ..web.negotiation import wants_json
from . import audit_log
from .actions import answer
from .advice import show_advice
from .blueprint import blueprint, is_read_only
from .causes import explain_cause, translate_cause
from .rendering import render

#: The text whose price is asked for: one part.
_PRICED_TEXT = "سلام"
_TEST_EVENT = "staff.test"


@blueprint.get("/senders")
def senders() -> ResponseReturnValue:
    """Show every sender. Asks each for its credit, at most once a minute; `check` asks again."""
    if wants_json():
        return current_app.json.response({"items": _items(), "next": None})
    return _page()


def _items() -> list[dict[str, Any]]:
    state = get_state()
    configured = list(state.delivery.routes.senders.values())
    health = state.health.check(configured, again="check" in request.args)
    today = _start_of_today(state)
    failures = state.ledger.read(lambda session: _failures(session, today))
    return [
        _item(state, sender, health[sender.name], failures.get(sender.name, (0, 0)))
        for sender in configured
    ]


def _page(name: str = "", typed: str = "", error: str = "") -> str:
    """Return the page.

    :param name: the sender whose test message was not sent.
    :param typed: the number of this message, which the field keeps.
    :param error: why it was not sent.
    """
    ui = current_ui()
    return render(
        "senders.html",
        sv_senders=_items(),
        sv_errors={name: error} if error else {},
        sv_typed=typed,
        sv_states=_states(ui),
        sv_breakers=_breakers(ui),
        sv_features=_features(ui),
        sv_routes=_route_labels(ui),
        sv_amount=lambda amount: format_amount(Decimal(amount), ui.translator),
        sv_cause=functools.partial(explain_cause, ui=ui),
        sv_advice=functools.partial(show_advice, ui=ui),
        sv_read_only=is_read_only(),
    )


@blueprint.post("/senders/<name>/test")
def senders_test(name: str) -> ResponseReturnValue:
    """Send a text through one sender, to test whether it arrives."""
    sender = get_state().delivery.routes.senders.get(name)
    if sender is None:
        raise NotFound
    if Capability.TEXT not in sender.capabilities:
        raise InvalidValues({"mobile": current_ui().t("This sender cannot send texts.")})
    fields = read_fields()
    try:
        _send_test(sender, fields)
    except InvalidValues as error:
        if wants_json():
            raise
        typed = str(fields.get("mobile") or "")[:MAX_SHOWN_INPUT]
        return _page(name, typed, error.errors["mobile"]), error.status
    return answer([name], current_ui().t("%(sender)s accepted the test message.", sender=name))


def _send_test(sender: Sender, fields: Mapping[str, Any]) -> None:
    """Send the text to the number of a form.

    :raises InvalidValues: it was not sent.
    """
    state, ui = get_state(), current_ui()
    t = ui.t
    try:
        mobile = state.parse_mobile(read_mobile(fields))
    except InvalidMobile as error:
        title = error.describe({"problem": error.problem}).title
        raise InvalidValues({"mobile": t(title)}) from None
    except MobileError:
        raise InvalidValues({"mobile": t("Enter a mobile number.")}) from None
    text = t("Test message from %(site)s.", site=state.live.current.site_name[ui.translator.locale])
    with audit_log.recorded("test", sender.name, mobile=mobile):
        try:
            state.delivery.send_text(Text(mobile, text), event=_TEST_EVENT, sender=sender)
        except SendFailed as error:
            raise InvalidValues({"mobile": _cause(error, ui)}) from None


def _cause(error: SendFailed, ui: Interface) -> str:
    cause = error.causes[-1] if error.causes else None
    if not isinstance(cause, SenderError):
        return ui.t("The message was not sent.")
    reason = translate_cause(cause.reason, ui) or cause.reason
    return ui.t("The gateway did not accept the message: %(reason)s", reason=reason)


# --- what is shown -----------------------------------------------------------------------------


def _start_of_today(state: AppState) -> datetime:
    zone = current_ui().timezone
    today = state.clock().astimezone(zone).date()
    return datetime(today.year, today.month, today.day, tzinfo=zone).astimezone(UTC)


def _failures(session: Session, since: datetime) -> dict[str, tuple[int, int]]:
    """Return sender → failed attempts and all attempts since then."""
    rows = session.execute(
        select(Attempt.sender, Attempt.state, func.count())
        .where(Attempt.created_at >= since)
        .group_by(Attempt.sender, Attempt.state)
    )
    counts: dict[str, tuple[int, int]] = {}
    for sender, state, count in rows:
        failed, total = counts.get(str(sender), (0, 0))
        is_failure = state in (Attempt.FAILED, "unknown", "rejected")
        counts[str(sender)] = (failed + count * is_failure, total + count)
    return counts


def _item(
    state: AppState, sender: Sender, health: Health, counts: tuple[int, int]
) -> dict[str, Any]:
    routes = state.delivery.routes
    credit = health.credit
    return {
        "name": sender.name,
        "gateway": sender.gateway,
        "state": health.state,
        "reachable": health.is_reachable,
        "reason": health.reason or None,
        "advice": health.advice or None,
        "credit": str(credit.amount) if credit is not None else None,
        "currency": credit.currency if credit is not None else None,
        "price": _price(sender) if health.is_reachable else None,
        "breaker": state.delivery.breakers.state(sender.name),
        "errors_today": counts[0],
        "attempts_today": counts[1],
        "can": sorted(str(capability) for capability in sender.capabilities),
        "routes": {
            kind: routes.route(kind).index(sender) + 1
            for kind in ("sms", "voice", "text")
            if sender in routes.route(kind)
        },
    }


def _price(sender: Sender) -> str | None:
    """Return the price of one part; None if the gateway reports none."""
    if Capability.PRICES not in sender.capabilities:
        return None
    try:
        return str(sender.part_price(_PRICED_TEXT))
    except SenderError:
        return None  # the state of the sender says what is wrong


def _states(ui: Interface) -> dict[str, tuple[str, str]]:
    t = ui.t
    return {
        "ok": (t("Works"), "good"),
        "low_credit": (t("Low credit"), "wait"),
        "no_credit": (t("No credit"), "bad"),
        "unreachable": (t("Not reachable"), "bad"),
        "refused": (t("Refuses requests"), "bad"),
        "misconfigured": (t("Wrong settings"), "bad"),
        "unclear": (t("Unclear answer"), "wait"),
        "broken": (t("Error in the sender's code"), "bad"),
        "unchecked": (t("Not checked"), "plain"),
    }


def _breakers(ui: Interface) -> dict[str, tuple[str, str]]:
    t = ui.t
    return {
        "closed": (t("In use"), "good"),
        "open": (t("Skipped after failures"), "bad"),
        "half_open": (t("Trying again"), "wait"),
    }


def _features(ui: Interface) -> dict[str, str]:
    t = ui.t
    return {
        "code_sms": t("codes by SMS"),
        "native_code": t("codes generated by the gateway"),
        "code_voice": t("codes by phone call"),
        "text": t("ordinary texts"),
        "pattern": t("texts that the gateway has approved"),
        "credit": t("credit"),
        "status": t("delivery states"),
        "incoming": t("received texts"),
        "prices": t("prices"),
        "contacts": t("customer club"),
    }


def _route_labels(ui: Interface) -> dict[str, str]:
    t = ui.t
    return {
        "sms": t("Codes by SMS"),
        "voice": t("Codes by phone call"),
        "text": t("Ordinary texts"),
    }
