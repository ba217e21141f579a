"""The forms of the shop, and the validators and filters that they share."""

from __future__ import annotations

import re
from contextlib import suppress

import phonenumbers
from flask_login import current_user
from flask_wtf import FlaskForm
from wtforms import DateField, Field, IntegerField, PasswordField, StringField, TextAreaField
from wtforms.validators import StopValidation

from . import registrar
from .extensions import db
from .language import format_number, tr
from .models import User

MAX_AMOUNT = 100_000_000


def require_value(_form: FlaskForm, field: Field) -> None:
    """Refuse an empty field. This is a WTForms validator."""
    if not field.data or not field.data.strip():
        raise StopValidation(tr("این فیلد را پر کنید.", "Fill in this field."))


def strip_spaces(value: str | None) -> str | None:
    """Strip the value, and return None if it is empty. This is a WTForms filter."""
    return (value or "").strip() or None


def check_max_length(field: Field, length: int) -> None:
    """Refuse a text that does not fit its column."""
    if len(field.data) > length:
        number = format_number(length)
        raise StopValidation(
            tr(f"حداکثر {number} کاراکتر وارد کنید.", f"Use at most {number} characters.")
        )


def check_new_password(_form: FlaskForm, field: Field) -> None:
    """Refuse a short password. This is a WTForms validator."""
    if len(field.data) < 8:
        raise StopValidation(tr("حداقل ۸ کاراکتر وارد کنید.", "Use at least 8 characters."))


class LoginForm(FlaskForm):
    """Username and password."""

    username = StringField(filters=[strip_spaces], validators=[require_value])
    password = PasswordField(validators=[require_value])


class SignUpForm(FlaskForm):
    """The data of a new customer. The mobile is optional."""

    name = StringField(filters=[strip_spaces], validators=[require_value])
    username = StringField(filters=[strip_spaces], validators=[require_value])
    password = PasswordField(validators=[require_value, check_new_password])
    mobile = StringField(filters=[strip_spaces])

    def validate_name(self, field: Field) -> None:
        """Check that the name fits its column."""
        check_max_length(field, 80)

    def validate_username(self, field: Field) -> None:
        """Check the characters of the username, and that it is free."""
        if not re.fullmatch(r"[a-z][a-z0-9_-]{2,39}", field.data):
            raise StopValidation(
                tr(
                    "حداقل ۳ کاراکتر: حروف کوچک انگلیسی، عدد، - و _",
                    "Use at least 3 characters: lowercase letters, numbers, - and _",
                )
            )
        if db.session.scalar(db.select(User.id).filter_by(username=field.data)):
            raise StopValidation(tr("این نام کاربری قبلاً ثبت شده است.", "This username is taken."))

    def validate_mobile(self, field: Field) -> None:
        """Check that the number can exist. The extension later checks who controls it."""
        try:
            is_valid = not field.data or phonenumbers.is_valid_number(
                phonenumbers.parse(field.data, "IR")
            )
        except phonenumbers.NumberParseException:
            is_valid = False
        if not is_valid:
            raise StopValidation(
                tr("شمارهٔ موبایل را درست وارد کنید.", "Enter a valid mobile number.")
            )


class AccountPasswordForm(FlaskForm):
    """A new password of the account. Customers without a password have no current one to enter."""

    current_password = PasswordField()
    new_password = PasswordField(validators=[require_value, check_new_password])

    def validate_current_password(self, field: Field) -> None:
        """Check the current password."""
        if current_user.password_hash and not current_user.has_password(field.data or ""):
            raise StopValidation(tr("رمز عبور فعلی اشتباه است.", "The current password is wrong."))


class ServicePasswordForm(FlaskForm):
    """A new password of a hosting's control panel."""

    new_password = PasswordField(validators=[require_value, check_new_password])


class SetUpForm(ServicePasswordForm):
    """The domain and the first password of a new hosting. The view checks the domain."""

    domain_name = StringField(filters=[strip_spaces])


class DomainForm(FlaskForm):
    """The name of a domain to register."""

    name = StringField(
        filters=[strip_spaces, lambda name: name and name.lower()], validators=[require_value]
    )

    def validate_name(self, field: Field) -> None:
        """Check the characters, and that the domain is free."""
        endings = "|".join(registrar.PRICES)
        if not re.fullmatch(rf"[a-z0-9]([a-z0-9-]{{0,61}}[a-z0-9])?\.({endings})", field.data):
            raise StopValidation(
                tr(
                    "نام دامنه را با حروف انگلیسی و پسوند ir یا com وارد کنید، مثل my-shop.ir",
                    "Enter a domain name that ends in .ir or .com, such as my-shop.ir",
                )
            )
        if registrar.is_taken(field.data):
            raise StopValidation(tr("این دامنه قبلاً ثبت شده است.", "This domain is taken."))


class ReplyForm(FlaskForm):
    """A message of a ticket."""

    text = TextAreaField(filters=[strip_spaces], validators=[require_value])

    def validate_text(self, field: Field) -> None:
        """Check that the text is not too long."""
        check_max_length(field, 4000)


class TicketForm(ReplyForm):
    """A new ticket."""

    subject = StringField(filters=[strip_spaces], validators=[require_value])

    def validate_subject(self, field: Field) -> None:
        """Check that the subject fits its column."""
        check_max_length(field, 120)


class DueDateForm(FlaskForm):
    """A new due date of an invoice. Browsers send dates in ISO 8601."""

    due_on = DateField()


class TomanField(IntegerField):
    """A number in any digits, with or without separators of thousands.

    Input that is not a number becomes None, so the form's own message refuses it.
    """

    def process_formdata(self, valuelist: list[str]) -> None:
        """Read the number."""
        with suppress(ValueError):
            super().process_formdata([re.sub("[,٬\\s]", "", value) for value in valuelist])


class AmountForm(FlaskForm):
    """An amount in toman: credit at the registrar, or a customer's deposit."""

    amount = TomanField()

    def validate_amount(self, field: Field) -> None:
        """Check that the amount is positive and not too large."""
        if field.data is None or not 0 < field.data <= MAX_AMOUNT:
            limit = format_number(MAX_AMOUNT)
            raise StopValidation(
                tr(f"مبلغی بین ۱ تا {limit} تومان وارد کنید.", f"Enter 1 to {limit} toman.")
            )
