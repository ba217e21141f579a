"""`flask smsverify status|verify|revoke|unlock USER`."""

from __future__ import annotations

import click
from sqlalchemy import inspect, select
from sqlalchemy.exc import DBAPIError, MultipleResultsFound

from ..db.errors import is_invalid_value
from ..errors import MobileError
from ..phone import mask
from ..state import AppState, get_state
from .group import smsverify
from .output import format_time, print_lines

_user = click.argument("user", metavar="USER")
#: Who acts, in signals and in `Verification.sender`.
_ACTOR = "command line"
#: How a mobile begins that `unlock` takes. A key of digits alone may look like a mobile otherwise.
_MOBILE_STARTS = ("+", "0")


def find_user(key: str) -> object:
    """Return a user by primary key, or else by email.

    :raises click.ClickException: there is none, or several have the email.
    """
    state = get_state()
    try:
        user = state.users.find(key) or _find_by_email(state, key)
    except (OverflowError, DBAPIError) as error:
        if not is_invalid_value(error):  # a number that the key's column cannot hold
            raise
        user = None
    except MultipleResultsFound:
        raise click.ClickException(
            f"several users have the email {key}; give the primary key"
        ) from None
    if user is None:
        raise click.ClickException(f"there is no user {key}; give the primary key or the email")
    return user


def _find_by_email(state: AppState, email: str) -> object | None:
    field = state.settings.email_field
    if "@" not in email or field not in inspect(state.users.model).all_orm_descriptors:
        return None
    query = select(state.users.model).where(getattr(state.users.model, field) == email)
    user: object | None = state.db.session.scalars(query).one_or_none()
    return user


def _describe(user: object) -> str:
    state = get_state()
    mobile = state.users.mobile_of(user)
    return f"user {state.users.id_of(user)}" + (f", {mask(mobile)}" if mobile else "")


@smsverify.command("status")
@_user
def status(user: str) -> None:
    """Show a user's verification."""
    found = get_state().verifier.status(find_user(user))
    lines = [
        ("state", found.state + (", locked" if found.locked else "")),
        ("mobile", mask(found.mobile) if found.mobile else "none"),
        ("verified", format_time(found.verified_at)),
        ("valid until", format_time(found.expires_at)),
    ]
    if found.challenge is not None:
        lines.append(("code valid until", format_time(found.challenge.expires_at)))
        lines.append(("attempts", str(found.challenge.attempts)))
    print_lines(*lines)


@smsverify.command("verify")
@_user
def verify(user: str) -> None:
    """Mark a user's mobile as verified."""
    row = get_state().verifier.mark_verified(find_user(user), by=_ACTOR)
    click.echo(f"{mask(row.mobile or '')} is verified for user {row.user_id}")


@smsverify.command("revoke")
@_user
def revoke(user: str) -> None:
    """Revoke a user's verification."""
    found = find_user(user)
    get_state().verifier.revoke(found, by=_ACTOR)
    click.echo(f"revoked for {_describe(found)}; the next guarded page asks for a code again")


@smsverify.command("unlock")
@click.argument("user", metavar="USER|MOBILE")
def unlock(user: str) -> None:
    """Unlock a user, or a mobile without an account, after too many failures."""
    verifier = get_state().verifier
    if mobile := _as_mobile(user):
        verifier.unlock(mobile)
        click.echo(f"unlocked {mask(mobile)}")
        return
    try:
        found = find_user(user)
    except click.ClickException:
        if user.startswith(_MOBILE_STARTS) and "@" not in user:
            raise click.ClickException(f"{user} is neither a mobile number nor a user") from None
        raise
    verifier.unlock(found)
    click.echo(f"unlocked for {_describe(found)}")


def _as_mobile(text: str) -> str | None:
    """Return a mobile in E.164; None for text that is a user's key or email.

    A key of digits alone is no mobile unless it begins with 0.
    """
    if not text.startswith(_MOBILE_STARTS):
        return None
    try:
        return get_state().parse_mobile(text)
    except MobileError:
        return None
