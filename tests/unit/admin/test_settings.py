"""The settings that staff change while the app runs."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from typing import Any

import pytest
from flask import Blueprint, Flask
from flask.testing import FlaskClient
from flask.views import MethodView
from staff import ADMIN, JSON, audited, listed, logged_in

from flask_smsverify import SMSVerify, require_verified_mobile
from flask_smsverify.db.models import Setting

URL = f"{ADMIN}/settings"
MakeStaffApp = Callable[..., Flask]


@pytest.fixture
def app(make_staff_app: MakeStaffApp) -> Flask:
    return make_staff_app(SMSVERIFY_AREAS={"orders": True, "billing": True})


def test_a_change_is_in_force_and_recorded(app: Flask, client: FlaskClient) -> None:
    live = app.extensions["smsverify"].live
    changes = {
        "areas": {"orders": False, "billing": True},
        "revalidation_days": 30,
        "exempt_groups": ["resellers"],
        "signature": "Chenar",
        "staff_mobiles": ["0912 345 6789"],
        "quiet_hours": "22:00-07:00",
    }
    answer = client.post(URL, json=changes)
    assert answer.status_code == 200
    assert answer.json == changes | {"staff_mobiles": ["+989123456789"]}
    assert client.get(URL, headers=JSON).json == answer.json
    assert live.current.areas["orders"] is False
    assert live.current.staff_mobiles == ("+989123456789",)
    assert sorted(audited(app)) == [("1", "settings", name) for name in sorted(changes)]
    [days] = listed(client, "/audit", q="revalidation_days")
    assert days["detail"] == {"before": 90, "after": 30}
    assert client.post(URL, json=changes).status_code == 200
    assert len(audited(app)) == len(changes), "nothing changed the second time"


def test_a_wrong_value_changes_nothing(app: Flask, client: FlaskClient) -> None:
    for name, value in (
        ("revalidation_days", -1),
        ("revalidation_days", "soon"),
        ("areas", {"orders": "yes"}),
        ("areas", {"orders": ["*"]}),
        ("areas", []),
        ("exempt_groups", "resellers"),
        ("signature", "two\x00"),
        ("staff_mobiles", ["12"]),
        ("quiet_hours", "night"),
        ("secret_key", "x"),
        ("senders", {}),
    ):
        answer = client.post(
            URL, json={name: value, "signature": value if name == "signature" else ""}
        )
        assert (answer.status_code, answer.json["code"]) == (422, "invalid_values")
        assert name in answer.json["errors"], name
        assert audited(app) == [], name
        assert app.extensions["smsverify"].live.current.version == 1, name


def test_another_process_takes_a_change_over_within_a_second(
    make_staff_app: MakeStaffApp, sqlite: str
) -> None:
    first = make_staff_app(url=sqlite)
    second = make_staff_app(url=sqlite, users=0)
    other = logged_in(second)
    assert other.get(URL, headers=JSON).json["revalidation_days"] == 90
    logged_in(first).post(URL, json={"revalidation_days": 7})
    deadline = time.monotonic() + 20
    started = time.monotonic()
    while other.get("/open").status_code == 200:
        if second.extensions["smsverify"].live.current.revalidation_days == 7:
            break
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert started <= time.monotonic()
    assert second.extensions["smsverify"].live.current.revalidation_days == 7


def test_requests_do_not_ask_for_the_settings_each_time(app: Flask, client: FlaskClient) -> None:
    store = app.extensions["smsverify"].setting_store
    rereading = store._rereading
    rereading._monotonic, rereading._read_at = lambda: 100.0, None
    client.get("/open")
    reads = []
    read = store._ledger.read
    store._ledger.read = lambda work: reads.append(work) or read(work)
    for _ in range(20):
        client.get("/open")
    assert reads == []
    rereading._monotonic = lambda: 100.5
    for _ in range(20):
        client.get("/open")
    assert len(reads) == 1


def test_an_area_that_is_switched_on_again_has_its_patterns(make_staff_app: MakeStaffApp) -> None:
    app = make_staff_app(SMSVERIFY_AREAS={"shop": ["open_view"], "orders": True})
    client, live = logged_in(app), app.extensions["smsverify"].live
    visitor = logged_in(app, 3)
    assert visitor.get("/open").status_code == 302
    assert client.post(URL, json={"areas": {"shop": False}}).json["areas"]["shop"] is False
    assert visitor.get("/open").status_code == 200
    assert live.current.areas["orders"] is True
    client.post(URL, json={"areas": {"shop": True}})
    assert live.current.areas["shop"] == ("open_view",)
    assert visitor.get("/open").status_code == 302


def test_too_many_days_are_refused_with_the_range(client: FlaskClient) -> None:
    answer = client.post(URL, json={"revalidation_days": 999_999_999})
    assert answer.json["errors"] == {
        "revalidation_days": "Enter a whole number of days from 0 to 36500. 0 means no limit."
    }


def test_an_area_that_the_app_does_not_name_is_refused(app: Flask, client: FlaskClient) -> None:
    before = client.get(URL, headers=JSON).json["areas"]
    for areas in ({"nope": True}, {"orders": False, "nope": False}):
        answer = client.post(URL, json={"areas": areas})
        assert (answer.status_code, answer.json["code"]) == (422, "invalid_values")
        assert answer.json["errors"] == {"areas": "There is no area nope."}
    form = client.post(URL, data={"areas_shown": ["orders", "nope"], "areas_on": ["nope"]})
    assert form.status_code == 422
    assert "There is no area nope." in form.text
    assert 'value="nope"' not in form.text
    assert client.get(URL, headers=JSON).json["areas"] == before
    assert audited(app) == []


class Refunds(MethodView):
    @require_verified_mobile(area="refunds")
    def post(self) -> str:
        return "refunded"


def test_areas_that_only_guards_and_decorators_name_are_switched(
    make_staff_app: MakeStaffApp,
) -> None:
    app = make_staff_app(SMSVERIFY_AREAS={"shop": True})
    smsverify: SMSVerify = app.extensions["test_smsverify"]
    billing = Blueprint("billing", __name__)
    smsverify.guard(billing, area="billing")
    app.register_blueprint(billing)
    app.add_url_rule("/refunds", view_func=Refunds.as_view("refunds"))
    app.add_url_rule(
        "/export", "export", require_verified_mobile(area="export")(lambda: "exported")
    )
    client = logged_in(app)
    shown = client.get(URL, headers=JSON).json["areas"]
    assert {"shop", "billing", "refunds", "export"} <= shown.keys()
    changes = dict.fromkeys(("shop", "billing", "refunds", "export"), False)
    answer = client.post(URL, json={"areas": changes})
    assert (answer.status_code, answer.json["areas"]) == (200, shown | changes)


def test_a_stored_area_that_the_app_no_longer_names_is_not_shown(
    app: Flask, client: FlaskClient
) -> None:
    state = app.extensions["smsverify"]
    stored = Setting(
        key="areas",
        value=json.dumps({"nope": False, "orders": False}),
        updated_at=state.clock(),
    )
    state.ledger.run(lambda session: session.add(stored))
    state.setting_store._rereading.now()
    areas = client.get(URL, headers=JSON).json["areas"]
    assert areas["orders"] is False
    assert "nope" not in areas
    assert 'value="nope"' not in client.get(URL).text
    assert client.post(URL, json={"areas": {"orders": True}}).json["areas"]["orders"] is True


def test_null_restores_the_configuration(make_staff_app: MakeStaffApp) -> None:
    app = make_staff_app(SMSVERIFY_REVALIDATION_DAYS=45)
    client = logged_in(app)
    client.post(URL, json={"revalidation_days": 7})
    assert client.post(URL, json={"revalidation_days": None}).json["revalidation_days"] == 45


def test_a_stored_value_that_is_no_longer_valid_is_left_out(
    app: Flask, client: FlaskClient, caplog: pytest.LogCaptureFixture
) -> None:
    client.post(URL, json={"signature": "Chenar"})
    state = app.extensions["smsverify"]
    stored = Setting(key="revalidation_days", value=json.dumps("x"), updated_at=state.clock())
    state.ledger.run(lambda session: session.add(stored))
    state.setting_store._rereading.now()
    assert state.live.current.revalidation_days == 90
    assert set(state.live.current.signature.values()) == {"Chenar"}
    assert "SMSVERIFY_REVALIDATION_DAYS" in caplog.text


def test_a_stored_value_that_is_no_json_is_left_out_and_can_be_replaced(
    app: Flask, client: FlaskClient, caplog: pytest.LogCaptureFixture
) -> None:
    client.post(URL, json={"revalidation_days": 30, "signature": "Chenar"})
    state = app.extensions["smsverify"]

    def edit(session: Any) -> None:
        session.get(Setting, "revalidation_days").value = "30 days"

    state.ledger.run(edit)
    state.setting_store._rereading.now()
    assert (state.live.current.revalidation_days, client.get("/open").status_code) == (90, 200)
    assert set(state.live.current.signature.values()) == {"Chenar"}
    assert "the stored setting revalidation_days is not used" in caplog.text
    assert client.post(URL, json={"revalidation_days": 7}).json["revalidation_days"] == 7


def test_a_form_changes_what_it_contains_and_shows_errors_beside_the_fields(
    app: Flask, client: FlaskClient
) -> None:
    form: dict[str, Any] = {
        "areas_shown": ["orders", "billing"],
        "areas_on": ["billing"],
        "revalidation_days": "۳۰",
        "exempt_groups": "a\r\nb",
        "signature": "Chenar\r\nchenar.example",
        "staff_mobiles": "۰۹۱۲۳۴۵۶۷۸۹",
        "quiet_hours": "۲۲:۰۰ - ۰۷:۰۰",
    }
    answer = client.post(URL, data=form)
    assert (answer.status_code, answer.location) == (303, URL)
    current = app.extensions["smsverify"].live.current
    assert dict(current.areas) == {"orders": False, "billing": True}
    assert (current.revalidation_days, current.exempt_groups) == (30, ("a", "b"))
    assert set(current.signature.values()) == {"Chenar\nchenar.example"}
    before = len(audited(app))
    assert client.post(URL, data=form).status_code == 303
    assert len(audited(app)) == before, "a form without a change changes nothing"
    page = client.get(URL).text
    assert "The settings are saved and in effect." in page
    wrong = client.post(URL, data=form | {"revalidation_days": "soon"})
    assert wrong.status_code == 422
    assert 'id="sv-revalidation_days-error"' in wrong.text
    assert 'value="soon"' in wrong.text
    assert '<li><a href="#sv-revalidation_days">' in wrong.text


def test_the_form_has_numbers_in_national_form_and_accepts_them_again(
    app: Flask, client: FlaskClient
) -> None:
    client.post(URL, json={"staff_mobiles": ["09121111111", "+98 912 222 2222"]})
    rows = len(audited(app))
    client.environ_base["HTTP_ACCEPT_LANGUAGE"] = "fa"
    field = client.get(URL).text.partition('id="sv-staff_mobiles"')[2].partition("</textarea>")[0]
    numbers = field.partition(">")[2]
    assert numbers == "۰۹۱۲ ۱۱۱ ۱۱۱۱\n۰۹۱۲ ۲۲۲ ۲۲۲۲"
    client.post(URL, data={"staff_mobiles": numbers.replace("\n", "\r\n")})
    assert app.extensions["smsverify"].live.current.staff_mobiles == (
        "+989121111111",
        "+989122222222",
    )
    assert len(audited(app)) == rows, "nothing has changed"
    assert ">۱۲۳</textarea>" in client.post(URL, data={"staff_mobiles": "123"}).text


def test_the_activity_names_what_changed_in_the_readers_language(client: FlaskClient) -> None:
    client.post(URL, json={"revalidation_days": 30})
    client.environ_base["HTTP_ACCEPT_LANGUAGE"] = "fa"
    page = client.get(f"{ADMIN}/audit").text
    assert "قبل: <bdi>۹۰</bdi>" in page
    assert "بعد: <bdi>۳۰</bdi>" in page
    client.environ_base["HTTP_ACCEPT_LANGUAGE"] = "en"
    page = client.get(f"{ADMIN}/audit").text
    assert "Before: <bdi>90</bdi>" in page
    assert "After: <bdi>30</bdi>" in page


# --- a signature in each language --------------------------------------------------------------


def test_a_signature_in_each_language_is_saved_and_shown(app: Flask, client: FlaskClient) -> None:
    live = app.extensions["smsverify"].live
    answer = client.post(URL, json={"signature": {"fa": "چنار", "en": "Chenar"}})
    assert answer.json["signature"] == {"en": "Chenar", "ar": "چنار", "fa": "چنار"}
    assert live.current.signature == answer.json["signature"]
    [entry] = listed(client, "/audit", q="signature")
    assert entry["detail"] == {"before": "", "after": {"fa": "چنار", "en": "Chenar"}}
    page = client.get(URL).text
    assert 'name="signature"' not in page
    assert re.search(r'name="signature\.en"[^>]*>Chenar</textarea>', page)
    assert client.post(URL, json={"signature": "Chenar"}).json["signature"] == "Chenar"


def test_a_signature_in_an_unknown_language_changes_nothing(
    app: Flask, client: FlaskClient
) -> None:
    for wrong in ({"de": "Chenar"}, {}, {"fa": "two\x00"}, {"fa": 5}):
        answer = client.post(URL, json={"signature": wrong})
        assert (answer.status_code, list(answer.json["errors"])) == (422, ["signature"])
    assert audited(app) == []


def test_the_form_gives_some_languages_another_signature(app: Flask, client: FlaskClient) -> None:
    live = app.extensions["smsverify"].live
    page = client.get(URL).text
    assert 'name="signature"' in page
    form = {
        "signature": "چنار",
        "signature.en": "Chenar\r\nCo",
        "signature.ar": "",
        "signature.fa": "",
    }
    assert client.post(URL, data=form).status_code == 303
    assert live.current.signature == {"en": "Chenar\nCo", "ar": "چنار", "fa": "چنار"}
    # From then on the form has the signature of each language, and an empty one means none.
    form = {"signature.en": "Chenar", "signature.ar": "", "signature.fa": "چنار"}
    assert client.post(URL, data=form).status_code == 303
    assert live.current.signature == {"en": "Chenar", "ar": "", "fa": "چنار"}
    wrong = client.post(URL, data=form | {"signature.en": "\x00"})
    assert wrong.status_code == 422
    assert re.search(r'id="sv-signature-en"[^>]*sv-signature-error[^>]*aria-invalid', wrong.text)
    client.post(URL, data=dict.fromkeys(form, "Chenar"))
    assert client.get(URL, headers=JSON).json["signature"] == "Chenar"
