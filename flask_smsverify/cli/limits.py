"""`flask smsverify limits`."""

from __future__ import annotations

import ipaddress

import click

from ..limits.other_counts import Usage
from ..limits.report import Scope
from ..state import get_state
from .group import smsverify
from .output import format_wait, format_window, print_table
from .users import find_user


def _parse_ip(_context: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    try:
        return None if value is None else str(ipaddress.ip_address(value))
    except ValueError:
        raise click.BadParameter(f"{value} is not an IP address") from None


@smsverify.command("limits")
@click.option("--mobile", help="Show the limits of this mobile.")
@click.option("--user", "user_key", metavar="USER", help="Show the limits of this user.")
@click.option("--ip", callback=_parse_ip, help="Show the limits of this address.")
@click.option(
    "--scope", "names", multiple=True, metavar="SCOPE", help="Show only this limit. Repeatable."
)
@click.option(
    "--reset",
    is_flag=True,
    help="Reset the limits that are shown, and no other.",
)
@click.option("--yes", is_flag=True, help="Reset without asking.")
def limits(
    mobile: str | None,
    user_key: str | None,
    ip: str | None,
    names: tuple[str, ...],
    reset: bool,
    yes: bool,
) -> None:
    """Show what is used and what is left of the site's limits, or of those that are named."""
    state = get_state()
    parsed = state.parse_mobile(mobile) if mobile else None
    user_id = state.users.id_of(find_user(user_key)) if user_key else None
    scopes = state.limit_report.scopes(mobile=parsed, user_id=user_id, ip=ip)
    if not scopes:
        click.echo("SMSVERIFY_LIMITS sets no such limit")
        return
    scopes = _named(scopes, names)
    rows = map(_row, state.limit_report.usage(scopes, state.clock()))
    print_table(("SCOPE", "LIMIT", "USED", "LEFT", "NEXT UNIT"), rows)
    if reset and (yes or click.confirm("Reset these limits?")):
        state.limit_report.reset(scopes)
        click.echo("reset")


def _named(scopes: list[Scope], names: tuple[str, ...]) -> list[Scope]:
    """Return the scopes with these names, or all if there are no names."""
    for name in names:
        if name not in {scope.name for scope in scopes}:
            raise click.BadParameter(
                f"there is no limit {name} here. The limits are {_names(scopes)}.",
                param_hint="--scope",
            )
    return [scope for scope in scopes if not names or scope.name in names]


def _names(scopes: list[Scope]) -> str:
    return ", ".join(dict.fromkeys(scope.name for scope in scopes))


def _row(usage: Usage) -> tuple[str, str, str, str, str]:
    left = max(0, usage.limit.amount - usage.used)
    wait = f"in {format_wait(usage.wait)}" if usage.wait else "now"
    limit = f"{usage.limit.amount} in {format_window(usage.limit.seconds)}"
    return usage.scope, limit, str(usage.used), str(left), wait
