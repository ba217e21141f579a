"""Apps that share a database or a `SECRET_KEY` (case 73)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import MakeApp, database_params
from flows import Flow, flow_of
from hostapp import User, db
from parallel import race
from sqlalchemy import func, select, update

from flask_smsverify.cli.doctor import database as checks
from flask_smsverify.db.models import App
from flask_smsverify.errors import ConfigurationError, InvalidToken

MOBILE = "+989121112233"


def proof_token(flow: Flow) -> str:
    challenge = flow.sign_up(MOBILE)
    return str(flow.verifier.proof_token(flow.check(challenge, flow.code(challenge))))


def test_an_app_with_another_id_is_refused(make_app: MakeApp, database: str) -> None:
    shop = make_app(database, SMSVERIFY_APP_ID="shop")
    with shop.app_context():
        flow_of(shop).prove()
    admin = make_app(database, users=0, SMSVERIFY_APP_ID="admin")
    refusal = re.compile("belong to the app 'shop', and this app is 'admin'.*SMSVERIFY_APP_ID")
    with admin.app_context():
        flow = flow_of(admin)
        with pytest.raises(ConfigurationError, match=refusal):
            flow.start()
        with pytest.raises(ConfigurationError, match=refusal):
            flow.verifier.status(flow.user())
        findings = [finding for check in checks.CHECKS for finding in check(flow.state)]
        assert any(found.level == "error" and refusal.search(found.text) for found in findings)
    client = admin.test_client()
    client.get("/login/1")
    with pytest.raises(ConfigurationError, match=refusal):
        client.get("/guarded")


def test_an_event_of_an_app_with_another_id_is_not_queued(make_app: MakeApp, sqlite: str) -> None:
    shop = make_app(sqlite, SMSVERIFY_APP_ID="shop")
    shop.extensions["smsverify"].ledger.identify()
    admin = make_app(sqlite, users=0, SMSVERIFY_APP_ID="admin")
    with admin.app_context(), pytest.raises(ConfigurationError, match="belong to the app 'shop'"):
        admin.extensions["test_smsverify"].notify(
            "invoice.paid", db.session.get(User, 1), invoice_number="1", amount="1"
        )


def test_apps_with_the_same_id_share_users_and_tokens(make_app: MakeApp, database: str) -> None:
    site = make_app(database, SMSVERIFY_APP_ID="shop")
    with site.app_context():
        flow = flow_of(site)
        flow.prove()
        token = proof_token(flow)
    api = make_app(database, users=0, SMSVERIFY_APP_ID="shop")
    with api.app_context():
        flow = flow_of(api)
        assert flow.state_of() == "verified"
        assert flow.verifier.load_proof(token, purpose="sign-up") == MOBILE


def test_without_a_setting_the_apps_name_is_its_id(make_app: MakeApp, database: str) -> None:
    app = make_app(database)
    ledger = app.extensions["smsverify"].ledger
    ledger.identify()
    assert ledger.read(lambda session: session.scalar(select(App.app_id))) == "host"


def test_a_read_stores_no_id(make_app: MakeApp, database: str) -> None:
    app = make_app(database)
    client = app.test_client()
    client.get("/login/1")
    assert client.get("/guarded").status_code == 302
    ledger = app.extensions["smsverify"].ledger
    assert ledger.find_identity() is None
    assert ledger.read(lambda session: session.scalar(select(func.count(App.id)))) == 0


def test_a_token_of_staging_is_refused_in_production(
    make_app: MakeApp, database: str, tmp_path: Path
) -> None:
    staging = make_app(f"sqlite:///{tmp_path / 'staging.sqlite'}")
    with staging.app_context():
        flow = flow_of(staging)
        token = proof_token(flow)
        device = flow.verifier.devices.dump(MOBILE, "1")
        link = flow.state.signing.sign("a change", "an undo link")
    production = make_app(database)
    with production.app_context():
        flow = flow_of(production)
        own = flow.verifier.devices.dump(MOBILE, "1")
        with pytest.raises(InvalidToken):
            flow.verifier.load_proof(token, purpose="sign-up")
        is_of_owner = flow.verifier.devices.is_of_owner
        assert is_of_owner(own, MOBILE, "1")
        assert not is_of_owner(device, MOBILE, "1")
        assert flow.state.signing.sign("a change", "an undo link") != link


def test_a_session_stamp_of_staging_does_not_count_in_production(
    make_app: MakeApp, sqlite: str, tmp_path: Path
) -> None:
    trust = {"SMSVERIFY_RECHECK_SECONDS": 3600}
    staging = make_app(f"sqlite:///{tmp_path / 'staging.sqlite'}", **trust)
    production = make_app(sqlite, **trust)
    production.extensions["smsverify"].ledger.identify()
    with staging.app_context():
        flow_of(staging).prove()
    client = staging.test_client()
    client.get("/login/1")
    assert client.get("/guarded").text == "guarded"
    cookie = client.get_cookie("session")
    assert cookie is not None
    visitor = production.test_client()
    visitor.set_cookie("session", cookie.value)
    assert visitor.get("/guarded").status_code == 302


def test_apps_with_one_secret_key_have_different_codes_and_limits(
    make_app: MakeApp, sqlite: str, tmp_path: Path
) -> None:
    shop = make_app(sqlite, SMSVERIFY_APP_ID="shop")
    other = make_app(f"sqlite:///{tmp_path / 'other.sqlite'}", SMSVERIFY_APP_ID="other")
    with shop.app_context():
        flow = flow_of(shop)
        challenge = flow.start()
        code = flow.code(challenge)
        assert flow.check(challenge, code).verified_at
        keyring = flow.state.keyring
    other_keyring = other.extensions["smsverify"].keyring
    assert challenge.key_id not in other_keyring
    assert keyring.key("mobile", MOBILE) != other_keyring.key("mobile", MOBILE)
    assert not set(keyring.signing_keys()) & set(other_keyring.signing_keys())


@pytest.mark.race
@pytest.mark.parametrize("database", database_params("postgresql", "mariadb"), indirect=True)
def test_apps_that_start_at_once_store_one_id(make_app: MakeApp, database: str) -> None:
    apps = [make_app(database, users=0) for _ in range(8)]
    found: set[str] = set()

    def identify(number: int) -> None:
        found.add(apps[number].extensions["smsverify"].ledger.identify())

    assert race(8, identify) == {"ok": 8}
    assert len(found) == 1


@pytest.mark.race
def test_of_two_apps_that_start_at_once_one_is_refused(make_app: MakeApp, database: str) -> None:
    apps = [make_app(database, users=0, SMSVERIFY_APP_ID=name) for name in ("shop", "admin")]

    def identify(number: int) -> None:
        apps[number].extensions["smsverify"].ledger.identify()

    assert race(2, identify) == {"ok": 1, "ConfigurationError": 1}


def test_a_renamed_row_gives_the_tables_to_another_id(make_app: MakeApp, database: str) -> None:
    app = make_app(database, SMSVERIFY_APP_ID="shop")
    ledger = app.extensions["smsverify"].ledger
    instance = ledger.identify()
    ledger.run(lambda session: session.execute(update(App).values(app_id="market")) and None)
    renamed = make_app(database, users=0, SMSVERIFY_APP_ID="market")
    assert renamed.extensions["smsverify"].ledger.identify() == instance
