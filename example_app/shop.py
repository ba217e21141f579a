"""Plans, orders, invoices and domains.

Three areas require a confirmed mobile number. Each shows another way to guard views:

- orders: a decorator on each view, `require_verified_mobile(area="orders")`;
- billing: a guard on the whole blueprint, `smsverify.guard(billing, area="billing")`;
- domains: endpoint patterns in `SMSVERIFY_AREAS`, without a line of code here.
"""

from __future__ import annotations

from datetime import timedelta

from flask import Blueprint, Flask, flash, redirect, render_template, request, url_for
from flask_login import current_user, login_required
from werkzeug.wrappers import Response

from flask_smsverify import require_verified_mobile

from .extensions import db, smsverify
from .language import tr
from .models import PLANS, Domain, Invoice, Order, today

shop = Blueprint("shop", __name__)
orders = Blueprint("orders", __name__, url_prefix="/orders")
billing = Blueprint("billing", __name__, url_prefix="/invoices")
domains = Blueprint("domains", __name__, url_prefix="/domains")

smsverify.guard(billing, area="billing")


def init_app(app: Flask) -> None:
    """Register the blueprints."""
    for blueprint in (shop, orders, billing, domains):
        app.register_blueprint(blueprint)


@shop.get("/")
def home() -> str:
    """Show the plans to everyone."""
    return render_template("home.html", plans=PLANS.values())


@orders.get("")
@login_required
@require_verified_mobile(area="orders")
def list_orders() -> str:
    """Show the customer's orders."""
    return render_template("orders.html", orders=current_user.orders)


@orders.route("/new", methods=["GET", "POST"])
@login_required
@require_verified_mobile(area="orders")
def new_order() -> str | Response:
    """Show the plans, and place an order with its first invoice."""
    plan = PLANS.get(request.values.get("plan", ""))
    if request.method == "POST" and plan is not None:
        order = Order(user=current_user, plan_key=plan.key)
        invoice = Invoice(user=current_user, order=order, amount=plan.monthly, due_on=today())
        db.session.add_all((order, invoice))
        db.session.flush()  # gives the order and the invoice their numbers
        # The texts are sent after the commit, and never without it.
        smsverify.notify("order.accepted", current_user, order_number=order.id)
        smsverify.notify(
            "invoice.created",
            current_user,
            invoice_number=invoice.id,
            amount=_in_words(invoice),
            due_date=invoice.due_on,
        )
        db.session.commit()
        flash(
            tr(
                "سفارش شما ثبت شد. برای فعال شدن سرویس، صورتحساب را پرداخت کنید.",
                "Your order is placed. Pay the invoice to activate your plan.",
            )
        )
        return redirect(url_for("billing.list_invoices"))
    return render_template("new_order.html", plans=PLANS.values(), chosen=plan or PLANS["tree"])


@billing.get("")
@login_required
def list_invoices() -> str:
    """Show the customer's invoices."""
    return render_template("invoices.html", invoices=current_user.invoices)


@billing.post("/<int:invoice_id>/pay")
@login_required
def pay(invoice_id: int) -> Response:
    """Mark an invoice as paid. The example has no payment provider."""
    invoice = db.first_or_404(db.select(Invoice).filter_by(id=invoice_id, user_id=current_user.id))
    if invoice.paid_on is None:
        invoice.paid_on = today()
        smsverify.notify(
            "invoice.paid",
            current_user,
            dedupe_key=str(invoice.id),  # two clicks at once send one text
            invoice_number=invoice.id,
            amount=_in_words(invoice),
        )
        db.session.commit()
        flash(tr("پرداخت با موفقیت انجام شد.", "Payment successful."))
    return redirect(url_for("billing.list_invoices"))


def _in_words(invoice: Invoice) -> str:
    return tr(f"{invoice.amount:,} تومان", f"{invoice.amount:,} tomans")


@domains.get("")
@login_required
def list_domains() -> str:
    """Show the customer's domains."""
    return render_template("domains.html", domains=current_user.domains)


@domains.get("/<name>/transfer")
@login_required
@require_verified_mobile(area="domains", within=timedelta(minutes=10))
def transfer(name: str) -> str:
    """Show the transfer code of a domain.

    Anyone with this code can take the domain, so the confirmation must be at most 10 minutes old.
    """
    domain = db.first_or_404(db.select(Domain).filter_by(name=name, user_id=current_user.id))
    return render_template("transfer.html", domain=domain)
