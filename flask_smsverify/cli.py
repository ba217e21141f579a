"""`flask smsverify …`: what staff and developers do from a terminal."""

from __future__ import annotations

import ipaddress
import os
import textwrap
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

import click
from flask import Flask
from flask.cli import AppGroup
from sqlalchemy import inspect, select
from sqlalchemy.exc import DataError, MultipleResultsFound

from .delivery import Routes
from .errors import Misconfigured, SenderError, SMSVerifyError, Unavailable
from .extension import State, installs, state_of
from .phone import mask
from .senders.base import Capability, Sender
from .senders.http import deadline
from .settings import Settings
from .verification.budgets import Claim, Usage

#: The width that output keeps to.
WIDTH = 80


class _Commands(AppGroup):
    """Our commands. An error of ours ends one with its message, not with a traceback."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except SMSVerifyError as error:
            raise click.ClickException(str(error)) from None


smsverify = _Commands("smsverify", help="Phone verification: senders, users, budgets, simulator.")


@installs
def _install(app: Flask, _state: State) -> None:
    """Give an app the commands, for its `test_cli_runner`; `flask` finds them by itself."""
    app.cli.add_command(smsverify)


@smsverify.command("simulator", with_appcontext=False)
@click.option(
    "--port",
    default=8025,
    show_default=True,
    type=click.IntRange(0, 65_535),
    help="The port on 127.0.0.1; 0 takes a free one.",
)
def simulator(port: int) -> None:
    """Serve all gateways and the phone on 127.0.0.1. Needs no app."""
    from .simulator import serve

    try:
        serve(port=port)
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else str(error)
        raise click.ClickException(
            f"port {port} cannot be used ({why}); choose another with --port"
        ) from None


# --- senders -----------------------------------------------------------------------------------


_CAN: Mapping[Capability, str] = {
    Capability.CODE_SMS: "codes by SMS",
    Capability.NATIVE_CODE: "codes of its own",
    Capability.CODE_VOICE: "codes by call",
    Capability.TEXT: "texts",
    Capability.CREDIT: "credit",
    Capability.STATUS: "delivery states",
    Capability.INCOMING: "received messages",
}


@dataclass(frozen=True, slots=True)
class _Report:
    """What a sender answered when it was asked for its credit."""

    ok: bool
    state: str
    credit: str = "not told"


@smsverify.command("senders")
@click.pass_context
def senders(context: click.Context) -> None:
    """Ask every sender, all at once, whether it is there and what credit is left.

    Sends nothing. Ends with 1 where a sender is not fit to send.
    """
    state = state_of()
    routes = state.delivery.routes
    asked = list(routes.senders.values())

    def ask(sender: Sender) -> _Report:
        with deadline(state.settings.send_deadline):
            return _asked(sender)

    if state.settings.simulator_url:
        click.echo(f"SMSVERIFY_SIMULATOR_URL is set: these ask {state.settings.simulator_url}\n")
    with ThreadPoolExecutor(len(asked) or 1) as threads:
        reports = list(threads.map(ask, asked))
    for sender, report in zip(asked, reports, strict=True):
        _show(sender, report, routes, state.settings)
    if not all(report.ok for report in reports):
        context.exit(1)


def _asked(sender: Sender) -> _Report:
    if Capability.CREDIT not in sender.capabilities:
        return _Report(True, "not asked, since it tells no credit")
    began = time.monotonic()
    try:
        credit = sender.credit()
    except SenderError as error:
        return _Report(False, _fault(error))
    except Exception as error:  # noqa: BLE001 -- a host's own gateway may raise anything
        return _Report(False, f"its code raised {type(error).__name__}")
    took = (time.monotonic() - began) * 1000
    left = f"{_plain(credit.amount)} {credit.currency or ''}".strip()
    if credit.amount <= 0:
        # Some gateways answer credentials that they do not know in this way.
        return _Report(False, "no credit left; if there should be, check the credentials", left)
    return _Report(True, f"ok, answered in {took:.0f} ms", left)


def _fault(error: SenderError) -> str:
    if isinstance(error, Misconfigured):
        kind = "misconfigured"
    elif not isinstance(error, Unavailable):
        kind = "unclear"
    else:
        kind = "refused" if error.written else "not reachable"
    return f"{kind}: {error.reason}" + (f" (code {error.code})" if error.code else "")


def _show(sender: Sender, report: _Report, routes: Routes, settings: Settings) -> None:
    places = [
        f"{job} ({routes.route(job).index(sender) + 1} of {len(routes.route(job))})"
        for job in ("sms", "voice", "text")
        if sender in routes.route(job)
    ]
    can = [word for capability, word in _CAN.items() if capability in sender.capabilities]
    click.echo(f"{sender.name} ({sender.gateway})")
    _lines(
        ("state", report.state),
        ("credit", report.credit),
        ("routes", ", ".join(places) or "none, so nothing goes by it"),
        ("can", ", ".join(can)),
        *([("hook", _hook(sender, settings))] if sender.push_methods else []),
        indent=2,
    )


def _hook(sender: Sender, settings: Settings) -> str:
    """Where the gateway may call us."""
    if settings.hook_secret is None:
        return "off, since SMSVERIFY_HOOK_SECRET is not set"
    return f"{settings.url_prefix}/hooks/{sender.name}/SMSVERIFY_HOOK_SECRET"


# --- users -------------------------------------------------------------------------------------

_user = click.argument("user", metavar="USER")


def _find(state: State, key: str) -> object:
    """A user by primary key, or else by email."""
    try:
        found = state.users.find(key) or _by_email(state, key)
    except (OverflowError, DataError):  # a number that no column of numbers holds
        found = None
    except MultipleResultsFound:
        raise click.ClickException(
            f"several users have the email {key}; give the primary key"
        ) from None
    if found is None:
        raise click.ClickException(f"there is no user {key}; give the primary key or the email")
    return found


def _by_email(state: State, email: str) -> object | None:
    field = state.settings.email_field
    if "@" not in email or field not in inspect(state.users.model).all_orm_descriptors:
        return None
    query = select(state.users.model).where(getattr(state.users.model, field) == email)
    found: object | None = state.db.session.scalars(query).one_or_none()
    return found


def _named(state: State, user: object) -> str:
    mobile = state.verifier.mobile_of(user)
    return f"user {state.users.id_of(user)}" + (f", {mask(mobile)}" if mobile else "")


@smsverify.command("status")
@_user
def status(user: str) -> None:
    """Tell where a user stands."""
    state = state_of()
    standing = state.verifier.status(_find(state, user))
    lines = [
        ("state", standing.state + (", locked" if standing.locked else "")),
        ("mobile", mask(standing.mobile) if standing.mobile else "none"),
        ("verified", _moment(standing.verified_at)),
        ("good until", _moment(standing.expires_at)),
    ]
    if standing.challenge is not None:
        lines.append(("code open until", _moment(standing.challenge.expires_at)))
        lines.append(("attempts", str(standing.challenge.attempts)))
    _lines(*lines)


@smsverify.command("verify")
@_user
def verify(user: str) -> None:
    """Vouch for a user's mobile by hand."""
    state = state_of()
    row = state.verifier.mark_verified(_find(state, user), by="command line")
    click.echo(f"{mask(row.mobile or '')} is verified for user {row.user_id}")


@smsverify.command("revoke")
@_user
def revoke(user: str) -> None:
    """Take a user's verification back."""
    state = state_of()
    found = _find(state, user)
    state.verifier.revoke(found, by="command line")
    click.echo(f"revoked for {_named(state, found)}; the next guarded page asks for a code again")


@smsverify.command("unlock")
@_user
def unlock(user: str) -> None:
    """Let a user who was locked after too many failures try again."""
    state = state_of()
    found = _find(state, user)
    state.verifier.unlock(found)
    click.echo(f"unlocked for {_named(state, found)}")


# --- budgets -----------------------------------------------------------------------------------


def _address(_context: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    try:
        return None if value is None else str(ipaddress.ip_address(value))
    except ValueError:
        raise click.BadParameter(f"{value} is not an address") from None


@smsverify.command("budgets")
@click.option("--mobile", help="Also what this mobile has spent.")
@click.option("--user", "user_key", metavar="USER", help="Also what this user has spent.")
@click.option("--ip", callback=_address, help="Also what this address has spent.")
@click.option("--lift", is_flag=True, help="Let what is shown begin anew.")
@click.option("--yes", is_flag=True, help="Do not ask before lifting.")
def budgets(
    mobile: str | None, user_key: str | None, ip: str | None, lift: bool, yes: bool
) -> None:
    """Show what is spent and what is left: of the site's budgets, or of those that are named."""
    state = state_of()
    parsed = state.parse_mobile(mobile) if mobile else None
    user_id = state.users.id_of(_find(state, user_key)) if user_key else None
    claims = state.verifier.budget_claims(mobile=parsed, user_id=user_id, ip=ip)
    claims = [claim for claim in claims if claim.limits]
    if not claims:
        click.echo("these budgets are all lifted by SMSVERIFY_BUDGETS")
        return
    rows = [("SCOPE", "LIMIT", "USED", "LEFT", "NEXT UNIT")]
    for claim in claims:
        for usage in state.budgets.usage([claim], datetime.now(UTC)):
            rows.append(_usage_row(claim, usage))
    _table(rows)
    if lift and (yes or click.confirm("Let these begin anew?")):
        state.budgets.lift(claims)
        click.echo("lifted")


def _usage_row(claim: Claim, usage: Usage) -> tuple[str, str, str, str, str]:
    left = max(0, usage.limit.amount - usage.used)
    wait = f"in {_wait(usage.wait)}" if usage.wait else "now"
    limit = f"{usage.limit.amount} in {_span(usage.limit.seconds)}"
    scope = usage.scope + (" (strangers)" if claim.key.startswith("strangers ") else "")
    return scope, limit, str(usage.used), str(left), wait


def _span(seconds: int) -> str:
    for size, word in ((86_400, "day"), (3600, "hour"), (60, "minute")):
        if seconds % size == 0:
            count = seconds // size
            return word if count == 1 else f"{count} {word}s"
    return f"{seconds} seconds"


def _wait(seconds: int) -> str:
    if seconds < 120:
        return f"{seconds} s"
    return f"{-(-seconds // 60)} min" if seconds < 7200 else f"{-(-seconds // 3600)} h"


# --- words -------------------------------------------------------------------------------------


def _plain(amount: Decimal) -> str:
    """A number with thousands apart and no zeros at its end."""
    whole, _, rest = f"{amount:,f}".partition(".")
    return f"{whole}.{rest.rstrip('0')}".rstrip(".")


def _moment(moment: datetime | None) -> str:
    return "-" if moment is None else f"{moment:%Y-%m-%d %H:%M} UTC"


def _lines(*lines: tuple[str, str], indent: int = 0) -> None:
    """Names and values below each other, wrapped."""
    width = max(len(name) for name, _ in lines) + 2
    for name, value in lines:
        head = " " * indent + f"{name}:".ljust(width)
        text = textwrap.fill(
            value,
            WIDTH,
            initial_indent=head,
            subsequent_indent=" " * len(head),
            break_on_hyphens=False,
        )
        click.echo(text)


def _table(rows: Iterable[tuple[str, ...]]) -> None:
    listed = list(rows)
    widths = [max(len(row[column]) for row in listed) for column in range(len(listed[0]))]
    for row in listed:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo("  ".join(cells).rstrip())
