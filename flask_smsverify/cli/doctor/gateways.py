"""Checks of the senders: credentials, credit and webhooks."""

from __future__ import annotations

from collections.abc import Iterator

from ...senders.base import Sender
from ...state import AppState
from ..senders import check_all
from .finding import Check, Finding


def check_gateways(state: AppState) -> Iterator[Finding]:
    """Senders that report credit are asked for it. Gateways that call a webhook need one."""
    for sender, health in check_all(state):
        text = f"{sender.name} ({sender.gateway}): {health.state}"
        yield Finding("ok" if health.is_ok else "error", "sender", text)
        if sender.push_methods and not state.settings.webhook_secret:
            yield _without_webhook(sender)


def _without_webhook(sender: Sender) -> Finding:
    return Finding(
        "warning",
        "sender",
        f"{sender.name} reports to a webhook, which is off: set SMSVERIFY_WEBHOOK_SECRET",
    )


CHECKS: tuple[Check, ...] = (check_gateways,)
