"""`flask smsverify senders`."""

from __future__ import annotations

from collections.abc import Mapping

import click

from ..delivery.health import Health, check_all
from ..senders.base import Capability, Credit, Sender
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


@smsverify.command("senders")
@click.pass_context
def senders(context: click.Context) -> None:
    """Check every sender at once: is it reachable, and how much credit is left?

    Sends nothing. Exits with 1 if a sender cannot send.
    """
    state = get_state()
    if state.settings.simulator_url:
        click.echo(f"SMSVERIFY_SIMULATOR_URL is set: checking {state.settings.simulator_url}\n")
    results = check_senders(state)
    for sender, health in results:
        _print(state, sender, health)
    if not all(health.can_send for _, health in results):
        context.exit(1)


def check_senders(state: AppState) -> list[tuple[Sender, Health]]:
    """Ask every sender for its credit, all at once."""
    senders = list(state.delivery.routes.senders.values())
    low = low_credits(state.settings.senders)
    results = check_all(
        senders, state.settings.send_deadline, low_credit=low, context=state.delivery.context
    )
    return list(zip(senders, results, strict=True))


def describe(state: AppState, sender: Sender, health: Health) -> str:
    """Return the result of a check in words."""
    match health.state:
        case "ok":
            return f"ok, responded in {health.seconds * 1000:.0f} ms"
        case "low_credit":
            least = low_credits(state.settings.senders)[sender.name]
            return f"credit is low: less than {format_amount(least)}"
        case "no_credit":
            # Some gateways answer unknown credentials with a credit of 0.
            return "no credit left; if that is wrong, check the credentials"
        case "unchecked":
            return "not checked: it does not report credit"
        case "broken":
            return f"its code raised {health.reason}"
    kind = "not reachable" if health.state == "unreachable" else health.state
    return f"{kind}: {health.reason}" + (f" (code {health.code})" if health.code else "")


def _print(state: AppState, sender: Sender, health: Health) -> None:
    routes = state.delivery.routes
    positions = [
        f"{kind} ({routes.route(kind).index(sender) + 1} of {len(routes.route(kind))})"
        for kind in ("sms", "voice", "text")
        if sender in routes.route(kind)
    ]
    can = [label for key, label in _CAPABILITIES.items() if key in sender.capabilities]
    click.echo(f"{sender.name} ({sender.gateway})")
    print_lines(
        ("state", describe(state, sender, health)),
        *([("advice", health.advice)] if health.advice else []),
        ("credit", _describe_credit(health.credit)),
        ("routes", ", ".join(positions) or "none, so it is not used"),
        ("can", ", ".join(can)),
        *([("webhook", _webhook(state, sender))] if sender.push_methods else []),
        indent=2,
    )


def _describe_credit(credit: Credit | None) -> str:
    if credit is None:
        return "unknown"
    return f"{format_amount(credit.amount)} {credit.currency or ''}".strip()


def _webhook(state: AppState, sender: Sender) -> str:
    if state.settings.webhook_secret is None:
        return "off: SMSVERIFY_WEBHOOK_SECRET is not set"
    return f"{state.settings.url_prefix}/webhooks/{sender.name}/SMSVERIFY_WEBHOOK_SECRET"
