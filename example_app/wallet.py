"""The wallet: customers add funds, and pay invoices from the balance.

The area `wallet` demands a confirmed mobile, because thieves test stolen cards on such pages.
"""

from __future__ import annotations

from flask import Blueprint, flash, redirect, render_template, url_for
from flask_login import current_user, login_required
from werkzeug.wrappers import Response

from .emails import send_email
from .extensions import db, smsverify
from .forms import AmountForm
from .language import tr
from .models import Deposit, Invoice, User

wallet = Blueprint("wallet", __name__, url_prefix="/wallet")

smsverify.guard(wallet, area="wallet")


@wallet.route("", methods=["GET", "POST"])
@login_required
def add_funds() -> str | Response:
    """Show the balance, and add an amount. The example has no payment provider."""
    form = AmountForm()
    if form.validate_on_submit():
        deposit = Deposit(user_id=current_user.id, amount=form.amount.data)
        db.session.add(deposit)
        _change_balance(current_user.id, deposit.amount)
        language = current_user.language
        send_email(
            current_user,
            tr("افزایش موجودی کیف پول", "Your wallet was topped up", language),
            tr(
                f"{deposit.amount:,} تومان به کیف پول شما اضافه شد.",
                f"{deposit.amount:,} tomans were added to your wallet.",
                language,
            ),
        )
        db.session.commit()
        flash(tr("موجودی کیف پول افزایش یافت.", "The amount was added to your wallet."))
        return redirect(url_for(".add_funds"))
    return render_template("wallet.html", form=form, deposits=current_user.deposits)


def pay_from_balance(invoice: Invoice) -> bool:
    """Pay an invoice in the current transaction, and return whether the balance covers it."""
    return _change_balance(invoice.user_id, -invoice.amount)


def _change_balance(user_id: int, amount: int) -> bool:
    """Change a balance in the database, unless it would become negative.

    The database compares, so two concurrent requests cannot spend the same money.
    """
    changed = db.session.execute(
        db.update(User)
        .where(User.id == user_id, User.balance + amount >= 0)
        .values(balance=User.balance + amount)
    )
    return changed.rowcount == 1
