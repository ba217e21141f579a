"""What customers come for: plans, orders, invoices and domains.

Three areas demand a verified mobile, each guarded in another way:

- orders: every view says so itself, with `require_verified_mobile(area="orders")`;
- billing: its blueprint is guarded as a whole, with `smsverify.guard`;
- domains: by the endpoint patterns in `SMSVERIFY_AREAS`; no line of code here says so.
"""

from __future__ import annotations

from datetime import timedelta

from flask import Blueprint, Flask, flash, redirect, render_template, request, url_for
from flask_login import current_user, login_required
from werkzeug.wrappers import Response

from flask_smsverify import require_verified_mobile

from .extensions import db, smsverify
from .language import say
from .models import PLANS, Domain, Invoice, Order, today

shop = Blueprint("shop", __name__)
orders = Blueprint("orders", __name__, url_prefix="/orders")
billing = Blueprint("billing", __name__, url_prefix="/invoices")
domains = Blueprint("domains", __name__, url_prefix="/domains")

smsverify.guard(billing, area="billing")


def init_app(app: Flask) -> None:
    """Add the pages of this module."""
    for blueprint in (shop, orders, billing, domains):
        app.register_blueprint(blueprint)


@shop.get("/")
def home() -> str:
    """The plans, for everyone."""
    return render_template("home.html", plans=PLANS.values())


@orders.get("")
@login_required
@require_verified_mobile(area="orders")
def your_orders() -> str:
    """The customer's orders."""
    return render_template("orders.html", orders=current_user.orders)


@orders.route("/new", methods=["GET", "POST"])
@login_required
@require_verified_mobile(area="orders")
def new_order() -> str | Response:
    """Choose a plan, and order it with its first invoice."""
    plan = PLANS.get(request.values.get("plan", ""))
    if request.method == "POST" and plan is not None:
        order = Order(user=current_user, plan_key=plan.key)
        invoice = Invoice(user=current_user, order=order, amount=plan.monthly, due_on=today())
        db.session.add_all((order, invoice))
        db.session.commit()
        flash(
            say(
                "سفارش شما ثبت شد. با پرداخت صورتحساب، سرویس فعال می‌شود.",
                "Your order is placed. Pay its invoice and the service starts.",
            )
        )
        return redirect(url_for("billing.your_invoices"))
    return render_template("new_order.html", plans=PLANS.values(), chosen=plan or PLANS["tree"])


@billing.get("")
@login_required
def your_invoices() -> str:
    """The customer's invoices."""
    return render_template("invoices.html", invoices=current_user.invoices)


@billing.post("/<int:invoice_id>/pay")
@login_required
def pay(invoice_id: int) -> Response:
    """Pay an invoice. The demo has no bank: the money is simply there."""
    invoice = db.first_or_404(db.select(Invoice).filter_by(id=invoice_id, user_id=current_user.id))
    if invoice.paid_on is None:
        invoice.paid_on = today()
        db.session.commit()
        flash(say("پرداخت شد. سپاس!", "Paid. Thank you!"))
    return redirect(url_for("billing.your_invoices"))


@domains.get("")
@login_required
def your_domains() -> str:
    """The customer's domains."""
    return render_template("domains.html", domains=current_user.domains)


@domains.get("/<name>/transfer")
@login_required
@require_verified_mobile(area="domains", within=timedelta(minutes=10))
def transfer(name: str) -> str:
    """The code that lets a domain go elsewhere; so the proof must be fresh, not 90 days old."""
    domain = db.first_or_404(db.select(Domain).filter_by(name=name, user_id=current_user.id))
    return render_template("transfer.html", domain=domain)
