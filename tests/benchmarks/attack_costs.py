"""What attackers of the default limits reach in a day, counted by attacking an app.

Run it by hand: `python tests/benchmarks/attack_costs.py`. The counts are exact and do not depend on
the machine. `docs/attack-costs.md` quotes them.
"""

from __future__ import annotations

import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from flows import MEMORY, Flow, flow_of
from hostapp import User, create_app, db
from parallel import outcome

from flask_smsverify.errors import AccountLocked, LimitError, SMSVerifyError, WrongCode

#: Seconds between two rounds of an attack. A day has 24.
STEP = 3600
ROUNDS = 24


def in_app(attack: Callable[[Flow], str]) -> str:
    """Run an attack against a new app with the default limits and three users."""
    with tempfile.TemporaryDirectory() as folder:
        app = create_app(f"sqlite:///{folder}/attack.sqlite", SMSVERIFY_SENDERS=MEMORY)
        with app.app_context():
            db.create_all()
            db.session.add_all(User(mobile=f"0935000000{number}") for number in range(1, 4))
            db.session.commit()
            flow = flow_of(app)
            flow.prove(1)
            flow.clock.advance(days=2)
            try:
                return attack(flow)
            finally:
                app.extensions["smsverify"].close()
                db.session.remove()
                db.engine.dispose()


def sends(flow: Flow, addresses: Iterable[str]) -> int:
    """Return how many codes an attacker causes in a day who has these addresses."""
    sent, number = 0, 0
    sources = list(addresses)
    for turn in range(ROUNDS):
        flow.clock.advance(STEP if turn else 0)
        for address in sources:
            while True:
                number += 1
                try:
                    flow.sign_up(f"0912{number:07}", ip=address)
                except LimitError:
                    break
                sent += 1
    return sent


def draining(addresses: list[str]) -> Callable[[Flow], str]:
    def attack(flow: Flow) -> str:
        sent = sends(flow, addresses)
        visitor = outcome(lambda: flow.sign_up("09390000001", ip="198.51.100.200"))
        known = outcome(lambda: flow.start(1, ip="203.0.113.200"))
        return f"{sent} codes; then a new visitor: {visitor}, a known user: {known}"

    return attack


def guessing(flow: Flow) -> str:
    """Guess at one number without an account for a year."""
    wrong = days = 0
    while days < 365:
        try:
            challenge = flow.sign_up("09120000001")
            for _ in range(5):
                flow.check(challenge, flow.wrong(challenge))
        except WrongCode:
            wrong += 1
        except SMSVerifyError:
            flow.clock.advance(days=1)
            days += 1
            continue
        while True:
            try:
                flow.check(challenge, flow.wrong(challenge))
            except WrongCode:
                wrong += 1
            except SMSVerifyError:
                break
        flow.clock.advance(121)
    return f"{wrong} guesses in a year, a chance of {wrong / 10**6:.4%}"


def guessing_with_accounts(flow: Flow) -> str:
    """Guess at one number for a year with four accounts, and new ones for those that are locked."""
    wrong, used = 0, 4
    accounts = deque(_new_account() for _ in range(used))
    for _ in range(365 * ROUNDS):
        account = accounts.popleft()
        try:
            challenge = flow.start(account, mobile="09120000001")
        except AccountLocked:
            account, used = _new_account(), used + 1
        except SMSVerifyError:
            pass
        else:
            guess = partial(flow.check, challenge, flow.wrong(challenge))
            wrong += [outcome(guess) for _ in range(5)].count("WrongCode")
        accounts.append(account)
        flow.clock.advance(STEP)
    chance = f"a chance of {wrong / 10**6:.4%}"
    return f"{wrong} guesses in a year with {used} accounts, {chance}"


def _new_account() -> int:
    user = User()
    db.session.add(user)
    db.session.commit()
    return user.id


ATTACKS: dict[str, Callable[[Flow], str]] = {
    "one IPv4 address": draining(["192.0.2.1"]),
    "one /24": draining([f"192.0.2.{number}" for number in range(1, 251)]),
    "one /48 of IPv6": draining([f"2001:db8:0:{number:x}::1" for number in range(50)]),
    "17 networks": draining([f"10.{number}.0.1" for number in range(17)]),
    "250 networks": draining([f"10.{number}.0.1" for number in range(250)]),
    "guessing at one number": guessing,
    "… with accounts": guessing_with_accounts,
}


def main() -> None:
    for name, attack in ATTACKS.items():
        print(f"{name:24} {in_app(attack)}", flush=True)  # noqa: T201 -- it is a script


if __name__ == "__main__":
    main()
