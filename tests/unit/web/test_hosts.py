"""Apps with several hosts: `host_matching`, subdomains, and `next` on another host of the app."""

from __future__ import annotations

import re
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from flask_login import LoginManager, login_required, login_user
from hostapp import HostFlask, User, db
from visiting import CHECK, OTHER, SEND, last_code

from flask_smsverify import SMSVerify, require_verified_mobile
from flask_smsverify.errors import ConfigurationError
from flask_smsverify.testing import outbox

SHOP, WWW, EVIL = "http://shop.example.com", "http://www.example.com", "http://evil.example"


def make_app(url: str, *, domains: dict[str, Any], config: dict[str, Any], **options: Any) -> Flask:
    """Return an app with a login and a guarded view for each domain: name → rule options."""
    app = HostFlask("host", **options)
    app.config.update(
        SECRET_KEY="a secret of the tests",
        TESTING=True,
        WTF_CSRF_ENABLED=False,
        SQLALCHEMY_DATABASE_URI=url,
        **config,
    )
    db.init_app(app)
    LoginManager(app).user_loader(lambda key: db.session.get(User, int(key)))
    app.extensions["test_smsverify"] = SMSVerify(app, db, user_model=User)

    def log_in(**_: str) -> str:
        login_user(db.session.get(User, 1))
        return "logged in"

    @require_verified_mobile
    def guarded(**_: str) -> str:
        return "guarded"

    for name, domain in domains.items():
        app.add_url_rule("/login", f"{name}_login", log_in, **domain)
        app.add_url_rule("/guarded", f"{name}_guarded", guarded, **domain, methods=["GET", "POST"])
    with app.app_context():
        db.create_all()
        db.session.add(User(mobile="09123450001"))
        db.session.commit()
    return app


@pytest.fixture
def close() -> Any:
    apps: list[Flask] = []
    yield apps.append
    for app in apps:
        app.extensions["smsverify"].close()
        with app.app_context():
            db.session.remove()
            db.engine.dispose()


@pytest.fixture
def hosts(sqlite: str, close: Any) -> Flask:
    """An app with `host_matching`, whose pages are on www."""
    app = make_app(
        sqlite,
        host_matching=True,
        static_host="www.example.com",
        domains={
            "shop": {"host": "shop.example.com"},
            "www": {"host": "www.example.com"},
            "tenant": {"host": "<tenant>.shops.example"},
            "any": {"host": "<anything>"},
            "tld": {"host": "<name>.net"},
        },
        config={
            "SMSVERIFY_HOST": "www.example.com",
            "SMSVERIFY_WEBHOOK_SECRET": "0123456789abcdef",
            "SMSVERIFY_SENDERS": {"memory": {"gateway": "memory"}},
            "SESSION_COOKIE_DOMAIN": "example.com",
        },
    )
    close(app)
    return app


@pytest.fixture
def subdomains(sqlite: str, close: Any) -> Flask:
    """An app with `subdomain_matching`, whose pages are on account."""
    app = make_app(
        sqlite,
        subdomain_matching=True,
        domains={"shop": {"subdomain": "shop"}, "main": {}, "tenant": {"subdomain": "<tenant>"}},
        config={
            "SERVER_NAME": "example.com",
            "SMSVERIFY_SUBDOMAIN": "account",
            "SESSION_COOKIE_DOMAIN": "example.com",
        },
    )
    close(app)
    return app


def logged_in(app: Flask, url: str = SHOP) -> FlaskClient:
    client = app.test_client()
    assert client.get("/login", base_url=url).text == "logged in"
    return client


def next_of(client: FlaskClient, target: str, *, base_url: str = WWW) -> str | None:
    """Return where a right code leads, with this `next`."""
    sent = client.post(SEND, base_url=base_url, data={"next": target})
    found = re.search(r"[?&]next=([^&]*)", sent.location)
    return found and found[1]


def test_a_guarded_view_on_another_host_leads_to_the_pages_and_back(hosts: Flask) -> None:
    client = logged_in(hosts)
    refused = client.get("/guarded?a=1", base_url=SHOP)
    assert refused.location == (f"{WWW}/verify-mobile/?next=http://shop.example.com/guarded?a%3D1")
    page = client.get(refused.location)
    assert page.status_code == 200
    assert 'value="http://shop.example.com/guarded?a=1"' in page.text
    assert 'action="/verify-mobile/send"' in page.text
    target = "http://shop.example.com/guarded?a=1"
    client.post(SEND, base_url=WWW, data={"next": target})
    code = {"code": last_code(hosts), "next": target}
    assert client.post(CHECK, base_url=WWW, data=code).location == target
    assert client.get("/guarded", base_url=SHOP).text == "guarded"


def test_on_the_host_of_the_pages_next_is_a_path(hosts: Flask) -> None:
    client = logged_in(hosts, WWW)
    assert client.get("/guarded", base_url=WWW).location == "/verify-mobile/?next=/guarded"


def test_a_post_on_another_host_returns_to_its_form(hosts: Flask) -> None:
    client = logged_in(hosts)
    headers = {"Referer": f"{SHOP}/cart"}
    refused = client.post("/guarded", base_url=SHOP, headers=headers)
    assert refused.location.endswith("?next=http://shop.example.com/cart")
    foreign = client.post("/guarded", base_url=SHOP, headers={"Referer": f"{EVIL}/cart"})
    assert foreign.location == f"{WWW}/verify-mobile/"


def test_static_files_and_webhooks_are_on_the_host_of_the_pages(hosts: Flask) -> None:
    client = hosts.test_client()
    with client.get("/verify-mobile/static/smsverify.css", base_url=WWW) as answer:
        assert answer.status_code == 200
    webhook = "/verify-mobile/webhooks/memory/0123456789abcdef"
    assert client.post(webhook, base_url=WWW).status_code == 404  # this sender has no webhook
    adapter = hosts.url_map.bind("www.example.com")
    assert adapter.match(webhook)[0] == "smsverify_webhooks.webhook"
    assert adapter.match("/admin/smsverify/audit")[0].startswith("smsverify_admin.")
    assert client.get("/verify-mobile/status", base_url=SHOP).status_code == 404


def test_next_may_name_a_host_of_the_apps_own(hosts: Flask) -> None:
    client = logged_in(hosts)
    for target in (
        f"{SHOP}/a",
        f"{SHOP}",
        "https://shop.example.com/a?b=1",
        "http://one.shops.example/a",
        "HTTP://SHOP.EXAMPLE.COM/a",
    ):
        hosts.extensions["smsverify"].limit_report.reset_all()
        wanted = next_of(client, target)
        assert wanted is not None, target
        assert wanted.startswith(("http://", "https://")), target


def test_next_may_not_name_another_host(hosts: Flask) -> None:
    client = logged_in(hosts)
    for target in (
        f"{EVIL}/a",
        "http://one.shops.example.evil.example/",
        "http://evil.example/.shops.example",
        "http://evil.example#.shops.example",
        "http://evil.example\\.shops.example",
        "http://shop.example.com@evil.example/",
        "http://a@one.shops.example/",
        "http://evil.net/",
        "http://www.example.com.evil.example/",
        "http:///evil.example",
        "//shop.example.com/a",
        "ftp://shop.example.com/a",
        "javascript://shop.example.com/%0aalert(1)",
        "http://shop.example.com:8080/a",
        "http://shop.example.com/\x00",
        "http://shop.example.com/" + "a" * 3000,
        "http://[::1/",
    ):
        hosts.extensions["smsverify"].limit_report.reset_all()
        assert next_of(client, target) == "/", target


@pytest.mark.parametrize("kept_by", ["request", "flask-login"])
def test_a_sign_in_leads_back_to_the_host_that_asked_for_it(
    sqlite: str, close: Any, kept_by: str
) -> None:
    app = make_app(
        sqlite,
        host_matching=True,
        static_host="www.example.com",
        domains={"shop": {"host": "shop.example.com"}, "www": {"host": "www.example.com"}},
        config={
            "SMSVERIFY_HOST": "www.example.com",
            "SMSVERIFY_SENDERS": {"memory": {"gateway": "memory"}},
            "SMSVERIFY_SIGN_IN": True,
            "SESSION_COOKIE_DOMAIN": "example.com",
            "USE_SESSION_FOR_NEXT": kept_by == "flask-login",
        },
    )
    close(app)
    app.extensions["test_smsverify"].user_by_mobile(lambda _mobile: db.session.get(User, 1))
    app.login_manager.login_view = "smsverify.sign_in"  # type: ignore[attr-defined]  # Flask-Login

    def orders() -> str:
        return "orders"

    app.add_url_rule("/orders", "orders", login_required(orders), host="shop.example.com")
    client = app.test_client()
    page = client.get("/orders", base_url=SHOP).location
    fields = {} if kept_by == "flask-login" else {"next": f"{SHOP}/orders"}
    assert page.startswith(f"{WWW}/verify-mobile/sign-in")
    sign_in = "/verify-mobile/sign-in"
    client.post(sign_in, base_url=WWW, data={"mobile": "0912 345 0001", **fields})
    app.extensions["smsverify"].workers.wait()
    code = last_code(app)
    done = client.post(f"{sign_in}/check", base_url=WWW, data={"code": code, **fields})
    assert done.location == f"{SHOP}/orders"
    assert client.get(done.location, base_url=SHOP).text == "orders"


def test_next_on_the_same_host_is_reduced_to_its_path(hosts: Flask) -> None:
    assert next_of(logged_in(hosts), f"{WWW}/a?b=1") == "/a?b%3D1"


def test_a_secure_page_does_not_lead_to_an_insecure_one(hosts: Flask) -> None:
    client = logged_in(hosts)
    hosts.config["SESSION_COOKIE_SECURE"] = False
    secure = "https://www.example.com"
    assert next_of(client, f"{SHOP}/a", base_url=secure) == "/"
    assert next_of(client, "https://shop.example.com/a", base_url=secure) != "/"


def test_trusted_hosts_are_hosts_of_the_apps_own(hosts: Flask) -> None:
    client = logged_in(hosts)
    assert next_of(client, "http://pay.partner.example/") == "/"
    hosts.config["TRUSTED_HOSTS"] = [".example.com", ".partner.example"]
    hosts.extensions["smsverify"].limit_report.reset_all()
    assert next_of(client, "http://pay.partner.example/") == "http://pay.partner.example/"


# --- subdomains ---------------------------------------------------------------------------------


def test_pages_on_a_subdomain_lead_back_to_another_one(subdomains: Flask) -> None:
    client = logged_in(subdomains)
    refused = client.get("/guarded", base_url=SHOP)
    assert refused.location == (
        "http://account.example.com/verify-mobile/?next=http://shop.example.com/guarded"
    )
    assert client.get(refused.location).status_code == 200
    account = "http://account.example.com"
    for target in (f"{SHOP}/a", "http://example.com/a", "http://any.example.com/a"):
        assert next_of(client, target, base_url=account) == target
    assert next_of(client, f"{EVIL}/a", base_url=account) == "/"
    assert next_of(client, "http://notexample.com/a", base_url=account) == "/"


def test_texts_name_the_host_of_the_pages(subdomains: Flask) -> None:
    client = logged_in(subdomains)
    with outbox(subdomains) as box:
        client.post(SEND, base_url="http://account.example.com")
        assert "@account.example.com #" in box.last.text


def test_the_link_that_stops_a_change_names_the_host_of_the_pages(hosts: Flask) -> None:
    client = logged_in(hosts, WWW)
    with outbox(hosts) as box:
        client.post(SEND, base_url=WWW)
        client.post(CHECK, base_url=WWW, data={"code": box.last.code})
        form = {"mobile": OTHER, "send": "1"}
        client.post("/verify-mobile/mobile", base_url=WWW, data=form)
        client.post(CHECK, base_url=WWW, data={"code": box.last.code})
        client.post("/verify-mobile/mobile/confirm", base_url=WWW, data={"lost": "1"})
        link = re.search(r"https?://\S+", box.last.text)
    assert link is not None
    assert link[0].startswith(f"{WWW}/verify-mobile/mobile/undo/")


# --- wrong settings -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "config", "expected"),
    [
        ({"host_matching": True, "static_folder": None}, {}, "SMSVERIFY_HOST is not set"),
        ({}, {"SMSVERIFY_HOST": "a.example"}, "SMSVERIFY_HOST needs"),
        ({}, {"SMSVERIFY_SUBDOMAIN": "a"}, "SMSVERIFY_SUBDOMAIN needs"),
        ({"subdomain_matching": True}, {"SMSVERIFY_SUBDOMAIN": "a"}, "SMSVERIFY_SUBDOMAIN needs"),
        ({}, {"SMSVERIFY_SUBDOMAIN": "a", "SERVER_NAME": "b.c"}, "SMSVERIFY_SUBDOMAIN needs"),
    ],
)
def test_a_host_that_does_not_fit_the_app_is_a_configuration_error(
    sqlite: str, options: dict[str, Any], config: dict[str, Any], expected: str
) -> None:
    with pytest.raises(ConfigurationError, match=expected):
        make_app(sqlite, domains={}, config=config, **options)
