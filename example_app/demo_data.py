"""The demo customers of a new database, with orders, invoices, hosting, domains and a ticket."""

from __future__ import annotations

from datetime import date, timedelta

from .extensions import db
from .models import PLANS, Domain, Invoice, Order, Service, Ticket, TicketMessage, User, today

PASSWORDS = {
    "sara": "sara-demo",
    "reza": "reza-demo",
    "newcomer": "newcomer-demo",
    "staff": "staff-demo",
}
"""Passwords of the demo customers by username. The login page shows them."""


def add_if_empty() -> None:
    """Add the demo customers to a database without customers."""
    if db.session.scalar(db.select(User.id).limit(1)) is not None:
        return
    sara = User(username="sara", name="سارا محمدی", mobile="09123456789")
    reza = User(username="reza", name="رضا کریمی", groups=["resellers"])
    newcomer = User(username="newcomer", name="نیما رستگار")
    staff = User(username="staff", name="مریم صادقی", groups=["staff"])
    users = (sara, reza, newcomer, staff)
    for user in users:
        user.set_password(PASSWORDS[user.username])
    db.session.add_all(users)

    # Sara is reminded of two invoices and a domain today, and can set up her second hosting.
    _add_order(sara, "sapling", days_ago=87, months_paid=3, domain_name="atr-sara.ir")
    _add_order(sara, "tree", days_ago=31, months_paid=1)
    _add_order(reza, "grove", days_ago=200, months_paid=6, domain_name="karimi-web.ir")
    sara.domains += [
        Domain(name="atr-sara.ir", auth_code="Wv4-nQ72-kzPe", expires_on=_in_days(212)),
        Domain(name="sara-khat.com", auth_code="t9X-Lm30-Rbca", expires_on=_in_days(15)),
    ]
    reza.domains += [
        Domain(name="karimi-web.ir", auth_code="Gd8-sA15-yuKo", expires_on=_in_days(540)),
    ]
    ticket = Ticket(user=sara, subject="سایت من کند شده است")
    question = "سلام، از دیروز صفحه‌های سایتم دیر باز می‌شوند. لطفاً بررسی کنید."
    ticket.messages.append(TicketMessage(author=sara, text=question))
    db.session.add(ticket)
    db.session.commit()


def _add_order(
    user: User, plan_key: str, *, days_ago: int, months_paid: int, domain_name: str | None = None
) -> None:
    """Add a past order with an invoice for each month until now, and its hosting if it has one."""
    placed_on = today() - timedelta(days=days_ago)
    order = Order(user=user, plan_key=plan_key, placed_on=placed_on)
    db.session.add(order)
    if domain_name is not None:
        service = Service(order=order, domain_name=domain_name)
        service.set_password("cpanel-demo")
        db.session.add(service)
    for month in range((days_ago + 3) // 30 + 1):  # three days ahead
        due_on = placed_on + timedelta(days=30 * month)
        db.session.add(
            Invoice(
                user=user,
                order=order,
                amount=PLANS[plan_key].monthly,
                due_on=due_on,
                paid_on=due_on if month < months_paid else None,
            )
        )


def _in_days(days: int) -> date:
    return today() + timedelta(days=days)
