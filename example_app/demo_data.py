"""The customers and the goods that a new shop starts with."""

from __future__ import annotations

from datetime import date, timedelta

from .extensions import db
from .models import PLANS, Domain, Invoice, Order, User, today

PASSWORDS = {"sara": "sara-demo", "reza": "reza-demo", "newcomer": "newcomer-demo"}
"""Username → password of the demo's customers, for the start-up banner and the login page."""


def fill_if_empty() -> None:
    """Write the demo's customers into a database that has none."""
    if db.session.scalar(db.select(User.id).limit(1)) is not None:
        return
    sara = User(username="sara", name="سارا محمدی", mobile="09123456789")
    reza = User(username="reza", name="رضا کریمی", groups=["resellers"])
    newcomer = User(username="newcomer", name="نیما رستگار")
    for user in (sara, reza, newcomer):
        user.set_password(PASSWORDS[user.username])
    db.session.add_all((sara, reza, newcomer))

    _take(sara, "sapling", days_ago=75, months_paid=3)
    _take(sara, "tree", days_ago=40, months_paid=1)
    _take(reza, "grove", days_ago=200, months_paid=6)
    sara.domains += [
        Domain(name="atr-sara.ir", auth_code="Wv4-nQ72-kzPe", expires_on=_in_days(212)),
        Domain(name="sara-khat.com", auth_code="t9X-Lm30-Rbca", expires_on=_in_days(31)),
    ]
    reza.domains += [
        Domain(name="karimi-web.ir", auth_code="Gd8-sA15-yuKo", expires_on=_in_days(540)),
    ]
    db.session.commit()


def _take(user: User, plan_key: str, *, days_ago: int, months_paid: int) -> None:
    """An order of the past, with an invoice for each month until now."""
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
