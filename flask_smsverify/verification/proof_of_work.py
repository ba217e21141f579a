"""Proof of work before a code is sent that is not for a logged-in account.

A program must find numbers whose hashes begin with zero bits. That takes a browser about a second,
and a bot the same for every code. The check takes eight hashes. The work is bound to a seed of one
session and to the number, and counts once.

Visitors without JavaScript cannot do it. A host may allow some sends without it.

::

    key = SHA-256(seed + ":" + subject)
    for each index from 0 to PUZZLES - 1, find a decimal nonce such that
    SHA-256(key + f"{index}:{nonce}") begins with BITS zero bits

There are eight puzzles instead of one with the same total cost, because the time that they take
varies much less.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Callable
from datetime import timedelta
from typing import Literal

from itsdangerous import BadSignature

from ..db.ledger import Ledger
from ..db.models import UsedToken
from ..errors import RateLimited, SendRefused
from ..keyring import Keyring
from ..limits.addresses import parse_address
from ..limits.other_counts import Charge, Counters
from ..settings import Limit
from ..signing import TokenSigning

PUZZLES = 8
BITS = 16
#: How long a seed is valid.
LIFETIME = timedelta(minutes=10)
#: The limit of sends without a solution.
UNSOLVED = "unsolved"
#: How many networks it takes to use up the sends that are allowed without a solution.
_UNSOLVED_NETWORKS = 10
_SALT = "flask_smsverify.proof_of_work"

_SOLUTION = re.compile(r"\d{1,12}(,\d{1,12})*", re.ASCII)


class ProofOfWork:
    """Makes seeds and checks solutions.

    :param mode: `SMSVERIFY_ANONYMOUS_CHALLENGE`.
    :param is_under_pressure: whether more codes than usual are sent to numbers that are not proved.
    :param unsolved: how many sends are allowed without a solution; empty: none.
    """

    def __init__(
        self,
        ledger: Ledger,
        keyring: Keyring,
        counters: Counters,
        signing: TokenSigning,
        *,
        mode: Literal["off", "auto", "always"],
        is_under_pressure: Callable[[], bool],
        unsolved: tuple[Limit, ...],
    ) -> None:
        self._ledger = ledger
        self._keyring = keyring
        self._signing = signing
        self._mode = mode
        self._counters = counters
        self._is_under_pressure = is_under_pressure
        self._unsolved = unsolved

    @property
    def is_optional(self) -> bool:
        """Whether some sends are allowed without a solution."""
        return bool(self._unsolved)

    def is_required(self) -> bool:
        """Return whether a send needs a solution now. It does not depend on the number."""
        return self._mode == "always" or (self._mode == "auto" and self._is_under_pressure())

    def new_seed(self) -> str:
        """Return a seed, signed and dated. The caller keeps it in the visitor's session."""
        return self._signing.dump(secrets.token_urlsafe(12), _SALT)

    def is_seed(self, seed: object, *, for_another: timedelta = timedelta(0)) -> bool:
        """Return whether this is a seed that is still valid.

        :param for_another: for how long it must stay valid.
        """
        if not isinstance(seed, str):
            return False
        try:
            max_age = int((LIFETIME - for_another).total_seconds())
            self._signing.load(seed, _SALT, max_age=max_age)
        except BadSignature:
            return False
        return True

    def check(
        self, seed: object, subject: str, solution: object, *, ip: str | None
    ) -> tuple[Charge, ...]:
        """Check a solution and use it up; return what a send without one must take.

        The send takes these units itself, so that a send that is refused takes none. It raises
        `RateLimited` with the scope `UNSOLVED` if parallel sends have used the limit up since.

        :param seed: the seed of the visitor's session.
        :param subject: what the code is for: the number as it was entered, or the challenge of a
            resend.
        :param solution: the nonces, with commas between them; None or empty: there is none.
        :param ip: the address of the request.
        :raises SendRefused: the solution is wrong, too old, or was used before, or it is missing
            and no more sends are allowed without one.
        """
        if solution in (None, "") and self._unsolved:
            return self._unsolved_charges(ip)
        if not isinstance(seed, str) or not self.is_seed(seed):
            raise SendRefused(SendRefused.PROOF_OF_WORK)
        if not is_solution(seed, subject, solution):
            raise SendRefused(SendRefused.PROOF_OF_WORK)
        values: dict[str, object] = {
            "digest": self._keyring.digest("proof of work", seed, subject),
            "until": self._ledger.clock() + LIFETIME,
        }
        if not self._ledger.run(
            lambda session: self._ledger.insert_if_absent(session, UsedToken, values)
        ):
            raise SendRefused(SendRefused.PROOF_OF_WORK)
        return ()

    def _unsolved_charges(self, ip: str | None) -> tuple[Charge, ...]:
        charges = [Charge(UNSOLVED, "", self._unsolved)]
        address = parse_address(ip)
        if address is not None:
            part = tuple(
                Limit(max(1, limit.amount // _UNSOLVED_NETWORKS), limit.seconds)
                for limit in self._unsolved
            )
            charges.append(Charge(UNSOLVED, address.network, part))
        try:
            self._counters.check(charges, self._ledger.clock())
        except RateLimited:
            raise SendRefused(SendRefused.PROOF_OF_WORK) from None
        return tuple(charges)


def is_solution(seed: str, subject: str, solution: object) -> bool:
    """Return whether the nonces solve the puzzles of a seed and a subject."""
    if not isinstance(solution, str) or not _SOLUTION.fullmatch(solution):
        return False
    nonces = solution.split(",")
    key = _key(seed, subject)
    return len(nonces) == PUZZLES and all(
        _is_solved(key, index, nonce) for index, nonce in enumerate(nonces)
    )


def solve(seed: str, subject: str) -> str:
    """Return a solution. For programs in Python, and for tests."""
    key = _key(seed, subject)
    nonces = []
    for index in range(PUZZLES):
        nonce = 0
        while not _is_solved(key, index, str(nonce)):
            nonce += 1
        nonces.append(str(nonce))
    return ",".join(nonces)


def _key(seed: str, subject: str) -> bytes:
    return hashlib.sha256(f"{seed}:{subject}".encode()).digest()


def _is_solved(key: bytes, index: int, nonce: str) -> bool:
    digest = hashlib.sha256(key + f"{index}:{nonce}".encode()).digest()
    return int.from_bytes(digest[:4]) >> (32 - BITS) == 0
