"""The log of sends, from which their rate limits and the cooldown are counted.

- In the three scopes of addresses, a send weighs a tenth once its challenge is proved, or if it
  came with evidence, as the caller decides: its keys are NULL, except in every tenth row.
- The site's limit may be a million, so its rows are not counted but numbered: each row holds how
  many sends the site has counted so far. The number in a window is the difference of two rows, and
  a refund lowers the numbers of the later rows.

`usage_log` explains what it has in common with the log of guesses.
"""

from __future__ import annotations

import math
import operator
from bisect import bisect_left
from collections.abc import Iterator
from functools import cache, cached_property, lru_cache, partial
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    FromClause,
    and_,
    bindparam,
    case,
    distinct,
    func,
    null,
    or_,
    select,
    true,
    update,
)
from sqlalchemy.orm import Session

from ..db.models import UsageGuess, UsageSend
from ..db.prepared import PreparedSelect, PreparedWrite, RowValues, constant, one_row
from ..db.rows import numbered_insert
from ..settings import Limit
from .cooldown import cooldown_left, delay_after
from .usage_log import (
    CLOCK_SKEW,
    MAX_SHARED,
    NOW,
    Column,
    Counts,
    LimitItems,
    Limits,
    Log,
    Overrun,
    Reached,
    Recorded,
    Window,
    ago,
    counts_of,
    half_of,
    seconds_left,
    tightest,
    wait_for,
)

#: A proved send, and one with evidence, count as this part of a unit against its address.
WEIGHT = 10
#: The cooldown gets longer with each send in so many seconds, or in as many as the longest delay
#: takes if each send waits for it.
COOLDOWN_MEMORY = 3600

#: Scopes that many unrelated users have in common.
_NETWORKS = ("network", "wide")
#: Scopes of sends that gateways refused.
_TRIES = ("tries", "tries_network")


class SendKeys(NamedTuple):
    """The digests that one send counts against; None if a scope does not apply.

    :param guesses: the account, or the mobile without one; only locked.
    :param subject: whose failures refuse the send: the same, or the devices of the mobile's owner.
    :param number: the mobile, with an account. The failures of accounts that have not proved it
        refuse their sends.
    :param account_mobile: the mobile, where it counts as one of the account's different ones.
    :param refused_mobile: replaces the mobile if a gateway refuses the send, which then counts
        against `tries` alone. A reset of the mobile finds its cooldown by it.
    :param refused_account: the same for the account.
    """

    mobile: int
    cooldown: int
    guesses: int
    subject: int
    number: int | None = None
    account: int | None = None
    account_mobile: int | None = None
    ip: int | None = None
    network: int | None = None
    wide: int | None = None
    tries: int | None = None
    tries_network: int | None = None
    refused_mobile: int | None = None
    refused_account: int | None = None

    @property
    def by_device(self) -> bool:
        """Whether the guesses on the devices of the mobile's owner refuse the send."""
        return self.subject != self.guesses

    @property
    def locks(self) -> list[int]:
        """The keys to lock before a decision.

        Networks are not among them: all users of a mobile operator would wait for each other. They
        are counted again under the lock of the site's sends, which is held for less time.
        """
        keys = (self.mobile, self.guesses, self.account, self.ip)
        return [key for key in keys if key is not None]


class _Part(NamedTuple):
    """A part of a limit of the whole site: all of it, or what needs no evidence.

    :param column: the number of a send among those that count against the part.
    :param last: the number of the last send.
    """

    column: Column
    last: int
    used: int
    amount: int


class _Units(NamedTuple):
    """The units of a limit of the whole site that a send may use: it needs one of each part."""

    limit: Limit
    parts: tuple[_Part, ...]

    @property
    def free(self) -> int:
        """How many units are free; negative if the limit was lowered."""
        return min(part.amount - part.used for part in self.parts)

    def wait_for(self, session: Session, units: int, now_ms: int) -> int:
        """Return whole seconds until so many units are free; 0 if they are now."""
        return max(self._wait_for(session, part, units, now_ms) for part in self.parts)

    def _wait_for(self, session: Session, part: _Part, units: int, now_ms: int) -> int:
        seconds = self.limit.seconds
        if part.amount - part.used >= units:
            return 0
        if units > part.amount:
            return seconds  # never, while a send of the network is in the window
        leaving = part.last - part.amount + units
        sent_at = (
            select(UsageSend.site_at)
            .where(part.column >= leaving)
            .order_by(part.column, UsageSend.id)
            .limit(constant(1))
        )
        return seconds_left(session.scalar(sent_at) or now_ms, seconds, now_ms)


class SendLog(Log):
    """The log of sends. Apps with the same limits share one, through `shared`.

    :param limits: scope → limits; empty for a scope without a limit.
    :param delays: seconds of cooldown before the second, third … send.
    :param reserved: the part of the site's limit that is reserved for sends with evidence.
    :param network_share: the part of the free units in the rest that one network may take.
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
        windows = self.windows(has_account=has_account, has_address=has_address)
        if has_address:
            windows = windows + self._share_windows
        of_mobiles = self._counts_of_mobiles() if has_account else ()
        return [*self._counts_of_cooldown(), *counts_of(windows), *of_mobiles]

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
        scopes.append(("failures", UsageGuess.subject, "subject"))
        windows = [
            Window(scope, limit, column, key)
            for scope, column, key in scopes
            for limit in self._limits[scope]
        ]
        if has_account:
            windows += [
                Window("failures", limit, UsageGuess.number, "number", is_open=True)
                for limit in self._limits["failures"]
            ]
        return windows + self._open_windows

    @cached_property
    def _network_windows(self) -> list[Window]:
        """The limits of networks that refuse a send, apart from those of the whole site."""
        windows = self.windows(has_account=True, has_address=True)
        return [window for window in windows if window.scope in _NETWORKS]

    @cached_property
    def _share_windows(self) -> list[Window]:
        """The sends of a network in the windows of the whole site, of which it may take a part."""
        return [Window("wide", limit, UsageSend.wide, "wide") for limit in self._limits["site"]]

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

    def _counts_of_cooldown(self) -> Iterator[ColumnElement[Any]]:
        memory = max(COOLDOWN_MEMORY, len(self._delays) * max(self._delays))
        is_recent = (
            UsageSend.cooldown == bindparam("cooldown", type_=BigInteger),
            UsageSend.at > ago(memory),
            UsageSend.at <= NOW + CLOCK_SKEW * 1000,
        )
        sends = select(func.count()).select_from(UsageSend).where(*is_recent)
        last = select(func.coalesce(func.max(UsageSend.at), constant(0))).where(*is_recent)
        yield sends.scalar_subquery().label("cooldown_sends")
        yield last.scalar_subquery().label("cooldown_last")

    def _counts_of_mobiles(self) -> Iterator[ColumnElement[Any]]:
        """Count the other mobiles of an account, and the sends to this one."""
        mobile: ColumnElement[int] = bindparam("account_mobile", type_=BigInteger)
        for limit in self._limits["mobiles_per_user"]:
            is_recent = (
                UsageSend.account == bindparam("account", type_=BigInteger),
                UsageSend.at > ago(limit.seconds),
            )
            others = select(func.count(distinct(UsageSend.account_mobile))).where(
                *is_recent, UsageSend.account_mobile != mobile
            )
            same = select(func.count(UsageSend.account_mobile)).where(
                *is_recent, UsageSend.account_mobile == mobile
            )
            yield others.scalar_subquery().label(f"other_mobiles_{limit.seconds}")
            yield same.scalar_subquery().label(f"same_mobile_{limit.seconds}")

    # --- decide -----------------------------------------------------------------------------------

    def overruns(
        self,
        session: Session,
        row: RowValues,
        keys: SendKeys,
        now_ms: int,
        *,
        is_owner: bool,
        has_proved: bool = False,
    ) -> list[Overrun]:
        """Return the limits that refuse a send, except those of the whole site.

        :param row: a row of `counts`.
        :param is_owner: whether the whole limit of the mobile may be used.
        :param has_proved: whether the account has proved the mobile, so that the failures of
            accounts that have not do not refuse it.
        """
        counts = row
        found = []
        windows = self.windows(
            has_account=keys.account is not None, has_address=keys.ip is not None
        )
        for window in windows:
            is_of_guesses = window.column.class_ is UsageGuess
            if window.is_open and (has_proved if is_of_guesses else is_owner):
                continue
            if counts[window.label] >= window.limit.amount:
                found.append(Overrun(window.scope, _wait(session, window, keys, now_ms)))
        if keys.account_mobile is not None:
            for limit in self._limits["mobiles_per_user"]:
                if counts[f"same_mobile_{limit.seconds}"]:
                    continue
                if counts[f"other_mobiles_{limit.seconds}"] >= limit.amount:
                    wait = self._wait_for_mobile(session, keys, limit, now_ms)
                    found.append(Overrun("mobiles_per_user", wait))
        return found

    def guess_wait(self, session: Session, row: RowValues, keys: SendKeys, now_ms: int) -> int:
        """Return whole seconds until the subject has a guess left; 0 if it has one now.

        :param row: a row of `counts`.
        """
        windows = self.windows(has_account=False, has_address=False)
        waits = [
            _wait(session, window, keys, now_ms)
            for window in windows
            if window.scope == "failures" and row[window.label] >= window.limit.amount
        ]
        return max(waits, default=0)

    def are_tries_used_up(self, session: Session, keys: SendKeys, now_ms: int) -> bool:
        """Return whether gateways have refused too many sends of the address of a send."""
        windows = [
            window
            for window in self.windows(has_account=False, has_address=keys.ip is not None)
            if window.scope in _TRIES
        ]
        if not windows:
            return False
        statement = self.statement("tries", lambda: PreparedSelect(select(*counts_of(windows))))
        parameters = {"now": now_ms, "tries": keys.tries, "tries_network": keys.tries_network}
        row = statement.one(session, parameters)
        return any(row[window.label] >= window.limit.amount for window in windows)

    def cooldown(self, row: RowValues, now_ms: int) -> int:
        """Return whole seconds until the cooldown is over; 0 if a send is allowed now."""
        return cooldown_left(row["cooldown_last"], row["cooldown_sends"], self._delays, now_ms)

    def next_delay(self, row: RowValues) -> int:
        """Return the seconds of cooldown that this send starts."""
        return delay_after(row["cooldown_sends"] + 1, self._delays)

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

    def _read_site(
        self, session: Session, keys: SendKeys, now_ms: int, *, has_network: bool
    ) -> RowValues:
        parameters = {"now": now_ms, "network": keys.network, "wide": keys.wide}
        statement = self.statement(
            ("site", has_network), partial(self._site_statement, has_network=has_network)
        )
        return statement.one(session, parameters)

    def _site_statement(self, *, has_network: bool) -> PreparedSelect:
        """Select the numbers of the last send, and of the last one before each window.

        :param has_network: whether to count the sends of the networks as well.
        """
        last = (
            select(UsageSend.site_count, UsageSend.open_count, UsageSend.site_at)
            .order_by(UsageSend.id.desc())
            .limit(constant(1))
            .subquery("last_send")
        )
        windows = self._network_windows + self._share_windows if has_network else []
        columns = [*counts_of(windows), last.c.site_count, last.c.open_count, last.c.site_at]
        joined: FromClause = one_row().outerjoin(last, true())
        for limit in self._limits["site"]:
            edge = (
                select(UsageSend.site_count, UsageSend.open_count)
                .where(UsageSend.site_at <= ago(limit.seconds))
                .order_by(UsageSend.site_at.desc(), UsageSend.id.desc())
                .limit(constant(1))
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
        row: RowValues,
        keys: SendKeys,
        now_ms: int,
        *,
        challenge_id: str | None,
        is_owner: bool,
        has_evidence: bool,
        is_alone: bool,
    ) -> Recorded | None:
        """Add a send to the log, unless a limit of the whole site or of a network refuses it.

        The caller holds the lock of the site's sends. After a refusal, `site_overruns` returns the
        waits. It executes more statements, and the other sends must not wait for them.

        :param row: a row of `counts`.
        :param challenge_id: None for a second copy, which starts no cooldown.
        :param is_alone: whether no other transaction can have added a send since the row was read.
        """
        has_network = keys.wide is not None and not is_alone
        row = {**row, **self._read_site(session, keys, now_ms, has_network=has_network)}
        if has_network and self._used_up_networks(row):
            return None
        for limit in self._limits["site"]:
            units = self._units_of_site(row, limit, has_evidence=has_evidence)
            if units.free < 1 or self._exceeds_share(units, row, keys, has_evidence=has_evidence):
                return None
        site_count = (row["site_count"] or 0) + 1
        values = {
            "at": now_ms,
            "site_at": max(now_ms, row["site_at"] or 0),
            "site_count": site_count,
            "open_count": (row["open_count"] or 0) + (not has_evidence),
            "mobile": keys.mobile,
            "by_owner": is_owner,
            "account": keys.account,
            "account_mobile": keys.account_mobile,
            "ip": None,
            "network": None,
            "wide": None,
            "cooldown": None if challenge_id is None else keys.cooldown,
            "challenge_id": challenge_id,
        }
        if not has_evidence or site_count % WEIGHT == 0:
            values |= {"ip": keys.ip, "network": keys.network, "wide": keys.wide}
        send_id = _INSERT_SEND.run(session, values)
        reached = self._reached(row, keys, is_owner=is_owner, has_evidence=has_evidence)
        return Recorded(send_id, not has_evidence, tuple(reached))

    def site_overruns(
        self, session: Session, keys: SendKeys, now_ms: int, *, has_evidence: bool
    ) -> Iterator[Overrun]:
        """Yield the limits of the whole site and of networks that refuse a send now."""
        has_network = keys.wide is not None
        row = self._read_site(session, keys, now_ms, has_network=has_network)
        for limit in self._limits["site"]:
            units = self._units_of_site(row, limit, has_evidence=has_evidence)
            if units.free < 1:
                yield Overrun("site", units.wait_for(session, 1, now_ms))
            if self._exceeds_share(units, row, keys, has_evidence=has_evidence):
                yield Overrun("network_share", self._wait_for_share(session, units, keys, now_ms))
        for window in self._used_up_networks(row) if has_network else ():
            yield Overrun(window.scope, _wait(session, window, keys, now_ms))

    def _used_up_networks(self, row: RowValues) -> list[Window]:
        return [
            window for window in self._network_windows if row[window.label] >= window.limit.amount
        ]

    def _units_of_site(self, row: RowValues, limit: Limit, *, has_evidence: bool) -> _Units:
        used, used_open = _used_by_site(row, limit)
        parts = [_Part(UsageSend.site_count, row["site_count"] or 0, used, limit.amount)]
        if not has_evidence:
            open_amount = self._open_amount(limit)
            parts.append(
                _Part(UsageSend.open_count, row["open_count"] or 0, used_open, open_amount)
            )
        return _Units(limit, tuple(parts))

    def _open_amount(self, limit: Limit) -> int:
        """Return the part of a limit of the whole site that needs no evidence."""
        return limit.amount - _share_of(limit.amount, self._reserved)

    def _exceeds_share(
        self, units: _Units, row: RowValues, keys: SendKeys, *, has_evidence: bool
    ) -> bool:
        """Return whether a send exceeds its network's share. The first one never does."""
        if has_evidence or keys.wide is None:
            return False
        own: int = row[f"wide_{units.limit.seconds}"]
        return own > 0 and own >= _share_of(max(0, units.free) + own, self._network_share)

    def _wait_for_share(self, session: Session, units: _Units, keys: SendKeys, now_ms: int) -> int:
        """Return whole seconds until the network's share of a limit has a unit.

        The share grows when units of the site become free, and its use falls when sends of the
        network leave the window.
        """
        limit = units.limit
        sent_at = session.scalars(
            select(UsageSend.at)
            .where(UsageSend.wide == keys.wide, UsageSend.at > now_ms - limit.seconds * 1000)
            .order_by(UsageSend.at)
        ).all()

        @cache
        def wait_until(left: int) -> tuple[int, int]:
            """Return the waits until so many have left the window, and until one more fits."""
            leaving = seconds_left(sent_at[left - 1], limit.seconds, now_ms) if left else 0
            remaining = len(sent_at) - left
            if not remaining:
                return leaving, 0
            if not self._network_share:
                return leaving, limit.seconds
            total = math.ceil(round((remaining + 1) / self._network_share, 6))
            return leaving, units.wait_for(session, total - remaining, now_ms)

        # The first wait grows with `left`, and the second shrinks.
        enough = bisect_left(
            range(len(sent_at)), True, key=lambda left: operator.ge(*wait_until(left))
        )
        return min(max(wait_until(left)) for left in {max(0, enough - 1), enough})

    def _reached(
        self, row: RowValues, keys: SendKeys, *, is_owner: bool, has_evidence: bool
    ) -> Iterator[Reached]:
        for limit in self._limits["site"]:
            used, used_open = _used_by_site(row, limit)
            if used + 1 == limit.amount:
                yield Reached("site", "whole", limit.seconds)
            elif used + 1 == half_of(limit):
                yield Reached("site", "half", limit.seconds)
            if not has_evidence and used_open + 1 == self._open_amount(limit) < limit.amount:
                yield Reached("site", "open", limit.seconds)
        for window in self.windows(
            has_account=keys.account is not None, has_address=keys.ip is not None
        ):
            if window.column.class_ is UsageGuess or window.scope in _TRIES:
                continue
            if window.is_open and is_owner:
                continue
            if row[window.label] + 1 == window.limit.amount:
                part = "open" if window.is_open else "whole"
                yield Reached(window.scope, part, window.limit.seconds)

    # --- refund and weigh -------------------------------------------------------------------------

    def refund(
        self,
        session: Session,
        recorded: Recorded,
        keys: SendKeys,
        now_ms: int,
        *,
        is_refused: bool,
    ) -> list[Reached]:
        """Stop counting a send. The caller holds the lock of the site's sends.

        :param is_refused: a gateway refused the number or its operator. The send counts against
            `tries`, and its cooldown stays, to prevent unlimited gateway calls.
        :returns: the limits of the site of which this send had used the half, if others have used
            it meanwhile.
        """
        values: dict[str, Any] = dict.fromkeys(
            ("mobile", "account", "account_mobile", "ip", "network", "wide", "challenge_id")
        )
        if is_refused:
            values |= {
                "mobile": keys.refused_mobile,
                "account": keys.refused_account,
                "ip": keys.tries,
                "network": keys.tries_network,
            }
        else:
            values["cooldown"] = None
        connection = session.connection()
        connection.execute(update(UsageSend).where(UsageSend.id == recorded.id).values(values))
        later = {"site_count": UsageSend.site_count - 1}
        if recorded.is_open:
            later["open_count"] = UsageSend.open_count - 1
        connection.execute(update(UsageSend).where(UsageSend.id >= recorded.id).values(later))
        halves = {item for item in recorded.reached if item.part == "half"}
        if not halves:
            return []
        site = self._read_site(session, keys, now_ms, has_network=False)
        return [
            item
            for limit in self._limits["site"]
            if (item := Reached("site", "half", limit.seconds)) in halves
            and _used_by_site(site, limit)[0] >= half_of(limit)
        ]

    def weigh_proved(self, session: Session, challenge_id: str, cooldown: int) -> None:
        """Count the sends of a proved challenge as a tenth, and end the subject's cooldown."""
        _WEIGH_PROVED.run(session, {"proved_challenge": challenge_id, "proved_cooldown": cooldown})


@lru_cache(maxsize=MAX_SHARED)
def _shared_send_log(
    limits: LimitItems, delays: tuple[int, ...], reserved: float, network_share: float
) -> SendLog:
    return SendLog(dict(limits), delays=delays, reserved=reserved, network_share=network_share)


# --- statements ---------------------------------------------------------------------------------

_INSERT_SEND = numbered_insert(UsageSend)


def _weigh_proved() -> PreparedWrite:
    is_of_challenge = UsageSend.challenge_id == bindparam("proved_challenge")
    # The mode ORACLE of MariaDB has no operator %, and some builds of SQLite have no function mod.
    tens = UsageSend.site_count // constant(WEIGHT) * constant(WEIGHT)
    is_weighed = and_(is_of_challenge, tens != UsageSend.site_count)
    weighed = {
        column.key: case((is_weighed, null()), else_=column)
        for column in (UsageSend.ip, UsageSend.network, UsageSend.wide)
    }
    # The cooldown of these sends may have ended: by the proof of another challenge, or by a reset.
    in_cooldown = UsageSend.cooldown == bindparam("proved_cooldown", type_=BigInteger)
    return PreparedWrite(
        update(UsageSend)
        .where(or_(in_cooldown, is_of_challenge))
        .values(cooldown=null(), **weighed)
    )


_WEIGH_PROVED = _weigh_proved()


def _wait(session: Session, window: Window, keys: SendKeys, now_ms: int) -> int:
    return wait_for(session, window, getattr(keys, window.key), now_ms)


def _share_of(total: int, part: float) -> int:
    """Return a part of a limit, rounded down. The sum of decimals such as 0.1 is not exact."""
    return math.floor(round(total * part, 6))


def _used_by_site(row: RowValues, limit: Limit) -> tuple[int, int]:
    """Return how many sends a window of the site holds, and how many without evidence."""
    used = (row["site_count"] or 0) - (row[f"count_{limit.seconds}"] or 0)
    return used, (row["open_count"] or 0) - (row[f"open_{limit.seconds}"] or 0)
