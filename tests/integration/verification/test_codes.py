"""Codes: lifetime, input, derivation and comparison. Cases 9 to 14 and 16 of docs/safety.md."""

from __future__ import annotations

import hmac
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from flows import NO_LIMITS, Flow, Native
from parallel import outcome

from flask_smsverify.errors import (
    CodeExpired,
    InvalidCode,
    NoChallenge,
    SendFailed,
    Unavailable,
    WrongCode,
)
from flask_smsverify.guard import decide
from flask_smsverify.keyring import Keyring
from flask_smsverify.senders.base import CodeMessage, Receipt
from flask_smsverify.senders.memory import Memory
from flask_smsverify.verification import codes

MakeFlow = Callable[..., Flow]


def test_a_used_code_is_refused_for_this_and_for_another_purpose(flow: Flow) -> None:
    """Case 9."""
    challenge = flow.start()
    code = flow.code(challenge)
    flow.check(challenge, code)
    with pytest.raises(NoChallenge):
        flow.check(challenge, code)
    other = flow.start(purpose="payment")
    assert flow.code(other) != code
    with pytest.raises(WrongCode):
        flow.verifier.check(flow.user(), code, purpose="payment")


def test_a_right_code_verifies_the_user_whatever_its_purpose(flow: Flow) -> None:
    challenge = flow.start(purpose="payment")
    assert flow.state_of(1) == "unverified"
    verification = flow.verifier.check(flow.user(), flow.code(challenge), purpose="payment")
    assert verification.mobile == challenge.mobile
    assert flow.state_of(1) == "verified"


def test_a_proof_of_another_number_counts_when_the_host_has_written_it(flow: Flow) -> None:
    flow.prove()
    challenge = flow.start(mobile="+989351112233", purpose="payment")
    flow.verifier.check(flow.user(), flow.code(challenge), purpose="payment")
    assert flow.state_of(1) == "unverified"
    flow.set_mobile(1, "+989351112233")
    assert flow.state_of(1) == "verified"


def test_a_code_expires_exactly_at_the_end_of_its_lifetime(
    make_flow: MakeFlow, database: str
) -> None:
    """Case 10."""
    flow = make_flow(database, users=3)
    ages = ((599, "ok", 1), (600, "CodeExpired", 0), (601, "CodeExpired", 0))
    for number, (age, result, attempts) in enumerate(ages, start=1):
        challenge = flow.start(number)
        flow.clock.advance(age)
        assert outcome(lambda c=challenge: flow.check(c, flow.code(c))) == result, age
        assert flow.verifier.load(challenge.id).attempts == attempts, age


def test_a_resend_does_not_extend_the_lifetime(flow: Flow) -> None:
    challenge = flow.start()
    flow.clock.advance(500)
    flow.verifier.resend(challenge)
    flow.clock.advance(100)
    with pytest.raises(CodeExpired):
        flow.check(challenge, flow.code(challenge))


def test_a_clock_set_back_does_not_extend_the_lifetime(flow: Flow) -> None:
    challenge = flow.start()
    flow.clock.advance(-3600)
    with pytest.raises(CodeExpired):
        flow.check(challenge, flow.code(challenge))
    again = flow.start()
    assert again.id != challenge.id
    assert flow.check(again, flow.code(again)).mobile == "+989123450001"


@pytest.mark.parametrize(
    ("moment", "is_right"),
    [
        (timedelta(seconds=600, milliseconds=-1), True),
        (timedelta(seconds=600), False),
        (timedelta(minutes=-1), True),
        (timedelta(minutes=-1, milliseconds=-1), False),
    ],
)
def test_a_code_is_right_from_the_skew_of_clocks_until_its_end(
    flow: Flow, moment: timedelta, is_right: bool
) -> None:
    """The check, the page and the guards agree at both ends."""
    challenge = flow.start()
    flow.clock.advance(moment.total_seconds())
    assert flow.verifier.status(flow.user()).state == ("pending" if is_right else "unverified")
    with flow.app.test_request_context():
        decided = decide(flow.user()).status
        assert decided is not None
        assert decided.state == ("pending" if is_right else "unverified")
    latest = flow.verifier.latest(flow.user())
    assert (latest is not None) == (moment >= timedelta(minutes=-1))
    if is_right:
        assert flow.verifier.check(flow.user(), flow.code(challenge))
    else:
        with pytest.raises((CodeExpired, NoChallenge)):
            flow.verifier.check(flow.user(), flow.code(challenge))


def test_with_resend_new_only_the_newest_code_is_right(make_flow: MakeFlow, sqlite: str) -> None:
    """Case 11."""
    flow = make_flow(sqlite, SMSVERIFY_RESEND="new")
    challenge = flow.start()
    old = flow.memory.last.code
    flow.clock.advance(31)
    flow.verifier.resend(challenge)
    new = flow.memory.last.code
    assert new != old
    with pytest.raises(WrongCode):
        flow.check(challenge, old)
    assert flow.check(challenge, new).verified_at


def test_with_resend_new_a_failed_resend_keeps_the_previous_code(
    make_flow: MakeFlow, sqlite: str
) -> None:
    flow = make_flow(sqlite, SMSVERIFY_RESEND="new")
    challenge = flow.start()
    flow.clock.advance(31)
    flow.memory.fail_with(Unavailable("memory", "down"))
    assert outcome(lambda: flow.verifier.resend(challenge)) == "SendFailed"
    assert flow.check(challenge, flow.memory.last.code).verified_at


def test_with_resend_new_a_failed_resend_keeps_a_later_code(
    make_flow: MakeFlow, sqlite: str
) -> None:
    """The second resend succeeds while the first one fails."""
    flow = make_flow(sqlite, SMSVERIFY_RESEND="new")
    challenge = flow.start()
    flow.clock.advance(31)
    send = flow.memory.send_code

    def resend_first(_message: Any) -> Any:
        flow.memory.send_code = send  # type: ignore[method-assign]  # once
        flow.clock.advance(61)
        flow.verifier.resend(challenge)
        raise Unavailable("memory", "down")

    flow.memory.send_code = resend_first  # type: ignore[method-assign]  # at this moment
    assert outcome(lambda: flow.verifier.resend(challenge)) == "SendFailed"
    assert flow.check(challenge, flow.memory.last.code).verified_at


def test_a_proof_names_the_channel_and_the_sender_of_its_own_last_code(flow: Flow) -> None:
    """Neither that of a later code of another user, nor one that failed to send it again."""
    second = Memory(name="second")
    flow.route(Memory(name="first"), second, sms=["first"], voice=["second"])
    challenge = flow.start(1)
    flow.clock.advance(121)
    flow.start(2, channel="voice")
    second.fail_with(Unavailable("second", "down"))
    with pytest.raises(SendFailed):
        flow.verifier.resend(challenge, channel="voice")
    assert flow.verifier.load(challenge.id).channel == "sms", "the next resend is an SMS again"
    proof = flow.check(challenge, flow.code(challenge))
    assert (proof.channel, proof.sender) == ("sms", "first")


def test_a_failed_resend_leaves_the_channel_of_a_later_send(
    make_flow: MakeFlow, sqlite: str
) -> None:
    flow = make_flow(sqlite, SMSVERIFY_RESEND_DELAYS=(0,))

    class First(Memory):
        def send_code(self, message: CodeMessage) -> Receipt:
            if self.messages:
                flow.clock.advance(1)
                flow.verifier.resend(challenge, channel="voice")
                raise Unavailable(self.name, "down")
            return super().send_code(message)

    flow.route(First(name="first"), Memory(name="second"), sms=["first"], voice=["second"])
    challenge = flow.start()
    with pytest.raises(SendFailed):
        flow.verifier.resend(challenge)
    assert flow.verifier.load(challenge.id).channel == "voice"
    proof = flow.check(challenge, flow.code(challenge))
    assert (proof.channel, proof.sender) == ("voice", "second")


def test_with_resend_same_a_resend_repeats_the_code(flow: Flow) -> None:
    challenge = flow.start()
    flow.clock.advance(31)
    flow.verifier.resend(challenge)
    first, second = (message.code for message in flow.memory.messages)
    assert first == second


def test_a_code_of_one_user_is_wrong_for_another(flow: Flow) -> None:
    """Case 12."""
    mine, theirs = flow.start(1), flow.start(2)
    with pytest.raises(WrongCode):
        flow.verifier.check(flow.user(2), flow.code(mine))
    with pytest.raises(WrongCode):
        flow.verifier.check(flow.user(1), flow.code(theirs))


def test_a_code_for_one_mobile_is_wrong_for_another(flow: Flow) -> None:
    """Case 12: the later challenge supersedes the earlier one."""
    first = flow.start(mobile="09120000001")
    flow.clock.advance(31)
    second = flow.start(mobile="09120000002")
    assert flow.code(first) != flow.code(second)
    with pytest.raises(NoChallenge):
        flow.check(first, flow.code(first))
    with pytest.raises(WrongCode):
        flow.verifier.check(flow.user(), flow.code(first))
    assert flow.check(second, flow.code(second)).mobile == "+989120000002"


def test_every_spelling_of_the_right_code_is_accepted(make_flow: MakeFlow, sqlite: str) -> None:
    """Case 13."""
    flow = make_flow(sqlite, SMSVERIFY_LIMITS=NO_LIMITS)
    for digits in ("0123456789", "۰۱۲۳۴۵۶۷۸۹", "٠١٢٣٤٥٦٧٨٩", "０１２３４５６７８９"):
        for spelling in ("{0}{1}", " {0}{1} ", "{0} {1}", "{0}-{1}", "{0}{1}" + " " * 58):
            challenge = flow.start()
            code = flow.code(challenge)
            typed = spelling.format(code[:3], code[3:])
            typed = typed.translate(str.maketrans("0123456789", digits))
            assert flow.check(challenge, typed).verified_at, typed


def test_input_that_cannot_be_a_code_costs_no_attempt(flow: Flow) -> None:
    """Case 13."""
    challenge = flow.start()
    inputs: dict[str, tuple[object, ...]] = {
        "not_digits": ("+123456", "123_456", "abcdef", "12345\x00", "123456\x00"),
        "too_short": ("12345", "१२३४५"),
        "too_long": ("1234567", "123456" + " " * 59, "1" * 1_000_000, "١" * 1_000_000),
        "empty": ("", "      ", None),
        "not_text": (123456, 1.5, True, ["123456"], {"code": "123456"}, b"123456"),
    }
    for problem, values in inputs.items():
        for typed in values:
            with pytest.raises(InvalidCode) as caught:
                flow.verifier.check(challenge, typed)
            assert caught.value.problem == problem, repr(typed)[:20]
    assert flow.verifier.load(challenge.id).attempts == 0
    assert flow.verification().failures == 0
    assert flow.used("failures", "user 1") == 0


def test_100_000_codes_are_uniform_and_keep_leading_zeros() -> None:
    """Case 14: χ² of the first digit and of the last two is below the value for p = 10⁻⁶."""
    keyring = Keyring(["a key"], app_id="host")
    made = [
        keyring.code(keyring.current_id, f"{number:032x}", "+989120000000", "verify", 0, 6)
        for number in range(100_000)
    ]
    assert {len(code) for code in made} == {6}
    for counts, cells, bound in (
        (Counter(code[0] for code in made), 10, 48.3),
        (Counter(code[-2:] for code in made), 100, 181.0),
    ):
        expected = len(made) / cells
        assert len(counts) == cells
        assert sum((count - expected) ** 2 / expected for count in counts.values()) < bound


def test_codes_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Case 16."""
    compared: list[tuple[bytes, bytes]] = []
    monkeypatch.setattr(
        hmac, "compare_digest", lambda typed, right: bool(compared.append((typed, right)))
    )
    codes.is_same_code("123456", "123456")
    assert compared == [(b"123456", b"123456")]


def test_a_challenge_whose_key_was_removed_has_expired_and_costs_no_attempt(
    make_flow: MakeFlow, sqlite: str
) -> None:
    flow = make_flow(sqlite)
    challenge = flow.start()
    flow.use_keys("a new key")
    with pytest.raises(CodeExpired):
        flow.check(challenge, "123456")
    assert flow.verifier.load(challenge.id).attempts == 0


def test_a_challenge_of_a_fallback_key_can_be_verified(make_flow: MakeFlow, sqlite: str) -> None:
    flow = make_flow(sqlite)
    challenge = flow.start()
    code = flow.code(challenge)
    flow.use_keys("a new key", "a secret of the tests")
    assert flow.check(challenge, code).verified_at


def test_staff_find_a_code_as_long_as_it_can_be_entered(flow: Flow) -> None:
    challenge, other = flow.start(1), flow.start(2)
    code = flow.code(challenge)

    def found() -> list[str]:
        return [one.id for one in flow.verifier.find_by_code(code)]

    assert found() == [challenge.id]
    flow.clock.now = challenge.expires_at - timedelta(milliseconds=1)
    assert found() == [challenge.id]
    flow.clock.advance(0.001)
    assert found() == []
    flow.clock.advance(-1)
    assert flow.check(other, flow.code(other))
    flow.use_keys("a new key")
    assert found() == []


def test_staff_find_no_challenge_by_an_own_code_that_was_not_sent(flow: Flow) -> None:
    flow.route(Native())
    code = flow.code(flow.start())
    assert flow.verifier.find_by_code(code) == []


def test_an_invalid_challenge_id_is_no_challenge(make_flow: MakeFlow, database: str) -> None:
    verifier = make_flow(database).verifier
    for challenge_id in (
        "",
        "0" * 31,
        "0" * 33,
        "\x00" * 32,
        "é" * 32,
        "g" * 32,
        "1" * 10_000,
        None,
        7,
    ):
        assert outcome(lambda id_=challenge_id: verifier.load(id_)) == "NoChallenge", challenge_id


def test_a_code_is_right_after_the_clock_was_ahead_for_a_moment(flow: Flow) -> None:
    flow.clock.advance(3600)
    flow.start()
    flow.clock.advance(-3600)
    flow.clock.advance(300)
    challenge = flow.start()
    assert flow.verifier.status(flow.user()).state == "pending"
    assert flow.verifier.check(flow.user(), flow.code(challenge)).verified_at


def test_a_challenge_that_was_closed_as_expired_stays_closed_if_the_clock_is_set_back(
    flow: Flow,
) -> None:
    expired = flow.start()
    flow.clock.advance(600)
    assert flow.start().id != expired.id
    flow.clock.advance(-60)
    with pytest.raises(CodeExpired):
        flow.check(expired, flow.code(expired))
