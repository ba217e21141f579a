"""How often anything may be tried: one call that takes a unit in every scope, or in none.

A window is cut into twelve slices. What counts is the slice of now and the twelve before it, so
no window of the stated length ever holds more than its number, and a unit comes back at most a
twelfth of the window late. Each (scope, key) is one row; the rows of a reservation are locked in
the order of their ids, read, checked, and only then written.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from ..errors import BudgetSpent, TooSoon
from ..ledger import Ledger
from ..models import Budget
from ..settings import Limit
from .codes import Keyring

SLICES = 12
#: Slices are kept for so many of their windows, and of their claim's longest, though they count no
#: more: where a clock was ahead for a moment, they do again.
WINDOWS_KEPT, LONGEST_KEPT = 4, 2
#: Seconds without a send after which pauses begin at the shortest again.
PACE_MEMORY = 3600
#: A last send dated further ahead than so many seconds comes from a clock that was wrong; nobody
#: can wait for the pause after it. The budgets count it all the same.
PACE_SKEW = 60


@dataclass(frozen=True, slots=True)
class Claim:
    """One unit asked of one scope.

    :param scope: its name, as in `SMSVERIFY_BUDGETS`.
    :param key: whose budget: a mobile, a user, an address; empty for the site's.
    :param item: where a scope counts different things, the thing; the same one costs nothing more.
    """

    scope: str
    key: str = field(repr=False)  # a mobile, often
    limits: tuple[Limit, ...]
    item: str | None = None


@dataclass(frozen=True, slots=True)
class Pace:
    """The pause before the next send.

    :param delays: seconds before the second, third … send; the last repeats.
    """

    key: str = field(repr=False)
    delays: tuple[int, ...]
    scope: str = "pace"


@dataclass(frozen=True, slots=True)
class Usage:
    """How far one limit of one scope is used.

    :param wait: whole seconds until a unit is free; 0 for now.
    """

    scope: str
    limit: Limit
    used: int
    wait: int


@dataclass(slots=True)
class Reservation:
    """What was taken: `units` as (row, window, slice, item), and what it used up.

    A scope is in `spent` and `half_spent` once in a window at most, in the reservation that got
    there first; when that one is given back, the next to get there says it.

    :param spent: the scopes that have nothing left after it.
    :param half_spent: the scopes that reached the half of a limit with it.
    :param told: what it wrote down of that, as (row, window, "half" or "whole").
    """

    units: list[tuple[str, int, int, str | None]] = field(default_factory=list)
    paces: list[tuple[str, list[float], list[float]]] = field(default_factory=list)
    spent: list[str] = field(default_factory=list)
    half_spent: list[str] = field(default_factory=list)
    told: list[tuple[str, int, str]] = field(default_factory=list)

    @property
    def rows(self) -> set[str]:
        """The ids of the rows it was taken from."""
        return {row for row, *_ in self.units} | {row for row, *_ in self.paces}

    def of(self, row_ids: Iterable[str]) -> Reservation:
        """The part of it that was taken from these rows."""
        wanted = set(row_ids)
        return Reservation(units=[unit for unit in self.units if unit[0] in wanted])

    def dump(self) -> str:
        """Its units as JSON, to give them back in another request."""
        return json.dumps(self.units)

    @classmethod
    def load(cls, text: str) -> Reservation:
        """What `dump` wrote."""
        return cls(
            units=[(row, window, slot, item) for row, window, slot, item in json.loads(text)]
        )


Rows = Mapping[str, Budget]


class Budgets:
    """The budgets, kept in the ledger.

    The verifier works in transactions of its own and calls `lock`, `take` and `put_back` inside
    them; everybody else calls `reserve` and `give_back`.
    """

    def __init__(self, ledger: Ledger, keyring: Keyring) -> None:
        self._ledger = ledger
        self._keyring = keyring

    def row_id(self, scope: str, key: str) -> str:
        """The id of a scope's row: a keyed digest, so that no mobile or address stands in it."""
        return self._keyring.digest("budget", scope, key)[:40]

    def reserve(self, claims: Sequence[Claim | Pace], now: datetime) -> Reservation:
        """Take a unit of every claim, or none, and commit.

        :raises BudgetSpent: a scope has nothing left.
        :raises TooSoon: the pause is not over.
        :raises StoreUnavailable: the database did not take it.
        """
        self.prepare(claims, now)
        return self._ledger.run(lambda session: self.take(self.lock(session, claims), claims, now))

    def give_back(self, reservation: Reservation) -> None:
        """Return what a reservation took, and commit."""

        def work(session: Session) -> None:
            self.put_back(self.lock_ids(session, reservation.rows), reservation)

        if reservation.rows:
            self._ledger.run(work)

    def usage(self, claims: Sequence[Claim], now: datetime) -> list[Usage]:
        """How far the limits of these claims are used. Takes nothing."""
        texts = self._texts(claims)
        found = []
        seconds = now.timestamp()
        for claim in claims:
            spent = json.loads(texts.get(self.row_id(claim.scope, claim.key), "{}"))
            for limit in claim.limits:
                used = _used(_live(spent, limit, seconds).values())
                single = Claim(claim.scope, claim.key, (limit,))
                found.append(Usage(claim.scope, limit, used, _wait(spent, single, seconds)))
        return found

    def look(self, claims: Sequence[Claim | Pace], now: datetime) -> None:
        """Raise what `take` would, by a look: who is refused anyway makes no rows and locks none.

        :raises BudgetSpent: a scope has nothing left.
        :raises TooSoon: the pause is not over.
        """
        self._refuse(self._texts(claims), claims, now.timestamp())

    def _texts(self, claims: Sequence[Claim | Pace]) -> Mapping[str, str]:
        ids = {self.row_id(claim.scope, claim.key) for claim in claims}
        return self._ledger.read(
            lambda session: dict(
                session.execute(select(Budget.id, Budget.spent).where(Budget.id.in_(ids))).all()
            )
        )

    def _refuse(
        self, texts: Mapping[str, str], claims: Sequence[Claim | Pace], seconds: float
    ) -> None:
        """Raise where not every claim has a unit.

        :param texts: what rows hold, by their ids; one that is missing holds nothing.
        """
        spent_for: list[tuple[int, str]] = []
        pause = 0
        for claim in claims:
            spent = json.loads(texts.get(self.row_id(claim.scope, claim.key), "{}"))
            if isinstance(claim, Pace):
                pause = max(pause, _pause_left(spent, claim.delays, seconds))
            elif wait := _wait(spent, claim, seconds):
                spent_for.append((wait, claim.scope))
        if spent_for:
            wait, scope = max(spent_for)
            raise BudgetSpent(wait, scope)
        if pause:
            raise TooSoon(pause)

    def lift(self, claims: Sequence[Claim]) -> None:
        """Let these claims' rows begin anew."""

        def work(session: Session) -> None:
            for row in self.lock(session, claims).values():
                row.spent = "{}"

        self._ledger.run(work)

    # --- within a transaction of the caller's --------------------------------------------------

    def prepare(
        self, claims: Sequence[Claim | Pace], now: datetime, *, silently: bool = False
    ) -> None:
        """Make the rows that are not there yet, before the transaction that locks them.

        :param silently: write those that are there as well, so that the time this takes does not
            tell whether somebody has used a mobile here before.
        """
        scopes = {self.row_id(claim.scope, claim.key): claim.scope for claim in claims}
        there: set[str] = set()
        if not silently:
            there = self._ledger.read(
                lambda session: set(session.scalars(select(Budget.id).where(Budget.id.in_(scopes))))
            )
        self._ledger.insert_ignoring(
            Budget,
            [
                {"id": row, "scope": scopes[row], "spent": "{}", "used_at": now}
                for row in sorted(set(scopes) - there)
            ],
            touching="used_at" if silently else None,
        )

    def lock(self, session: Session, claims: Sequence[Claim | Pace]) -> Rows:
        """The claims' rows, locked until the transaction ends."""
        return self.lock_ids(session, {self.row_id(claim.scope, claim.key) for claim in claims})

    def lock_ids(self, session: Session, ids: Iterable[str]) -> Rows:
        """Rows by their ids, locked in one order that everybody keeps."""
        rows = session.scalars(
            select(Budget)
            .where(Budget.id.in_(sorted(ids)))
            .order_by(Budget.id)
            .with_for_update()
            .execution_options(populate_existing=True)
        )
        return {row.id: row for row in rows}

    def prepare_beside(self, claim: Claim, now: datetime) -> None:
        """Make a row that a transaction of the host's will lock.

        Made within that transaction, it would end in a deadlock on MariaDB as soon as two do so.
        On SQLite the host may be the one writer already, and there are no deadlocks to fear.
        """
        if self._ledger.dialect != "sqlite":
            self.prepare([claim], now)

    def lock_within(self, session: Session, claim: Claim, now: datetime) -> None:
        """Lock one row in a transaction of the host's, on SQLite making it there if need be."""
        row_id = self.row_id(claim.scope, claim.key)
        if self._ledger.dialect == "sqlite":
            values = {"id": row_id, "scope": claim.scope, "spent": "{}", "used_at": now}
            self._ledger.insert_if_absent(session, Budget, values)
        self.lock_ids(session, [row_id])

    def take(self, rows: Rows, claims: Sequence[Claim | Pace], now: datetime) -> Reservation:
        """Take a unit of every claim from locked rows, or raise and take none.

        :raises BudgetSpent: of all scopes with nothing left, the one that takes longest.
        :raises TooSoon: the pause is not over, and no budget is spent.
        """
        seconds = now.timestamp()
        self._refuse({id_: row.spent for id_, row in rows.items()}, claims, seconds)
        reservation = Reservation()
        for claim in claims:
            row = rows[self.row_id(claim.scope, claim.key)]
            spent = json.loads(row.spent)
            if isinstance(claim, Pace):
                _take_pace(spent, row.id, seconds, reservation)
            else:
                _take_units(spent, row.id, claim, seconds, reservation)
            row.spent = json.dumps(spent)
            row.used_at = datetime.fromtimestamp(seconds, UTC)
        return reservation

    def put_back(self, rows: Rows, reservation: Reservation) -> None:
        """Return a reservation's units to locked rows. What has aged out since is gone anyway."""
        for row_id, window, slot, item in reservation.units:
            if (row := rows.get(row_id)) is None:
                continue
            spent = json.loads(row.spent)
            slices = spent.get(str(window), {})
            counts, key = (slices, str(slot)) if item is None else (slices.get(str(slot), {}), item)
            if counts.get(key, 0) > 1:
                counts[key] -= 1
            else:
                counts.pop(key, None)
            row.spent = json.dumps(spent)
        for row_id, window, what in reservation.told:
            if (row := rows.get(row_id)) is not None:
                spent = json.loads(row.spent)
                spent.get("told", {}).pop(f"{window} {what}", None)
                row.spent = json.dumps(spent)
        for row_id, before, after in reservation.paces:
            if (row := rows.get(row_id)) is not None:
                spent = json.loads(row.spent)
                if spent.get("pace") == after:
                    row.spent = json.dumps(spent | {"pace": before})

    def rest(self, rows: Rows, key: str) -> None:
        """Let the pauses of a key begin at the shortest again."""
        if (row := rows.get(self.row_id("pace", key))) is not None:
            row.spent = "{}"

    def pause_left(self, pace: Pace, now: datetime) -> int:
        """Whole seconds until the next send is allowed; 0 for at once."""
        row_id = self.row_id(pace.scope, pace.key)
        text = self._ledger.read(
            lambda session: session.scalar(select(Budget.spent).where(Budget.id == row_id))
        )
        return _pause_left(json.loads(text or "{}"), pace.delays, now.timestamp())


# --- arithmetic on a row's JSON: {"3600": {"<slice>": used or {item: used}}, "pace": [sends, last],
# --- "told": {"3600 half": <slice>}}


def _slot(seconds: float, window: int) -> int:
    return int(seconds * SLICES // window)


def _live(
    spent: dict[str, Any], limit: Limit, seconds: float, *, kept: int | None = None
) -> dict[int, Any]:
    """The slices that count; those of a future that a clock's step back left count too.

    :param kept: seconds back to which slices are wanted; by default the window.
    """
    back = SLICES if kept is None else math.ceil(SLICES * kept / limit.seconds)
    oldest = _slot(seconds, limit.seconds) - back
    slices = spent.get(str(limit.seconds), {})
    return {int(slot): used for slot, used in slices.items() if int(slot) >= oldest}


def _used(slices: Iterable[Any]) -> int:
    """The units in these slices; of things, how many different ones."""
    total = 0
    things: set[str] = set()
    for used in slices:
        if isinstance(used, dict):
            things.update(used)
        else:
            total += int(used)
    return total + len(things)


def _wait(spent: dict[str, Any], claim: Claim, seconds: float) -> int:
    """Whole seconds until every limit of a claim has a unit; 0 when all have one now."""
    longest = 0
    for limit in claim.limits:
        live = _live(spent, limit, seconds)
        if claim.item is not None and any(claim.item in items for items in live.values()):
            continue
        for slot in sorted(live):
            if _used(live.values()) < limit.amount:
                break
            del live[slot]
            ends = (slot + SLICES + 1) * limit.seconds / SLICES
            longest = max(longest, math.ceil(ends - seconds), 1)
    return longest


def _take_units(
    spent: dict[str, Any], row_id: str, claim: Claim, seconds: float, reservation: Reservation
) -> None:
    tightest = {limit.seconds: limit for limit in sorted(claim.limits, reverse=True)}
    longest = LONGEST_KEPT * max(tightest)
    for limit in tightest.values():
        live = _live(spent, limit, seconds)
        slot = _slot(seconds, limit.seconds)
        if claim.item is None:
            live[slot] = live.get(slot, 0) + 1
        else:
            things = live.get(slot, {})
            live[slot] = {**things, claim.item: things.get(claim.item, 0) + 1}
        reservation.units.append((row_id, limit.seconds, slot, claim.item))
        past = _live(spent, limit, seconds, kept=max(WINDOWS_KEPT * limit.seconds, longest))
        spent[str(limit.seconds)] = {
            str(slot): used for slot, used in (past | live).items() if used
        }
        used = _used(live.values())
        if used >= limit.amount:
            what, scopes = "whole", reservation.spent
        elif used >= math.ceil(limit.amount / 2):
            what, scopes = "half", reservation.half_spent
        else:
            continue
        if _is_news(spent, limit, what, slot):
            scopes.append(claim.scope)
            reservation.told.append((row_id, limit.seconds, what))


def _is_news(spent: dict[str, Any], limit: Limit, what: str, slot: int) -> bool:
    """Whether nobody was told this within a window; notes that somebody is now."""
    told = spent.setdefault("told", {})
    key = f"{limit.seconds} {what}"
    if key in told and slot - told[key] <= SLICES:
        return False
    told[key] = slot
    return True


def _pause_left(spent: dict[str, Any], delays: tuple[int, ...], seconds: float) -> int:
    sends, last = map(float, spent.get("pace", (0, 0)))
    if not sends or not -PACE_SKEW <= seconds - last <= PACE_MEMORY:
        return 0
    delay = delays[min(int(sends), len(delays)) - 1]
    return max(0, math.ceil(min(last, seconds) + delay - seconds))


def _take_pace(
    spent: dict[str, Any], row_id: str, seconds: float, reservation: Reservation
) -> None:
    before = spent.get("pace", [0, 0.0])
    sends = before[0] if -PACE_SKEW <= seconds - before[1] <= PACE_MEMORY else 0
    spent["pace"] = [sends + 1, seconds]
    reservation.paces.append((row_id, before, spent["pace"]))
