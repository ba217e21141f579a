"""The staff page of the shop: services, invoices, domains and tickets.

The extension has staff pages of its own, for verifications and messages. Each action here is one
transaction: it changes the row and queues the customer's text, or does neither.
"""

from __future__ import annotations

from datetime import timedelta

from flask import Blueprint, flash, redirect, render_template, url_for
from flask_login import current_user
from werkzeug.wrappers import Response

from . import registrar
from .domains import retry_order
from .extensions import db, login_manager, smsverify
from .forms import AmountForm, DueDateForm, ReplyForm
from .language import tr
from .models import (
    DomainOrder,
    Invoice,
    Order,
    Service,
    Ticket,
    TicketMessage,
    change_state,
    today,
)
from .registrar import RegistrarError
from .reminders import queue_reminders

staff = Blueprint("staff", __name__, url_prefix="/staff")

INVOICE_PERIOD = timedelta(days=30)
"""The period of an invoice, which is created at most this long before its due date."""


@staff.before_request
def require_staff() -> object:
    """Refuse users who are not staff on all pages of this blueprint."""
    if not current_user.is_authenticated:
        return login_manager.unauthorized()
    if not current_user.is_staff:
        return render_template("forbidden.html"), 403
    return None


@staff.get("")
def overview() -> str:
    """Show everything that staff can act on."""
    return render_template(
        "staff.html",
        orders=db.session.scalars(db.select(Order).order_by(Order.id.desc())).all(),
        invoices=db.session.scalars(
            db.select(Invoice).filter_by(paid_on=None).order_by(Invoice.due_on)
        ).all(),
        domain_orders=db.session.scalars(
            db.select(DomainOrder).filter_by(state="failed").order_by(DomainOrder.id)
        ).all(),
        credit=registrar.credit(),
        tickets=db.session.scalars(
            db.select(Ticket).where(Ticket.state != "closed").order_by(Ticket.id)
        ).all(),
        today=today(),
    )


def _back() -> Response:
    return redirect(url_for("staff.overview"))


# --- services -------------------------------------------------------------------------------------


@staff.post("/services/<int:service_id>/suspend")
def suspend(service_id: int) -> Response:
    """Suspend an active service."""
    service = db.get_or_404(Service, service_id)
    if change_state(service, old="active", new="suspended"):
        _notify_of_service("service.suspended", service)
        db.session.commit()
        flash(tr("سرویس غیرفعال شد.", "The service was suspended."))
    else:
        flash(tr("این سرویس فعال نیست.", "This service is not active."), "error")
    return _back()


@staff.post("/services/<int:service_id>/unsuspend")
def unsuspend(service_id: int) -> Response:
    """Activate a suspended service again."""
    service = db.get_or_404(Service, service_id)
    if change_state(service, old="suspended", new="active"):
        _notify_of_service("service.unsuspended", service)
        db.session.commit()
        flash(tr("سرویس دوباره فعال شد.", "The service is active again."))
    else:
        flash(tr("این سرویس غیرفعال نیست.", "This service is not suspended."), "error")
    return _back()


@staff.post("/services/<int:service_id>/terminate")
def terminate(service_id: int) -> Response:
    """Terminate a suspended service for good. The catalogue has no event for it."""
    service = db.get_or_404(Service, service_id)
    if change_state(service, old="suspended", new="terminated"):
        db.session.commit()
        flash(tr("سرویس حذف شد.", "The service was terminated."))
    else:
        flash(
            tr("ابتدا سرویس را غیرفعال کنید.", "Suspend the service first."),
            "error",
        )
    return _back()


def _notify_of_service(event: str, service: Service) -> None:
    smsverify.notify(event, service.order.user, service_name=service.order.service_name)


# --- invoices -------------------------------------------------------------------------------------


@staff.post("/orders/<int:order_id>/invoice")
def create_invoice(order_id: int) -> Response:
    """Create the invoice of the next month of an order."""
    order = db.get_or_404(Order, order_id)
    due_on = max(invoice.due_on for invoice in order.invoices) + INVOICE_PERIOD
    if order.state == "terminated":
        flash(tr("این سرویس حذف شده است.", "This service is terminated."), "error")
    elif due_on > today() + INVOICE_PERIOD:
        flash(
            tr("صورتحساب ماه بعد قبلاً صادر شده است.", "The next invoice already exists."), "error"
        )
    else:
        invoice = Invoice(user=order.user, order=order, amount=order.plan.monthly, due_on=due_on)
        db.session.add(invoice)
        db.session.flush()  # gives the invoice its number
        smsverify.notify(
            "invoice.created",
            order.user,
            invoice_number=invoice.id,
            amount=invoice.amount_text,
            due_date=invoice.due_on,
        )
        db.session.commit()
        flash(tr("صورتحساب صادر شد.", "The invoice was created."))
    return _back()


@staff.post("/invoices/<int:invoice_id>/due-date")
def change_due_date(invoice_id: int) -> Response:
    """Change the due date of an unpaid invoice."""
    invoice = db.get_or_404(Invoice, invoice_id)
    form = DueDateForm()
    if invoice.paid_on is not None:
        flash(tr("این صورتحساب پرداخت شده است.", "This invoice is paid."), "error")
    elif not form.validate_on_submit():
        flash(tr("تاریخ را درست وارد کنید.", "Enter a valid date."), "error")
    else:
        invoice.due_on = form.due_on.data
        db.session.commit()
        flash(tr("سررسید تغییر کرد.", "The due date was changed."))
    return _back()


@staff.post("/reminders")
def remind() -> Response:
    """Send the reminders of today, as the daily job does."""
    count = queue_reminders(today())
    if count:
        flash(tr("یادآوری‌های امروز ارسال شد.", "Today's reminders were sent."))
    else:
        flash(tr("یادآوری جدیدی برای امروز نیست.", "There are no new reminders today."))
    return _back()


# --- domains --------------------------------------------------------------------------------------


@staff.post("/domain-orders/<int:order_id>/retry")
def retry_domain_order(order_id: int) -> Response:
    """Pass a refused order to the registrar again."""
    order = db.get_or_404(DomainOrder, order_id)
    try:
        was_waiting = retry_order(order)
    except RegistrarError as error:
        db.session.rollback()
        flash(tr(f"{error}.", "The registrar refused the order again."), "error")
        return _back()
    db.session.commit()
    if was_waiting:
        flash(tr("سفارش انجام شد.", "The order was completed."))
    else:
        _flash_settled_order()
    return _back()


@staff.post("/domain-orders/<int:order_id>/cancel")
def cancel_domain_order(order_id: int) -> Response:
    """Cancel a refused order. The example has no payment provider that could refund it."""
    if change_state(db.get_or_404(DomainOrder, order_id), old="failed", new="cancelled"):
        db.session.commit()
        flash(tr("سفارش لغو شد.", "The order was cancelled."))
    else:
        _flash_settled_order()
    return _back()


def _flash_settled_order() -> None:
    flash(
        tr("این سفارش قبلاً انجام یا لغو شده است.", "This order is already completed or cancelled."),
        "error",
    )


@staff.post("/registrar/credit")
def add_credit() -> Response:
    """Add credit to the shop's account at the registrar."""
    form = AmountForm()
    if form.validate_on_submit():
        registrar.add_credit(form.amount.data)
        db.session.commit()
        flash(tr("اعتبار افزایش یافت.", "The credit was added."))
    else:
        flash(form.amount.errors[0], "error")
    return _back()


# --- tickets --------------------------------------------------------------------------------------


@staff.route("/tickets/<int:ticket_id>", methods=["GET", "POST"])
def answer_ticket(ticket_id: int) -> str | Response:
    """Show a ticket, and add an answer of the staff."""
    ticket = db.get_or_404(Ticket, ticket_id)
    form = ReplyForm()
    if form.validate_on_submit():
        # Staff can answer a ticket more than once.
        if change_state(ticket, old="open", new="answered") or ticket.state == "answered":
            db.session.add(TicketMessage(ticket=ticket, author=current_user, text=form.text.data))
            _notify_of_ticket("ticket.replied", ticket)
            db.session.commit()
            flash(tr("پاسخ شما ثبت شد.", "Your reply was added."))
        else:
            flash(tr("این تیکت بسته شده است.", "This ticket is closed."), "error")
        return redirect(url_for(".answer_ticket", ticket_id=ticket.id))
    return render_template(
        "ticket.html", ticket=ticket, form=form, can_reply=ticket.state != "closed"
    )


@staff.post("/tickets/<int:ticket_id>/close")
def close_ticket(ticket_id: int) -> Response:
    """Close a ticket."""
    ticket = db.get_or_404(Ticket, ticket_id)
    if change_state(ticket, old="open", new="closed") or change_state(
        ticket, old="answered", new="closed"
    ):
        _notify_of_ticket("ticket.closed", ticket)
        db.session.commit()
        flash(tr("تیکت بسته شد.", "The ticket was closed."))
    else:
        flash(tr("این تیکت قبلاً بسته شده است.", "This ticket is already closed."), "error")
    return _back()


def _notify_of_ticket(event: str, ticket: Ticket) -> None:
    smsverify.notify(event, ticket.user, ticket_number=ticket.id, ticket_subject=ticket.subject)
