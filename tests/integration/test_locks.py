"""Locks of keys, and claims of the host's transactions, on the databases that need them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import datetime
from functools import partial

import pytest
from clocks import Clock
from conftest import database_params
from flask import Flask
from parallel import is_waiting, outcome, race, wait_until
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from flask_smsverify.db.ledger import Ledger
from flask_smsverify.db.locks import (
    SITE_GUESSES,
    SITE_SENDS,
    STRIPES,
    Held,
    Locks,
    claim_id,
    claimed,
)
from flask_smsverify.db.models import Lock
from flask_smsverify.errors import StoreUnavailable

MakeApp = Callable[..., Flask]
Work = Callable[[Session, Held], object]

pytestmark = pytest.mark.parametrize(
    "database", database_params("postgresql", "mariadb"), indirect=True
)
#: Keys of stripes that differ, and of claims that differ.
KEY, OTHER = 6, 1 << 61 | 8
#: More keys than there are stripes, so each stripe is the one of a key.
ALL = range(2 * STRIPES)


@pytest.fixture
def ledger(make_app: MakeApp, database: str) -> Ledger:
    ledger: Ledger = make_app(database).extensions["smsverify"].ledger
    ledger.clock.source = Clock()
    return ledger


@pytest.fixture
def locks(ledger: Ledger) -> Locks:
    locks = Locks(ledger)
    locks.run([KEY], nothing)  # creates the rows
    return locks


def nothing(_session: Session, _held: Held) -> None:
    pass


def after_claims(*keys: int) -> Work:
    """Return work that waits for the claims of these keys."""

    def work(session: Session, held: Held) -> None:
        for key in keys:
            held.require(session.scalar(select(claimed("claim")), {"claim": claim_id(key)}))

    return work


@contextmanager
def running(act: Callable[[], object]) -> Iterator[list[str]]:
    """Run a function in a thread; its outcome is in the list once it has ended."""
    outcomes: list[str] = []
    thread = threading.Thread(target=lambda: outcomes.append(outcome(act)))
    thread.start()
    try:
        yield outcomes
    finally:
        thread.join(60)


@contextmanager
def holding(locks: Locks, *keys: int) -> Iterator[None]:
    """Hold the locks of these keys in another thread."""
    entered, leave = threading.Event(), threading.Event()

    def work(_session: Session, _held: Held) -> None:
        entered.set()
        leave.wait(60)

    with running(lambda: locks.run(keys, work)) as outcomes:
        wait_until(lambda: bool(outcomes) or entered.is_set())
        try:
            yield
        finally:
            leave.set()


@contextmanager
def claim(ledger: Ledger, locks: Locks, key: int) -> Iterator[None]:
    """Hold the claim of a key in a transaction of the host."""
    locks.open_claim(key)
    with ledger.engine.begin() as connection:
        ledger.run_in(connection, lambda session: locks.lock_claim(session, key))
        yield


def claim_rows(ledger: Ledger) -> dict[int, datetime | None]:
    """Return when each claim was opened or renewed."""
    rows = select(Lock).where(Lock.id >= STRIPES)
    return {
        row.id: row.claimed_at for row in ledger.read(lambda session: session.scalars(rows).all())
    }


# --- keys -----------------------------------------------------------------------------------------


def test_a_transaction_waits_for_another_one_with_its_key(ledger: Ledger, locks: Locks) -> None:
    entered: list[bool] = []
    with ExitStack() as stack, holding(locks, KEY):
        act = partial(locks.run, [KEY], lambda _session, _held: entered.append(True))
        outcomes = stack.enter_context(running(act))
        wait_until(lambda: bool(outcomes) or is_waiting(ledger.engine))
        assert entered == []
    assert outcomes == ["ok"]
    assert entered == [True]


def test_a_transaction_waits_for_no_other_key(locks: Locks) -> None:
    with holding(locks, KEY):
        assert race(1, lambda _: locks.run([OTHER], nothing)) == {"ok": 1}


def test_no_key_has_the_lock_of_the_site(ledger: Ledger, locks: Locks) -> None:
    with ledger.engine.begin() as connection:
        rows = [SITE_SENDS, SITE_GUESSES]
        ledger.run_in(connection, lambda session: locks.lock_rows(session, rows))
        for key in range(0, STRIPES, 32):
            assert race(1, lambda _, keys=ALL[key : key + 32]: locks.run(keys, nothing)) == {
                "ok": 1
            }


def test_a_missing_row_is_created_again_beside_a_claim(ledger: Ledger, locks: Locks) -> None:
    locks.open_claim(0)
    ledger.run(lambda session: session.execute(delete(Lock).where(Lock.id == STRIPES - 1)))
    assert race(1, lambda _: locks.run(ALL, nothing)) == {"ok": 1}


# --- claims ---------------------------------------------------------------------------------------


def test_a_transaction_gives_up_if_the_claim_of_its_key_takes_too_long(
    ledger: Ledger, locks: Locks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flask_smsverify.db.locks.LOCK_SECONDS", 0.2)
    act = partial(locks.run, [KEY], after_claims(KEY))
    with claim(ledger, locks, KEY):
        assert race(1, lambda _: act()) == {"StoreUnavailable": 1}
    assert race(1, lambda _: act()) == {"ok": 1}


def test_a_claim_delays_no_transaction_with_another_key(ledger: Ledger, locks: Locks) -> None:
    locks.open_claim(OTHER)
    with claim(ledger, locks, KEY):
        assert race(1, lambda _: locks.run([OTHER], after_claims(OTHER))) == {"ok": 1}


def test_a_transaction_that_has_found_a_claim_waits_for_no_other_row(locks: Locks) -> None:
    locks.open_claim(KEY)
    with holding(locks, OTHER):
        assert race(1, lambda _: locks.run([KEY], after_claims(KEY))) == {"ok": 1}


def test_eight_transactions_wait_for_a_claim_and_the_ninth_is_refused_at_once(
    ledger: Ledger, locks: Locks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flask_smsverify.db.locks.LOCK_SECONDS", 600)
    waiting: list[frozenset[int]] = []
    wait_for = locks._wait_for

    def note(claims: frozenset[int]) -> AbstractContextManager[None]:
        waiting.append(claims)
        return wait_for(claims)

    monkeypatch.setattr(locks, "_wait_for", note)
    act = partial(locks.run, [KEY], after_claims(KEY))
    with ExitStack() as stack, claim(ledger, locks, KEY):
        outcomes = [stack.enter_context(running(act)) for _ in range(8)]
        wait_until(lambda: len(waiting) == 8)
        assert race(1, lambda _: act()) == {"StoreUnavailable": 1}
        assert outcomes == [[]] * 8
    assert outcomes == [["ok"]] * 8


def test_another_failure_than_a_claim_is_not_waited_for(locks: Locks) -> None:
    runs: list[Held] = []

    def work(session: Session, held: Held) -> None:
        runs.append(held)
        after_claims(KEY)(session, held)
        raise StoreUnavailable("the database is down")

    locks.open_claim(KEY)
    with pytest.raises(StoreUnavailable):
        locks.run([KEY], work)
    assert [held.claims for held in runs] == [frozenset(), {claim_id(KEY)}]


def test_a_claim_is_renewed_when_it_is_older_than_a_day(ledger: Ledger, locks: Locks) -> None:
    """Else `purge` would delete its row, and a fresh one may be held by the host."""
    opened = ledger.clock()
    locks.open_claim(KEY)
    ledger.clock.source.advance(days=1)
    with claim(ledger, locks, KEY):
        assert race(1, lambda _: locks.open_claim(KEY)) == {"ok": 1}
    assert claim_rows(ledger) == {claim_id(KEY): opened}
    ledger.clock.source.advance(seconds=1)
    locks.open_claim(OTHER)
    locks.open_claim(KEY)
    assert claim_rows(ledger) == dict.fromkeys((claim_id(KEY), claim_id(OTHER)), ledger.clock())
