"""Plans, orders with their hosting, and invoices.

Five areas require a confirmed mobile number, and show three ways to guard views:

- orders: a decorator on each view, `require_verified_mobile(area="orders")`;
- billing, wallet and emails: a guard on a blueprint, `smsverify.guard(billing, area="billing")`;
- domains: endpoint patterns in `SMSVERIFY_AREAS`, without a line of code in the views.
"""

from __future__ import annotations

from flask import Blueprint, Flask, flash, redirect, render_template, request, url_for
from flask_login import current_user, login_required
from sqlalchemy.exc import IntegrityError
from werkzeug.wrappers import Response

from flask_smsverify import require_verified_mobile

from .emails import send_email
from .extensions import db, smsverify
from .forms import ServicePasswordForm, SetUpForm
from .language import tr
from .models import PLANS, Invoice, Order, Service, today
from .wallet import pay_from_balance

shop = Blueprint("shop", __name__)
orders = Blueprint("orders", __name__, url_prefix="/orders")
billing = Blueprint("billing", __name__, url_prefix="/invoices")

smsverify.guard(billing, area="billing")


def init_app(app: Flask) -> None:
    """Register the blueprints."""
    for blueprint in (shop, orders, billing):
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
            amount=invoice.amount_text,
            due_date=invoice.due_on,
        )
        send_email(
            current_user,
            tr(f"سفارش {order.id}", f"Order {order.id}", current_user.language),
            tr(
                f"سفارش {order.service_name} ثبت شد. مبلغ صورتحساب {invoice.amount_text} است.",
                f"You ordered {order.service_name}. The invoice is for {invoice.amount_text}.",
                current_user.language,
            ),
        )
        db.session.commit()
        flash(
            tr(
                "سفارش شما ثبت شد. برای راه‌اندازی هاست، صورتحساب را پرداخت کنید.",
                "Your order was placed. Pay the invoice to set up your hosting.",
            )
        )
        return redirect(url_for("billing.list_invoices"))
    return render_template("new_order.html", plans=PLANS.values(), chosen=plan or PLANS["tree"])


@orders.route("/<int:order_id>", methods=["GET", "POST"])
@login_required
@require_verified_mobile(area="orders")
def show_order(order_id: int) -> str | Response:
    """Show an order with its hosting, or set the hosting up after the first payment."""
    order = _find_own_order(order_id)
    form = SetUpForm()
    domain_names = _free_domain_names(order)
    if form.validate_on_submit():
        if order.state == "unpaid":
            flash(tr("ابتدا صورتحساب را پرداخت کنید.", "Pay the invoice first."), "error")
        elif order.state != "paid":
            flash(_already_set_up(), "error")
        elif form.domain_name.data not in domain_names:
            flash(tr("این دامنه قابل انتخاب نیست.", "You cannot use this domain."), "error")
        else:
            service = Service(order=order, domain_name=form.domain_name.data)
            service.set_password(form.new_password.data)
            db.session.add(service)
            smsverify.notify(
                "hosting.created",
                current_user,
                service_name=order.service_name,
                domain_name=service.domain_name,
            )
            try:
                db.session.commit()
                flash(tr("هاست شما آماده است.", "Your hosting is ready."))
            except IntegrityError:  # a second click created it at the same time
                db.session.rollback()
                flash(_already_set_up(), "error")
        return redirect(url_for(".show_order", order_id=order_id))
    return render_template(
        "order.html",
        order=order,
        form=form,
        domain_names=domain_names,
        plans=PLANS.values(),
    )


@orders.post("/<int:order_id>/plan")
@login_required
@require_verified_mobile(area="orders")
def change_plan(order_id: int) -> Response:
    """Change the plan of an active hosting. The next invoice has the new price."""
    order = _find_own_order(order_id)
    plan = PLANS.get(request.form.get("plan", ""))
    if order.state != "active":
        _flash_inactive_service()
    elif plan is None or plan == order.plan:
        flash(tr("پلن دیگری انتخاب کنید.", "Choose another plan."), "error")
    else:
        old_name = order.service_name
        order.plan_key = plan.key
        smsverify.notify(
            "package.changed",
            current_user,
            service_name=old_name,
            package_name=tr(*plan.name, current_user.language),
        )
        db.session.commit()
        flash(tr("پلن هاست تغییر کرد.", "The plan was changed."))
    return redirect(url_for(".show_order", order_id=order.id))


@orders.route("/<int:order_id>/password", methods=["GET", "POST"])
@login_required
@require_verified_mobile(area="orders")
def change_service_password(order_id: int) -> str | Response:
    """Show the form for a new control panel password, and store the password."""
    order = _find_own_order(order_id)
    form = ServicePasswordForm()
    if order.service is None or order.state != "active":
        _flash_inactive_service()
        return redirect(url_for(".show_order", order_id=order.id))
    if form.validate_on_submit():
        order.service.set_password(form.new_password.data)
        smsverify.notify("service.password_changed", current_user, service_name=order.service_name)
        db.session.commit()
        flash(tr("رمز عبور کنترل‌پنل تغییر کرد.", "The control panel password was changed."))
        return redirect(url_for(".show_order", order_id=order.id))
    return render_template("service_password.html", order=order, form=form)


def _find_own_order(order_id: int) -> Order:
    return db.first_or_404(db.select(Order).filter_by(id=order_id, user_id=current_user.id))


def _free_domain_names(order: Order) -> list[str]:
    """Return the names that a new hosting can use. The last one is an address of the shop."""
    names = [domain.name for domain in current_user.domains]
    used = db.session.scalars(
        db.select(Service.domain_name).where(
            Service.domain_name.in_(names), Service.state != "terminated"
        )
    ).all()
    return [name for name in names if name not in used] + [f"site-{order.id}.chenar.example"]


def _already_set_up() -> str:
    return tr("هاست این سفارش قبلاً راه‌اندازی شده است.", "This hosting is already set up.")


def _flash_inactive_service() -> None:
    flash(
        tr(
            "این هاست فعال نیست. اگر سؤالی دارید، تیکت ثبت کنید.",
            "This hosting is not active. Open a ticket if you have a question.",
        ),
        "error",
    )


@billing.get("")
@login_required
def list_invoices() -> str:
    """Show the customer's invoices."""
    return render_template("invoices.html", invoices=current_user.invoices)


@billing.post("/<int:invoice_id>/pay")
@login_required
def pay(invoice_id: int) -> Response:
    """Mark an invoice as paid, from the wallet if asked. The example has no payment provider."""
    invoice = db.first_or_404(db.select(Invoice).filter_by(id=invoice_id, user_id=current_user.id))
    paid = db.session.execute(  # compared in the database, so only one of two clicks pays
        db.update(Invoice)
        .where(Invoice.id == invoice.id, Invoice.paid_on.is_(None))
        .values(paid_on=today())
    )
    if paid.rowcount == 1:
        if "wallet" in request.form and not pay_from_balance(invoice):
            db.session.rollback()
            flash(tr("موجودی کیف پول کافی نیست.", "Your wallet's balance is too low."), "error")
            return redirect(url_for("billing.list_invoices"))
        smsverify.notify(
            "invoice.paid",
            current_user,
            dedupe_key=str(invoice.id),  # two clicks at once send one text
            invoice_number=invoice.id,
            amount=invoice.amount_text,
        )
        send_email(
            current_user,
            tr(f"رسید صورتحساب {invoice.id}", f"Receipt {invoice.id}", current_user.language),
            tr(
                f"{invoice.amount_text} دریافت شد. از پرداخت شما سپاسگزاریم.",
                f"We received {invoice.amount_text}. Thank you.",
                current_user.language,
            ),
        )
        db.session.commit()
        flash(tr("پرداخت با موفقیت انجام شد.", "Payment successful."))
    return redirect(url_for("billing.list_invoices"))
