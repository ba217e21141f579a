"""The demo shop: it starts by itself, speaks two languages, and is guarded where it says it is."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from example_app import create_app
from example_app.extensions import db
from example_app.models import Invoice, Order, User
from example_app.settings import kept_secret_key
from flask_smsverify.models import Verification
from flask_smsverify.testing import outbox

MakeShop = Callable[..., Flask]


@pytest.fixture(scope="module")
def filled_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database as the first start leaves it; hashing its passwords takes a while."""
    path = tmp_path_factory.mktemp("filled") / "shop.sqlite"
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("EXAMPLE_DATABASE", str(path))
        app = create_app({"TESTING": True, "SECRET_KEY": "only for tests"})
    with app.app_context():
        db.engine.dispose()
    return path


@pytest.fixture
def make_shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeShop]:
    """Build shops on a database of the test's own, from an environment without settings."""
    for name in list(os.environ):
        if name.startswith("SMSVERIFY_") or name == "SECRET_KEY":
            monkeypatch.delenv(name)
    monkeypatch.setenv("EXAMPLE_DATABASE", str(tmp_path / "shop.sqlite"))
    made = []

    def make(**config: object) -> Flask:
        app = create_app({"TESTING": True, "SECRET_KEY": "only for tests", **config})
        made.append(app)
        return app

    yield make
    for app in made:
        with app.app_context():
            db.engine.dispose()


@pytest.fixture
def shop(make_shop: MakeShop, filled_database: Path, tmp_path: Path) -> Flask:
    """A shop whose messages are kept for the test, and whose forms want no token."""
    shutil.copy(filled_database, tmp_path / "shop.sqlite")
    return make_shop(WTF_CSRF_ENABLED=False, SMSVERIFY_SENDERS={"kept": {"gateway": "memory"}})


@pytest.fixture
def visitor(shop: Flask) -> FlaskClient:
    """Nobody yet."""
    return shop.test_client()


def log_in(shop: Flask, username: str) -> FlaskClient:
    client = shop.test_client()
    answer = client.post("/login", data={"username": username, "password": f"{username}-demo"})
    assert answer.status_code == 302
    return client


def verify(shop: Flask, client: FlaskClient) -> None:
    with outbox(shop) as box:
        client.post("/verify-mobile/send", data={"channel": "sms"})
        client.post("/verify-mobile/check", data={"code": box.last.code})


GUARDED = {
    "orders": "/orders",
    "billing": "/invoices",
    "domains": "/domains",
}
PAGES = [*GUARDED.values(), "/orders/new", "/profile", "/domains/karimi-web.ir/transfer"]


def test_a_new_database_is_made_and_filled_once(make_shop, tmp_path):
    for _ in range(2):
        app = make_shop()
        with app.app_context():
            users = db.session.scalars(db.select(User).order_by(User.id)).all()
            assert [(user.username, user.mobile) for user in users] == [
                ("sara", "09123456789"),
                ("reza", None),
                ("newcomer", None),
            ]
    assert (tmp_path / "shop.sqlite").exists()


@pytest.mark.parametrize("path", ["/", "/login", "/sign-up", "/nowhere"])
def test_a_visitor_reads_every_page_in_both_languages(visitor, path):
    assert '<html lang="fa" dir="rtl">' in visitor.get(path).text
    visitor.post("/language", data={"language": "en"})
    assert '<html lang="en" dir="ltr">' in visitor.get(path).text


@pytest.mark.parametrize("path", ["/", *PAGES])
def test_a_customer_reads_every_page_in_both_languages(shop, path):
    reza = log_in(shop, "reza")
    persian = reza.get(path)
    assert persian.status_code == 200
    assert '<html lang="fa" dir="rtl">' in persian.text
    reza.post("/language", data={"language": "en"})
    english = reza.get(path)
    assert '<html lang="en" dir="ltr">' in english.text
    assert not re.search("[آ-ی۰-۹]", english.text.replace("رضا کریمی", "").replace("فارسی", ""))


def test_the_extensions_page_follows_the_language_of_the_shop(shop):
    sara = log_in(shop, "sara")
    assert '<html lang="fa" dir="rtl">' in sara.get("/verify-mobile/").text
    sara.post("/language", data={"language": "en"})
    page = sara.get("/verify-mobile/").text
    assert '<html lang="en" dir="ltr">' in page
    assert re.search(r'class="sv-panel" lang="en"', page)


def test_a_choice_of_language_stays_on_the_page_where_it_was_made(visitor):
    page = visitor.get("/login?next=/orders").text
    [back] = re.findall(r'name="next" value="([^"]+)"', page)
    answer = visitor.post("/language", data={"language": "en", "next": back})
    assert answer.location == "/login?next=/orders"


def test_the_login_gate_asks_for_a_code_before_it_lets_anyone_in(
    make_shop, filled_database, tmp_path, monkeypatch
):
    monkeypatch.setenv("SMSVERIFY_LOGIN_GATE", "true")
    monkeypatch.setenv("SMSVERIFY_SENDERS__kept__gateway", "memory")
    shutil.copy(filled_database, tmp_path / "shop.sqlite")
    shop = make_shop(WTF_CSRF_ENABLED=False)
    sara = log_in(shop, "sara")
    assert sara.get("/profile").location.startswith("/login?")
    verify(shop, sara)
    assert sara.get("/profile").status_code == 200


def test_a_wrong_password_lets_nobody_in(visitor):
    answer = visitor.post("/login", data={"username": "sara", "password": "reza-demo"})
    assert answer.status_code == 200
    assert visitor.get("/profile").status_code == 302


def test_passwords_are_kept_as_hashes(shop):
    with shop.app_context():
        sara = db.session.scalar(db.select(User).filter_by(username="sara"))
        assert "sara-demo" not in sara.password_hash
        assert sara.has_password("sara-demo")


def test_login_goes_on_to_the_page_that_asked_for_it(visitor):
    answer = visitor.get("/profile")
    assert answer.location == "/login?next=%2Fprofile"
    answer = visitor.post(answer.location, data={"username": "sara", "password": "sara-demo"})
    assert answer.location == "/profile"


@pytest.mark.parametrize(
    "elsewhere",
    ["https://evil.example/", "//evil.example/", "/\\evil.example", "/\t/evil.example", "evil"],
)
def test_login_goes_nowhere_but_this_shop(visitor, elsewhere):
    answer = visitor.post(
        "/login",
        query_string={"next": elsewhere},
        data={"username": "sara", "password": "sara-demo"},
    )
    assert answer.location == "/"


def test_login_wants_the_forms_token(make_shop):
    client = make_shop().test_client()
    answer = client.post("/login", data={"username": "sara", "password": "sara-demo"})
    assert answer.status_code == 400
    token = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', client.get("/login").text)[1]
    answer = client.post(
        "/login", data={"csrf_token": token, "username": "sara", "password": "sara-demo"}
    )
    assert answer.status_code == 302


def test_signing_up_makes_a_customer_and_lets_them_in(shop, visitor):
    answer = visitor.post(
        "/sign-up",
        data={"name": "مینا", "username": "mina", "password": "long enough", "mobile": ""},
    )
    assert answer.location == "/"
    assert "مینا" in visitor.get("/profile").text
    with shop.app_context():
        assert db.session.scalar(db.select(User.mobile).filter_by(username="mina")) is None


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("name", " "),
        ("username", "sara"),
        ("username", "م"),
        ("password", "short"),
        ("mobile", "1"),
    ],
)
def test_signing_up_says_what_is_wrong(shop, visitor, field, wrong):
    right = {"name": "Mina", "username": "mina", "password": "long enough", "mobile": ""}
    page = visitor.post("/sign-up", data={**right, field: wrong}).text
    assert re.findall(r'id="(\w+)-error"', page) == [field]
    with shop.app_context():
        assert db.session.scalar(db.select(User.id).filter_by(username="mina")) is None


def test_logging_out_closes_the_account(shop):
    sara = log_in(shop, "sara")
    sara.post("/logout")
    assert sara.get("/profile").status_code == 302


@pytest.mark.parametrize("path", [*GUARDED.values(), "/orders/new"])
def test_an_unverified_customer_is_sent_to_the_extensions_page(shop, path):
    answer = log_in(shop, "sara").get(path)
    assert answer.status_code == 302
    assert answer.location.startswith("/verify-mobile/?")


@pytest.mark.parametrize("path", [*GUARDED.values(), "/orders/new"])
def test_an_anonymous_visitor_is_sent_to_the_login_page(visitor, path):
    assert visitor.get(path).location.startswith("/login?next=")


@pytest.mark.parametrize("path", PAGES)
def test_a_reseller_is_exempt(shop, path):
    assert log_in(shop, "reza").get(path).status_code == 200


@pytest.mark.parametrize("area", GUARDED)
def test_each_area_is_switched_off_on_its_own(make_shop, monkeypatch, area):
    monkeypatch.setenv(f"SMSVERIFY_AREAS__{area}", "false")
    sara = log_in(make_shop(WTF_CSRF_ENABLED=False), "sara")
    opened = [name for name, path in GUARDED.items() if sara.get(path).status_code == 200]
    assert opened == [area]


def test_a_code_opens_every_area(shop):
    sara = log_in(shop, "sara")
    verify(shop, sara)
    for path in GUARDED.values():
        assert sara.get(path).status_code == 200


def test_the_transfer_code_of_a_domain_wants_a_fresh_proof(shop):
    sara = log_in(shop, "sara")
    path = "/domains/atr-sara.ir/transfer"
    assert sara.get(path).location.startswith("/verify-mobile/?")
    verify(shop, sara)
    assert "Wv4-nQ72-kzPe" in sara.get(path).text


def test_an_older_proof_opens_the_domains_but_not_their_transfer_codes(shop):
    sara = log_in(shop, "sara")
    verify(shop, sara)
    with shop.app_context():
        eleven_minutes_ago = datetime.now(UTC) - timedelta(minutes=11)
        db.session.execute(db.update(Verification).values(verified_at=eleven_minutes_ago))
        db.session.commit()
    assert sara.get("/domains").status_code == 200
    assert sara.get("/domains/atr-sara.ir/transfer").location.startswith("/verify-mobile/?")


def test_nobody_sees_the_transfer_code_of_anothers_domain(shop):
    assert log_in(shop, "reza").get("/domains/atr-sara.ir/transfer").status_code == 404


def test_an_order_brings_an_invoice_and_paying_it_starts_the_service(shop):
    reza = log_in(shop, "reza")
    assert reza.post("/orders/new", data={"plan": "sapling"}).location == "/invoices"
    with shop.app_context():
        order = db.session.scalars(db.select(Order).order_by(Order.id.desc())).first()
        assert (order.user.username, order.plan_key, order.active) == ("reza", "sapling", False)
        invoice_id = order.invoices[0].id
    reza.post(f"/invoices/{invoice_id}/pay")
    with shop.app_context():
        assert db.session.get(Invoice, invoice_id).order.active


def test_nobody_pays_anothers_invoice(shop):
    with shop.app_context():
        unpaid = db.session.scalar(
            db.select(Invoice.id)
            .join(User)
            .filter(User.username == "sara", Invoice.paid_on.is_(None))
        )
    assert log_in(shop, "reza").post(f"/invoices/{unpaid}/pay").status_code == 404


def test_an_unverified_customer_cannot_pay_by_post(shop):
    with shop.app_context():
        unpaid = db.session.scalar(db.select(Invoice.id).filter(Invoice.paid_on.is_(None)))
    answer = log_in(shop, "sara").post(f"/invoices/{unpaid}/pay")
    assert answer.location.startswith("/verify-mobile/")
    with shop.app_context():
        assert db.session.get(Invoice, unpaid).paid_on is None


def test_the_profile_shows_the_status_card_and_the_way_to_change_the_number(shop):
    page = log_in(shop, "sara").get("/profile").text
    assert "sv-card" in page
    assert "/verify-mobile/mobile?next=/profile" in page


def test_every_page_forbids_what_is_not_its_own(shop):
    sara = log_in(shop, "sara")
    for path in ("/", "/profile", "/verify-mobile/", "/verify-mobile/mobile"):
        answer = sara.get(path)
        assert answer.headers["Content-Security-Policy"].startswith("default-src 'self';")
        assert not re.search(r"<style|<script(?![^>]*src=)|\sstyle=|\son\w+=", answer.text)
        assert not re.search(r'(?:src|href)="https?://(?!127\.0\.0\.1:)', answer.text)


def test_without_senders_of_its_own_the_shop_uses_the_simulator(make_shop):
    config = make_shop().config
    assert list(config["SMSVERIFY_SENDERS"]) == ["raygan", "wikipayam"]
    assert config["SMSVERIFY_SIMULATOR_URL"] == "http://127.0.0.1:8025"


def test_senders_in_the_environment_take_the_simulators_place(make_shop, monkeypatch):
    senders = {"mine": {"gateway": "memory"}}
    monkeypatch.setenv("SMSVERIFY_SENDERS", json.dumps(senders))
    config = make_shop().config
    assert config["SMSVERIFY_SENDERS"] == senders
    assert "SMSVERIFY_SIMULATOR_URL" not in config


def test_nested_keys_of_the_environment_reach_into_the_senders(make_shop, monkeypatch):
    monkeypatch.setenv("SMSVERIFY_SENDERS__mine__gateway", "wikipayam")
    monkeypatch.setenv("SMSVERIFY_SENDERS__mine__token", "secret")
    monkeypatch.setenv("SMSVERIFY_SENDERS__mine__line", "30001")
    assert make_shop().config["SMSVERIFY_SENDERS"] == {
        "mine": {"gateway": "wikipayam", "token": "secret", "line": 30001}
    }


def test_the_secret_key_is_made_once_and_is_for_its_owner_only(tmp_path):
    key = kept_secret_key(tmp_path / "instance")
    assert len(key) == 64
    assert kept_secret_key(tmp_path / "instance") == key
    mode = (tmp_path / "instance" / "secret_key").stat().st_mode
    assert stat.S_IMODE(mode) == 0o600
