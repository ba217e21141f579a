"""Chenar, a small web hosting shop that shows how to use `flask_smsverify`.

`python -m example_app` serves it, together with a simulator that receives its text messages.

To see how the extension is used, read in this order: `create_app` below, `settings` (the
configuration), `shop` (three ways to guard a view, and events), `accounts.log_in` (the login),
`staff` and `reminders` (events that are not the customer's own) and `templates/profile.html` (the
widgets). Then continue with `flask_smsverify/__init__.py`.
"""

from __future__ import annotations

from collections.abc import Mapping

from flask import Flask, Response, render_template
from flask_wtf.csrf import CSRFError
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound

from . import accounts, database, demo_data, language, reminders, shop
from .domains import domains
from .emails import emails
from .extensions import csrf, db, login_manager, smsverify
from .models import User
from .settings import configure
from .staff import staff
from .tickets import tickets
from .wallet import wallet


def create_app(config: Mapping[str, object] | None = None) -> Flask:
    """Create the shop, and what its database lacks: tables, columns, and demo data if it is new.

    :param config: settings that override all others.
    """
    app = Flask(__name__)
    configure(app, config or {})

    db.init_app(app)
    csrf.init_app(app)
    login_manager.init_app(app)
    smsverify.init_app(app, db, user_model=User)
    smsverify.locale_getter(language.current_language)
    language.init_app(app)

    accounts.init_app(app)
    shop.init_app(app)
    reminders.init_app(app)
    for blueprint in (domains, emails, tickets, wallet, staff):
        app.register_blueprint(blueprint)
    app.after_request(_add_security_headers)
    app.register_error_handler(NotFound, _show_not_found)
    app.register_error_handler(MethodNotAllowed, _show_not_found)
    app.register_error_handler(CSRFError, _show_expired_form)

    with app.app_context():
        database.prepare()
        demo_data.add_if_empty()
    return app


def _add_security_headers(response: Response) -> Response:
    """Forbid inline code and external files. The pages of the extension need neither."""
    response.headers.setdefault(
        "Content-Security-Policy",
        "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    )
    response.headers.setdefault("Cache-Control", "no-store")
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    response.headers.setdefault("Referrer-Policy", "same-origin")
    return response


def _show_not_found(error: HTTPException) -> tuple[str, int]:
    return render_template("not_found.html"), error.code or 404


def _show_expired_form(_error: CSRFError) -> tuple[str, int]:
    return render_template("expired_form.html"), 400
