"""Usage of rate limits: one row per scope and key, with counts per time slice.

A window is cut into twelve slices. The current slice and the twelve before it count, so no window
of the stated length ever holds more than its limit, and a unit is free again at most a twelfth of
the window late. The rows of a reservation are locked in the order of their ids, read, checked, and
written only if every limit allows it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from ..db.ledger import Ledger
from ..db.models import Budget
from ..errors import RateLimited, TooSoon
from ..keyring import Keyring
from ..settings import Limit

SLICES = 12
#: Slices are kept for this many windows after they stop counting: after a clock that was ahead is
#: corrected, they count again.
WINDOWS_KEPT, LONGEST_KEPT = 4, 2
#: Seconds without a send after which the cooldown starts at the shortest again.
COOLDOWN_MEMORY = 3600
#: A last send dated further ahead than this many seconds was written by a wrong clock and starts no
#: cooldown. The limits still count it.
COOLDOWN_SKEW = 60


@dataclass(frozen=True, slots=True)
class Charge:
    """One unit to take from one scope.

    :param scope: its name in `SMSVERIFY_LIMITS`.
    :param key: the mobile, user or address that is limited; empty for the whole site.
    :param item: for scopes that count distinct items, the item. A repeated item costs nothing.
    """

    scope: str
    key: str = field(repr=False)  # a mobile, often
    limits: tuple[Limit, ...]
    item: str | None = None


@dataclass(frozen=True, slots=True)
class Cooldown:
    """The pause before the next send of one key.

    :param delays: seconds before the second, third … send; the last repeats.
    """

    key: str = field(repr=False)
    delays: tuple[int, ...]
    scope: str = "cooldown"


@dataclass(frozen=True, slots=True)
class Usage:
    """The usage of one limit.

    :param wait: whole seconds until a unit is free; 0 if one is free now.
    """

    scope: str
    limit: Limit
    used: int
    wait: int


@dataclass(slots=True)
class Reservation:
    """Units that were taken.

    A scope is reported in `used_up` and `half_used` at most once per window. When the reservation
    that reported it is refunded, the next one reports it.

    :param units: (row, window in seconds, slice, item).
    :param cooldowns: (row, state before, state after).
    :param used_up: scopes that this reservation used up.
    :param half_used: scopes of which this reservation used the second half's first unit.
    :param alerts: (row, window, "half" or "whole") of what was reported.
    """

    units: list[tuple[str, int, int, str | None]] = field(default_factory=list)
    cooldowns: list[tuple[str, list[float], list[float]]] = field(default_factory=list)
    used_up: list[str] = field(default_factory=list)
    half_used: list[str] = field(default_factory=list)
    alerts: list[tuple[str, int, str]] = field(default_factory=list)

    @property
    def rows(self) -> set[str]:
        """The ids of the rows that units were taken from."""
        return {row for row, *_ in self.units} | {row for row, *_ in self.cooldowns}

    def of(self, row_ids: Iterable[str]) -> Reservation:
        """Return the part that was taken from these rows."""
        wanted = set(row_ids)
        return Reservation(units=[unit for unit in self.units if unit[0] in wanted])

    def dump(self) -> str:
        """Return the units as JSON, to refund them in another request."""
        return json.dumps(self.units)

    @classmethod
    def load(cls, text: str) -> Reservation:
        """Return a reservation from the output of `dump`."""
        return cls(
            units=[(row, window, slot, item) for row, window, slot, item in json.loads(text)]
        )


Rows = Mapping[str, Budget]


class LimitStore:
    """Stores usage in the ledger.

    `reserve` and `refund` run in a transaction of their own. `lock`, `reserve_locked` and
    `refund_locked` run inside the caller's.
    """

    def __init__(self, ledger: Ledger, keyring: Keyring) -> None:
        self._ledger = ledger
        self._keyring = keyring

    def row_id(self, scope: str, key: str) -> str:
        """Return the id of a scope's row: a keyed digest, since keys are mobiles and addresses."""
        return self._keyring.digest("budget", scope, key)[:40]

    def reserve(self, charges: Sequence[Charge | Cooldown], now: datetime) -> Reservation:
        """Take a unit for every charge, or none, and commit.

        :raises RateLimited: a limit is used up.
        :raises TooSoon: the cooldown is not over.
        :raises StoreUnavailable: the database did not take it.
        """
        self.prepare(charges, now)
        return self._ledger.run(
            lambda session: self.reserve_locked(self.lock(session, charges), charges, now)
        )

    def refund(self, reservation: Reservation) -> None:
        """Refund a reservation, and commit."""

        def work(session: Session) -> None:
            self.refund_locked(self.lock_ids(session, reservation.rows), reservation)

        if reservation.rows:
            self._ledger.run(work)

    def usage(self, charges: Sequence[Charge], now: datetime) -> list[Usage]:
        """Return the usage of every limit of these charges. Takes nothing."""
        texts = self._texts(charges)
        found = []
        seconds = now.timestamp()
        for charge in charges:
            spent = json.loads(texts.get(self.row_id(charge.scope, charge.key), "{}"))
            for limit in charge.limits:
                used = _used(_live(spent, limit, seconds).values())
                single = Charge(charge.scope, charge.key, (limit,))
                found.append(Usage(charge.scope, limit, used, _wait(spent, single, seconds)))
        return found

    def check(self, charges: Sequence[Charge | Cooldown], now: datetime) -> None:
        """Raise what `reserve` would raise, without creating or locking a row.

        :raises RateLimited: a limit is used up.
        :raises TooSoon: the cooldown is not over.
        """
        self._refuse(self._texts(charges), charges, now.timestamp())

    def _texts(self, charges: Sequence[Charge | Cooldown]) -> Mapping[str, str]:
        ids = {self.row_id(charge.scope, charge.key) for charge in charges}
        return self._ledger.read(
            lambda session: dict(
                session.execute(select(Budget.id, Budget.spent).where(Budget.id.in_(ids))).all()
            )
        )

    def _refuse(
        self, texts: Mapping[str, str], charges: Sequence[Charge | Cooldown], seconds: float
    ) -> None:
        """Raise unless every charge has a unit.

        :param texts: row id → JSON; a missing row has no usage.
        """
        used_up: list[tuple[int, str]] = []
        pause = 0
        for charge in charges:
            spent = json.loads(texts.get(self.row_id(charge.scope, charge.key), "{}"))
            if isinstance(charge, Cooldown):
                pause = max(pause, _cooldown_left(spent, charge.delays, seconds))
            elif wait := _wait(spent, charge, seconds):
                used_up.append((wait, charge.scope))
        if used_up:
            wait, scope = max(used_up)
            raise RateLimited(wait, scope)
        if pause:
            raise TooSoon(pause)

    def reset(self, charges: Sequence[Charge]) -> None:
        """Reset the usage of these charges."""

        def work(session: Session) -> None:
            for row in self.lock(session, charges).values():
                row.spent = "{}"

        self._ledger.run(work)

    def reset_all(self) -> None:
        """Reset all usage, for tests."""
        self._ledger.run(lambda session: session.execute(delete(Budget)))

    # --- inside a transaction of the caller's --------------------------------------------------

    def prepare(
        self, charges: Sequence[Charge | Cooldown], now: datetime, *, uniformly: bool = False
    ) -> None:
        """Create missing rows before the transaction that locks them.

        :param uniformly: write existing rows too, so that response time does not reveal whether a
            mobile was used before.
        """
        scopes = {self.row_id(charge.scope, charge.key): charge.scope for charge in charges}
        there: set[str] = set()
        if not uniformly:
            there = self._ledger.read(
                lambda session: set(session.scalars(select(Budget.id).where(Budget.id.in_(scopes))))
            )
        self._ledger.insert_all_if_absent(
            Budget,
            [
                {"id": row, "scope": scopes[row], "spent": "{}", "used_at": now}
                for row in sorted(set(scopes) - there)
            ],
            overwrite="used_at" if uniformly else None,
        )

    def lock(self, session: Session, charges: Sequence[Charge | Cooldown]) -> Rows:
        """Lock the charges' rows until the transaction ends."""
        return self.lock_ids(session, {self.row_id(charge.scope, charge.key) for charge in charges})

    def lock_ids(self, session: Session, ids: Iterable[str]) -> Rows:
        """Lock rows in the order of their ids, which prevents deadlocks."""
        rows = session.scalars(
            select(Budget)
            .where(Budget.id.in_(sorted(ids)))
            .order_by(Budget.id)
            .with_for_update()
            .execution_options(populate_existing=True)
        )
        return {row.id: row for row in rows}

    def prepare_for_host_transaction(self, charge: Charge, now: datetime) -> None:
        """Create a row that the host's transaction will lock.

        On MariaDB, two host transactions that create rows deadlock. On SQLite the host may hold the
        only write lock, so the row is created in its transaction.
        """
        if self._ledger.dialect != "sqlite":
            self.prepare([charge], now)

    def lock_in_host_transaction(self, session: Session, charge: Charge, now: datetime) -> None:
        """Lock one row in the host's transaction, creating it there on SQLite."""
        row_id = self.row_id(charge.scope, charge.key)
        if self._ledger.dialect == "sqlite":
            values = {"id": row_id, "scope": charge.scope, "spent": "{}", "used_at": now}
            self._ledger.insert_if_absent(session, Budget, values)
        self.lock_ids(session, [row_id])

    def reserve_locked(
        self, rows: Rows, charges: Sequence[Charge | Cooldown], now: datetime
    ) -> Reservation:
        """Take a unit for every charge from locked rows, or raise and take none.

        :raises RateLimited: a limit is used up; names the one with the longest wait.
        :raises TooSoon: the cooldown is not over.
        """
        seconds = now.timestamp()
        self._refuse({id_: row.spent for id_, row in rows.items()}, charges, seconds)
        reservation = Reservation()
        for charge in charges:
            row = rows[self.row_id(charge.scope, charge.key)]
            spent = json.loads(row.spent)
            if isinstance(charge, Cooldown):
                _start_cooldown(spent, row.id, seconds, reservation)
            else:
                _take_units(spent, row.id, charge, seconds, reservation)
            row.spent = json.dumps(spent)
            row.used_at = datetime.fromtimestamp(seconds, UTC)
        return reservation

    def refund_locked(self, rows: Rows, reservation: Reservation) -> None:
        """Refund a reservation to locked rows. Units that have aged out are ignored."""
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
        for row_id, window, what in reservation.alerts:
            if (row := rows.get(row_id)) is not None:
                spent = json.loads(row.spent)
                spent.get("alerts", {}).pop(f"{window} {what}", None)
                row.spent = json.dumps(spent)
        for row_id, before, after in reservation.cooldowns:
            if (row := rows.get(row_id)) is not None:
                spent = json.loads(row.spent)
                if spent.get("cooldown") == after:
                    row.spent = json.dumps(spent | {"cooldown": before})

    def reset_row(self, rows: Rows, row_id: str) -> None:
        """Reset the usage of a locked row, such as a cooldown."""
        if (row := rows.get(row_id)) is not None:
            row.spent = "{}"

    def cooldown_left(self, pace: Cooldown, now: datetime) -> int:
        """Return whole seconds until the next send is allowed; 0 if it is allowed now."""
        row_id = self.row_id(pace.scope, pace.key)
        text = self._ledger.read(
            lambda session: session.scalar(select(Budget.spent).where(Budget.id == row_id))
        )
        return _cooldown_left(json.loads(text or "{}"), pace.delays, now.timestamp())


# --- arithmetic on a row's JSON -----------------------------------------------------------------
# {"3600": {"<slice>": used or {item: used}}, "cooldown": [sends, last],
#  "alerts": {"3600 half": <slice>}}


def _slot(seconds: float, window: int) -> int:
    return int(seconds * SLICES // window)


def _live(
    spent: dict[str, Any], limit: Limit, seconds: float, *, kept: int | None = None
) -> dict[int, Any]:
    """Return the slices that count, including future ones left by a clock that was set back.

    :param kept: seconds back to return slices for; by default the window.
    """
    back = SLICES if kept is None else math.ceil(SLICES * kept / limit.seconds)
    oldest = _slot(seconds, limit.seconds) - back
    slices = spent.get(str(limit.seconds), {})
    return {int(slot): used for slot, used in slices.items() if int(slot) >= oldest}


def _used(slices: Iterable[Any]) -> int:
    """Return the number of units in these slices, or of distinct items."""
    total = 0
    items: set[str] = set()
    for used in slices:
        if isinstance(used, dict):
            items.update(used)
        else:
            total += int(used)
    return total + len(items)


def _wait(spent: dict[str, Any], charge: Charge, seconds: float) -> int:
    """Return whole seconds until every limit of a charge has a unit; 0 if all have one now."""
    longest = 0
    for limit in charge.limits:
        live = _live(spent, limit, seconds)
        if charge.item is not None and any(charge.item in items for items in live.values()):
            continue
        for slot in sorted(live):
            if _used(live.values()) < limit.amount:
                break
            del live[slot]
            ends = (slot + SLICES + 1) * limit.seconds / SLICES
            longest = max(longest, math.ceil(ends - seconds), 1)
    return longest


def _take_units(
    spent: dict[str, Any], row_id: str, charge: Charge, seconds: float, reservation: Reservation
) -> None:
    tightest = {limit.seconds: limit for limit in sorted(charge.limits, reverse=True)}
    longest = LONGEST_KEPT * max(tightest)
    for limit in tightest.values():
        live = _live(spent, limit, seconds)
        slot = _slot(seconds, limit.seconds)
        if charge.item is None:
            live[slot] = live.get(slot, 0) + 1
        else:
            items = live.get(slot, {})
            live[slot] = {**items, charge.item: items.get(charge.item, 0) + 1}
        reservation.units.append((row_id, limit.seconds, slot, charge.item))
        past = _live(spent, limit, seconds, kept=max(WINDOWS_KEPT * limit.seconds, longest))
        spent[str(limit.seconds)] = {
            str(slot): used for slot, used in (past | live).items() if used
        }
        used = _used(live.values())
        if used >= limit.amount:
            what, scopes = "whole", reservation.used_up
        elif used >= math.ceil(limit.amount / 2):
            what, scopes = "half", reservation.half_used
        else:
            continue
        if _is_first_report(spent, limit, what, slot):
            scopes.append(charge.scope)
            reservation.alerts.append((row_id, limit.seconds, what))


def _is_first_report(spent: dict[str, Any], limit: Limit, what: str, slot: int) -> bool:
    """Return whether this was not reported within a window, and record that it is now."""
    alerts = spent.setdefault("alerts", {})
    key = f"{limit.seconds} {what}"
    if key in alerts and slot - alerts[key] <= SLICES:
        return False
    alerts[key] = slot
    return True


def _cooldown_left(spent: dict[str, Any], delays: tuple[int, ...], seconds: float) -> int:
    sends, last = map(float, spent.get("cooldown", (0, 0)))
    if not sends or not -COOLDOWN_SKEW <= seconds - last <= COOLDOWN_MEMORY:
        return 0
    delay = delays[min(int(sends), len(delays)) - 1]
    return max(0, math.ceil(min(last, seconds) + delay - seconds))


def _start_cooldown(
    spent: dict[str, Any], row_id: str, seconds: float, reservation: Reservation
) -> None:
    before = spent.get("cooldown", [0, 0.0])
    sends = before[0] if -COOLDOWN_SKEW <= seconds - before[1] <= COOLDOWN_MEMORY else 0
    spent["cooldown"] = [sends + 1, seconds]
    reservation.cooldowns.append((row_id, before, spent["cooldown"]))
