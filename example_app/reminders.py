"""The daily reminders of invoices, domains and confirmed numbers."""

from __future__ import annotations

from datetime import date, timedelta

import click
from flask import Flask

from flask_smsverify import Reminder, due_reminders

from .extensions import db, smsverify
from .models import Domain, Invoice, today

INVOICE_REMINDERS = (
    Reminder("invoice.reminder", days=3),
    Reminder("invoice.first_overdue", days=-1),
    Reminder("invoice.second_overdue", days=-7),
    Reminder("invoice.third_overdue", days=-14),
)
DOMAIN_REMINDERS = (Reminder("domain.renewal_notice", days=15),)
NUMBER_REMINDER = timedelta(days=7)


def init_app(app: Flask) -> None:
    """Add the command `flask --app example_app queue-reminders`, for a daily cron job.

    The process ends before it has sent all texts, so the job must then run
    `flask --app example_app smsverify dispatch`.
    """

    @app.cli.command("queue-reminders")
    def command() -> None:
        """Queue the reminders of today."""
        click.echo(f"{queue_reminders(today())} reminders")


def queue_reminders(day: date) -> int:
    """Queue the reminders of a day, commit, and return how many are new.

    The dedupe keys contain the dates. So a second run on the same day sends nothing, and if the due
    date of an invoice is changed, its reminders are sent again.
    """
    count = 0
    for proof in list(smsverify.verifier.expiring(NUMBER_REMINDER)):
        queued = smsverify.notify(
            "verification.expiring",
            proof.user,
            dedupe_key=proof.verified_at.isoformat(),
            expiry_date=proof.expires_at.date(),
        )
        count += len(queued.ids)
    for due in due_reminders(INVOICE_REMINDERS, today=day):
        for invoice in db.session.scalars(
            db.select(Invoice).where(
                Invoice.paid_on.is_(None), Invoice.due_on.between(due.first, due.last)
            )
        ):
            queued = smsverify.notify(
                due.event,
                invoice.user,
                dedupe_key=f"{invoice.id} due {invoice.due_on}",
                invoice_number=invoice.id,
                amount=invoice.amount_text,
                due_date=invoice.due_on,
            )
            count += len(queued.ids)
    for due in due_reminders(DOMAIN_REMINDERS, today=day):
        for domain in db.session.scalars(
            db.select(Domain).where(Domain.expires_on.between(due.first, due.last))
        ):
            queued = smsverify.notify(
                due.event,
                domain.user,
                dedupe_key=f"{domain.name} expires {domain.expires_on}",
                domain_name=domain.name,
                expiry_date=domain.expires_on,
                days_left=(domain.expires_on - day).days,
            )
            count += len(queued.ids)
    db.session.commit()
    return count
