"""The command group. An error of this package ends a command with its message, not a traceback."""

from __future__ import annotations

import click
from flask.cli import AppGroup

from ..errors import SMSVerifyError


class _Commands(AppGroup):
    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except SMSVerifyError as error:
            raise click.ClickException(str(error)) from None


smsverify = _Commands("smsverify", help="Phone verification: senders, users, limits, simulator.")
