"""The demo customers of a new database, with their orders, invoices and domains."""

from __future__ import annotations

from datetime import date, timedelta

from .extensions import db
from .models import PLANS, Domain, Invoice, Order, User, today

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

    _add_order(sara, "sapling", days_ago=75, months_paid=3)
    _add_order(sara, "tree", days_ago=40, months_paid=1)
    _add_order(reza, "grove", days_ago=200, months_paid=6)
    sara.domains += [
        Domain(name="atr-sara.ir", auth_code="Wv4-nQ72-kzPe", expires_on=_in_days(212)),
        Domain(name="sara-khat.com", auth_code="t9X-Lm30-Rbca", expires_on=_in_days(31)),
    ]
    reza.domains += [
        Domain(name="karimi-web.ir", auth_code="Gd8-sA15-yuKo", expires_on=_in_days(540)),
    ]
    db.session.commit()


def _add_order(user: User, plan_key: str, *, days_ago: int, months_paid: int) -> None:
    """Add a past order with an invoice for each month until now."""
    placed_on = today() - timedelta(days=days_ago)
    order = Order(user=user, plan_key=plan_key, placed_on=placed_on)
    db.session.add(order)
    for month in range(days_ago // 30 + 1):
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
