"""Domains: the customer registers, renews and transfers them.

The area `domains` is guarded by endpoint patterns in `SMSVERIFY_AREAS`. Only the transfer code
needs a decorator, because it demands a recent confirmation.
"""

from __future__ import annotations

import secrets
from datetime import timedelta

from flask import Blueprint, flash, redirect, render_template, request, url_for
from flask_login import current_user, login_required
from werkzeug.wrappers import Response

from flask_smsverify import require_verified_mobile

from . import registrar
from .extensions import db, smsverify
from .forms import DomainForm
from .language import tr
from .models import DOMAIN_PERIOD, Domain, DomainOrder, User, change_state, today
from .registrar import RegistrarError

domains = Blueprint("domains", __name__, url_prefix="/domains")

MAX_PERIOD = timedelta(days=10 * 365)
"""Registries register no domain for longer."""


@domains.get("")
@login_required
def list_domains() -> str:
    """Show the customer's domains, and the orders that the registrar has refused."""
    waiting = [order for order in current_user.domain_orders if order.state == "failed"]
    return render_template(
        "domains.html",
        domains=current_user.domains,
        waiting=waiting,
        price_of=registrar.price_of,
        renewing={order.name for order in waiting if order.action == "renew"},
    )


@domains.route("/new", methods=["GET", "POST"])
@login_required
def register() -> str | Response:
    """Show the form for a name, and register the domain. The example has no payment provider."""
    form = DomainForm()
    if form.validate_on_submit():
        name = form.name.data
        if _has_waiting_order(name):
            flash(_already_ordered(name), "error")
        elif place_order(current_user, "register", name).state == "done":
            flash(tr(f"دامنهٔ {name} ثبت شد.", f"{name} is registered."))
        else:
            flash(
                tr(
                    f"ثبت دامنهٔ {name} انجام نشد. پشتیبانی سفارش شما را پیگیری می‌کند.",
                    f"{name} could not be registered. Support will complete your order.",
                ),
                "error",
            )
        db.session.commit()
        return redirect(url_for(".list_domains"))
    return render_template("new_domain.html", form=form, prices=registrar.PRICES)


@domains.post("/<name>/renew")
@login_required
def renew(name: str) -> Response:
    """Renew a domain for a year."""
    domain = _find_own_domain(name)
    is_current = request.form.get("expires_on") == domain.expires_on.isoformat() and _lock(domain)
    if _has_waiting_order(name):
        flash(_already_ordered(name), "error")
    elif not is_current:
        # The page was rendered before the last renewal, for example after a second click.
        flash(tr("این دامنه به‌تازگی تمدید شده است.", "This domain was just renewed."), "error")
    elif domain.renewed_until > today() + MAX_PERIOD:
        flash(
            tr(
                "دامنه را حداکثر برای ۱۰ سال می‌توان ثبت کرد.",
                "A domain can be registered for at most 10 years.",
            ),
            "error",
        )
    elif place_order(current_user, "renew", name).state == "done":
        flash(tr(f"دامنهٔ {name} تمدید شد.", f"{name} is renewed."))
    else:
        flash(
            tr(
                f"تمدید دامنهٔ {name} هنوز انجام نشده است. پشتیبانی آن را پیگیری می‌کند.",
                f"{name} is not renewed yet. Support will complete the renewal.",
            ),
            "error",
        )
    db.session.commit()
    return redirect(url_for(".list_domains"))


@domains.get("/<name>/transfer")
@login_required
@require_verified_mobile(area="domains", within=timedelta(minutes=10))
def transfer(name: str) -> str:
    """Show the transfer code of a domain.

    Anyone with this code can take over the domain, so the confirmation must be at most 10 minutes
    old.
    """
    return render_template("transfer.html", domain=_find_own_domain(name))


def _find_own_domain(name: str) -> Domain:
    return db.first_or_404(db.select(Domain).filter_by(name=name, user_id=current_user.id))


def _lock(domain: Domain) -> bool:
    """Lock a domain until the commit, and return whether it still has this expiry date.

    A request that renews the domain at the same time waits here, and then finds another date.
    """
    locked = db.session.execute(
        db.update(Domain)
        .where(Domain.id == domain.id, Domain.expires_on == domain.expires_on)
        .values(expires_on=domain.expires_on)
    )
    return locked.rowcount == 1


def _has_waiting_order(name: str) -> bool:
    return any(
        order.name == name and order.state == "failed" for order in current_user.domain_orders
    )


def _already_ordered(name: str) -> str:
    return tr(
        f"سفارش قبلی شما برای {name} هنوز در حال پیگیری است.",
        f"Support is still completing your earlier order for {name}.",
    )


# --- orders of domains, also for the staff --------------------------------------------------------


def place_order(user: User, action: str, name: str) -> DomainOrder:
    """Place an order, pass it to the registrar, and queue the texts. The caller commits.

    :param action: `register` or `renew`.
    """
    order = DomainOrder(
        user=user, action=action, name=name, amount=registrar.price_of(name), state="done"
    )
    db.session.add(order)
    try:
        _carry_out(order)
    except RegistrarError as error:
        order.state = "failed"
        smsverify.notify(
            "domain.registration_failed" if action == "register" else "domain.renewal_failed",
            user,
            domain_name=name,
            client_name=user.name,
            reason=error,
        )
    return order


def retry_order(order: DomainOrder) -> bool:
    """Pass an order to the registrar again, and return whether it was waiting. The caller commits.

    :raises RegistrarError: the registrar still refuses it. The caller rolls back.
    """
    if not change_state(order, old="failed", new="done"):
        return False
    _carry_out(order)
    return True


def _carry_out(order: DomainOrder) -> None:
    if order.action == "register":
        registrar.register(order.name, order.amount)
        domain = Domain(
            user=order.user,
            name=order.name,
            auth_code=secrets.token_urlsafe(9),
            expires_on=today() + DOMAIN_PERIOD,
        )
        db.session.add(domain)
        event = "domain.registered"
    else:
        registrar.renew(order.amount)
        domain = db.session.scalars(db.select(Domain).filter_by(name=order.name)).one()
        domain.expires_on = domain.renewed_until
        event = "domain.renewed"
    smsverify.notify(
        event,
        order.user,
        domain_name=domain.name,
        expiry_date=domain.expires_on,
        client_name=order.user.name,
    )
