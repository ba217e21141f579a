"""The models of the shop: customers, orders, invoices and domains.

The extension needs no change to them. It reads the attributes `mobile` and `groups` of `User`, and
adds its own tables to the same database.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime

from flask_login import UserMixin
from sqlalchemy import JSON, ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column, relationship
from werkzeug.security import check_password_hash, generate_password_hash

from .extensions import db


def today() -> date:
    """Return the current date in UTC."""
    return datetime.now(UTC).date()


@dataclass(frozen=True)
class Plan:
    """A hosting plan.

    `name` and `description` are in Persian and English. `monthly` is the price in toman.
    """

    key: str
    name: tuple[str, str]
    description: tuple[str, str]
    disk_gb: int
    sites: int
    monthly: int


PLANS = {
    plan.key: plan
    for plan in (
        Plan(
            "sapling",
            ("نهال", "Sapling"),
            ("برای وبلاگ و سایت شخصی", "For a blog or a personal site"),
            disk_gb=5,
            sites=1,
            monthly=95_000,
        ),
        Plan(
            "tree",
            ("درخت", "Tree"),
            ("برای فروشگاه و شرکت", "For a shop or a company"),
            disk_gb=25,
            sites=5,
            monthly=240_000,
        ),
        Plan(
            "grove",
            ("باغ", "Grove"),
            ("برای چند سایت پربازدید", "For several busy sites"),
            disk_gb=100,
            sites=20,
            monthly=680_000,
        ),
    )
}


class User(UserMixin, db.Model):
    """A customer. `mobile` is as typed until it is confirmed, and then E.164."""

    id: Mapped[int] = mapped_column(primary_key=True)
    username: Mapped[str] = mapped_column(String(40), unique=True)
    name: Mapped[str] = mapped_column(String(80))
    password_hash: Mapped[str] = mapped_column(String(255))
    mobile: Mapped[str | None] = mapped_column(String(20))
    groups: Mapped[list[str]] = mapped_column(JSON, default=list)

    orders: Mapped[list[Order]] = relationship(back_populates="user", order_by="Order.id.desc()")
    invoices: Mapped[list[Invoice]] = relationship(
        back_populates="user", order_by="Invoice.id.desc()"
    )
    domains: Mapped[list[Domain]] = relationship(back_populates="user", order_by="Domain.name")

    @property
    def is_staff(self) -> bool:
        """Return whether the user may open the staff pages of the extension."""
        return "staff" in self.groups

    def set_password(self, password: str) -> None:
        """Store the hash of a password."""
        self.password_hash = generate_password_hash(password)

    def has_password(self, password: str) -> bool:
        """Return whether this is the password."""
        return check_password_hash(self.password_hash, password)


class Order(db.Model):
    """An order of a hosting plan."""

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("user.id"))
    plan_key: Mapped[str] = mapped_column(String(20))
    placed_on: Mapped[date] = mapped_column(default=today)

    user: Mapped[User] = relationship(back_populates="orders")
    invoices: Mapped[list[Invoice]] = relationship(back_populates="order")

    @property
    def plan(self) -> Plan:
        """Return the ordered plan."""
        return PLANS[self.plan_key]

    @property
    def is_active(self) -> bool:
        """Return whether all invoices are paid."""
        return all(invoice.paid_on for invoice in self.invoices)


class Invoice(db.Model):
    """The invoice of one month of an order.

    `amount` is in toman. `paid_on` is None until the invoice is paid.
    """

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("user.id"))
    order_id: Mapped[int] = mapped_column(ForeignKey("order.id"))
    amount: Mapped[int]
    due_on: Mapped[date]
    paid_on: Mapped[date | None]

    user: Mapped[User] = relationship(back_populates="invoices")
    order: Mapped[Order] = relationship(back_populates="invoices")


class Domain(db.Model):
    """A registered domain. Its `auth_code` allows a transfer to another registrar."""

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("user.id"))
    name: Mapped[str] = mapped_column(String(80), unique=True)
    auth_code: Mapped[str] = mapped_column(String(40))
    expires_on: Mapped[date]

    user: Mapped[User] = relationship(back_populates="domains")
