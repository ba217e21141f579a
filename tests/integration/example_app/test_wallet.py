"""The example shop's wallet, and its e-mails to customers."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from example_shop import Browser, log_in
from flask import Flask
from parallel import race

from example_app.extensions import db
from example_app.models import Invoice, User


@pytest.fixture
def open_shop(make_shop: Callable[..., Flask], filled_database: Path, tmp_path: Path) -> Flask:
    """A shop that asks for no code."""
    shutil.copy(filled_database, tmp_path / "shop.sqlite")
    return make_shop(
        SMSVERIFY_SENDERS={"memory": {"gateway": "memory"}},
        SMSVERIFY_AREAS=dict.fromkeys(("orders", "billing", "wallet", "emails"), False),
    )


@pytest.fixture
def sara(open_shop: Flask) -> Browser:
    browser = Browser(open_shop)
    browser.open("/login")
    browser.press("English")
    browser.press("Sign in", username="sara", password="sara-demo")
    return browser


def balance(shop: Flask) -> int:
    with shop.app_context():
        found: int = db.session.scalars(db.select(User.balance).filter_by(username="sara")).one()
    return found


def test_an_invoice_is_paid_from_the_wallet_when_the_balance_covers_it(
    open_shop: Flask, sara: Browser
) -> None:
    assert "Pay from wallet" not in sara.open("/invoices")
    sara.open("/wallet")
    assert "was added to your wallet" in sara.press("Add funds", amount="240000")
    sara.open("/invoices")
    assert "Payment successful" in sara.press("Pay from wallet", within="Tree")
    assert balance(open_shop) == 0
    assert "Wallet: 0 toman" in sara.page
    assert "Pay from wallet" not in sara.page


def test_an_invoice_that_is_paid_otherwise_leaves_the_balance_alone(
    open_shop: Flask, sara: Browser
) -> None:
    sara.open("/wallet")
    sara.press("Add funds", amount="240000")
    sara.open("/invoices")
    assert "Payment successful" in sara.press("Pay", within="Tree")
    assert balance(open_shop) == 240_000


@pytest.mark.parametrize("amount", ["0", "-5", "abc", "100000001"])
def test_an_amount_that_makes_no_sense_is_refused(
    open_shop: Flask, sara: Browser, amount: str
) -> None:
    sara.open("/wallet")
    assert "Enter 1 to 100,000,000 toman." in sara.press("Add funds", amount=amount)
    assert balance(open_shop) == 0


@pytest.mark.race
def test_the_same_money_pays_one_of_two_invoices_at_once(
    make_shop: Callable[..., Flask], filled_database: Path, tmp_path: Path
) -> None:
    shutil.copy(filled_database, tmp_path / "shop.sqlite")
    shop = make_shop(
        WTF_CSRF_ENABLED=False,
        SMSVERIFY_SENDERS={"memory": {"gateway": "memory"}},
        SMSVERIFY_AREAS={"billing": False},
    )
    with shop.app_context():
        user = db.session.scalars(db.select(User).filter_by(username="sara")).one()
        order = user.orders[0]
        invoices = [
            Invoice(user=user, order=order, amount=100, due_on=order.placed_on) for _ in range(4)
        ]
        user.balance = 100
        db.session.add_all(invoices)
        db.session.commit()
        paths = [f"/invoices/{invoice.id}/pay" for invoice in invoices]
    clients = [log_in(shop, "sara") for _ in paths]

    def pay(number: int) -> None:
        clients[number].post(paths[number], data={"wallet": "1"})

    assert race(len(paths), pay) == {"ok": 4}
    assert balance(shop) == 0
    with shop.app_context():
        paid = db.select(Invoice).where(Invoice.amount == 100, Invoice.paid_on.is_not(None))
        assert len(db.session.scalars(paid).all()) == 1


def test_a_customer_reads_what_the_shop_has_sent(sara: Browser) -> None:
    sara.open("/invoices")
    sara.press("Pay", within="Tree")
    assert "Receipt" in sara.open("/emails")
    assert "We received 240,000 tomans" in sara.open("/emails/1")
