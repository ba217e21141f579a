"""Tickets: customers ask support.

They require no confirmed mobile, because customers also report problems with their number here.
"""

from __future__ import annotations

from flask import Blueprint, flash, redirect, render_template, url_for
from flask_login import current_user, login_required
from werkzeug.wrappers import Response

from .extensions import db, smsverify
from .forms import ReplyForm, TicketForm
from .language import tr
from .models import Ticket, TicketMessage, change_state

tickets = Blueprint("tickets", __name__, url_prefix="/tickets")

MAX_OPEN_TICKETS = 5
"""Each new ticket costs a text to the staff."""


@tickets.get("")
@login_required
def list_tickets() -> str:
    """Show the customer's tickets."""
    return render_template("tickets.html", tickets=current_user.tickets)


@tickets.route("/new", methods=["GET", "POST"])
@login_required
def open_ticket() -> str | Response:
    """Show the form for a question, and open a ticket."""
    form = TicketForm()
    if form.validate_on_submit():
        if sum(ticket.state == "open" for ticket in current_user.tickets) >= MAX_OPEN_TICKETS:
            flash(
                tr(
                    "چند تیکت بی‌پاسخ دارید. سؤال خود را در یکی از آن‌ها بنویسید.",
                    "You have several unanswered tickets. Add your question to one of them.",
                ),
                "error",
            )
            return redirect(url_for(".list_tickets"))
        ticket = Ticket(user=current_user, subject=form.subject.data)
        ticket.messages.append(TicketMessage(author=current_user, text=form.text.data))
        db.session.add(ticket)
        db.session.flush()  # gives the ticket its number
        smsverify.notify(
            "ticket.opened",
            ticket_number=ticket.id,
            ticket_subject=ticket.subject,
            client_name=current_user.name,
        )
        db.session.commit()
        flash(tr("تیکت شما ثبت شد.", "Your ticket was opened."))
        return redirect(url_for(".show_ticket", ticket_id=ticket.id))
    return render_template("new_ticket.html", form=form)


@tickets.route("/<int:ticket_id>", methods=["GET", "POST"])
@login_required
def show_ticket(ticket_id: int) -> str | Response:
    """Show a ticket, and add the customer's reply. A reply opens a closed ticket again."""
    ticket = db.first_or_404(db.select(Ticket).filter_by(id=ticket_id, user_id=current_user.id))
    form = ReplyForm()
    if form.validate_on_submit():
        db.session.add(TicketMessage(ticket=ticket, author=current_user, text=form.text.data))
        # If the ticket is open, the staff have a text already, so this reply sends none.
        if change_state(ticket, old="answered", new="open") or change_state(
            ticket, old="closed", new="open"
        ):
            smsverify.notify(
                "ticket.user_replied",
                ticket_number=ticket.id,
                ticket_subject=ticket.subject,
                client_name=current_user.name,
            )
        db.session.commit()
        flash(tr("پاسخ شما ثبت شد.", "Your reply was added."))
        return redirect(url_for(".show_ticket", ticket_id=ticket.id))
    return render_template("ticket.html", ticket=ticket, form=form, can_reply=True)
