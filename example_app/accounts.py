"""Sign-up, login, the profile page and the choice of language."""

from __future__ import annotations

import re
import secrets

import phonenumbers
from flask import Blueprint, Flask, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import (
    current_user,
    login_fresh,
    login_required,
    logout_user,
    user_logged_in,
)
from flask_wtf import FlaskForm
from werkzeug.wrappers import Response
from wtforms import Field, PasswordField, StringField
from wtforms.validators import StopValidation

from . import demo_data
from .extensions import db, login_manager, smsverify
from .language import choose_language, tr
from .models import User

accounts = Blueprint("accounts", __name__)


def init_app(app: Flask) -> None:
    """Register the blueprint, and set the login page in Flask-Login."""
    login_manager.login_view = "accounts.login"
    # The extension asks for a fresh login before a confirmed number is changed.
    login_manager.refresh_view = "accounts.login"
    login_manager.login_message = None
    login_manager.needs_refresh_message = None
    user_logged_in.connect(announce_staff_login, app)
    app.register_blueprint(accounts)


def announce_staff_login(_app: Flask, user: User) -> None:
    """Inform the staff of a login to their pages, with a password or with a mobile."""
    if user.is_staff:
        smsverify.notify("staff.logged_in", staff_name=user.name, ip_address=request.remote_addr)
        db.session.commit()


@smsverify.user_factory
def create_customer(_mobile: str) -> User:
    """Return a customer who signs in with a mobile for the first time, and has no password."""
    username = f"u{secrets.token_hex(6)}"
    return User(name=tr("مشتری جدید", "New customer"), username=username, password_hash="")


@login_manager.user_loader
def load_user(user_id: str) -> User | None:
    """Return the customer with this id."""
    return db.session.get(User, int(user_id))


@smsverify.staff_required
def is_staff() -> bool:
    """Return whether the current user may open the extension's staff pages."""
    return current_user.is_staff


def require_value(_form: FlaskForm, field: Field) -> None:
    """Refuse an empty field. This is a WTForms validator."""
    if not field.data or not field.data.strip():
        raise StopValidation(tr("این فیلد را پر کنید.", "Fill in this field."))


def strip_spaces(value: str | None) -> str | None:
    """Strip the value, and return None if it is empty. This is a WTForms filter."""
    return (value or "").strip() or None


class LoginForm(FlaskForm):
    """Username and password."""

    username = StringField(filters=[strip_spaces], validators=[require_value])
    password = PasswordField(validators=[require_value])


class SignUpForm(FlaskForm):
    """The data of a new customer. The mobile is optional."""

    name = StringField(filters=[strip_spaces], validators=[require_value])
    username = StringField(filters=[strip_spaces], validators=[require_value])
    password = PasswordField(validators=[require_value])
    mobile = StringField(filters=[strip_spaces])

    def validate_name(self, field: Field) -> None:
        """Check that the name fits its column."""
        if len(field.data) > 80:
            raise StopValidation(tr("حداکثر ۸۰ کاراکتر وارد کنید.", "Use at most 80 characters."))

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

    def validate_password(self, field: Field) -> None:
        """Check the length of the password."""
        if len(field.data) < 8:
            raise StopValidation(tr("حداقل ۸ کاراکتر وارد کنید.", "Use at least 8 characters."))

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


@accounts.route("/login", methods=["GET", "POST"])
def login() -> ResponseReturnValue:
    """Show the login form, and log a customer in."""
    if current_user.is_authenticated and login_fresh():
        return redirect(next_url())
    form = LoginForm()
    is_refused = False
    if form.validate_on_submit():
        user = db.session.scalar(db.select(User).filter_by(username=form.username.data))
        if user is not None and user.has_password(form.password.data):
            return log_in(user)
        is_refused = True
    return render_template(
        "login.html",
        form=form,
        is_refused=is_refused,
        passwords=demo_data.PASSWORDS,
        phone_sign_in=smsverify.sign_in_url(next=next_url()),
    )


@accounts.route("/sign-up", methods=["GET", "POST"])
def sign_up() -> ResponseReturnValue:
    """Show the sign-up form, create a customer and log them in."""
    if current_user.is_authenticated:
        return redirect(next_url())
    form = SignUpForm()
    if form.validate_on_submit():
        user = User(name=form.name.data, username=form.username.data, mobile=form.mobile.data)
        user.set_password(form.password.data)
        db.session.add(user)
        # Only the staff get a text: without a user, none goes to a number that nobody confirmed.
        smsverify.notify("client.registered", client_name=user.name)
        db.session.commit()
        return log_in(user)
    return render_template("sign_up.html", form=form)


def log_in(user: User) -> ResponseReturnValue:
    """Log a customer in and redirect to `next`.

    If `SMSVERIFY_LOGIN_GATE` is on, the extension first redirects to its page for the code.
    """
    result = smsverify.login_user(user)
    return redirect(next_url()) if result is True else result


@accounts.post("/logout")
def logout() -> Response:
    """Log the customer out."""
    logout_user()
    return redirect(url_for("shop.home"))


@accounts.get("/profile")
@login_required
def profile() -> str:
    """Show the customer's data and the status of their number."""
    return render_template("profile.html", status=smsverify.verifier.status(current_user))


@accounts.post("/language")
def language() -> Response:
    """Change the language and return to the same page."""
    choose_language(request.form.get("language"))
    return redirect(next_url())


def next_url() -> str:
    """Return the path in `next` if it is a path of this shop, otherwise the home page.

    Browsers take `//host`, backslashes and control characters as the address of another site.
    """
    path = request.values.get("next", "")
    if re.fullmatch(r"/(?![/\\])[^\\\x00-\x20\x7f]*", path):
        return path
    return url_for("shop.home")
