"""A simulated registrar of domains. It charges the shop's credit, and refuses if it is too low.

Staff add credit on the staff page. A real shop would call the API of its registrar here.
"""

from __future__ import annotations

from .extensions import db
from .models import Domain, RegistrarAccount

PRICES = {"ir": 150_000, "com": 900_000}
"""Price of a year in toman, by top-level domain."""

NO_CREDIT = "اعتبار شما نزد ثبت‌کنندهٔ دامنه کافی نیست"
NAME_TAKEN = "این دامنه قبلاً ثبت شده است"


class RegistrarError(Exception):
    """The registrar refused an order. The message is the reason, in Persian for the staff."""


def price_of(name: str) -> int:
    """Return the price of a year in toman."""
    return PRICES[name.rpartition(".")[2]]


def is_taken(name: str) -> bool:
    """Return whether a domain is registered."""
    return db.session.scalar(db.select(Domain.id).filter_by(name=name)) is not None


def register(name: str, price: int) -> None:
    """Register a domain for a year.

    :raises RegistrarError: there is too little credit, or the domain is registered.
    """
    _charge(price)
    # The charge locks the account, so no other request registers the name at the same time.
    if is_taken(name):
        add_credit(price)
        raise RegistrarError(NAME_TAKEN)


def renew(price: int) -> None:
    """Renew a domain for a year.

    :raises RegistrarError: there is too little credit.
    """
    _charge(price)


def _charge(price: int) -> None:
    charged = db.session.execute(
        db.update(RegistrarAccount)
        .where(RegistrarAccount.credit >= price)
        .values(credit=RegistrarAccount.credit - price)
    )
    if charged.rowcount == 0:
        raise RegistrarError(NO_CREDIT)


def add_credit(amount: int) -> None:
    """Add credit to the shop's account."""
    db.session.execute(db.update(RegistrarAccount).values(credit=RegistrarAccount.credit + amount))


def credit() -> int:
    """Return the credit of the shop's account in toman."""
    return db.session.scalar(db.select(RegistrarAccount.credit)) or 0
