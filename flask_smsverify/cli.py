"""`flask smsverify …`: what staff and developers do from a terminal."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import UTC, datetime

import click
from flask.cli import AppGroup
from sqlalchemy import select

from .errors import SenderError, SMSVerifyError, Unavailable
from .extension import State, state_of
from .phone import mask
from .senders.base import Capability, Sender
from .verification.budgets import Usage

smsverify = AppGroup("smsverify", help="Phone verification: senders, users, budgets, simulator.")


@smsverify.command("simulator", with_appcontext=False)
@click.option("--port", default=8025, show_default=True, help="The port on 127.0.0.1.")
def simulator(port: int) -> None:
    """Serve all gateways and the phone on 127.0.0.1. Needs no app."""
    from .simulator import serve

    try:
        serve(port=port)
    except OSError as error:
        raise click.ClickException(f"port {port} cannot be used: {error.strerror}") from None


# --- senders -----------------------------------------------------------------------------------


@smsverify.command("senders")
def senders() -> None:
    """Ask every sender whether it is there and what credit is left."""
    state = state_of()
    rows = [("SENDER", "GATEWAY", "STATE", "CREDIT", "ROUTES", "CAN")]
    for name, sender in state.delivery.routes.senders.items():
        routes = [
            job for job in ("sms", "voice", "text") if sender in state.delivery.routes.route(job)
        ]
        able = ", ".join(sorted(sender.capabilities))
        rows.append((name, sender.gateway, *_asked(sender), ", ".join(routes) or "-", able))
    _table(rows)


def _asked(sender: Sender) -> tuple[str, str]:
    """A sender's state in words, and its credit."""
    if Capability.CREDIT not in sender.capabilities:
        return "not asked: it tells no credit", "-"
    began = time.monotonic()
    try:
        credit = sender.credit()
    except Unavailable as error:
        if not error.written:
            return f"not reachable: {error.reason}", "-"
        return f"refuses us: {error.reason}", "-"
    except SenderError as error:
        return f"unclear: {error.reason}", "-"
    took = time.monotonic() - began
    return f"ok, {took * 1000:.0f} ms", f"{credit.amount:,} {credit.currency or ''}".strip()


# --- users -------------------------------------------------------------------------------------

_user = click.argument("user", metavar="USER")


def _find(state: State, key: str) -> object:
    """A user by primary key, or by email where there is an @ in it."""
    found: object | None = None
    if "@" in key:
        column = getattr(state.users.model, state.settings.email_field, None)
        if column is not None:
            found = state.db.session.scalars(
                select(state.users.model).where(column == key)
            ).one_or_none()
    else:
        found = state.users.find(key)
    if found is None:
        raise click.ClickException(f"there is no user {key}; give the primary key or the email")
    return found


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
    for name, value in lines:
        click.echo(f"{name + ':':<17}{value}")


@smsverify.command("verify")
@_user
def verify(user: str) -> None:
    """Vouch for a user's mobile by hand."""
    state = state_of()
    try:
        row = state.verifier.mark_verified(_find(state, user), by="command line")
    except SMSVerifyError as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"{mask(row.mobile or '')} is verified for user {row.user_id}")


@smsverify.command("revoke")
@_user
def revoke(user: str) -> None:
    """Take a user's verification back."""
    state = state_of()
    state.verifier.revoke(_find(state, user), by="command line")
    click.echo("revoked; the next guarded page asks for a code again")


@smsverify.command("unlock")
@_user
def unlock(user: str) -> None:
    """Let a user who was locked after too many failures try again."""
    state = state_of()
    state.verifier.unlock(_find(state, user))
    click.echo("unlocked")


# --- budgets -----------------------------------------------------------------------------------


@smsverify.command("budgets")
@click.option("--mobile", help="Also what this mobile has spent.")
@click.option("--user", "user_key", metavar="USER", help="Also what this user has spent.")
@click.option("--ip", help="Also what this address has spent.")
@click.option("--lift", is_flag=True, help="Let what is shown begin anew.")
@click.option("--yes", is_flag=True, help="Do not ask before lifting.")
def budgets(
    mobile: str | None, user_key: str | None, ip: str | None, lift: bool, yes: bool
) -> None:
    """Show what is spent and what is left: of the site's budgets, or of those that are named."""
    state = state_of()
    try:
        parsed = state.parse_mobile(mobile) if mobile else None
    except SMSVerifyError as error:
        raise click.ClickException(str(error)) from None
    user_id = state.users.id_of(_find(state, user_key)) if user_key else None
    claims = state.verifier.budget_claims(mobile=parsed, user_id=user_id, ip=ip)
    claims = [claim for claim in claims if claim.limits]
    if not claims:
        click.echo("these budgets are all lifted by SMSVERIFY_BUDGETS")
        return
    rows = [("SCOPE", "LIMIT", "USED", "LEFT", "NEXT UNIT")]
    for usage in state.budgets.usage(claims, datetime.now(UTC)):
        rows.append(_usage_row(usage))
    _table(rows)
    if lift and (yes or click.confirm("Let these begin anew?")):
        state.budgets.lift(claims)
        click.echo("lifted")


def _usage_row(usage: Usage) -> tuple[str, str, str, str, str]:
    left = max(0, usage.limit.amount - usage.used)
    wait = f"in {usage.wait} s" if usage.wait else "now"
    limit = f"{usage.limit.amount} in {_span(usage.limit.seconds)}"
    return usage.scope, limit, str(usage.used), str(left), wait


def _span(seconds: int) -> str:
    for size, word in ((86_400, "day"), (3600, "hour"), (60, "minute")):
        if seconds % size == 0:
            count = seconds // size
            return word if count == 1 else f"{count} {word}s"
    return f"{seconds} seconds"


# --- words -------------------------------------------------------------------------------------


def _moment(moment: datetime | None) -> str:
    return "-" if moment is None else f"{moment:%Y-%m-%d %H:%M} UTC"


def _table(rows: Iterable[tuple[str, ...]]) -> None:
    listed = list(rows)
    widths = [max(len(row[column]) for row in listed) for column in range(len(listed[0]))]
    for row in listed:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo("  ".join(cells).rstrip())
