"""Chenar, a small hosting shop that shows what `flask_smsverify` does.

`python -m example_app` starts it beside a phone that receives its messages. To see how the
extension is put to work, read in this order: `create_app` below, `settings` (what is configured),
`shop` (what is guarded, in each of the three ways) and `templates/profile.html` (the widgets).
"""

from __future__ import annotations

from collections.abc import Mapping

from flask import Flask, Response, render_template
from flask_wtf.csrf import CSRFError
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound

from . import accounts, demo_data, language, shop
from .extensions import csrf, db, login_manager, smsverify
from .models import User
from .settings import configure


def create_app(config: Mapping[str, object] | None = None) -> Flask:
    """The shop, with its database made and filled if it is new. `config` wins over all else."""
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
    app.after_request(_add_security_headers)
    app.register_error_handler(NotFound, _nothing_here)
    app.register_error_handler(MethodNotAllowed, _nothing_here)
    app.register_error_handler(CSRFError, _form_too_old)

    with app.app_context():
        db.create_all()
        demo_data.fill_if_empty()
    return app


def _add_security_headers(response: Response) -> Response:
    """Nothing from elsewhere, nothing inline: the extension's pages work under it as well."""
    response.headers.setdefault(
        "Content-Security-Policy",
        "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    )
    response.headers.setdefault("Cache-Control", "no-store")
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    response.headers.setdefault("Referrer-Policy", "same-origin")
    return response


def _nothing_here(error: HTTPException) -> tuple[str, int]:
    return render_template("not_found.html"), error.code or 404


def _form_too_old(_error: CSRFError) -> tuple[str, int]:
    return render_template("form_too_old.html"), 400
