"""Customers: signing up and in, the profile, and the choice of language."""

from __future__ import annotations

import re

import phonenumbers
from flask import Blueprint, Flask, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user, login_fresh, login_required, logout_user
from flask_wtf import FlaskForm
from werkzeug.wrappers import Response
from wtforms import Field, PasswordField, StringField
from wtforms.validators import StopValidation

from . import demo_data
from .extensions import db, login_manager, smsverify
from .language import choose_language, say
from .models import User

accounts = Blueprint("accounts", __name__)


def init_app(app: Flask) -> None:
    """Add the pages of this module, and tell Flask-Login where its login page is."""
    login_manager.login_view = "accounts.login"
    login_manager.refresh_view = "accounts.login"  # changing a proved number asks for it
    login_manager.login_message = None
    login_manager.needs_refresh_message = None
    app.register_blueprint(accounts)


@login_manager.user_loader
def load_user(user_id: str) -> User | None:
    """The customer of a session."""
    return db.session.get(User, int(user_id))


def required(_form: FlaskForm, field: Field) -> None:
    """Refuse an empty field."""
    if not field.data or not field.data.strip():
        raise StopValidation(say("این را خالی نگذارید.", "Please fill this in."))


def stripped(value: str | None) -> str | None:
    """Without the spaces around it; nothing at all if nothing else is there."""
    return (value or "").strip() or None


class LoginForm(FlaskForm):
    """Username and password."""

    username = StringField(filters=[stripped], validators=[required])
    password = PasswordField(validators=[required])


class SignUpForm(FlaskForm):
    """A new customer; the mobile may wait."""

    name = StringField(filters=[stripped], validators=[required])
    username = StringField(filters=[stripped], validators=[required])
    password = PasswordField(validators=[required])
    mobile = StringField(filters=[stripped])

    def validate_name(self, field: Field) -> None:
        """It fits its column."""
        if len(field.data) > 80:
            raise StopValidation(say("نام بلندتر از ۸۰ حرف است.", "This is over 80 characters."))

    def validate_username(self, field: Field) -> None:
        """Small Latin letters and digits, and not somebody else's."""
        if not re.fullmatch(r"[a-z][a-z0-9_-]{2,39}", field.data):
            raise StopValidation(
                say(
                    "سه حرف یا بیشتر، از حروف کوچک انگلیسی، رقم، - و _",
                    "Three or more of small letters, digits, - and _",
                )
            )
        if db.session.scalar(db.select(User.id).filter_by(username=field.data)):
            raise StopValidation(say("این نام کاربری گرفته شده است.", "This username is taken."))

    def validate_password(self, field: Field) -> None:
        """Not too short to mean anything."""
        if len(field.data) < 8:
            raise StopValidation(say("دست‌کم ۸ نویسه باشد.", "Use at least 8 characters."))

    def validate_mobile(self, field: Field) -> None:
        """A number that can exist. Whether it is theirs is for the extension to find out."""
        try:
            good = not field.data or phonenumbers.is_valid_number(
                phonenumbers.parse(field.data, "IR")
            )
        except phonenumbers.NumberParseException:
            good = False
        if not good:
            raise StopValidation(
                say("این شمارهٔ موبایل درست نیست.", "This is not a mobile number we know.")
            )


@accounts.route("/login", methods=["GET", "POST"])
def login() -> ResponseReturnValue:
    """Let a customer in, and on to where they were going."""
    if current_user.is_authenticated and login_fresh():
        return redirect(next_page())
    form = LoginForm()
    refused = False
    if form.validate_on_submit():
        user = db.session.scalar(db.select(User).filter_by(username=form.username.data))
        if user is not None and user.has_password(form.password.data):
            return let_in(user)
        refused = True
    return render_template("login.html", form=form, refused=refused, passwords=demo_data.PASSWORDS)


@accounts.route("/sign-up", methods=["GET", "POST"])
def sign_up() -> ResponseReturnValue:
    """Make a customer and let them in."""
    if current_user.is_authenticated:
        return redirect(next_page())
    form = SignUpForm()
    if form.validate_on_submit():
        user = User(name=form.name.data, username=form.username.data, mobile=form.mobile.data)
        user.set_password(form.password.data)
        db.session.add(user)
        db.session.commit()
        return let_in(user)
    return render_template("sign_up.html", form=form)


def let_in(user: User) -> ResponseReturnValue:
    """Log in, and go on to `next`; by way of a code first where `SMSVERIFY_LOGIN_GATE` is on."""
    answer = smsverify.login_user(user)
    return redirect(next_page()) if answer is True else answer


@accounts.post("/logout")
def logout() -> Response:
    """Leave."""
    logout_user()
    return redirect(url_for("shop.home"))


@accounts.get("/profile")
@login_required
def profile() -> str:
    """Who the customer is, and how their number stands."""
    return render_template("profile.html", status=smsverify.verifier.status(current_user))


@accounts.post("/language")
def language() -> Response:
    """Switch between Persian and English, and stay on the page."""
    choose_language(request.form.get("language"))
    return redirect(next_page())


def next_page() -> str:
    """The page that `next` asks for if it is a path of this shop, otherwise home.

    `//host`, a backslash and control characters are how a path becomes another site.
    """
    wanted = request.values.get("next", "")
    if re.fullmatch(r"/(?![/\\])[^\\\x00-\x20\x7f]*", wanted):
        return wanted
    return url_for("shop.home")
