"""The models of the shop: customers, orders, hosting, invoices, domains, tickets and e-mails.

The extension needs no change to them. It reads the attributes `mobile` and `groups` of `User`, and
adds its own tables to the same database.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from flask_login import UserMixin
from sqlalchemy import JSON, BigInteger, ForeignKey, String, Text
from sqlalchemy.orm import Mapped, mapped_column, relationship
from werkzeug.security import check_password_hash, generate_password_hash

from .extensions import db
from .language import tr


def today() -> date:
    """Return the current date in UTC."""
    return datetime.now(UTC).date()


DOMAIN_PERIOD = timedelta(days=365)
"""How long a registration or a renewal of a domain lasts."""


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


def change_state(row: Service | DomainOrder | Ticket, *, old: str, new: str) -> bool:
    """Change the state of a row, and return whether it was in the old state.

    The database compares the state, so only one of two concurrent requests gets True.
    """
    model = type(row)
    changed = db.session.execute(
        db.update(model).where(model.id == row.id, model.state == old).values(state=new)
    )
    return changed.rowcount == 1


class User(UserMixin, db.Model):
    """A customer or a member of staff.

    `mobile` is as typed until it is confirmed, and then E.164. `password_hash` is empty if the
    customer signs in with a mobile only. `language` is the language of messages. `balance` is what
    the customer has paid in advance, in toman.
    """

    id: Mapped[int] = mapped_column(primary_key=True)
    username: Mapped[str] = mapped_column(String(40), unique=True)
    name: Mapped[str] = mapped_column(String(80))
    password_hash: Mapped[str] = mapped_column(String(255))
    mobile: Mapped[str | None] = mapped_column(String(20))
    groups: Mapped[list[str]] = mapped_column(JSON, default=list)
    language: Mapped[str] = mapped_column(String(2), default="fa", server_default="fa")
    balance: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")

    orders: Mapped[list[Order]] = relationship(back_populates="user", order_by="Order.id.desc()")
    invoices: Mapped[list[Invoice]] = relationship(
        back_populates="user", order_by="Invoice.id.desc()"
    )
    domains: Mapped[list[Domain]] = relationship(back_populates="user", order_by="Domain.name")
    domain_orders: Mapped[list[DomainOrder]] = relationship(
        back_populates="user", order_by="DomainOrder.id.desc()"
    )
    tickets: Mapped[list[Ticket]] = relationship(back_populates="user", order_by="Ticket.id.desc()")
    deposits: Mapped[list[Deposit]] = relationship(order_by="Deposit.id.desc()")
    emails: Mapped[list[Email]] = relationship(order_by="Email.id.desc()")

    @property
    def is_staff(self) -> bool:
        """Return whether the user may open the staff pages of the shop and of the extension."""
        return "staff" in self.groups

    def set_password(self, password: str) -> None:
        """Store the hash of a password."""
        self.password_hash = generate_password_hash(password)

    def has_password(self, password: str) -> bool:
        """Return whether this is the password."""
        return bool(self.password_hash) and check_password_hash(self.password_hash, password)


class Order(db.Model):
    """An order of a hosting plan."""

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("user.id"))
    plan_key: Mapped[str] = mapped_column(String(20))
    placed_on: Mapped[date] = mapped_column(default=today)

    user: Mapped[User] = relationship(back_populates="orders")
    invoices: Mapped[list[Invoice]] = relationship(
        back_populates="order", order_by="Invoice.due_on"
    )
    service: Mapped[Service | None] = relationship(back_populates="order")

    @property
    def plan(self) -> Plan:
        """Return the current plan."""
        return PLANS[self.plan_key]

    @property
    def service_name(self) -> str:
        """Return the name of the hosting in the customer's language, for text messages."""
        persian, english = self.plan.name
        return tr(f"هاست {persian}", f"{english} hosting", self.user.language)

    @property
    def state(self) -> str:
        """Return the state of the service. Without one, return `unpaid` or `paid`."""
        if self.service is not None:
            return self.service.state
        return "paid" if any(invoice.paid_on for invoice in self.invoices) else "unpaid"


class Service(db.Model):
    """The web hosting of an order. The customer creates it when the first invoice is paid.

    `state` is `active`, `suspended` or `terminated`. The password opens the control panel.
    """

    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(ForeignKey("order.id"), unique=True)
    domain_name: Mapped[str] = mapped_column(String(80))
    password_hash: Mapped[str] = mapped_column(String(255))
    state: Mapped[str] = mapped_column(String(10), default="active")

    order: Mapped[Order] = relationship(back_populates="service")

    def set_password(self, password: str) -> None:
        """Store the hash of a password."""
        self.password_hash = generate_password_hash(password)


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

    @property
    def amount_text(self) -> str:
        """Return the amount in the customer's language, for text messages."""
        return tr(f"{self.amount:,} تومان", f"{self.amount:,} tomans", self.user.language)


class Domain(db.Model):
    """A registered domain. Its `auth_code` allows a transfer to another registrar."""

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("user.id"))
    name: Mapped[str] = mapped_column(String(80), unique=True)
    auth_code: Mapped[str] = mapped_column(String(40))
    expires_on: Mapped[date]

    user: Mapped[User] = relationship(back_populates="domains")

    @property
    def renewed_until(self) -> date:
        """Return when the domain would expire after a renewal."""
        return self.expires_on + DOMAIN_PERIOD


class DomainOrder(db.Model):
    """A registration or renewal that a customer paid for.

    `action` is `register` or `renew`. `state` is `done`, `cancelled`, or `failed` if the registrar
    has refused it and staff must act.
    """

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("user.id"))
    action: Mapped[str] = mapped_column(String(10))
    name: Mapped[str] = mapped_column(String(80))
    amount: Mapped[int]
    state: Mapped[str] = mapped_column(String(10))
    placed_on: Mapped[date] = mapped_column(default=today)

    user: Mapped[User] = relationship(back_populates="domain_orders")


class RegistrarAccount(db.Model):
    """The shop's account at the registrar. There is one row. `credit` is in toman."""

    id: Mapped[int] = mapped_column(primary_key=True)
    credit: Mapped[int]


class Ticket(db.Model):
    """A question to support. `state` is `open`, `answered` or `closed`."""

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("user.id"))
    subject: Mapped[str] = mapped_column(String(120))
    state: Mapped[str] = mapped_column(String(10), default="open")

    user: Mapped[User] = relationship(back_populates="tickets")
    messages: Mapped[list[TicketMessage]] = relationship(
        back_populates="ticket", order_by="TicketMessage.id"
    )


class TicketMessage(db.Model):
    """A message of a ticket, from the customer or from the staff."""

    id: Mapped[int] = mapped_column(primary_key=True)
    ticket_id: Mapped[int] = mapped_column(ForeignKey("ticket.id"))
    author_id: Mapped[int] = mapped_column(ForeignKey("user.id"))
    text: Mapped[str] = mapped_column(Text)
    written_on: Mapped[date] = mapped_column(default=today)

    ticket: Mapped[Ticket] = relationship(back_populates="messages")
    author: Mapped[User] = relationship()


class Deposit(db.Model):
    """An amount that a customer has added to the balance, in toman."""

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("user.id"))
    amount: Mapped[int]
    made_on: Mapped[date] = mapped_column(default=today)


class Email(db.Model):
    """An e-mail to a customer, in the customer's language. The shop shows it and sends none."""

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("user.id"))
    subject: Mapped[str] = mapped_column(String(120))
    text: Mapped[str] = mapped_column(Text)
    sent_on: Mapped[date] = mapped_column(default=today)
