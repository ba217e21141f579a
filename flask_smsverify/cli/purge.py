"""`flask smsverify purge`."""

from __future__ import annotations

import re
from datetime import timedelta

import click

from ..db.purge import MIN_AGE, purge
from ..state import get_state
from .group import smsverify
from .output import print_table

_UNITS = {"d": "days", "w": "weeks"}


def _parse_age(_context: click.Context, _option: click.Parameter, value: str) -> timedelta:
    found = re.fullmatch(r"([1-9]\d{0,4})([dw])", value)
    age = timedelta(**{_UNITS[found[2]]: int(found[1])}) if found else timedelta(0)
    if age < MIN_AGE:
        raise click.BadParameter(f"must be days or weeks such as 90d, and at least {MIN_AGE.days}d")
    return age


@smsverify.command("purge")
@click.option(
    "--older-than",
    default="90d",
    show_default=True,
    callback=_parse_age,
    help="The age of what is deleted, in days or weeks.",
)
def purge_command(older_than: timedelta) -> None:
    """Delete old challenges, messages, received texts and usage. Verifications are kept."""
    state = get_state()
    windows = [limit.seconds for limits in state.settings.limits.values() for limit in limits]
    longest = timedelta(seconds=max(windows, default=0))
    deleted = purge(state.ledger, older_than, longest_limit=longest)
    print_table(("TABLE", "DELETED"), ((name, str(count)) for name, count in deleted.items()))
