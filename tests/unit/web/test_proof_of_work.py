"""The proof of work before an anonymous send."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from clocks import Stopwatch
from conftest import MakeApp
from flask import Flask
from flask.testing import FlaskClient
from flows import NO_LIMITS, Flow, flow_of
from visiting import OTHER, OWN, api, error_of, expire_codes, forget_limits, phone

from flask_smsverify.db.models import UsedToken
from flask_smsverify.db.purge import purge
from flask_smsverify.errors import Rejected, SendRefused, Unavailable
from flask_smsverify.signals import limit_reached
from flask_smsverify.verification import pressure, proof_of_work
from flask_smsverify.verification.proof_of_work import is_solution, solve
from flask_smsverify.web import sign_in_pages

MakeFlow = Callable[..., Flow]

SIGN_IN = "/verify-mobile/sign-in"
ENGLISH = {"Accept-Language": "en"}
PROGRAM = {"Accept": "application/json"}


@pytest.fixture(autouse=True)
def easy_puzzles(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (proof_of_work, sign_in_pages):
        monkeypatch.setattr(module, "BITS", 8)


@pytest.fixture
def site(make_app: MakeApp, sqlite: str) -> Flask:
    return make_app(sqlite, SMSVERIFY_SIGN_IN=True, SMSVERIFY_ANONYMOUS_CHALLENGE="always")


def seed_of(client: FlaskClient) -> str:
    seed: str = client.get(SIGN_IN, headers=PROGRAM).json["proof_of_work"]["seed"]
    return seed


def sent_to(app: Flask) -> list[str]:
    app.extensions["smsverify"].workers.wait()
    return [message.to for message in phone(app).messages]


def refusal(answer: Any) -> tuple[int, str, str]:
    body = json.loads(answer.text)
    return answer.status_code, body["code"], body.get("reason", "")


REFUSED = (403, "send_refused", "proof_of_work")


def test_a_code_is_sent_only_for_a_solution(site: Flask) -> None:
    client = site.test_client()
    refused = api(client, SIGN_IN, mobile=OWN)
    assert refusal(refused) == REFUSED
    puzzle = json.loads(refused.text)["proof_of_work"]
    assert {"puzzles": 8, "bits": 8}.items() <= puzzle.items()
    assert sent_to(site) == []
    solution = solve(puzzle["seed"], OWN)
    assert api(client, SIGN_IN, mobile=OWN, proof_of_work=solution).status_code == 200
    assert sent_to(site) == [OWN]


def test_a_solution_is_for_one_number_one_session_and_one_request(site: Flask) -> None:
    client, other = site.test_client(), site.test_client()
    seed = seed_of(client)
    cookie = client.get_cookie("session")
    assert cookie is not None
    solution = solve(seed, OWN)
    assert refusal(api(client, SIGN_IN, mobile=OTHER, proof_of_work=solution)) == REFUSED
    seed_of(other)
    assert refusal(api(other, SIGN_IN, mobile=OWN, proof_of_work=solution)) == REFUSED
    client.set_cookie("session", cookie.value)
    assert api(client, SIGN_IN, mobile=OWN, proof_of_work=solution).status_code == 200
    forget_limits(site)
    purge(site.extensions["smsverify"].ledger, timedelta(days=2))
    # The session of before, with the seed in it.
    client.set_cookie("session", cookie.value)
    assert refusal(api(client, SIGN_IN, mobile=OWN, proof_of_work=solution)) == REFUSED
    assert sent_to(site) == [OWN]


def test_a_solution_is_valid_for_ten_minutes(site: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    client = site.test_client()
    solution = solve(seed_of(client), OWN)
    monkeypatch.setattr(proof_of_work, "LIFETIME", timedelta(seconds=-1))
    assert refusal(api(client, SIGN_IN, mobile=OWN, proof_of_work=solution)) == REFUSED


def test_a_seed_in_its_last_minute_is_replaced_so_that_there_is_time_to_solve_its_puzzles(
    timed_site: tuple[Flask, Flow],
) -> None:
    site, flow = timed_site
    client = site.test_client()
    first = seed_of(client)
    pass_time(flow, 540)
    assert seed_of(client) == first
    pass_time(flow, 1)
    second = seed_of(client)
    assert second != first
    assert refusal(api(client, SIGN_IN, mobile=OWN, proof_of_work=solve(first, OWN))) == REFUSED
    solution = solve(seed_of(client), OWN)
    pass_time(flow, 60)
    assert api(client, SIGN_IN, mobile=OWN, proof_of_work=solution).status_code == 200


def test_input_that_is_no_solution_is_refused_at_once(site: Flask) -> None:
    client = site.test_client()
    for wrong in (None, 5, [1], "", "0,0,0,0,0,0,0,0", "1" * 100_000, "۱,۲", "1,2\x00", "-1,2"):
        seed_of(client)
        assert refusal(api(client, SIGN_IN, mobile=OWN, proof_of_work=wrong)) == REFUSED, wrong
    with site.app_context():
        count = site.extensions["smsverify"].ledger.read(
            lambda session: session.query(UsedToken).count()
        )
    assert count == 0, "a refusal stores nothing"


def test_an_invalid_number_costs_no_work(site: Flask) -> None:
    assert refusal(api(site.test_client(), SIGN_IN, mobile="12"))[:2] == (422, "invalid_mobile")


def test_an_expired_code_is_replaced_only_for_new_work(site: Flask) -> None:
    client = site.test_client()
    api(client, SIGN_IN, mobile=OWN, proof_of_work=solve(seed_of(client), OWN))
    forget_limits(site)
    assert api(client, SIGN_IN).status_code == 200, "an open code is sent again without work"
    expire_codes(site)
    forget_limits(site)
    assert refusal(api(client, SIGN_IN)) == REFUSED
    page = client.get(SIGN_IN, headers=ENGLISH).text
    [subject] = set(_attributes(page, "subject"))
    [seed] = set(_attributes(page, "seed"))
    form = {"channel": "sms", "proof_of_work": solve(seed, subject)}
    client.post(SIGN_IN, data=form)
    assert sent_to(site) == [OWN] * 3


@pytest.fixture
def timed_site(site: Flask) -> tuple[Flask, Flow]:
    """A site whose clock the test sets."""
    with site.app_context():
        return site, flow_of(site)


def pass_time(flow: Flow, seconds: float) -> None:
    """Advance the clock once the background threads have sent every code."""
    flow.state.workers.wait()
    flow.clock.advance(seconds)


def test_a_code_in_its_last_minute_is_replaced_only_for_new_work(
    timed_site: tuple[Flask, Flow],
) -> None:
    site, flow = timed_site
    client = site.test_client()
    api(client, SIGN_IN, mobile=OWN, proof_of_work=solve(seed_of(client), OWN))
    pass_time(flow, 540)
    assert api(client, SIGN_IN).status_code == 200, "the same code, without work"
    forget_limits(site)
    pass_time(flow, 1)
    assert refusal(api(client, SIGN_IN)) == REFUSED
    assert len(sent_to(site)) == 2
    [seed, _] = _attributes(page := client.get(SIGN_IN, headers=ENGLISH).text, "seed")
    [subject, _] = _attributes(page, "subject")
    client.post(SIGN_IN, data={"channel": "sms", "proof_of_work": solve(seed, subject)})
    assert len(sent_to(site)) == 3
    first, second, third = (message.code for message in phone(site).messages)
    assert first == second != third


def test_a_program_sends_the_number_again_for_a_code_in_the_last_minute_of_another(
    timed_site: tuple[Flask, Flow],
) -> None:
    site, flow = timed_site
    client = site.test_client()
    api(client, SIGN_IN, mobile=OWN, proof_of_work=solve(seed_of(client), OWN))
    pass_time(flow, 541)
    refused = api(client, SIGN_IN)
    assert refusal(refused) == REFUSED
    solution = solve(json.loads(refused.text)["proof_of_work"]["seed"], OWN)
    assert api(client, SIGN_IN, mobile=OWN, proof_of_work=solution).status_code == 200
    assert sent_to(site) == [OWN] * 2


def test_a_resend_that_is_too_soon_uses_no_solution_up(timed_site: tuple[Flask, Flow]) -> None:
    site, flow = timed_site
    client = site.test_client()
    api(client, SIGN_IN, mobile=OWN, proof_of_work=solve(seed_of(client), OWN))
    pass_time(flow, 540)
    api(client, SIGN_IN)
    pass_time(flow, 1)
    page = client.get(SIGN_IN, headers=ENGLISH).text
    solution = solve(_attributes(page, "seed")[0], _attributes(page, "subject")[0])
    assert refusal(api(client, SIGN_IN, proof_of_work=solution))[:2] == (429, "too_soon")
    forget_limits(site)
    assert api(client, SIGN_IN, proof_of_work=solution).status_code == 200


def test_the_page_of_an_open_code_solves_the_puzzle_before_the_last_minute(
    timed_site: tuple[Flask, Flow],
) -> None:
    site, flow = timed_site
    client = site.test_client()
    solution = solve(seed_of(client), OWN)
    client.post(SIGN_IN, data={"mobile": OWN, "channel": "sms", "proof_of_work": solution})
    seconds = []
    for wait in (0, 500, 24, 1, 60):
        pass_time(flow, wait)
        page = client.get(SIGN_IN, headers=ENGLISH).text
        seconds += _attributes(page, "due-in")
        assert "pow.js" in page
        assert "Turn on JavaScript" not in page, "the open code is sent again without it"
    assert seconds == ["525", "525", "25", "25", "1", "1", "0", "0", "0", "0"]


def _attributes(page: str, name: str) -> list[str]:
    return re.findall(rf'data-sv-{name}="([^"]*)"', page)


def test_the_form_has_the_puzzle_and_says_what_is_needed(site: Flask) -> None:
    client = site.test_client()
    page = client.get(SIGN_IN, headers=ENGLISH)
    assert 'name="proof_of_work"' in page.text
    assert "pow.js" in page.text
    assert "Turn on JavaScript to get a code." in page.text
    assert _attributes(page.text, "seed") == _attributes(client.get(SIGN_IN).text, "seed")
    client.post(SIGN_IN, data={"mobile": OWN})
    assert error_of(client.get(SIGN_IN, headers=ENGLISH)) == "We could not check your browser"


# --- without JavaScript -------------------------------------------------------------------------


@pytest.fixture
def open_site(make_app: MakeApp, sqlite: str) -> Flask:
    """A site that sends 20 codes an hour without a solution, two of them to one network."""
    return make_app(
        sqlite,
        SMSVERIFY_SIGN_IN=True,
        SMSVERIFY_ANONYMOUS_CHALLENGE="always",
        SMSVERIFY_LIMITS={"unsolved": "20/hour"},
    )


def request_code(app: Flask, number: int, address: str, **fields: str) -> int:
    """Post a number, as a browser without JavaScript does, and return how many codes were sent."""
    before = len(sent_to(app))
    app.test_client().post(
        SIGN_IN,
        data={"mobile": f"0912777{number:04}", "proof_of_work": "", **fields},
        environ_base={"REMOTE_ADDR": address},
    )
    return len(sent_to(app)) - before


def test_a_host_may_allow_some_codes_without_javascript(open_site: Flask) -> None:
    page = open_site.test_client().get(SIGN_IN, headers=ENGLISH).text
    assert "Turn on JavaScript" not in page
    assert [request_code(open_site, number, "192.0.2.1") for number in range(4)] == [1, 1, 0, 0]
    assert request_code(open_site, 5, "192.0.2.200") == 0, "of the same network"
    others = [request_code(open_site, 10 + number, f"198.51.{number}.1") for number in range(20)]
    assert others == [1] * 18 + [0] * 2
    client = open_site.test_client()
    refused = api(client, SIGN_IN, mobile=OWN)
    assert refusal(refused) == REFUSED
    solution = solve(json.loads(refused.text)["proof_of_work"]["seed"], OWN)
    assert api(client, SIGN_IN, mobile=OWN, proof_of_work=solution).status_code == 200


def test_a_wrong_solution_is_refused_also_where_none_is_needed(open_site: Flask) -> None:
    assert request_code(open_site, 1, "192.0.2.1", proof_of_work="1,2,3,4,5,6,7,8") == 0


def test_a_new_code_in_the_last_minute_counts_as_one_without_a_solution(open_site: Flask) -> None:
    with open_site.app_context():
        flow = flow_of(open_site)
    client = open_site.test_client()
    form = {"channel": "sms", "proof_of_work": ""}
    client.post(SIGN_IN, data={"mobile": OWN, **form})
    for seconds, used in [(540, 1), (61, 2)]:
        pass_time(flow, seconds)
        client.post(SIGN_IN, data=form)
        assert flow.used("unsolved") == used
    assert sent_to(open_site) == [OWN] * 3


@pytest.mark.parametrize("refused_by", ["cooldown", "rate limit", "host"])
def test_a_send_that_is_refused_is_not_counted_as_one_without_a_solution(
    make_app: MakeApp, sqlite: str, refused_by: str
) -> None:
    app = make_app(
        sqlite,
        SMSVERIFY_SIGN_IN=True,
        SMSVERIFY_ANONYMOUS_CHALLENGE="always",
        SMSVERIFY_LIMITS={"unsolved": "20/hour", "mobile": "1/day"},
    )
    flow = flow_of(app)
    assert request_code(app, 1, "192.0.2.1") == 1
    if refused_by != "cooldown":
        pass_time(flow, 31)
    if refused_by == "host":
        forget_limits(app)

    @app.extensions["test_smsverify"].before_anonymous_send
    def refuse(_mobile: str, _channel: str) -> None:
        if refused_by == "host":
            raise SendRefused("Solve the captcha.")

    before = flow.used("unsolved")
    assert request_code(app, 1, "198.51.100.1") == 0
    assert flow.used("unsolved") == before


@pytest.mark.parametrize("error", [Unavailable, Rejected])
def test_a_send_that_failed_is_not_counted_as_one_without_a_solution(
    open_site: Flask, error: type[Unavailable | Rejected]
) -> None:
    phone(open_site).fail_with(error("memory", "no"))
    assert request_code(open_site, 1, "192.0.2.1") == 0
    assert [request_code(open_site, number, "192.0.2.1") for number in (2, 3, 4)] == [1, 1, 0]


def test_a_used_up_limit_of_codes_without_a_solution_is_not_signalled(open_site: Flask) -> None:
    scopes: list[str] = []

    def receive(_app: Flask, *, scope: str, limit: str) -> None:
        scopes.append(scope)

    with limit_reached.connected_to(receive):
        for number in range(20):
            request_code(open_site, number, f"198.51.{number}.1")
    assert request_code(open_site, 20, "192.0.2.1") == 0
    assert "unsolved" not in scopes


def test_codes_without_a_solution_do_not_prolong_the_pressure(
    make_app: MakeApp, sqlite: str
) -> None:
    app = make_app(
        sqlite,
        SMSVERIFY_SIGN_IN=True,
        SMSVERIFY_ANONYMOUS_CHALLENGE="auto",
        SMSVERIFY_LIMITS={"unsolved": "2/hour"},
    )
    state = app.extensions["smsverify"]
    with app.app_context():
        charges = state.proof_of_work.check(None, OWN, None, ip="192.0.2.1")
        state.sign_in.start(OWN, channel="sms", ip="192.0.2.1", device=None, charges=charges)
        state.workers.wait()
        assert flow_of(app).used("unsolved") == 1
        assert not state.proof_of_work.is_required()


# --- when it is asked for -----------------------------------------------------------------------


def test_it_is_off_by_default(make_app: MakeApp, sqlite: str) -> None:
    app = make_app(sqlite, SMSVERIFY_SIGN_IN=True)
    client = app.test_client()
    assert "proof_of_work" not in client.get(SIGN_IN, headers=PROGRAM).json
    assert "pow.js" not in client.get(SIGN_IN).text
    assert api(client, SIGN_IN, mobile=OWN).status_code == 200


def test_it_stays_off_while_few_codes_are_entered(make_flow: MakeFlow, sqlite: str) -> None:
    flow = make_flow(sqlite, SMSVERIFY_LIMITS=NO_LIMITS)
    sign_up(flow, 30)
    flow.clock.advance(minutes=2)
    assert not flow.state.proof_of_work.is_required()


def test_auto_asks_only_while_half_of_a_limit_of_the_site_is_used(
    make_app: MakeApp, sqlite: str
) -> None:
    app = make_app(
        sqlite,
        SMSVERIFY_SIGN_IN=True,
        SMSVERIFY_ANONYMOUS_CHALLENGE="auto",
        SMSVERIFY_LIMITS={"site": "4/day"},
        SMSVERIFY_SITE_RESERVED=0,
        SMSVERIFY_NETWORK_SHARE=1,
    )
    client = app.test_client()
    for at in (1, 2):
        assert "proof_of_work" not in client.get(SIGN_IN, headers=PROGRAM).json
        assert api(client, SIGN_IN, mobile=f"+98912345000{at}").status_code == 200
    assert refusal(api(client, SIGN_IN, mobile=OTHER)) == REFUSED
    solution = solve(seed_of(client), OTHER)
    assert api(client, SIGN_IN, mobile=OTHER, proof_of_work=solution).status_code == 200


@pytest.fixture
def watching(make_flow: MakeFlow, sqlite: str) -> Flow:
    """Return a flow that asks for work when few codes are entered, and whose sends do not end."""
    return make_flow(
        sqlite,
        SMSVERIFY_ANONYMOUS_CHALLENGE="auto",
        SMSVERIFY_LIMITS=NO_LIMITS,
        SMSVERIFY_RESEND_DELAYS=(0,),
    )


def sign_up(flow: Flow, count: int, *, proved: int = 0) -> None:
    """Send codes to new numbers, and enter the first ones."""
    for number in range(count):
        challenge = flow.sign_up(f"0912000{number:04}")
        if number < proved:
            flow.check(challenge, flow.code(challenge))


@pytest.mark.parametrize(
    ("count", "proved", "is_required"), [(29, 0, False), (30, 9, True), (30, 10, False)]
)
def test_auto_asks_while_fewer_than_a_third_of_thirty_codes_are_entered(
    watching: Flow, count: int, proved: int, is_required: bool
) -> None:
    sign_up(watching, count, proved=proved)
    watching.clock.advance(minutes=2)
    assert watching.state.proof_of_work.is_required() is is_required


def test_auto_counts_codes_of_the_last_hour_that_had_two_minutes_time(
    watching: Flow, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopwatch = Stopwatch()
    monkeypatch.setattr(pressure.time, "monotonic", stopwatch)
    sign_up(watching, 30)
    sent_at = watching.clock.now
    for minutes, is_required in [
        (0, False),
        (1.999, False),
        (2, True),
        (60, True),
        (60.001, False),
    ]:
        stopwatch.advance(5)
        watching.clock.now = sent_at + timedelta(minutes=minutes)
        assert watching.state.proof_of_work.is_required() is is_required, minutes


def test_auto_counts_again_after_five_seconds(
    watching: Flow, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopwatch = Stopwatch()
    monkeypatch.setattr(pressure.time, "monotonic", stopwatch)
    assert not watching.state.proof_of_work.is_required()
    sign_up(watching, 30)
    watching.clock.advance(minutes=2)
    for seconds, is_required in [(4.5, False), (0.5, True)]:
        stopwatch.advance(seconds)
        assert watching.state.proof_of_work.is_required() is is_required


def test_auto_does_not_count_the_codes_of_accounts(watching: Flow) -> None:
    for number in range(30):
        watching.start(mobile=f"0912000{number:04}")
    watching.clock.advance(minutes=2)
    assert not watching.state.proof_of_work.is_required()


def test_the_solution_follows_the_documented_rules() -> None:
    """A fixed example, so that the script and the server cannot drift apart."""
    solution = solve("seed", "۰۹۱۲")
    assert is_solution("seed", "۰۹۱۲", solution)
    assert not is_solution("seed", "0912", solution)
    assert not is_solution("another", "۰۹۱۲", solution)
    assert not is_solution("seed", "۰۹۱۲", solution.rpartition(",")[0])
    assert not is_solution("seed", "۰۹۱۲", ",".join(reversed(solution.split(","))))
    key = hashlib.sha256("seed:۰۹۱۲".encode()).digest()
    others = []
    for index in range(8):
        nonces = (f"+{number}" for number in range(1_000_000))
        hashes = ((hashlib.sha256(key + f"{index}:{one}".encode()).digest(), one) for one in nonces)
        others.append(next(one for digest, one in hashes if digest[0] == 0))
    assert not is_solution("seed", "۰۹۱۲", ",".join(others)), "a nonce is a decimal number"
