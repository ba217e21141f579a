"""The e-mails that the shop has sent to a customer.

The area `emails` demands a confirmed mobile, because e-mails are private.
"""

from __future__ import annotations

from flask import Blueprint, render_template
from flask_login import current_user, login_required

from .extensions import db, smsverify
from .models import Email, User

emails = Blueprint("emails", __name__, url_prefix="/emails")

smsverify.guard(emails, area="emails")


@emails.get("")
@login_required
def list_emails() -> str:
    """Show the subjects, the newest first."""
    return render_template("emails.html", emails=current_user.emails)


@emails.get("/<int:email_id>")
@login_required
def show_email(email_id: int) -> str:
    """Show an e-mail."""
    email = db.first_or_404(db.select(Email).filter_by(id=email_id, user_id=current_user.id))
    return render_template("email.html", email=email)


def send_email(user: User, subject: str, text: str) -> None:
    """Add an e-mail to the session. The example has no mail server."""
    user.emails.append(Email(subject=subject, text=text))
