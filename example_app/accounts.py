"""Sign-up, login, the profile page, passwords and the choice of language."""

from __future__ import annotations

import re
import secrets

from flask import Blueprint, Flask, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import (
    current_user,
    fresh_login_required,
    login_required,
    logout_user,
    user_logged_in,
)
from werkzeug.wrappers import Response

from flask_smsverify.signals import signed_in

from . import demo_data
from .extensions import db, login_manager, smsverify
from .forms import AccountPasswordForm, LoginForm, SignUpForm
from .language import choose_language, current_language, tr
from .models import User

accounts = Blueprint("accounts", __name__)


def init_app(app: Flask) -> None:
    """Register the blueprint, and set the login page in Flask-Login."""
    login_manager.login_view = "accounts.login"
    # The extension asks for a fresh login before a confirmed number is changed.
    login_manager.refresh_view = "accounts.login"
    login_manager.login_message = None
    login_manager.needs_refresh_message = None
    user_logged_in.connect(announce_login, app)
    signed_in.connect(announce_registration, app)
    app.register_blueprint(accounts)


def announce_login(_app: Flask, user: User) -> None:
    """Inform the staff of a login, with a password or with a mobile."""
    user.language = current_language()
    if user.is_staff:
        smsverify.notify("staff.logged_in", staff_name=user.name, ip_address=request.remote_addr)
    else:
        smsverify.notify("client.logged_in", client_name=user.name, ip_address=request.remote_addr)
    db.session.commit()


def announce_registration(_app: Flask, *, user_id: str, is_new: bool, **_values: object) -> None:
    """Welcome a customer who signed up with a mobile, and inform the staff."""
    if is_new:
        user = load_user(user_id)
        smsverify.notify("client.registered", user, client_name=user.name)
        db.session.commit()


@smsverify.user_locale_getter
def language_of(user: User) -> str:
    """Return the language of text messages to a customer, also of those that staff send."""
    return user.language


@smsverify.user_factory
def create_customer(_mobile: str) -> User:
    """Return a customer who signs in with a mobile for the first time, and has no password."""
    username = f"u{secrets.token_hex(6)}"
    return User(
        name=tr("مشتری جدید", "New customer"),
        username=username,
        password_hash="",
        language=current_language(),
    )


@login_manager.user_loader
def load_user(user_id: str) -> User | None:
    """Return the customer with this id."""
    return db.session.get(User, int(user_id))


@smsverify.staff_required
def is_staff() -> bool:
    """Return whether the current user may open the extension's staff pages."""
    return current_user.is_staff


@accounts.route("/login", methods=["GET", "POST"])
def login() -> ResponseReturnValue:
    """Show the login form, and log a customer in."""
    # The extension sends customers here whose login is too old to change a confirmed number.
    # Flask-Login's `login_fresh` ignores the age, so it would send them back without the form.
    if current_user.is_authenticated and smsverify.is_login_fresh():
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
        # Without a user, only the staff get a text, because the number is not confirmed yet.
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


@accounts.route("/profile/password", methods=["GET", "POST"])
@fresh_login_required
def change_password() -> ResponseReturnValue:
    """Show the form for a new password, and store the password."""
    form = AccountPasswordForm()
    if form.validate_on_submit():
        current_user.set_password(form.new_password.data)
        smsverify.notify("client.password_changed", current_user)
        db.session.commit()
        flash(tr("رمز عبور شما تغییر کرد.", "Your password was changed."))
        return redirect(url_for(".profile"))
    return render_template("password.html", form=form)


@accounts.post("/language")
def language() -> Response:
    """Change the language of the pages and of text messages, and return to the same page."""
    choose_language(request.form.get("language"))
    if current_user.is_authenticated:
        current_user.language = current_language()
        db.session.commit()
    return redirect(next_url())


def next_url() -> str:
    """Return the path in `next` if it is a path of this shop, otherwise the home page.

    Browsers read `//host`, and paths with backslashes or control characters, as another site.
    """
    path = request.values.get("next", "")
    if re.fullmatch(r"/(?![/\\])[^\\\x00-\x20\x7f]*", path):
        return path
    return url_for("shop.home")
