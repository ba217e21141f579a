"""Checks of the senders: credentials, credit and webhooks."""

from __future__ import annotations

from collections.abc import Iterator

from ...delivery.health import Health
from ...senders.base import Sender
from ...state import AppState
from ..senders import check_senders, describe
from .finding import Check, Finding, Level


def check_gateways(state: AppState) -> Iterator[Finding]:
    """Senders that report credit are asked for it. Gateways that call a webhook need one."""
    for sender, health in check_senders(state):
        text = f"{sender.name} ({sender.gateway}): {describe(state, sender, health)}"
        yield Finding(_level_of(health), "sender", f"{text}. {health.advice}".removesuffix(". "))
        if sender.push_methods and not state.settings.webhook_secret:
            yield _without_webhook(sender)


def _level_of(health: Health) -> Level:
    if health.state == "low_credit":
        return "warning"
    return "ok" if health.can_send else "error"


def _without_webhook(sender: Sender) -> Finding:
    return Finding(
        "warning",
        "sender",
        f"{sender.name} reports to a webhook, which is off: set SMSVERIFY_WEBHOOK_SECRET",
    )


CHECKS: tuple[Check, ...] = (check_gateways,)
