"""The arithmetic of store, with a clock that is told; and against an oracle that counts."""

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
    ledger = Ledger(engine)  # before the first connection, which it must control
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


def test_a_window_takes_its_number_and_says_when_the_next_goes(store: LimitStore) -> None:
    for second in range(5):
        store.reserve([HOURLY], at(second))
    with pytest.raises(RateLimited) as caught:
        store.reserve([HOURLY], at(5))
    assert caught.value.scope == "mobile"
    assert 3595 <= caught.value.retry_after <= 3600 + 300
    with pytest.raises(RateLimited):
        store.reserve([HOURLY], at(5 + caught.value.retry_after - 1))
    store.reserve([HOURLY], at(5 + caught.value.retry_after))


def test_of_several_limits_the_one_that_takes_longest_is_told(store: LimitStore) -> None:
    claim = Charge("mobile", "one", (Limit(1, 60), Limit(2, 3600)))
    store.reserve([claim], at(0))
    with pytest.raises(RateLimited) as caught:
        store.reserve([claim], at(1))
    assert caught.value.retry_after <= 65
    store.reserve([claim], at(70))
    with pytest.raises(RateLimited) as caught:
        store.reserve([claim], at(140))
    assert caught.value.retry_after > 3000


def test_two_limits_over_the_same_window_count_a_unit_once(store: LimitStore) -> None:
    claim = Charge("mobile", "one", (Limit(3, 3600), Limit(9, 3600)))
    for second in range(3):
        store.reserve([claim], at(second))
    with pytest.raises(RateLimited):
        store.reserve([claim], at(4))


def test_a_claim_that_is_refused_takes_nothing_anywhere(store: LimitStore) -> None:
    free = Charge("site", "", (Limit(9, 3600),))
    for second in range(5):
        store.reserve([HOURLY], at(second))
    for _ in range(20):
        with pytest.raises(RateLimited):
            store.reserve([free, HOURLY], at(9))
    assert [usage.used for usage in store.usage([free, HOURLY], at(9))] == [0, 5]


@pytest.mark.parametrize("order", [1, -1])
def test_the_order_of_claims_does_not_matter(store: LimitStore, order: int) -> None:
    claims = [HOURLY, Charge("site", "", (Limit(2, 3600),))][::order]
    store.reserve(claims, at(0))
    store.reserve(claims, at(0))
    with pytest.raises(RateLimited) as caught:
        store.reserve(claims, at(0))
    assert caught.value.scope == "site"


def test_what_is_given_back_can_be_taken_again(store: LimitStore) -> None:
    taken = [store.reserve([HOURLY], at(0)) for _ in range(5)]
    store.refund(taken[0])
    store.refund(taken[1])
    store.reserve([HOURLY], at(0))
    store.reserve([HOURLY], at(0))
    assert outcome(lambda: store.reserve([HOURLY], at(0))) == "RateLimited"


def test_giving_back_what_has_aged_out_changes_nothing(store: LimitStore) -> None:
    old = store.reserve([HOURLY], at(0))
    for _ in range(5):
        store.reserve([HOURLY], at(4000))
    store.refund(old)
    assert outcome(lambda: store.reserve([HOURLY], at(4000))) == "RateLimited"


def test_a_clock_that_was_set_back_gives_no_units(store: LimitStore) -> None:
    for _ in range(5):
        store.reserve([HOURLY], at(0))
    assert outcome(lambda: store.reserve([HOURLY], at(-86_400))) == "RateLimited"


def test_lifting_begins_anew(store: LimitStore) -> None:
    for _ in range(5):
        store.reserve([HOURLY], at(0))
    store.reset([HOURLY])
    assert store.usage([HOURLY], at(0))[0].used == 0
    store.reserve([HOURLY], at(0))


def thing(item: str, amount: int = 2) -> Charge:
    return Charge("mobiles_per_user", "one", (Limit(amount, 3600),), item)


def test_the_same_thing_again_costs_nothing_a_different_one_does(store: LimitStore) -> None:
    for item in ("a", "b", "a", "b", "a"):
        store.reserve([thing(item)], at(0))
    assert store.usage([thing("a")], at(0))[0].used == 2
    assert outcome(lambda: store.reserve([thing("c")], at(0))) == "RateLimited"


def test_a_thing_counts_from_its_last_use(store: LimitStore) -> None:
    """Or four mobiles would fit a window of three: one early and late, three in between."""
    store.reserve([thing("a")], at(0))
    store.reserve([thing("a")], at(3500))
    store.reserve([thing("b")], at(4000))
    assert outcome(lambda: store.reserve([thing("c")], at(4100))) == "RateLimited"


def test_a_thing_that_is_given_back_stays_where_it_was_used_otherwise(store: LimitStore) -> None:
    store.reserve([thing("a", 1)], at(0))
    again = store.reserve([thing("a", 1)], at(0))
    store.refund(again)
    assert outcome(lambda: store.reserve([thing("b", 1)], at(0))) == "RateLimited"


def test_a_pause_is_told_only_where_no_budget_is_spent(store: LimitStore) -> None:
    pace = Cooldown("one", (30, 60))
    store.reserve([HOURLY, pace], at(0))
    with pytest.raises(TooSoon) as caught:
        store.reserve([HOURLY, pace], at(0.5))
    assert caught.value.retry_after == 30
    assert store.cooldown_left(pace, at(29.5)) == 1
    assert store.cooldown_left(pace, at(30)) == 0
    for _ in range(4):
        store.reserve([HOURLY], at(1))
    with pytest.raises(RateLimited):
        store.reserve([HOURLY, pace], at(2))


def test_pauses_are_forgotten_after_an_hour_without_a_send(store: LimitStore) -> None:
    pace = Cooldown("one", (30, 60, 90))
    for second in (0, 30, 90):
        store.reserve([pace], at(second))
    assert store.cooldown_left(pace, at(91)) == 89
    store.reserve([pace], at(90 + 3601))
    assert store.cooldown_left(pace, at(90 + 3602)) == 29


def test_a_pause_that_is_given_back_was_never_there(store: LimitStore) -> None:
    pace = Cooldown("one", (30, 60))
    store.reserve([pace], at(0))
    store.refund(store.reserve([pace], at(30)))
    assert store.cooldown_left(pace, at(30)) == 0
    store.reserve([pace], at(30))
    assert store.cooldown_left(pace, at(30)) == 60


def test_half_and_whole_are_told_once_in_a_window(store: LimitStore) -> None:
    claim = Charge("site_failures", "", (Limit(4, 3600),))
    first = store.reserve([claim], at(0))
    second = store.reserve([claim], at(1))
    assert (first.half_used, second.half_used) == ([], ["site_failures"])
    store.refund(first)
    assert store.reserve([claim], at(2)).half_used == []
    store.refund(second)
    assert store.reserve([claim], at(3)).half_used == ["site_failures"]
    store.reserve([claim], at(4))
    last = store.reserve([claim], at(5))
    assert (last.half_used, last.used_up) == ([], ["site_failures"])
    later = [store.reserve([claim], at(5000 + second)) for second in range(4)]
    assert [one.half_used for one in later].count(["site_failures"]) == 1
    assert [one.used_up for one in later].count(["site_failures"]) == 1


def test_rows_name_no_mobile_and_no_address(store: LimitStore) -> None:
    store.reserve([Charge("mobile", "+989123450001", (Limit(5, 3600),))], at(0))
    rows = store._ledger.read(
        lambda session: session.execute(sqlalchemy.text("SELECT * FROM smsverify_budget")).all()
    )
    assert rows
    assert "9123450001" not in repr(rows)


@pytest.mark.race
def test_parallel_reservations_over_the_same_rows_in_any_order_are_exact(
    make_flow: MakeFlow, database: str
) -> None:
    flow = make_flow(database)
    one, two = (Charge("ip", name, (Limit(12, 3600),)) for name in ("one", "two"))
    three = Charge("ip", "three", (Limit(50, 3600),))

    def take(number: int) -> None:
        claims = [one, two, three] if number % 2 else [three, two, one]
        flow.state.usage.reserve(claims, NOON)

    assert race(40, take) == {"ok": 12, "RateLimited": 28}
    assert [usage.used for usage in flow.state.usage.usage([one, two, three], NOON)] == [12] * 3


# --- against an oracle ----------------------------------------------------------------------------

GAPS = st.one_of(st.just(0.0), st.floats(0, 20), st.floats(0, 400), st.floats(0, 4000))


@settings(deadline=None, max_examples=40)
@given(
    steps=st.lists(st.tuples(GAPS, st.booleans()), max_size=60),
    amount=st.integers(1, 6),
    window=st.sampled_from([12, 60, 3600]),
)
def test_no_window_ever_holds_more_and_refilling_is_at_most_a_twelfth_late(
    steps: list[tuple[float, bool]], amount: int, window: int
) -> None:
    with in_memory() as store:
        claim = Charge("mobile", "one", (Limit(amount, window),))
        now, taken = 0.0, []
        for gap, give_back in steps:
            now += gap
            in_window = [then for then, _ in taken if then > now - window]
            surely_free = [then for then, _ in taken if then > now - window * (1 + 1 / SLICES)]
            try:
                reservation = store.reserve([claim], at(now))
            except RateLimited as error:
                wait = error.retry_after
                assert len(surely_free) >= amount
                assert 1 <= wait <= window * (1 + 1 / SLICES) + 1
            else:
                assert len(in_window) < amount
                taken.append((now, reservation))
                if give_back:
                    store.refund(taken.pop()[1])


@settings(deadline=None, max_examples=40)
@given(steps=st.lists(st.tuples(GAPS, st.sampled_from("abcdef")), max_size=60))
def test_no_window_ever_holds_more_different_things(steps: list[tuple[float, str]]) -> None:
    with in_memory() as store:
        now, taken = 0.0, []
        for gap, item in steps:
            now += gap
            recent = {other for then, other in taken if then > now - 3600}
            surely = {other for then, other in taken if then > now - 3600 * (1 + 1 / SLICES)}
            try:
                store.reserve([thing(item, 3)], at(now))
            except RateLimited:
                assert item not in recent
                assert len(surely) >= 3
            else:
                assert len(recent | {item}) <= 3
                taken.append((now, item))


# --- the scopes as the verifier uses them ---------------------------------------------------------


def test_an_account_asks_for_three_different_mobiles_a_day(
    make_flow: MakeFlow, sqlite: str
) -> None:
    flow = make_flow(sqlite, SMSVERIFY_LIMITS={"user": None}, SMSVERIFY_RESEND_DELAYS=(1,))
    ends = []
    for mobile in ("09120000001", "09120000002", "09120000001", "09120000003", "09120000004"):
        ends.append(outcome(lambda to=mobile: flow.start(mobile=to)))
        flow.clock.advance(2)
    assert ends == ["ok", "ok", "ok", "ok", "RateLimited"]


def test_a_lifted_budget_stops_nobody(make_flow: MakeFlow, sqlite: str) -> None:
    flow = make_flow(sqlite, SMSVERIFY_LIMITS=NO_LIMITS, SMSVERIFY_MAX_ATTEMPTS=100)
    for _ in range(30):
        flow.clock.advance(121)
        challenge = flow.start(ip="192.0.2.1")
    ends = {outcome(lambda: flow.check(challenge, flow.wrong(challenge))) for _ in range(40)}
    assert ends == {"WrongCode"}
    assert len(flow.memory.messages) == 30


def test_the_sites_failures_are_a_brake_with_one_signal_at_half(
    make_flow: MakeFlow, sqlite: str
) -> None:
    flow = make_flow(sqlite, users=9, SMSVERIFY_LIMITS={"site_failures": "10/hour"})
    told = []

    def hear(_app: object, *, scope: str, limit: str) -> None:
        told.append((scope, limit))

    open_ones = [flow.start(number) for number in range(1, 10)]
    with signals.limit_reached.connected_to(hear):
        for right in open_ones[:2]:
            flow.check(right, flow.code(right))
        ends = [
            outcome(lambda c=challenge: flow.check(c, flow.wrong(c)))
            for challenge in open_ones[2:]
            for _ in range(2)
        ]
    assert ends == ["WrongCode"] * 10 + ["TooManyAttempts"] * 4
    assert told.count(("site_failures", "half")) == 1
    assert told.count(("site_failures", "whole")) == 1
    assert flow.used("site_failures") == 10


def test_accounts_without_attempts_do_not_wear_the_sites_brake(
    make_flow: MakeFlow, sqlite: str
) -> None:
    """Exhausted challenges, locked accounts, and accounts without failures left."""
    flow = make_flow(
        sqlite,
        users=4,
        SMSVERIFY_CONSECUTIVE_FAILURES=8,
        SMSVERIFY_LIMITS={"failures": "3/day", "site_failures": "50/hour"},
    )
    poor, exhausted = flow.start(1), flow.start(2)
    for _ in range(20):
        outcome(lambda: flow.check(poor, flow.wrong(poor)))
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


def test_the_sites_brake_stops_every_check_until_it_is_lifted(
    make_flow: MakeFlow, database: str
) -> None:
    flow = make_flow(database, users=3, SMSVERIFY_LIMITS={"site_failures": "3/hour"})
    attacked, mine = flow.start(1), flow.start(2)
    for _ in range(3):
        outcome(lambda: flow.check(attacked, flow.wrong(attacked)))
    assert outcome(lambda: flow.check(mine, flow.code(mine))) == "TooManyAttempts"
    flow.state.usage.reset(flow.verifier.limits_of())
    assert flow.check(mine, flow.code(mine)).verified_at


def test_failures_of_the_half_are_told_though_a_right_code_reached_it_first(flow: Flow) -> None:
    """A right code gives its unit back, and with it the telling."""
    store = flow.state.usage
    claim = Charge("site_failures", "", (Limit(4, 3600),))
    store.reserve([claim], flow.clock())
    right = store.reserve([claim], flow.clock())
    wrong = store.reserve([claim], flow.clock())
    assert (right.half_used, wrong.half_used) == (["site_failures"], [])
    store.refund(right)
    assert store.reserve([claim], flow.clock()).half_used == ["site_failures"]


def test_sign_ups_count_failures_by_mobile_and_by_address(make_flow: MakeFlow, sqlite: str) -> None:
    flow = make_flow(sqlite, SMSVERIFY_LIMITS={"failures": "4/day"}, SMSVERIFY_RESEND_DELAYS=(1,))
    first = flow.verifier.start_for("09120000001", purpose="sign-up", ip="192.0.2.1")
    for _ in range(2):
        assert outcome(lambda: flow.check(first, flow.wrong(first), ip="192.0.2.1")) == "WrongCode"
    flow.clock.advance(2)
    second = flow.verifier.start_for("09120000001", purpose="sign-up", ip="192.0.2.2")
    for _ in range(2):
        assert (
            outcome(lambda: flow.check(second, flow.wrong(second), ip="192.0.2.2")) == "WrongCode"
        )
    assert (
        outcome(lambda: flow.check(second, flow.code(second), ip="192.0.2.3")) == "TooManyAttempts"
    )
    third = flow.verifier.start_for("09120000002", purpose="sign-up", ip="192.0.2.1")
    for _ in range(2):
        assert outcome(lambda: flow.check(third, flow.wrong(third), ip="192.0.2.1")) == "WrongCode"
    assert outcome(lambda: flow.check(third, flow.code(third), ip="192.0.2.1")) == "TooManyAttempts"
    assert flow.check(third, flow.code(third), ip="192.0.2.9").mobile == "+989120000002"
    flow.state.workers.wait()
