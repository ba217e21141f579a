"""`flask smsverify senders`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal

import click

from ..errors import Misconfigured, SenderError, Unavailable
from ..senders.base import Capability, Sender
from ..senders.deadline import deadline
from ..senders.registry import low_credits
from ..state import AppState, get_state
from .group import smsverify
from .output import format_amount, print_lines

_CAPABILITIES: Mapping[Capability, str] = {
    Capability.CODE_SMS: "codes by SMS",
    Capability.NATIVE_CODE: "native codes",
    Capability.CODE_VOICE: "codes by call",
    Capability.TEXT: "texts",
    Capability.PATTERN: "patterns",
    Capability.CREDIT: "credit",
    Capability.STATUS: "delivery states",
    Capability.INCOMING: "received texts",
}


@dataclass(frozen=True, slots=True)
class Health:
    """What a sender answered when it was asked for its credit."""

    is_ok: bool
    state: str
    credit: str = "unknown"


@smsverify.command("senders")
@click.pass_context
def senders(context: click.Context) -> None:
    """Check every sender at once: is it reachable, and how much credit is left?

    Sends nothing. Exits with 1 if a sender cannot send.
    """
    state = get_state()
    if state.settings.simulator_url:
        click.echo(f"SMSVERIFY_SIMULATOR_URL is set: checking {state.settings.simulator_url}\n")
    results = check_all(state)
    for sender, health in results:
        _print(state, sender, health)
    if not all(health.is_ok for _, health in results):
        context.exit(1)


def check_all(state: AppState) -> list[tuple[Sender, Health]]:
    """Ask every sender for its credit, all at once."""
    configured = list(state.delivery.routes.senders.values())
    low = low_credits(state.settings.senders)

    def check(sender: Sender) -> Health:
        with deadline(state.settings.send_deadline):
            return _check(sender, low.get(sender.name, Decimal(0)))

    with ThreadPoolExecutor(len(configured) or 1) as threads:
        return list(zip(configured, threads.map(check, configured), strict=True))


def _check(sender: Sender, low: Decimal) -> Health:
    if Capability.CREDIT not in sender.capabilities:
        return Health(True, "not checked: it does not report credit")
    started = time.monotonic()
    try:
        credit = sender.credit()
    except SenderError as error:
        return Health(False, _describe_error(error))
    except Exception as error:  # noqa: BLE001 -- a sender of the host's own may raise anything
        return Health(False, f"its code raised {type(error).__name__}")
    milliseconds = (time.monotonic() - started) * 1000
    left = f"{format_amount(credit.amount)} {credit.currency or ''}".strip()
    if credit.amount <= 0:
        # Some gateways answer unknown credentials with a credit of 0.
        return Health(False, "no credit left; if that is wrong, check the credentials", left)
    if credit.amount < low:
        return Health(True, f"credit is low: less than {format_amount(low)}", left)
    return Health(True, f"ok, responded in {milliseconds:.0f} ms", left)


def _describe_error(error: SenderError) -> str:
    if isinstance(error, Misconfigured):
        kind = "misconfigured"
    elif not isinstance(error, Unavailable):
        kind = "unclear"
    else:
        kind = "refused" if error.written else "not reachable"
    return f"{kind}: {error.reason}" + (f" (code {error.code})" if error.code else "")


def _print(state: AppState, sender: Sender, health: Health) -> None:
    routes = state.delivery.routes
    positions = [
        f"{job} ({routes.route(job).index(sender) + 1} of {len(routes.route(job))})"
        for job in ("sms", "voice", "text")
        if sender in routes.route(job)
    ]
    can = [label for key, label in _CAPABILITIES.items() if key in sender.capabilities]
    click.echo(f"{sender.name} ({sender.gateway})")
    print_lines(
        ("state", health.state),
        ("credit", health.credit),
        ("routes", ", ".join(positions) or "none, so it is not used"),
        ("can", ", ".join(can)),
        *([("webhook", _webhook(state, sender))] if sender.push_methods else []),
        indent=2,
    )


def _webhook(state: AppState, sender: Sender) -> str:
    if state.settings.webhook_secret is None:
        return "off: SMSVERIFY_WEBHOOK_SECRET is not set"
    return f"{state.settings.url_prefix}/webhooks/{sender.name}/SMSVERIFY_WEBHOOK_SECRET"
