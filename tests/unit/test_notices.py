"""Notices: to a replaced mobile, to an earlier holder of a mobile, and to the staff."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from flask_login import current_user
from flows import Flow
from hostapp import User, db

from flask_smsverify import signals
from flask_smsverify.errors import RateLimited, Rejected, WrongCode
from flask_smsverify.testing import Outbox, outbox

MakeApp = Callable[..., Flask]
NEW = "+989129998877"


def verify(verifier: Any, box: Outbox, user: Any, mobile: str | None = None) -> None:
    """Prove a mobile for a user."""
    challenge = verifier.start(user, mobile=mobile)
    [*_, message] = [kept for kept in box.messages if kept.code]
    verifier.check(challenge, message.code)


def test_the_old_mobile_gets_a_notice_when_another_is_proved(app: Flask) -> None:
    verifier = app.extensions["smsverify"].verifier
    with app.app_context(), outbox(app) as box:
        user = db.session.get(User, 1)
        old = verifier.mobile_of(user)
        verify(verifier, box, user)
        verify(verifier, box, user, NEW)
        notice = box.last
    assert notice.to == old
    assert notice.code is None
    assert "به شماره‌ای که به ۸۸۷۷ ختم می‌شود تغییر کرد" in notice.text
    assert NEW not in notice.text


def test_a_notice_names_the_new_mobile_by_its_last_digits(make_app: MakeApp, sqlite: str) -> None:
    """The signs of a masked mobile would be reordered in a Persian text."""
    app = make_app(sqlite, SMSVERIFY_ALLOWED_REGIONS=["IR", "DE"])
    app.extensions["test_smsverify"].locale_getter(lambda: "en")
    verifier = app.extensions["smsverify"].verifier
    with app.app_context(), outbox(app) as box:
        user = db.session.get(User, 1)
        verify(verifier, box, user)
        for mobile, ending in (("+989129998877", "in 8877."), ("+4915112345678", "in 678.")):
            verify(verifier, box, user, mobile)
            assert ending in box.last.text
            assert "•" not in box.last.text


def test_proving_the_same_mobile_again_sends_no_notice(app: Flask) -> None:
    verifier = app.extensions["smsverify"].verifier
    with app.app_context(), outbox(app) as box:
        user = db.session.get(User, 1)
        verify(verifier, box, user)
        verify(verifier, box, user)
        assert all(message.code for message in box.messages)


def test_a_transfer_sends_a_notice_and_ends_the_earlier_verification(
    make_app: MakeApp, sqlite: str
) -> None:
    app = make_app(sqlite, users=2, SMSVERIFY_MOBILE_POLICY="transfer")
    verifier = app.extensions["smsverify"].verifier
    with app.app_context(), outbox(app) as box:
        first, second = db.session.get(User, 1), db.session.get(User, 2)
        second.mobile = first.mobile
        db.session.commit()
        verify(verifier, box, first)
        verify(verifier, box, second)
        assert box.last.code is None
        assert box.last.to == verifier.mobile_of(first)
        assert verifier.status(first).state == "unverified"
        assert verifier.status(second).state == "verified"


def test_the_staff_get_one_notice_a_day_at_the_half_and_at_the_end_of_the_sites_limit(
    make_app: MakeApp, sqlite: str
) -> None:
    app = make_app(
        sqlite,
        users=4,
        SMSVERIFY_LIMITS={"site": "2/day"},
        SMSVERIFY_SITE_RESERVED=0,
        SMSVERIFY_STAFF_MOBILES=["09121110000", "09121110001"],
    )
    state = app.extensions["smsverify"]
    reached: list[str] = []

    def receive(_app: Flask, scope: str, limit: str) -> None:
        reached.append(f"{scope} {limit}")

    with app.app_context(), outbox(app) as box, signals.limit_reached.connected_to(receive, app):
        for number in (1, 2):
            state.verifier.start(db.session.get(User, number))
        for number in (3, 4):
            with pytest.raises(RateLimited) as refused:
                state.verifier.start(db.session.get(User, number))
            assert refused.value.scope == "site"
        recipients = [message.to for message in box.messages if not message.code]
        assert sorted(recipients) == ["+989121110000"] * 2 + ["+989121110001"] * 2
        assert reached == ["site half", "site whole"]
        texts = [message.text for message in box.messages if message.to == "+989121110000"]
        for text, percent in zip(texts, ("۵۰", "۱۰۰"), strict=True):
            assert f"{percent} درصد از سقف site" in text
        # Staff reset the limit, and hear of it when it is used up again on the same day.
        state.limit_report.reset(state.limit_report.scopes())
        for number in (3, 4):
            state.verifier.start(db.session.get(User, number))
        assert reached == ["site half", "site whole"] * 2
        assert len([message for message in box.messages if not message.code]) == 8


def test_staff_are_told_when_the_open_part_of_the_sites_limit_is_used(
    make_app: MakeApp, sqlite: str
) -> None:
    app = make_app(
        sqlite,
        users=1,
        SMSVERIFY_LIMITS={"site": "4/day"},
        SMSVERIFY_SITE_RESERVED=0.5,
        SMSVERIFY_NETWORK_SHARE=1,
        SMSVERIFY_STAFF_MOBILES=["09121110000"],
    )
    verifier = app.extensions["smsverify"].verifier
    with app.app_context(), outbox(app) as box:
        for number in (1, 2):
            verifier.start_for(f"0935111000{number}", purpose="sign_up", ip=f"192.0.2.{number}")
            app.extensions["smsverify"].wait()
        texts = [message.text for message in box.messages if not message.code]
    assert any("۱۰۰ درصد از سقف site/open" in text for text in texts), texts


def test_a_limit_with_a_short_window_does_not_use_up_the_notices_to_staff(
    make_flow: Callable[..., Flow], sqlite: str
) -> None:
    """Or an attacker could keep the notices about the next attack from them."""
    limits = {"site_failures": "2/hour", "notices": "6/day", "site": "30/day"}
    flow = make_flow(
        sqlite,
        SMSVERIFY_LIMITS=limits,
        SMSVERIFY_SITE_RESERVED=0,
        SMSVERIFY_STAFF_MOBILES=["09121110000"],
    )
    reached: list[str] = []

    def receive(_app: Flask, scope: str, limit: str) -> None:
        reached.append(f"{scope} {limit}")

    with signals.limit_reached.connected_to(receive, flow.app):
        for hour in range(6):
            challenge = flow.sign_up(f"0912000{hour:04}")
            for _ in range(2):
                with pytest.raises(WrongCode):
                    flow.check(challenge, flow.wrong(challenge))
            flow.clock.advance(hours=1)
        for n in range(24):
            flow.sign_up(f"0913000{n:04}")
    texts = [message.text for message in flow.memory.messages if message.code is None]
    assert reached.count("site_failures whole") == 6
    assert sum("سقف site_failures" in text for text in texts) == 2
    assert sum("سقف site " in text for text in texts) == 2


def test_a_notice_is_in_persian_if_the_locale_getter_fails(make_app: MakeApp, sqlite: str) -> None:
    """A locale_getter that needs a request fails in a worker thread."""
    app = make_app(
        sqlite, SMSVERIFY_LIMITS={"site": "1/day"}, SMSVERIFY_STAFF_MOBILES=["09121110000"]
    )
    app.extensions["test_smsverify"].locale_getter(
        lambda: current_user.locale if current_user.is_authenticated else "en"
    )
    state = app.extensions["smsverify"]
    senders: list[str] = []

    def receive(_app: Flask, **values: str) -> None:
        senders.append(values["sender_name"])

    with (
        app.app_context(),
        outbox(app) as box,
        signals.code_sent.connected_to(receive, app),
        app.test_request_context("/", environ_base={"REMOTE_ADDR": "192.0.2.1"}),
    ):
        state.verifier.start_for("09129990000", purpose="sign-up")
        state.workers.wait()
        [notice] = [message for message in box.messages if not message.code]
        assert notice.to == "+989121110000"
        assert "سقف" in notice.text
        assert senders == ["outbox"]


def test_a_notice_that_fails_does_not_affect_the_proof(
    app: Flask, caplog: pytest.LogCaptureFixture
) -> None:
    verifier = app.extensions["smsverify"].verifier
    memory = app.extensions["smsverify"].delivery.routes.senders["memory"]
    with app.app_context():
        user = db.session.get(User, 1)
        old = verifier.mobile_of(user)
        for mobile in (None, NEW):
            challenge = verifier.start(user, mobile=mobile)
            memory.fail_with(Rejected("memory", "refused"), to=old)
            verifier.check(challenge, memory.last.code)
            if mobile is None:
                memory.clear()
                limits = app.extensions["smsverify"].limit_report
                limits.reset(limits.scopes(user_id="1"))
        app.extensions["smsverify"].workers.wait()
        assert verifier.latest(user).state == "verified"
    assert "the notice mobile.changed was not sent" in caplog.text


def test_security_notices_ignore_the_limit_for_messages(make_app: MakeApp, sqlite: str) -> None:
    app = make_app(sqlite, SMSVERIFY_LIMITS={"messages": "1/day", "mobiles_per_user": None})
    verifier = app.extensions["smsverify"].verifier
    with app.app_context(), outbox(app) as box:
        user = db.session.get(User, 1)
        verify(verifier, box, user)
        for mobile in ("+989129998801", "+989129998802", "+989129998803"):
            verify(verifier, box, user, mobile)
        assert len([message for message in box.messages if not message.code]) == 3


def test_other_notices_use_the_limit_for_messages(make_app: MakeApp, sqlite: str) -> None:
    app = make_app(
        sqlite,
        SMSVERIFY_LIMITS={"messages": "1/day", "site": "1/day"},
        SMSVERIFY_STAFF_MOBILES=["09121110000", "09121110001"],
    )
    with app.app_context(), outbox(app) as box:
        app.extensions["smsverify"].verifier.start(db.session.get(User, 1))
        assert len([message for message in box.messages if not message.code]) == 1


def test_each_text_that_a_visitor_causes_has_a_default_limit_and_bulk_has_none(
    make_app: MakeApp, sqlite: str
) -> None:
    """Case 83, with the default limits: `messages` is unlimited."""
    app = make_app(sqlite, SMSVERIFY_STAFF_MOBILES=["09129998801"])
    smsverify, state = app.extensions["test_smsverify"], app.extensions["smsverify"]
    staff, unproved = "+989129998801", "+989123450001"
    with app.app_context(), outbox(app) as box:
        for _ in range(25):
            state.verifier._accounts._announcer.notify(
                "limit.reached", mobile=None, limit_name="site", percent="100"
            )
        assert [message.to for message in box.messages] == [staff] * 20
        box.clear()
        user = db.session.get(User, 1)
        for number in range(5):
            smsverify.notify(
                "ticket.replied", user, ticket_number=str(number), ticket_subject="Slow"
            )
        db.session.commit()
        state.wait()
        assert [message.to for message in box.messages] == [unproved] * 3
        box.clear()
        for number in range(25):
            smsverify.send(f"Text {number}", [staff])
        state.wait()
        assert len(box.messages) == 25


def test_a_notice_uses_the_settings_of_the_moment(make_app: MakeApp, sqlite: str) -> None:
    app = make_app(sqlite, SMSVERIFY_LIMITS={"mobiles_per_user": None})
    state = app.extensions["smsverify"]
    app.extensions["test_smsverify"].locale_getter(lambda: "en")
    with app.app_context(), outbox(app) as box:
        user = db.session.get(User, 1)
        verify(state.verifier, box, user)
        state.live.update(site_name="Chenar", signature="opt-out: 11")
        verify(state.verifier, box, user, NEW)
        assert "Chenar" in box.last.text
        assert box.last.text.endswith("\nopt-out: 11")
