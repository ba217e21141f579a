"""The arithmetic of rate limits, also compared with a naive count, and the limits of guesses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy
from flows import NO_LIMITS, Flow
from hypothesis import given, settings
from hypothesis import strategies as st
from parallel import outcome, race

from flask_smsverify import signals
from flask_smsverify.db.ledger import Ledger
from flask_smsverify.db.models import Base
from flask_smsverify.errors import RateLimited, TooSoon
from flask_smsverify.keyring import Keyring
from flask_smsverify.limits.usage import SLICES, Charge, Cooldown, LimitStore
from flask_smsverify.settings.schema import Limit

MakeFlow = Callable[..., Flow]
NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


@contextmanager
def in_memory() -> Iterator[LimitStore]:
    engine = sqlalchemy.create_engine("sqlite://", poolclass=sqlalchemy.StaticPool)
    ledger = Ledger(lambda: engine)  # before the first connection, which it must control
    Base.metadata.create_all(engine)
    try:
        yield LimitStore(ledger, Keyring(["a key"]))
    finally:
        engine.dispose()


@pytest.fixture
def store() -> Iterator[LimitStore]:
    with in_memory() as made:
        yield made


HOURLY = Charge("mobile", "one", (Limit(5, 3600),))


def test_a_window_allows_its_amount_and_reports_the_wait(store: LimitStore) -> None:
    for second in range(5):
        store.reserve([HOURLY], at(second))
    with pytest.raises(RateLimited) as caught:
        store.reserve([HOURLY], at(5))
    assert caught.value.scope == "mobile"
    assert 3595 <= caught.value.retry_after <= 3600 + 300
    with pytest.raises(RateLimited):
        store.reserve([HOURLY], at(5 + caught.value.retry_after - 1))
    store.reserve([HOURLY], at(5 + caught.value.retry_after))


def test_of_several_used_up_limits_the_longest_wait_is_reported(store: LimitStore) -> None:
    charge = Charge("mobile", "one", (Limit(1, 60), Limit(2, 3600)))
    store.reserve([charge], at(0))
    with pytest.raises(RateLimited) as caught:
        store.reserve([charge], at(1))
    assert caught.value.retry_after <= 65
    store.reserve([charge], at(70))
    with pytest.raises(RateLimited) as caught:
        store.reserve([charge], at(140))
    assert caught.value.retry_after > 3000


def test_two_limits_with_the_same_window_count_a_unit_once(store: LimitStore) -> None:
    charge = Charge("mobile", "one", (Limit(3, 3600), Limit(9, 3600)))
    for second in range(3):
        store.reserve([charge], at(second))
    with pytest.raises(RateLimited):
        store.reserve([charge], at(4))


def test_a_refused_reservation_counts_against_no_limit(store: LimitStore) -> None:
    free = Charge("site", "", (Limit(9, 3600),))
    for second in range(5):
        store.reserve([HOURLY], at(second))
    for _ in range(20):
        with pytest.raises(RateLimited):
            store.reserve([free, HOURLY], at(9))
    assert [usage.used for usage in store.usage([free, HOURLY], at(9))] == [0, 5]


def test_the_order_of_charges_does_not_matter(store: LimitStore) -> None:
    charges = [HOURLY, Charge("site", "", (Limit(2, 3600),))]
    store.reserve(charges, at(0))
    store.reserve(charges[::-1], at(0))
    for ordered in (charges, charges[::-1]):
        with pytest.raises(RateLimited) as caught:
            store.reserve(ordered, at(0))
        assert caught.value.scope == "site"


def test_refunded_units_can_be_reserved_again(store: LimitStore) -> None:
    reserved = [store.reserve([HOURLY], at(0)) for _ in range(5)]
    store.refund(reserved[0])
    store.refund(reserved[1])
    store.reserve([HOURLY], at(0))
    store.reserve([HOURLY], at(0))
    assert outcome(lambda: store.reserve([HOURLY], at(0))) == "RateLimited"


def test_refunding_a_unit_that_aged_out_changes_nothing(store: LimitStore) -> None:
    old = store.reserve([HOURLY], at(0))
    for _ in range(5):
        store.reserve([HOURLY], at(4000))
    store.refund(old)
    assert outcome(lambda: store.reserve([HOURLY], at(4000))) == "RateLimited"


def test_a_clock_set_back_frees_no_units(store: LimitStore) -> None:
    for _ in range(5):
        store.reserve([HOURLY], at(0))
    assert outcome(lambda: store.reserve([HOURLY], at(-86_400))) == "RateLimited"


def test_a_reset_limit_is_unused(store: LimitStore) -> None:
    for _ in range(5):
        store.reserve([HOURLY], at(0))
    store.reset([HOURLY])
    assert store.usage([HOURLY], at(0))[0].used == 0
    store.reserve([HOURLY], at(0))


def charge_for(item: str, amount: int = 2) -> Charge:
    return Charge("mobiles_per_user", "one", (Limit(amount, 3600),), item)


def test_a_repeated_item_costs_no_unit(store: LimitStore) -> None:
    for item in ("a", "b", "a", "b", "a"):
        store.reserve([charge_for(item)], at(0))
    assert store.usage([charge_for("a")], at(0))[0].used == 2
    assert outcome(lambda: store.reserve([charge_for("c")], at(0))) == "RateLimited"


def test_an_item_counts_from_its_last_use(store: LimitStore) -> None:
    """Otherwise a window of three could contain four mobiles: one reserved early and again late."""
    store.reserve([charge_for("a")], at(0))
    store.reserve([charge_for("a")], at(3500))
    store.reserve([charge_for("b")], at(4000))
    assert outcome(lambda: store.reserve([charge_for("c")], at(4100))) == "RateLimited"


def test_a_refunded_item_still_counts_if_it_was_reserved_twice(store: LimitStore) -> None:
    store.reserve([charge_for("a", 1)], at(0))
    again = store.reserve([charge_for("a", 1)], at(0))
    store.refund(again)
    assert outcome(lambda: store.reserve([charge_for("b", 1)], at(0))) == "RateLimited"


def test_the_cooldown_is_reported_only_if_no_limit_is_used_up(store: LimitStore) -> None:
    cooldown = Cooldown("one", (30, 60))
    store.reserve([HOURLY, cooldown], at(0))
    with pytest.raises(TooSoon) as caught:
        store.reserve([HOURLY, cooldown], at(0.5))
    assert caught.value.retry_after == 30
    assert store.cooldown_left(cooldown, at(29.5)) == 1
    assert store.cooldown_left(cooldown, at(30)) == 0
    for _ in range(4):
        store.reserve([HOURLY], at(1))
    with pytest.raises(RateLimited):
        store.reserve([HOURLY, cooldown], at(2))


def test_cooldowns_reset_after_an_hour_without_a_send(store: LimitStore) -> None:
    cooldown = Cooldown("one", (30, 60, 90))
    for second in (0, 30, 90):
        store.reserve([cooldown], at(second))
    assert store.cooldown_left(cooldown, at(91)) == 89
    store.reserve([cooldown], at(90 + 3601))
    assert store.cooldown_left(cooldown, at(90 + 3602)) == 29


def test_a_refunded_cooldown_is_undone(store: LimitStore) -> None:
    cooldown = Cooldown("one", (30, 60))
    store.reserve([cooldown], at(0))
    store.refund(store.reserve([cooldown], at(30)))
    assert store.cooldown_left(cooldown, at(30)) == 0
    store.reserve([cooldown], at(30))
    assert store.cooldown_left(cooldown, at(30)) == 60


def test_half_and_whole_usage_are_reported_once_per_window(store: LimitStore) -> None:
    charge = Charge("site_failures", "", (Limit(4, 3600),))
    first = store.reserve([charge], at(0))
    second = store.reserve([charge], at(1))
    assert (first.half_used, second.half_used) == ([], ["site_failures"])
    store.refund(first)
    assert store.reserve([charge], at(2)).half_used == []
    store.refund(second)
    assert store.reserve([charge], at(3)).half_used == ["site_failures"]
    store.reserve([charge], at(4))
    last = store.reserve([charge], at(5))
    assert (last.half_used, last.used_up) == ([], ["site_failures"])
    later = [store.reserve([charge], at(5000 + second)) for second in range(4)]
    assert [reservation.half_used for reservation in later].count(["site_failures"]) == 1
    assert [reservation.used_up for reservation in later].count(["site_failures"]) == 1


def test_usage_rows_contain_no_mobile(store: LimitStore) -> None:
    store.reserve([Charge("mobile", "+989123450001", (Limit(5, 3600),))], at(0))
    rows = store._ledger.read(
        lambda session: session.execute(sqlalchemy.text("SELECT * FROM smsverify_budget")).all()
    )
    assert rows
    assert "9123450001" not in repr(rows)


@pytest.mark.race
def test_parallel_reservations_of_the_same_rows_in_any_order_are_exact(
    make_flow: MakeFlow, database: str
) -> None:
    flow = make_flow(database)
    one, two = (Charge("ip", name, (Limit(12, 3600),)) for name in ("one", "two"))
    three = Charge("ip", "three", (Limit(50, 3600),))

    def reserve(number: int) -> None:
        charges = [one, two, three] if number % 2 else [three, two, one]
        flow.state.usage.reserve(charges, NOON)

    assert race(40, reserve) == {"ok": 12, "RateLimited": 28}
    assert [usage.used for usage in flow.state.usage.usage([one, two, three], NOON)] == [12] * 3


GAPS = st.one_of(st.just(0.0), st.floats(0, 20), st.floats(0, 400), st.floats(0, 4000))


@settings(deadline=None, max_examples=40)
@given(
    steps=st.lists(st.tuples(GAPS, st.booleans()), max_size=60),
    amount=st.integers(1, 6),
    window=st.sampled_from([12, 60, 3600]),
)
def test_no_window_exceeds_its_limit_and_units_are_free_at_most_a_twelfth_late(
    steps: list[tuple[float, bool]], amount: int, window: int
) -> None:
    with in_memory() as store:
        charge = Charge("mobile", "one", (Limit(amount, window),))
        now, reserved = 0.0, []
        for gap, is_refunded in steps:
            now += gap
            in_window = [then for then, _ in reserved if then > now - window]
            certainly_counted = [
                then for then, _ in reserved if then > now - window * (1 + 1 / SLICES)
            ]
            try:
                reservation = store.reserve([charge], at(now))
            except RateLimited as error:
                wait = error.retry_after
                assert len(certainly_counted) >= amount
                assert 1 <= wait <= window * (1 + 1 / SLICES) + 1
            else:
                assert len(in_window) < amount
                reserved.append((now, reservation))
                if is_refunded:
                    store.refund(reserved.pop()[1])


@settings(deadline=None, max_examples=40)
@given(steps=st.lists(st.tuples(GAPS, st.sampled_from("abcdef")), max_size=60))
def test_no_window_exceeds_its_limit_of_distinct_items(steps: list[tuple[float, str]]) -> None:
    with in_memory() as store:
        now, reserved = 0.0, []
        for gap, item in steps:
            now += gap
            recent = {other for then, other in reserved if then > now - 3600}
            certain = {other for then, other in reserved if then > now - 3600 * (1 + 1 / SLICES)}
            try:
                store.reserve([charge_for(item, 3)], at(now))
            except RateLimited:
                assert item not in recent
                assert len(certain) >= 3
            else:
                assert len(recent | {item}) <= 3
                reserved.append((now, item))


def test_an_account_can_request_codes_for_three_mobiles_a_day(
    make_flow: MakeFlow, sqlite: str
) -> None:
    flow = make_flow(sqlite, SMSVERIFY_LIMITS={"user": None}, SMSVERIFY_RESEND_DELAYS=(1,))
    outcomes = []
    for mobile in ("09120000001", "09120000002", "09120000001", "09120000003", "09120000004"):
        outcomes.append(outcome(lambda to=mobile: flow.start(mobile=to)))
        flow.clock.advance(2)
    assert outcomes == ["ok", "ok", "ok", "ok", "RateLimited"]


def test_disabled_limits_refuse_nothing(make_flow: MakeFlow, sqlite: str) -> None:
    flow = make_flow(sqlite, SMSVERIFY_LIMITS=NO_LIMITS, SMSVERIFY_MAX_ATTEMPTS=100)
    for _ in range(30):
        flow.clock.advance(121)
        challenge = flow.start(ip="192.0.2.1")
    outcomes = {outcome(lambda: flow.check(challenge, flow.wrong(challenge))) for _ in range(40)}
    assert outcomes == {"WrongCode"}
    assert len(flow.memory.messages) == 30


def test_the_site_failure_limit_stops_guesses_with_one_signal_at_half(
    make_flow: MakeFlow, sqlite: str
) -> None:
    flow = make_flow(sqlite, users=9, SMSVERIFY_LIMITS={"site_failures": "10/hour"})
    reports = []

    def receive(_app: object, *, scope: str, limit: str) -> None:
        reports.append((scope, limit))

    challenges = [flow.start(number) for number in range(1, 10)]
    with signals.limit_reached.connected_to(receive):
        for challenge in challenges[:2]:
            flow.check(challenge, flow.code(challenge))
        outcomes = [
            outcome(lambda c=challenge: flow.check(c, flow.wrong(c)))
            for challenge in challenges[2:]
            for _ in range(2)
        ]
    assert outcomes == ["WrongCode"] * 10 + ["TooManyAttempts"] * 4
    assert reports.count(("site_failures", "half")) == 1
    assert reports.count(("site_failures", "whole")) == 1
    assert flow.used("site_failures") == 10


def test_refused_guesses_do_not_count_against_the_site_failure_limit(
    make_flow: MakeFlow, sqlite: str
) -> None:
    """Guesses at exhausted challenges, at locked accounts, and beyond the limit of an account."""
    flow = make_flow(
        sqlite,
        users=4,
        SMSVERIFY_CONSECUTIVE_FAILURES=8,
        SMSVERIFY_LIMITS={"failures": "3/day", "site_failures": "50/hour"},
    )
    failed, exhausted = flow.start(1), flow.start(2)
    for _ in range(20):
        outcome(lambda: flow.check(failed, flow.wrong(failed)))
    assert flow.used("site_failures") == 3
    flow.state.usage.reset(flow.verifier.limits_of(user_id="1"))
    for _ in range(20):
        outcome(lambda: flow.check(exhausted, flow.wrong(exhausted)))
    assert flow.used("site_failures") == 6
    for _ in range(2):
        flow.state.usage.reset(flow.verifier.limits_of(user_id="2"))
        for _ in range(20):
            outcome(lambda: flow.check(exhausted, flow.wrong(exhausted)))
    assert flow.used("site_failures") == 8


def test_the_site_failure_limit_refuses_every_check_until_it_is_reset(
    make_flow: MakeFlow, database: str
) -> None:
    flow = make_flow(database, users=3, SMSVERIFY_LIMITS={"site_failures": "3/hour"})
    attacked, mine = flow.start(1), flow.start(2)
    for _ in range(3):
        outcome(lambda: flow.check(attacked, flow.wrong(attacked)))
    assert outcome(lambda: flow.check(mine, flow.code(mine))) == "TooManyAttempts"
    flow.state.usage.reset(flow.verifier.limits_of())
    assert flow.check(mine, flow.code(mine)).verified_at


def test_half_usage_is_reported_again_after_the_reporting_unit_was_refunded(flow: Flow) -> None:
    """A right code is refunded, and so is the report that its unit caused."""
    store = flow.state.usage
    charge = Charge("site_failures", "", (Limit(4, 3600),))
    store.reserve([charge], flow.clock())
    right = store.reserve([charge], flow.clock())
    wrong = store.reserve([charge], flow.clock())
    assert (right.half_used, wrong.half_used) == (["site_failures"], [])
    store.refund(right)
    assert store.reserve([charge], flow.clock()).half_used == ["site_failures"]


def test_sign_ups_count_failures_by_mobile_and_by_address(make_flow: MakeFlow, sqlite: str) -> None:
    flow = make_flow(sqlite, SMSVERIFY_LIMITS={"failures": "4/day"}, SMSVERIFY_RESEND_DELAYS=(1,))
    first = flow.sign_up("09120000001", ip="192.0.2.1")
    for _ in range(2):
        assert outcome(lambda: flow.check(first, flow.wrong(first), ip="192.0.2.1")) == "WrongCode"
    flow.clock.advance(2)
    second = flow.sign_up("09120000001", ip="192.0.2.2")
    for _ in range(2):
        assert (
            outcome(lambda: flow.check(second, flow.wrong(second), ip="192.0.2.2")) == "WrongCode"
        )
    assert (
        outcome(lambda: flow.check(second, flow.code(second), ip="192.0.2.3")) == "TooManyAttempts"
    )
    third = flow.sign_up("09120000002", ip="192.0.2.1")
    for _ in range(2):
        assert outcome(lambda: flow.check(third, flow.wrong(third), ip="192.0.2.1")) == "WrongCode"
    assert outcome(lambda: flow.check(third, flow.code(third), ip="192.0.2.1")) == "TooManyAttempts"
    assert flow.check(third, flow.code(third), ip="192.0.2.9").mobile == "+989120000002"
    flow.state.workers.wait()
