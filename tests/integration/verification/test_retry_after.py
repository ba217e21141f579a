"""`retry_after`: after exactly this time, the refused action is allowed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import count

import pytest
from flows import NO_LIMITS, Flow
from parallel import outcome

from flask_smsverify.errors import RateLimited, TooManyAttempts, TooSoon

MakeFlow = Callable[..., Flow]


def wait_of(refused: Callable[[], object]) -> int:
    """Return the seconds after which a refused action may be tried again."""
    with pytest.raises((RateLimited, TooSoon, TooManyAttempts)) as caught:
        refused()
    return caught.value.retry_after


def assert_exact(flow: Flow, refused: Callable[[], object]) -> None:
    """Check that an action is refused until its wait is over, and not longer."""
    wait = wait_of(refused)
    flow.clock.advance(wait - 1)
    assert wait_of(refused) == 1
    flow.clock.advance(1)
    refused()


@pytest.fixture
def numbers() -> Iterator[str]:
    """Mobiles that nobody has asked a code for."""
    return (f"0912{number:07}" for number in count())


def exhaust(flow: Flow) -> Callable[[], object]:
    """Use up the guesses of a code, and return one more guess."""
    challenge = flow.start()
    for _ in range(5):
        assert outcome(lambda: flow.check(challenge, flow.wrong(challenge))) == "WrongCode"
    return lambda: flow.check(challenge, flow.code(challenge))


def test_a_cooldown_that_is_longer_than_the_wait_for_a_limit_decides(flow: Flow) -> None:
    for gap in (0, 900, 900, 900, 889):  # the fifth of an hour; the first leaves it 11 s later
        flow.clock.advance(gap)
        flow.start()
    assert_exact(flow, flow.start)


def test_a_limit_of_sends_with_a_longer_wait_than_that_of_guesses_decides(
    make_flow: MakeFlow, sqlite: str
) -> None:
    limits = NO_LIMITS | {"failures": "1/minute", "mobile": "1/hour"}
    flow = make_flow(sqlite, SMSVERIFY_LIMITS=limits)
    challenge = flow.start()
    assert outcome(lambda: flow.check(challenge, flow.wrong(challenge))) == "WrongCode"
    assert_exact(flow, flow.start)


def test_the_wait_for_the_whole_site_decides_if_it_is_longer_than_for_its_open_part(
    make_flow: MakeFlow, sqlite: str, numbers: Iterator[str]
) -> None:
    limits = NO_LIMITS | {"site": "10/hour"}
    flow = make_flow(sqlite, users=4, SMSVERIFY_LIMITS=limits, SMSVERIFY_NETWORK_SHARE=1)
    for user in range(1, 5):
        flow.prove(user)
    flow.clock.advance(3601)
    for user in range(1, 5):
        flow.start(user)
    flow.clock.advance(600)
    for network in range(6):
        flow.sign_up(next(numbers), ip=f"192.0.{network}.1")
    assert_exact(flow, lambda: flow.sign_up("09350000000", ip="198.51.100.1"))


def test_of_two_windows_of_the_site_the_longer_wait_decides(
    make_flow: MakeFlow, sqlite: str, numbers: Iterator[str]
) -> None:
    flow = make_flow(
        sqlite,
        SMSVERIFY_LIMITS=NO_LIMITS | {"site": "7/hour;9/2 hours"},
        SMSVERIFY_SITE_RESERVED=0,
    )
    for at in range(9):
        if at == 2:
            flow.clock.advance(3700)
        flow.sign_up(next(numbers))
    assert_exact(flow, lambda: flow.sign_up("09350000000"))


def test_the_wait_for_a_networks_share_counts_its_own_sends_and_those_of_others(
    make_flow: MakeFlow, sqlite: str, numbers: Iterator[str]
) -> None:
    flow = make_flow(sqlite, SMSVERIFY_LIMITS=NO_LIMITS | {"site": "100/hour"})
    for _ in range(5):
        flow.clock.advance(60)
        flow.sign_up(next(numbers), ip="192.0.2.1")
    for network in range(11):
        for _ in range(5):
            flow.clock.advance(1)
            outcome(lambda network=network: flow.sign_up(next(numbers), ip=f"198.51.{network}.1"))
    assert_exact(flow, lambda: flow.sign_up("09350000000", ip="192.0.2.9"))


def test_after_the_wait_for_an_exhausted_code_the_next_one_is_sent(flow: Flow) -> None:
    wait = wait_of(exhaust(flow))
    assert outcome(flow.start) == "TooSoon"
    flow.clock.advance(wait)
    flow.start()


def test_the_wait_for_an_exhausted_code_includes_that_for_the_accounts_guesses(flow: Flow) -> None:
    for _ in range(3):  # 15 wrong codes are the limit of a day
        guess = exhaust(flow)
        flow.clock.advance(130)
    wait = wait_of(guess)
    assert outcome(flow.start) == "TooManyAttempts"
    flow.clock.advance(wait)
    flow.start()


def test_the_wait_for_the_failures_of_a_number_ends_with_the_oldest_of_anybody(
    make_flow: MakeFlow, sqlite: str
) -> None:
    limits = NO_LIMITS | {"failures": "3/hour"}
    flow = make_flow(sqlite, users=4, SMSVERIFY_LIMITS=limits, SMSVERIFY_RESEND_DELAYS=(1,))
    mobile = "09350000001"
    challenges = [flow.start(2, mobile=mobile), flow.start(3, mobile=mobile)]
    challenges.append(flow.start(2, mobile=mobile, purpose="another"))
    for challenge in challenges:
        assert outcome(lambda c=challenge: flow.check(c, flow.wrong(c))) == "WrongCode"
        flow.clock.advance(100)
    last = challenges[-1]
    assert wait_of(lambda: flow.check(last, flow.code(last))) == 3600 - 300
    assert wait_of(lambda: flow.start(3, mobile=mobile)) == 3600 - 300
    assert_exact(flow, lambda: flow.start(4, mobile=mobile))


def test_of_the_failures_of_account_and_number_the_longer_wait_decides(
    make_flow: MakeFlow, sqlite: str
) -> None:
    limits = NO_LIMITS | {"failures": "2/hour"}
    flow = make_flow(sqlite, users=3, SMSVERIFY_LIMITS=limits, SMSVERIFY_RESEND_DELAYS=(1,))
    steps = [(2, "09350000001"), (3, "09350000002"), (3, "09350000001"), (2, "09350000002")]
    for number, mobile in steps:
        challenge = flow.start(number, mobile=mobile, purpose=f"at {flow.clock.now}")
        assert outcome(lambda c=challenge: flow.check(c, flow.wrong(c))) == "WrongCode"
        flow.clock.advance(100)
    # Until the first failure of account 2 leaves, and the first at the second number.
    assert wait_of(lambda: flow.start(2, mobile="09350000003")) == 3600 - 400
    assert wait_of(lambda: flow.start(1, mobile="09350000002")) == 3600 - 300
    assert_exact(flow, lambda: flow.start(2, mobile="09350000002", purpose="later"))


def test_the_wait_on_a_device_of_the_owner_ends_with_the_oldest_failure_on_it(
    make_flow: MakeFlow, sqlite: str
) -> None:
    limits = NO_LIMITS | {"failures": "2/hour"}
    flow = make_flow(sqlite, SMSVERIFY_LIMITS=limits, SMSVERIFY_RESEND_DELAYS=(1,))
    flow.prove(1)
    mobile, token = "+989123450001", flow.verifier.devices.dump("+989123450001", "1")
    for device in (token, None, token, None):
        challenge = flow.sign_up(mobile, device=device)
        assert outcome(lambda c=challenge: flow.check(c, flow.wrong(c))) == "WrongCode"
        flow.clock.advance(100)
    assert wait_of(lambda: flow.sign_up(mobile)) == 3600 - 300
    assert_exact(flow, lambda: flow.sign_up(mobile, device=token))


@pytest.mark.parametrize("is_own_first", [True, False])
def test_a_device_of_the_owner_waits_for_its_own_guesses_or_for_those_of_others(
    make_flow: MakeFlow, sqlite: str, is_own_first: bool
) -> None:
    """Whichever are left sooner."""
    flow = make_flow(
        sqlite,
        SMSVERIFY_LIMITS=NO_LIMITS | {"failures": "1/hour"},
        SMSVERIFY_RESEND_DELAYS=(1,),
        SMSVERIFY_MAX_ATTEMPTS=1,
    )
    flow.prove(1)
    mobile, token = "+989123450001", flow.verifier.devices.dump("+989123450001", "1")
    own = flow.sign_up(mobile, device=token)
    flow.clock.advance(2)
    strange = flow.sign_up(mobile)
    assert (own.by_device, strange.by_device) == (True, False)
    for challenge in (own, strange) if is_own_first else (strange, own):
        assert outcome(lambda c=challenge: flow.check(c, flow.wrong(c))) == "WrongCode"
        flow.clock.advance(200)
    assert wait_of(lambda: flow.check(own, flow.code(own))) == 3600 - 400
    assert_exact(flow, lambda: flow.sign_up(mobile, device=token))


def test_a_long_cooldown_does_not_end_before_its_time(make_flow: MakeFlow, sqlite: str) -> None:
    flow = make_flow(sqlite, SMSVERIFY_RESEND_DELAYS=(60, 300, 900, 1800))
    for gap in (0, 60, 300, 900, 1800):
        flow.clock.advance(gap)
        challenge = flow.start()
    assert challenge.resend_at == flow.clock.now + timedelta(seconds=1800)
    assert_exact(flow, flow.start)
