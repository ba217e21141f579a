"""`flask smsverify doctor`: what would go wrong in production.

Each check is a function of the app's state and yields findings. The checks do not depend on each
other.
"""

from __future__ import annotations

import textwrap

import click

from ...state import get_state
from ..group import smsverify
from ..output import WIDTH
from . import database, gateways, requests, settings
from .finding import Check, Finding

LOCAL_CHECKS: tuple[Check, ...] = (*settings.CHECKS, *requests.CHECKS, *database.CHECKS)


@smsverify.command("doctor")
@click.option("--offline", is_flag=True, help="Do not ask the gateways.")
@click.pass_context
def doctor(context: click.Context, offline: bool) -> None:
    """Check settings, tables, sessions, proxies and senders, as production needs them.

    Sends and changes nothing. Exits with 1 if something would go wrong.
    """
    state = get_state()
    checks = LOCAL_CHECKS if offline else (*LOCAL_CHECKS, *gateways.CHECKS)
    findings = [finding for check in checks for finding in check(state)]
    for finding in findings:
        _print(finding)
    counts = {level: sum(found.level == level for found in findings) for level in _PLURALS}
    click.echo(
        ", ".join(f"{count} {_PLURALS[level][count != 1]}" for level, count in counts.items())
    )
    if counts["error"]:
        context.exit(1)


_PLURALS = {"error": ("error", "errors"), "warning": ("warning", "warnings")}


def _print(finding: Finding) -> None:
    head = f"{finding.level:<8} {finding.subject}: "
    indent = " " * 9
    click.echo(
        textwrap.fill(
            finding.text,
            WIDTH,
            initial_indent=head,
            subsequent_indent=indent,
            break_on_hyphens=False,
        )
    )
