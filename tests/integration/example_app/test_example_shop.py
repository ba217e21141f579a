"""The example shop: its start, its two languages, its forms and its guarded areas."""

from __future__ import annotations

import json
import re
import shutil
import stat
from datetime import UTC, datetime, timedelta

import pytest
from example_shop import log_in, verify

from example_app import __main__
from example_app.extensions import db
from example_app.models import Invoice, Order, User
from example_app.settings import load_secret_key
from flask_smsverify.db.models import Verification
from flask_smsverify.testing import outbox
from flask_smsverify.web.redirects import external_url

GUARDED = {
    "orders": "/orders",
    "billing": "/invoices",
    "domains": "/domains",
    "wallet": "/wallet",
    "emails": "/emails",
}
PAGES = [
    *GUARDED.values(), "/orders/new", "/orders/3", "/orders/3/password", "/profile",
    "/profile/password", "/domains/new", "/domains/karimi-web.ir/transfer", "/tickets",
    "/tickets/new",
]  # fmt: skip


def test_a_new_database_gets_the_demo_data_once(make_shop, tmp_path):
    for _ in range(2):
        app = make_shop()
        with app.app_context():
            users = db.session.scalars(db.select(User).order_by(User.id)).all()
            assert [(user.username, user.mobile) for user in users] == [
                ("sara", "09123456789"),
                ("reza", None),
                ("newcomer", None),
                ("staff", None),
            ]
    assert (tmp_path / "shop.sqlite").exists()


def test_links_in_the_text_messages_of_the_served_shop_lead_to_it(make_shop, monkeypatch):
    served = []

    class Server:
        def __init__(self, host, port, app, *, threaded):
            assert threaded
            self.server_port = port
            served.append((f"{host}:{port}", app))

        def serve_forever(self):
            """Return at once, as after Ctrl-C."""

    monkeypatch.setattr(__main__, "make_server", Server)
    monkeypatch.setattr(__main__, "create_app", lambda config: make_shop(**config))
    monkeypatch.setattr(__main__.signal, "signal", lambda *_: None)
    __main__.main()
    [(address, app)] = served
    with app.test_request_context():
        assert external_url("/verify-mobile/") == f"http://{address}/verify-mobile/"


PERSIAN = '<html lang="fa" dir="rtl">'
ENGLISH = '<html lang="en" dir="ltr">'


def test_every_public_page_exists_in_both_languages(visitor):
    for path in ("/", "/login", "/sign-up", "/nowhere"):
        visitor.post("/language", data={"language": "fa"})
        assert PERSIAN in visitor.get(path).text, path
        visitor.post("/language", data={"language": "en"})
        assert ENGLISH in visitor.get(path).text, path


@pytest.mark.parametrize(
    ("header", "language"),
    [("fa-IR,en;q=0.5", PERSIAN), ("en-GB,fa;q=0.5", ENGLISH), ("de", PERSIAN)],
)
def test_the_shop_greets_in_the_browsers_language_until_another_is_chosen(
    visitor, header, language
):
    headers = {"Accept-Language": header}
    assert language in visitor.get("/", headers=headers).text
    visitor.post("/language", data={"language": "en"}, headers=headers)
    assert ENGLISH in visitor.get("/", headers=headers).text
    visitor.post("/language", data={"language": "fa"}, headers=headers)
    assert PERSIAN in visitor.get("/", headers=headers).text


def test_persian_is_the_default_language(visitor):
    assert PERSIAN in visitor.get("/").text


def test_every_page_of_a_customer_exists_in_both_languages(shop):
    reza = log_in(shop, "reza")
    for path in ("/", *PAGES):
        reza.post("/language", data={"language": "fa"})
        persian = reza.get(path)
        assert persian.status_code == 200, path
        assert PERSIAN in persian.text, path
        reza.post("/language", data={"language": "en"})
        english = reza.get(path).text
        assert ENGLISH in english, path
        english = english.replace("رضا کریمی", "").replace("فارسی", "")
        assert not re.search("[آ-ی۰-۹]", english), f"{path} shows Persian to English readers"


def test_the_extensions_page_follows_the_language_of_the_shop(shop):
    sara = log_in(shop, "sara")
    assert PERSIAN in sara.get("/verify-mobile/").text
    sara.post("/language", data={"language": "en"})
    page = sara.get("/verify-mobile/").text
    assert ENGLISH in page
    assert re.search(r'class="sv-panel" lang="en"', page)


def test_changing_the_language_returns_to_the_same_page(visitor):
    page = visitor.get("/login?next=/orders").text
    [back] = re.findall(r'name="next" value="([^"]+)"', page)
    response = visitor.post("/language", data={"language": "en", "next": back})
    assert response.location == "/login?next=/orders"


def test_the_login_gate_requires_a_code_before_the_login(
    make_shop, filled_database, tmp_path, monkeypatch
):
    monkeypatch.setenv("SMSVERIFY_LOGIN_GATE", "true")
    monkeypatch.setenv("SMSVERIFY_SENDERS__memory__gateway", "memory")
    shutil.copy(filled_database, tmp_path / "shop.sqlite")
    shop = make_shop(WTF_CSRF_ENABLED=False)
    sara = log_in(shop, "sara")
    assert sara.get("/profile").location.startswith("/login?")
    verify(shop, sara)
    assert sara.get("/profile").status_code == 200


def test_a_wrong_password_does_not_log_in(visitor):
    response = visitor.post("/login", data={"username": "sara", "password": "reza-demo"})
    assert response.status_code == 200
    assert visitor.get("/profile").status_code == 302


def test_passwords_are_stored_as_hashes(shop):
    with shop.app_context():
        sara = db.session.scalar(db.select(User).filter_by(username="sara"))
        assert "sara-demo" not in sara.password_hash
        assert sara.has_password("sara-demo")


def test_login_continues_to_the_requested_page(visitor):
    response = visitor.get("/profile")
    assert response.location == "/login?next=%2Fprofile"
    response = visitor.post(response.location, data={"username": "sara", "password": "sara-demo"})
    assert response.location == "/profile"


def test_an_old_login_must_be_renewed_before_a_confirmed_number_changes(shop):
    client = log_in(shop, "sara")
    verify(shop, client)
    with client.session_transaction() as session:
        user_id, at = session["smsverify_login_at"]
        session["smsverify_login_at"] = [user_id, at - 600]
    page = client.get("/verify-mobile/mobile").text
    link = re.search(r'class="sv-button" href="([^"]+)"', page)[1]
    form = client.get(link)
    assert form.status_code == 200
    assert 'name="password"' in form.text
    answer = client.post(link, data={"username": "sara", "password": "sara-demo"})
    assert answer.location == "/verify-mobile/mobile"
    assert 'name="mobile"' in client.get(answer.location).text
    assert client.get(link).location == "/verify-mobile/mobile"


def test_login_never_redirects_to_another_site(shop):
    targets = (
        "https://evil.example/", "//evil.example/", "/\\evil.example", "/\t/evil.example", "evil",
    )  # fmt: skip
    for target in targets:
        response = shop.test_client().post(
            "/login",
            query_string={"next": target},
            data={"username": "sara", "password": "sara-demo"},
        )
        assert response.location == "/", target


def test_login_requires_the_csrf_token(make_shop):
    client = make_shop().test_client()
    response = client.post("/login", data={"username": "sara", "password": "sara-demo"})
    assert response.status_code == 400
    token = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', client.get("/login").text)[1]
    response = client.post(
        "/login", data={"csrf_token": token, "username": "sara", "password": "sara-demo"}
    )
    assert response.status_code == 302


def test_sign_up_creates_a_customer_and_logs_them_in(shop, visitor):
    response = visitor.post(
        "/sign-up",
        data={"name": "مینا", "username": "mina", "password": "long enough", "mobile": ""},
    )
    assert response.location == "/"
    assert "مینا" in visitor.get("/profile").text
    with shop.app_context():
        assert db.session.scalar(db.select(User.mobile).filter_by(username="mina")) is None


def test_sign_up_shows_an_error_beside_the_invalid_field(shop, visitor):
    valid = {"name": "Mina", "username": "mina", "password": "long enough", "mobile": ""}
    cases = [
        ("name", " "),
        ("username", "sara"),
        ("username", "م"),
        ("password", "short"),
        ("mobile", "1"),
    ]
    for field, value in cases:
        page = visitor.post("/sign-up", data={**valid, field: value}).text
        assert re.findall(r'id="(\w+)-error"', page) == [field], value
    with shop.app_context():
        assert db.session.scalar(db.select(User.id).filter_by(username="mina")) is None


def test_logging_out_ends_the_session(shop):
    sara = log_in(shop, "sara")
    sara.post("/logout")
    assert sara.get("/profile").status_code == 302


def test_an_unverified_customer_is_redirected_to_the_extensions_page(shop):
    sara = log_in(shop, "sara")
    for path in (*GUARDED.values(), "/orders/new"):
        response = sara.get(path)
        assert response.status_code == 302, path
        assert response.location.startswith("/verify-mobile/?"), path


def test_an_anonymous_visitor_is_redirected_to_the_login_page(visitor):
    for path in (*GUARDED.values(), "/orders/new"):
        assert visitor.get(path).location.startswith("/login?next="), path


def test_a_reseller_is_exempt(shop):
    reza = log_in(shop, "reza")
    for path in PAGES:
        assert reza.get(path).status_code == 200, path


@pytest.mark.parametrize("area", GUARDED)
def test_each_area_can_be_switched_off_alone(make_shop, monkeypatch, area):
    monkeypatch.setenv(f"SMSVERIFY_AREAS__{area}", "false")
    sara = log_in(make_shop(WTF_CSRF_ENABLED=False), "sara")
    opened = [name for name, path in GUARDED.items() if sara.get(path).status_code == 200]
    assert opened == [area]


def test_one_verification_opens_every_area(shop):
    sara = log_in(shop, "sara")
    verify(shop, sara)
    for path in GUARDED.values():
        assert sara.get(path).status_code == 200


def test_a_verified_customer_sees_the_transfer_code_of_their_domain(shop):
    sara = log_in(shop, "sara")
    path = "/domains/atr-sara.ir/transfer"
    assert sara.get(path).location.startswith("/verify-mobile/?")
    verify(shop, sara)
    assert "Wv4-nQ72-kzPe" in sara.get(path).text


def test_a_verification_older_than_ten_minutes_does_not_show_transfer_codes(shop):
    sara = log_in(shop, "sara")
    verify(shop, sara)
    with shop.app_context():
        eleven_minutes_ago = datetime.now(UTC) - timedelta(minutes=11)
        db.session.execute(db.update(Verification).values(verified_at=eleven_minutes_ago))
        db.session.commit()
    assert sara.get("/domains").status_code == 200
    assert sara.get("/domains/atr-sara.ir/transfer").location.startswith("/verify-mobile/?")


def test_a_customer_cannot_see_the_transfer_code_of_another_customer(shop):
    assert log_in(shop, "reza").get("/domains/atr-sara.ir/transfer").status_code == 404


def test_an_order_can_be_set_up_after_its_payment(shop):
    reza = log_in(shop, "reza")
    assert reza.post("/orders/new", data={"plan": "sapling"}).location == "/invoices"
    with shop.app_context():
        order = db.session.scalars(db.select(Order).order_by(Order.id.desc())).first()
        assert (order.user.username, order.plan_key, order.state) == ("reza", "sapling", "unpaid")
        invoice_id = order.invoices[0].id
    reza.post(f"/invoices/{invoice_id}/pay")
    with shop.app_context():
        assert db.session.get(Invoice, invoice_id).order.state == "paid"


def test_an_order_and_its_payment_are_announced_to_the_customer_once(make_shop):
    shop = make_shop(
        WTF_CSRF_ENABLED=False,
        SMSVERIFY_SENDERS={"memory": {"gateway": "memory"}},
        SMSVERIFY_AREAS={"orders": False, "billing": False},
    )
    sara = log_in(shop, "sara")
    with outbox(shop) as box:
        sara.post("/orders/new", data={"plan": "sapling"})
        with shop.app_context():
            newest = db.select(Invoice.id).order_by(Invoice.id.desc())
            invoice_id = db.session.scalar(newest.limit(1))
        assert len(box) == 2
        sara.post(f"/invoices/{invoice_id}/pay")
        sara.post(f"/invoices/{invoice_id}/pay")
        assert len(box) == 3
        assert {message.to for message in box.messages} == {"+989123456789"}
        assert "95,000" in box.last.text


def test_registrations_and_logins_are_announced_to_the_staff_alone(make_shop):
    shop = make_shop(
        WTF_CSRF_ENABLED=False,
        SMSVERIFY_SENDERS={"memory": {"gateway": "memory"}},
        SMSVERIFY_STAFF_MOBILES=["09120000001"],
    )
    with shop.app_context():
        staff = next(user for user in db.session.scalars(db.select(User)) if user.is_staff)
        username, name = staff.username, staff.name
    customer = {"name": "Nima", "username": "nima", "password": "a-long-password"}
    with outbox(shop) as box:
        shop.test_client().post("/sign-up", data=customer | {"mobile": "09120000002"})
        log_in(shop, "sara")
        log_in(shop, username)
        assert {message.to for message in box.messages} == {"+989120000001"}
        assert len(box) == 4
        for text, shown in zip(box.messages, ("Nima", "Nima", "سارا محمدی", name), strict=True):
            assert shown in text.text


def test_a_customer_cannot_pay_the_invoice_of_another_customer(shop):
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
    response = log_in(shop, "sara").post(f"/invoices/{unpaid}/pay")
    assert response.location.startswith("/verify-mobile/")
    with shop.app_context():
        assert db.session.get(Invoice, unpaid).paid_on is None


def test_the_profile_shows_the_status_card_and_a_link_to_change_the_number(shop):
    page = log_in(shop, "sara").get("/profile").text
    assert "sv-card" in page
    assert "/verify-mobile/mobile?next=/profile" in page


def test_pages_have_a_strict_content_security_policy(shop):
    sara = log_in(shop, "sara")
    for path in ("/", "/profile", "/verify-mobile/", "/verify-mobile/mobile"):
        response = sara.get(path)
        assert response.headers["Content-Security-Policy"].startswith("default-src 'self';")
        assert not re.search(r"<style|<script(?![^>]*src=)|\sstyle=|\son\w+=", response.text)
        assert not re.search(r'(?:src|href)="https?://(?!127\.0\.0\.1:)', response.text)


def test_the_shop_uses_the_simulator_by_default(make_shop):
    config = make_shop().config
    assert list(config["SMSVERIFY_SENDERS"]) == ["raygan", "wikipayam"]
    assert config["SMSVERIFY_SIMULATOR_URL"] == "http://127.0.0.1:8025"


def test_senders_in_the_environment_replace_the_simulator(make_shop, monkeypatch):
    senders = {"mine": {"gateway": "memory"}}
    monkeypatch.setenv("SMSVERIFY_SENDERS", json.dumps(senders))
    config = make_shop().config
    assert config["SMSVERIFY_SENDERS"] == senders
    assert "SMSVERIFY_SIMULATOR_URL" not in config


def test_nested_environment_variables_set_the_options_of_a_sender(make_shop, monkeypatch):
    monkeypatch.setenv("SMSVERIFY_SENDERS__mine__gateway", "wikipayam")
    monkeypatch.setenv("SMSVERIFY_SENDERS__mine__token", "secret")
    monkeypatch.setenv("SMSVERIFY_SENDERS__mine__line", "30001")
    assert make_shop().config["SMSVERIFY_SENDERS"] == {
        "mine": {"gateway": "wikipayam", "token": "secret", "line": 30001}
    }


def test_the_secret_key_is_created_once_and_readable_by_its_owner_only(tmp_path):
    key = load_secret_key(tmp_path / "instance")
    assert len(key) == 64
    assert load_secret_key(tmp_path / "instance") == key
    mode = (tmp_path / "instance" / "secret_key").stat().st_mode
    assert stat.S_IMODE(mode) == 0o600
