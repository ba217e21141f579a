"""The log of sends and guesses, from which their rate limits and the cooldown are counted.

One row is one send or one guess. It holds keyed digests of what it counts against, and the indexes
on `(key, at)` make a count as cheap as the limit is small. Windows slide exactly: "5 an hour" means
that no hour holds more than 5.

- A refund sets a row's keys to NULL.
- In the three scopes of addresses, a send weighs a tenth once its challenge is proved, or if it
  came with evidence, as the caller decides: its keys are NULL, except in every tenth row.
- The site's limit may be a million, so its rows are not counted but numbered: each row holds how
  many sends the site has counted so far. The number in a window is the difference of two rows, and
  a refund lowers the numbers of the later rows.
- For the windows of the whole site, each row has a time of its own, `site_at`. A reset moves it
  into the past, and every other scope still counts the row.

`verification` adds these columns to its own, so that one SELECT reads all that a decision needs.
Everything here runs in a transaction of the caller that holds the locks of the keys (`db.locks`).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    FromClause,
    and_,
    bindparam,
    case,
    delete,
    distinct,
    func,
    literal,
    null,
    select,
    true,
    update,
)
from sqlalchemy.orm import InstrumentedAttribute, Session

from ..db.models import UsageGuess, UsageSend
from ..db.prepared import PreparedSelect, PreparedWrite, RowValues
from ..db.rows import numbered_insert
from ..settings import Limit
from .windows import cooldown_left, seconds_left, share_of

Limits = Mapping[str, tuple[Limit, ...]]
LimitItems = tuple[tuple[str, tuple[Limit, ...]], ...]
Column = InstrumentedAttribute[Any]

#: A proved send, and one with evidence, count as this part of a unit against its address.
WEIGHT = 10
#: Seconds without a send after which the cooldown starts at the shortest again, at least.
COOLDOWN_MEMORY = 3600
#: Seconds by which the clocks of two processes may differ. A send dated further ahead was written
#: by a wrong clock and starts no cooldown. The limits still count it.
CLOCK_SKEW = 60

#: How many logs with different limits a process shares among apps.
_MAX_SHARED = 64

_NOW: ColumnElement[int] = bindparam("now", type_=BigInteger)


@dataclass(frozen=True, slots=True)
class SendKeys:
    """The digests that one send counts against; None where a scope does not apply.

    :param guesses: whose failures refuse the send: the account, or the mobile without one.
    :param account_mobile: the mobile, where it counts as one of the account's different ones.
    """

    mobile: int
    cooldown: int
    guesses: int
    account: int | None = None
    account_mobile: int | None = None
    ip: int | None = None
    network: int | None = None
    wide: int | None = None
    tries: int | None = None
    tries_network: int | None = None

    @property
    def locks(self) -> list[int]:
        """The keys to lock before a decision."""
        keys = (self.mobile, self.guesses, self.account, self.ip, self.network, self.wide)
        return [key for key in keys if key is not None]


class Window(NamedTuple):
    """One limit of one scope.

    :param column: the column that holds the scope's keys.
    :param key: the field of `SendKeys` that is counted.
    :param condition: which rows count.
    :param is_open: whether it is the part of a mobile's limit that is not reserved for its owner.
    """

    scope: str
    limit: Limit
    column: Column
    key: str
    condition: ColumnElement[bool] | None = None
    is_open: bool = False

    @property
    def label(self) -> str:
        """The label of the count in a row of the SELECT."""
        name = f"{self.scope}_open" if self.is_open else self.scope
        return f"{name}_{self.limit.seconds}"


class Counts(NamedTuple):
    """Counts to select, as a table of one row.

    :param columns: the labelled counts.
    :param source: what they are selected from.
    """

    columns: Sequence[ColumnElement[Any]]
    source: FromClause


class Overrun(NamedTuple):
    """A limit that is used up.

    :param wait: whole seconds until a unit is free.
    """

    scope: str
    wait: int


class Reached(NamedTuple):
    """A limit that a unit has brought to its half or its end.

    :param part: `half`, `whole`, or `open`: the part of the site's limit without evidence, or of a
        mobile's that is not reserved for its owner.
    :param seconds: the window.
    """

    scope: str
    part: str
    seconds: int


class Recorded(NamedTuple):
    """A send or a guess in the log.

    :param is_open: whether it is a send without evidence.
    """

    id: int
    is_open: bool
    reached: tuple[Reached, ...]


class _Log:
    """A log and the statements with its counts, which are built once."""

    def __init__(self) -> None:
        self._statements: dict[Hashable, PreparedSelect] = {}

    def statement(self, kind: Hashable, build: Callable[[], PreparedSelect]) -> PreparedSelect:
        """Return the statement of one kind.

        :param build: makes it at the first use.
        """
        if kind not in self._statements:
            self._statements[kind] = build()
        return self._statements[kind]


class SendLog(_Log):
    """The log of sends. Apps with the same limits share one, by `shared`.

    :param limits: scope → limits; empty for a scope without a limit.
    :param delays: seconds of cooldown before the second, third … send.
    :param reserved: the part of the site's limit that is reserved for sends with evidence.
    :param network_share: the part of what is free of the rest that one network may take.
    """

    def __init__(
        self, limits: Limits, *, delays: tuple[int, ...], reserved: float, network_share: float
    ) -> None:
        super().__init__()
        self._limits = tightest(limits)
        self._delays = delays
        self._reserved = reserved
        self._network_share = network_share
        self.windows = lru_cache(self._windows)

    @staticmethod
    def shared(
        limits: Limits, *, delays: tuple[int, ...], reserved: float, network_share: float
    ) -> SendLog:
        """Return the log for these limits, with the statements that were compiled for it."""
        return _shared_send_log(tuple(limits.items()), delays, reserved, network_share)

    # --- read -------------------------------------------------------------------------------------

    def counts(self, *, has_account: bool, has_address: bool) -> Counts:
        """Return every count that a decision on a send needs."""
        return _join(list(self._tables(has_account=has_account, has_address=has_address)))

    def _windows(self, *, has_account: bool, has_address: bool) -> list[Window]:
        """Return every limit that refuses a send, except those of the whole site."""
        scopes: list[tuple[str, Column, str]] = [("mobile", UsageSend.mobile, "mobile")]
        if has_account:
            scopes.append(("user", UsageSend.account, "account"))
        if has_address:
            scopes += [
                ("ip", UsageSend.ip, "ip"),
                ("network", UsageSend.network, "network"),
                ("wide", UsageSend.wide, "wide"),
                ("tries", UsageSend.ip, "tries"),
                ("tries_network", UsageSend.network, "tries_network"),
            ]
        if has_address and not has_account:
            scopes += [
                ("failures_ip", UsageGuess.ip, "ip"),
                ("failures_network", UsageGuess.network, "network"),
            ]
        scopes.append(("failures", UsageGuess.subject, "guesses"))
        windows = [
            Window(scope, limit, column, key)
            for scope, column, key in scopes
            for limit in self._limits[scope]
        ]
        return windows + self._open_windows

    @cached_property
    def _open_windows(self) -> list[Window]:
        """The part of a mobile's limits that is not reserved for its owner."""
        return [
            Window(
                "mobile",
                Limit(limit.amount - limit.amount // 2, limit.seconds),
                UsageSend.mobile,
                "mobile",
                UsageSend.by_owner.is_(False),
                is_open=True,
            )
            for limit in self._limits["mobile"]
            if limit.amount > 1  # half of one, rounded down, is nothing to reserve
        ]

    def _tables(self, *, has_account: bool, has_address: bool) -> Iterator[FromClause]:
        yield self._cooldown_table()
        windows = self.windows(has_account=has_account, has_address=has_address)
        groups: dict[tuple[Any, str], list[Window]] = {}
        for window in windows:
            groups.setdefault((window.column, window.key), []).append(window)
        if has_address:
            site = [
                Window("share", limit, UsageSend.wide, "wide") for limit in self._limits["site"]
            ]
            groups.setdefault((UsageSend.wide, "wide"), []).extend(site)
        for (column, key), members in groups.items():
            if members:
                yield _counts(column, key, members)
        if has_account and self._limits["mobiles_per_user"]:
            yield self._account_mobiles_table()

    def _cooldown_table(self) -> FromClause:
        memory = max(COOLDOWN_MEMORY, *self._delays) * 1000
        return (
            select(
                func.count(UsageSend.id).label("cooldown_sends"),
                func.coalesce(func.max(UsageSend.at), 0).label("cooldown_last"),
            )
            .where(UsageSend.cooldown == bindparam("cooldown", type_=BigInteger))
            .where(UsageSend.at > _NOW - memory, UsageSend.at <= _NOW + CLOCK_SKEW * 1000)
            .subquery()
        )

    def _account_mobiles_table(self) -> FromClause:
        """Count the other mobiles of an account, and the sends to this one."""
        mobile: ColumnElement[int] = bindparam("account_mobile", type_=BigInteger)
        limits = self._limits["mobiles_per_user"]
        counts: list[ColumnElement[Any]] = []
        for limit in limits:
            recent = UsageSend.at > _NOW - limit.seconds * 1000
            other = case(
                (and_(recent, UsageSend.account_mobile != mobile), UsageSend.account_mobile)
            )
            same = case((and_(recent, UsageSend.account_mobile == mobile), literal(1)))
            counts.append(func.count(distinct(other)).label(f"other_mobiles_{limit.seconds}"))
            counts.append(func.count(same).label(f"same_mobile_{limit.seconds}"))
        longest = max(limit.seconds for limit in limits)
        return (
            select(*counts)
            .where(UsageSend.account == bindparam("account", type_=BigInteger))
            .where(UsageSend.at > _NOW - longest * 1000)
            .subquery()
        )

    # --- decide -----------------------------------------------------------------------------------

    def overruns(
        self, session: Session, row: RowValues, keys: SendKeys, now_ms: int, *, is_owner: bool
    ) -> list[Overrun]:
        """Return the limits that refuse a send, except those of the whole site.

        :param row: a row of `counts`.
        :param is_owner: whether the whole limit of the mobile may be used.
        """
        counts = row
        found = []
        windows = self.windows(
            has_account=keys.account is not None, has_address=keys.ip is not None
        )
        for window in windows:
            if window.is_open and is_owner:
                continue
            if counts[window.label] >= window.limit.amount:
                found.append(Overrun(window.scope, _wait(session, window, keys, now_ms)))
        if keys.account is not None and keys.account_mobile is not None:
            for limit in self._limits["mobiles_per_user"]:
                if counts[f"same_mobile_{limit.seconds}"]:
                    continue
                if counts[f"other_mobiles_{limit.seconds}"] >= limit.amount:
                    wait = self._wait_for_mobile(session, keys, limit, now_ms)
                    found.append(Overrun("mobiles_per_user", wait))
        return found

    def cooldown(self, row: RowValues, now_ms: int) -> int:
        """Return whole seconds until the cooldown is over; 0 if a send is allowed now."""
        return cooldown_left(row["cooldown_last"], row["cooldown_sends"], self._delays, now_ms)

    def next_delay(self, row: RowValues) -> int:
        """Return the seconds of cooldown that this send starts."""
        return self._delays[min(int(row["cooldown_sends"]) + 1, len(self._delays)) - 1]

    def _wait_for_mobile(self, session: Session, keys: SendKeys, limit: Limit, now_ms: int) -> int:
        last_used = func.max(UsageSend.at).label("last_used")
        query = (
            select(last_used)
            .where(UsageSend.account == keys.account, UsageSend.account_mobile.is_not(None))
            .group_by(UsageSend.account_mobile)
            .order_by(last_used.desc())
            .limit(1)
            .offset(limit.amount - 1)
        )
        return seconds_left(session.scalar(query) or now_ms, limit.seconds, now_ms)

    # --- the whole site ---------------------------------------------------------------------------

    @cached_property
    def _site_statement(self) -> PreparedSelect:
        """Select the numbers of the last send, and of the last one before each window."""
        last = (
            select(UsageSend.site_count, UsageSend.open_count, UsageSend.site_at)
            .order_by(UsageSend.id.desc())
            .limit(1)
            .subquery("last_send")
        )
        columns: list[Any] = [last.c.site_count, last.c.open_count, last.c.site_at]
        joined: FromClause = select(literal(1).label("one")).subquery("one").outerjoin(last, true())
        for limit in self._limits["site"]:
            edge = (
                select(UsageSend.site_count, UsageSend.open_count)
                .where(UsageSend.site_at <= _NOW - limit.seconds * 1000)
                .order_by(UsageSend.site_at.desc(), UsageSend.id.desc())
                .limit(1)
                .subquery(f"edge_{limit.seconds}")
            )
            joined = joined.outerjoin(edge, true())
            columns += [
                edge.c.site_count.label(f"count_{limit.seconds}"),
                edge.c.open_count.label(f"open_{limit.seconds}"),
            ]
        return PreparedSelect(select(*columns).select_from(joined))

    def record(
        self,
        session: Session,
        row: RowValues | None,
        keys: SendKeys,
        now_ms: int,
        *,
        challenge_id: str | None,
        is_owner: bool,
        has_evidence: bool,
    ) -> Recorded | Overrun:
        """Add a send to the log, unless a limit of the whole site refuses it.

        The caller holds the lock of the site's sends.

        :param row: a row of `counts`; None for a second copy, which counts against the mobile and
            the site.
        """
        site = self._site_statement.one(session, {"now": now_ms})
        overrun = self._site_overrun(session, site, row, keys, now_ms, has_evidence=has_evidence)
        if overrun is not None:
            return overrun
        site_count = (site["site_count"] or 0) + 1
        values = {
            "at": now_ms,
            "site_at": max(now_ms, site["site_at"] or 0),
            "site_count": site_count,
            "open_count": (site["open_count"] or 0) + (not has_evidence),
            "mobile": keys.mobile,
            "by_owner": is_owner,
            "account": None,
            "account_mobile": None,
            "ip": None,
            "network": None,
            "wide": None,
            "cooldown": None,
            "challenge_id": challenge_id,
        }
        if row is not None:
            values |= {"account": keys.account, "account_mobile": keys.account_mobile}
            values["cooldown"] = keys.cooldown
            if not has_evidence or site_count % WEIGHT == 0:
                values |= {"ip": keys.ip, "network": keys.network, "wide": keys.wide}
        send_id = _INSERT_SEND.run(session, values)
        reached = self._reached(site, row, keys, is_owner=is_owner, has_evidence=has_evidence)
        return Recorded(send_id, not has_evidence, tuple(reached))

    def _site_overrun(
        self,
        session: Session,
        site: RowValues,
        row: RowValues | None,
        keys: SendKeys,
        now_ms: int,
        *,
        has_evidence: bool,
    ) -> Overrun | None:
        for limit in self._limits["site"]:
            used, used_open = _used_by_site(site, limit)
            if used >= limit.amount:
                number = site["site_count"] - limit.amount + 1
                return Overrun(
                    "site", _site_wait(session, UsageSend.site_count, number, limit, now_ms)
                )
            if has_evidence:
                continue
            open_amount = limit.amount - share_of(limit.amount, self._reserved)
            if used_open >= open_amount:
                number = site["open_count"] - open_amount + 1
                return Overrun(
                    "site", _site_wait(session, UsageSend.open_count, number, limit, now_ms)
                )
            if row is None or keys.wide is None:
                continue
            own = row[f"share_{limit.seconds}"]
            free = open_amount - used_open
            if own and own >= share_of(free + own, self._network_share):
                window = Window("network_share", Limit(own, limit.seconds), UsageSend.wide, "wide")
                return Overrun(window.scope, _wait(session, window, keys, now_ms))
        return None

    def _reached(
        self,
        site: RowValues,
        row: RowValues | None,
        keys: SendKeys,
        *,
        is_owner: bool,
        has_evidence: bool,
    ) -> Iterator[Reached]:
        for limit in self._limits["site"]:
            used, used_open = _used_by_site(site, limit)
            open_amount = limit.amount - share_of(limit.amount, self._reserved)
            if used + 1 == limit.amount:
                yield Reached("site", "whole", limit.seconds)
            elif used + 1 == -(-limit.amount // 2):
                yield Reached("site", "half", limit.seconds)
            if not has_evidence and used_open + 1 == open_amount < limit.amount:
                yield Reached("site", "open", limit.seconds)
        if row is None:
            return
        for window in self.windows(
            has_account=keys.account is not None, has_address=keys.ip is not None
        ):
            if window.column.class_ is UsageGuess or window.scope.startswith("tries"):
                continue
            if window.is_open and is_owner:
                continue
            if row[window.label] + 1 == window.limit.amount:
                part = "open" if window.is_open else "whole"
                yield Reached(window.scope, part, window.limit.seconds)

    # --- refund and weigh -------------------------------------------------------------------------

    def refund(
        self, session: Session, recorded: Recorded, keys: SendKeys, *, is_refused: bool
    ) -> None:
        """Count a send no longer. The caller holds the lock of the site's sends.

        :param is_refused: a gateway refused the number or its operator. The send counts against
            `tries`, and its cooldown stays, to prevent unlimited gateway calls.
        """
        values: dict[str, Any] = dict.fromkeys(
            ("mobile", "account", "account_mobile", "ip", "network", "wide", "challenge_id")
        )
        if is_refused:
            values |= {"ip": keys.tries, "network": keys.tries_network}
        else:
            values["cooldown"] = None
        connection = session.connection()
        connection.execute(update(UsageSend).where(UsageSend.id == recorded.id).values(values))
        later = {"site_count": UsageSend.site_count - 1}
        if recorded.is_open:
            later["open_count"] = UsageSend.open_count - 1
        connection.execute(update(UsageSend).where(UsageSend.id >= recorded.id).values(later))

    def weigh_proved(self, session: Session, challenge_id: str, cooldown: int) -> None:
        """Count the sends of a proved challenge as a tenth, and end the subject's cooldown."""
        _WEIGH_PROVED.run(session, {"proved_challenge": challenge_id, "proved_cooldown": cooldown})


class GuessLog(_Log):
    """The log of guesses. Apps with the same limits share one, by `shared`."""

    def __init__(self, limits: Limits) -> None:
        super().__init__()
        self._limits = tightest(limits)

    @staticmethod
    def shared(limits: Limits) -> GuessLog:
        """Return the log for these limits, with the statements that were compiled for it."""
        return _shared_guess_log(tuple(limits.items()))

    @cached_property
    def windows(self) -> list[Window]:
        """The limits that refuse a guess, except those of the whole site."""
        return [
            Window("failures", limit, UsageGuess.subject, "guesses")
            for limit in self._limits["failures"]
        ]

    @cached_property
    def counts(self) -> Counts:
        """Every count that a decision on a guess needs."""
        tables: list[FromClause] = [select(literal(1).label("one")).subquery("one")]
        if self.windows:
            tables.append(_counts(UsageGuess.subject, "guesses", self.windows))
        return _join(tables + self._site_tables)

    @cached_property
    def _site_tables(self) -> list[FromClause]:
        return [self._site_table(limit) for limit in self._limits["site_failures"]]

    @cached_property
    def _site_statement(self) -> PreparedSelect:
        columns, source = _join(self._site_tables)
        return PreparedSelect(select(*columns).select_from(source))

    def read_site(self, session: Session, now_ms: int) -> Any:
        """Return the counts of the whole site; None without such a limit."""
        if not self._site_tables:
            return None
        return self._site_statement.one(session, {"now": now_ms})

    def _site_table(self, limit: Limit) -> FromClause:
        rows = (
            select(UsageGuess.id)
            .where(UsageGuess.site_at > _NOW - limit.seconds * 1000)
            .order_by(UsageGuess.site_at.desc())
            .limit(limit.amount)
            .subquery(f"site_rows_{limit.seconds}")
        )
        return select(func.count(rows.c.id).label(f"site_failures_{limit.seconds}")).subquery()

    def overruns(
        self, session: Session, row: RowValues, guesses: int, now_ms: int, *, is_first: bool
    ) -> list[Overrun]:
        """Return the limits that refuse a guess.

        :param is_first: whether it is the first guess of its challenge, which no limit of the whole
            site refuses.
        """
        keys = SendKeys(mobile=0, cooldown=0, guesses=guesses)
        found = [
            Overrun(window.scope, _wait(session, window, keys, now_ms))
            for window in self.windows
            if row[window.label] >= window.limit.amount
        ]
        if not is_first:
            found += self.site_overruns(session, row, now_ms)
        return found

    def site_overruns(self, session: Session, row: RowValues, now_ms: int) -> list[Overrun]:
        """Return the limits of the whole site that are used up.

        :param row: a row of `counts` or of `read_site`.
        """
        found = []
        for limit in self._limits["site_failures"]:
            if row[f"site_failures_{limit.seconds}"] < limit.amount:
                continue
            nth = (
                select(UsageGuess.site_at)
                .order_by(UsageGuess.site_at.desc())
                .limit(1)
                .offset(limit.amount - 1)
            )
            wait = seconds_left(session.scalar(nth) or now_ms, limit.seconds, now_ms)
            found.append(Overrun("site_failures", wait))
        return found

    def record(
        self,
        session: Session,
        site: RowValues,
        now_ms: int,
        *,
        guesses: int,
        ip: int | None,
        network: int | None,
    ) -> Recorded:
        """Add a guess to the log.

        :param site: what `read_site` returned under the lock of the site's guesses.
        """
        values = {
            "at": now_ms,
            "site_at": now_ms,
            "subject": guesses,
            "ip": ip,
            "network": network,
        }
        guess_id = _INSERT_GUESS.run(session, values)
        reached = []
        for limit in self._limits["site_failures"]:
            used = site[f"site_failures_{limit.seconds}"] + 1
            if used == limit.amount:
                reached.append(Reached("site_failures", "whole", limit.seconds))
            elif used == -(-limit.amount // 2):
                reached.append(Reached("site_failures", "half", limit.seconds))
        return Recorded(guess_id, False, tuple(reached))

    def refund(self, session: Session, recorded: Recorded) -> None:
        """Remove a guess from the log: it was right, or it revealed nothing."""
        _DELETE_GUESS.run(session, {"guess_id": recorded.id})


@lru_cache(maxsize=_MAX_SHARED)
def _shared_send_log(
    limits: LimitItems, delays: tuple[int, ...], reserved: float, network_share: float
) -> SendLog:
    return SendLog(dict(limits), delays=delays, reserved=reserved, network_share=network_share)


@lru_cache(maxsize=_MAX_SHARED)
def _shared_guess_log(limits: LimitItems) -> GuessLog:
    return GuessLog(dict(limits))


def reset_site(session: Session, site_at: Column, limits: Sequence[Limit], now_ms: int) -> None:
    """Move every row out of the windows of the whole site. Every other scope still counts it.

    The rows keep their order and numbers, so a later refund lowers the right ones. The caller holds
    the lock of the site's sends or guesses.

    :param site_at: the column of the log.
    """
    longest = max(limit.seconds for limit in limits)
    before = now_ms - (longest + CLOCK_SKEW) * 1000
    moved = update(site_at.class_).where(site_at > before).values({site_at.key: before})
    session.connection().execute(moved)


def _join(tables: Sequence[FromClause]) -> Counts:
    source = tables[0]
    for table in tables[1:]:
        source = source.join(table, true())
    return Counts([column for table in tables for column in table.c], source)


def tightest(limits: Limits) -> Limits:
    """Return the limits with one for each scope and window, the smallest."""
    return {
        scope: tuple({limit.seconds: limit for limit in sorted(every, reverse=True)}.values())
        for scope, every in limits.items()
    }


# --- statements ---------------------------------------------------------------------------------

_INSERT_SEND = numbered_insert(UsageSend)
_INSERT_GUESS = numbered_insert(UsageGuess)
_DELETE_GUESS = PreparedWrite(
    delete(UsageGuess).where(UsageGuess.id == bindparam("guess_id", type_=BigInteger))
)


def _weigh_proved() -> PreparedWrite:
    proved = and_(
        UsageSend.challenge_id == bindparam("proved_challenge"),
        UsageSend.site_count % WEIGHT != 0,
    )
    weighed = {
        column.key: case((proved, null()), else_=column)
        for column in (UsageSend.ip, UsageSend.network, UsageSend.wide)
    }
    return PreparedWrite(
        update(UsageSend)
        .where(UsageSend.cooldown == bindparam("proved_cooldown", type_=BigInteger))
        .values(cooldown=null(), **weighed)
    )


_WEIGH_PROVED = _weigh_proved()


def _counts(column: Column, key: str, windows: Sequence[Window]) -> FromClause:
    """Return a table of one row: the counts of one key in several windows."""
    at = column.class_.at
    counts = []
    for window in windows:
        counted: ColumnElement[bool] = at > _NOW - window.limit.seconds * 1000
        if window.condition is not None:
            counted = and_(counted, window.condition)
        counts.append(func.count(case((counted, literal(1)))).label(window.label))
    longest = max(window.limit.seconds for window in windows)
    return (
        select(*counts)
        .where(column == bindparam(key, type_=BigInteger))
        .where(at > _NOW - longest * 1000)
        .subquery()
    )


def _wait(session: Session, window: Window, keys: SendKeys, now_ms: int) -> int:
    """Return whole seconds until a used-up limit has a unit: when the N-th last row ages out."""
    at = window.column.class_.at
    query = (
        select(at)
        .where(window.column == getattr(keys, window.key))
        .order_by(at.desc())
        .limit(1)
        .offset(window.limit.amount - 1)
    )
    if window.condition is not None:
        query = query.where(window.condition)
    return seconds_left(session.scalar(query) or now_ms, window.limit.seconds, now_ms)


def _used_by_site(site: RowValues, limit: Limit) -> tuple[int, int]:
    """Return how many sends a window of the site holds, and how many without evidence."""
    row = site
    used = (site["site_count"] or 0) - (row[f"count_{limit.seconds}"] or 0)
    return used, (site["open_count"] or 0) - (row[f"open_{limit.seconds}"] or 0)


def _site_wait(session: Session, column: Column, number: int, limit: Limit, now_ms: int) -> int:
    query = (
        select(UsageSend.site_at).where(column >= number).order_by(column, UsageSend.id).limit(1)
    )
    return seconds_left(session.scalar(query) or now_ms, limit.seconds, now_ms)
