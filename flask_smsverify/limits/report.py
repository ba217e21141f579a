"""The usage of the limits, for `flask smsverify limits`, and its reset."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import InstrumentedAttribute, Session

from ..db.ledger import Ledger
from ..db.locks import SITE_GUESSES, SITE_SENDS, Held, Locks
from ..db.models import Alert, Streak, UsageEvent, UsageGuess, UsageSend
from ..db.types import to_ms
from ..settings import Limit
from .addresses import parse_address
from .keys import UsageKeys
from .other_counts import Charge, Counters, Usage
from .usage_log import Limits, last_id, reset_site, seconds_left

Column = InstrumentedAttribute[Any]

#: Scopes of the whole site that `Counters` counts.
_COUNTED_SITE_SCOPES = ("foreign", "messages", "unsolved")


@dataclass(frozen=True, slots=True)
class Scope:
    """One scope for one key.

    :param name: its name in `SMSVERIFY_LIMITS`.
    :param usage: returns its usage at a time, given in milliseconds.
    :param reset: resets it, and returns whether it has to be called again in another transaction.
    """

    name: str
    usage: Callable[[Session, int], list[Usage]]
    reset: Callable[[Session, _Reset], bool]


@dataclass(frozen=True, slots=True)
class _Reset:
    """When a reset began.

    :param now_ms: in milliseconds.
    :param last_send: the id of the newest send at that time.
    :param last_guess: the same of guesses.
    """

    now_ms: int
    last_send: int
    last_guess: int


class LimitReport:
    """Shows and resets the usage of limits."""

    def __init__(
        self,
        ledger: Ledger,
        locks: Locks,
        limits: Limits,
        *,
        keys: UsageKeys,
        counters: Counters,
    ) -> None:
        self._ledger = ledger
        self._locks = locks
        self._limits = limits
        self._keys = keys
        self._counters = counters

    def scopes(
        self, *, mobile: str | None = None, user_id: str | None = None, ip: str | None = None
    ) -> list[Scope]:
        """Return the scopes of a mobile, a user or an address; without any, those of the site.

        :param mobile: E.164.
        """
        if mobile is None and user_id is None and ip is None:
            return [*self._site_scopes(), *self._event_scopes("", _COUNTED_SITE_SCOPES)]
        found: list[Scope] = []
        if mobile is not None:
            found += self._of_mobile(mobile)
        if user_id is not None:
            found += self._of_user(user_id)
        if ip is not None:
            found += self._of_address(ip)
        return found

    def usage(self, scopes: Sequence[Scope], now: datetime) -> list[Usage]:
        """Return the usage of every limit of these scopes."""
        return self._ledger.read(
            lambda session: [
                usage for scope in scopes for usage in scope.usage(session, to_ms(now))
            ]
        )

    def reset(self, scopes: Sequence[Scope]) -> None:
        """Reset the usage of these scopes, and of no others.

        The limits of an account, a number or an address that the same sends and guesses count
        against still count them, and so does a network's share of the site's limit.
        """

        begun: _Reset | None = None
        left = scopes
        # A limit of a million a day has as many rows. Sends and guesses wait for each transaction.
        while left:
            begun, left = self._reset_in_one_transaction(left, begun)

    def _reset_in_one_transaction(
        self, scopes: Sequence[Scope], begun: _Reset | None
    ) -> tuple[_Reset, Sequence[Scope]]:
        """Return when the reset began, and the scopes that are not reset yet."""

        def work(session: Session, _held: Held) -> tuple[_Reset, Sequence[Scope]]:
            self._locks.lock_rows(session, [SITE_SENDS, SITE_GUESSES])
            reset = begun or _Reset(
                to_ms(self._ledger.clock()),
                last_id(session, UsageSend.site_at),
                last_id(session, UsageGuess.site_at),
            )
            for scope in scopes if begun is None else ():
                # So that staff are notified again if the limit is reached again.
                for kind in (Alert.LIMIT, Alert.NOTICE):
                    reported = Alert.name.startswith(f"{kind}{scope.name} ", autoescape=True)
                    session.execute(delete(Alert).where(reported))
            return reset, [scope for scope in scopes if scope.reset(session, reset)]

        return self._locks.run([], work)  # it creates the rows of the site, if they are missing

    def reset_all(self) -> None:
        """Reset all usage, cooldowns and streaks of mobiles, for tests."""

        def work(session: Session) -> None:
            for model in (UsageSend, UsageGuess, UsageEvent, Streak):
                session.execute(delete(model))

        self._ledger.run(work)

    # --- scopes ---------------------------------------------------------------------------------

    def _of_mobile(self, mobile: str) -> Iterator[Scope]:
        key = self._keys.mobile(mobile)
        refused = self._keys.refused_mobile(mobile)
        yield from self._keyed("mobile", UsageSend.mobile, key, refused)
        unproven = tuple(
            Limit(limit.amount - limit.amount // 2, limit.seconds)
            for limit in self._limits["mobile"]
        )
        if unproven:
            yield self._counted(
                "mobile",
                unproven,
                UsageSend.mobile,
                key,
                UsageSend.by_owner.is_(False),
                shown_as="mobile (unproven)",
            )
        yield from self._keyed("failures", UsageGuess.subject, self._keys.guesses(mobile, None))
        if self._limits["failures"]:
            of_devices = self._keys.guesses(mobile, None, by_device=True)
            yield self._other_failures("owner's device", UsageGuess.subject, of_devices)
            yield self._other_failures("accounts", UsageGuess.number, self._keys.number(mobile))
        yield from self._event_scopes(mobile, ("notices", "unproved_events"))

    def _of_user(self, user_id: str) -> Iterator[Scope]:
        key = self._keys.account(user_id)
        refused = self._keys.refused_account(user_id)
        yield from self._keyed("user", UsageSend.account, key, refused)
        if self._limits["mobiles_per_user"]:
            yield self._account_mobiles(key)
        yield from self._keyed("failures", UsageGuess.subject, self._keys.guesses("", user_id))

    def _of_address(self, ip: str) -> Iterator[Scope]:
        address = parse_address(ip)
        keys = self._keys.of_address(address) if address else {}
        for scope, column in (
            ("ip", UsageSend.ip),
            ("network", UsageSend.network),
            ("wide", UsageSend.wide),
        ):
            if scope in keys:
                yield from self._keyed(scope, column, keys[scope])
        if keys:
            yield from self._keyed("tries", UsageSend.ip, keys["tries"])
            yield from self._keyed("tries_network", UsageSend.network, keys["tries_network"])
            yield from self._keyed("failures_ip", UsageGuess.ip, keys["ip"])
            yield from self._keyed("failures_network", UsageGuess.network, keys["network"])

    def _keyed(
        self, scope: str, column: Column, key: int, refused: int | None = None
    ) -> Iterator[Scope]:
        if self._limits[scope]:
            yield self._counted(scope, self._limits[scope], column, key, refused=refused)

    def _counted(
        self,
        name: str,
        limits: Sequence[Limit],
        column: Column,
        key: int,
        condition: Any = None,
        shown_as: str | None = None,
        refused: int | None = None,
    ) -> Scope:
        """Return the scope of one key in a column.

        :param condition: which rows count. A reset affects the others too.
        :param refused: the key of sends that a gateway refused. They do not count, but a reset ends
            their cooldown.
        """
        model = column.class_

        def usage(session: Session, now_ms: int) -> list[Usage]:
            return [
                self._usage(session, shown_as or name, limit, column, key, condition, now_ms)
                for limit in limits
            ]

        def reset(session: Session, _reset: _Reset) -> bool:
            cleared = {column.key: None}
            if column is UsageSend.mobile:
                cleared |= {"cooldown": None}
            elif column is UsageSend.account:
                cleared |= {"cooldown": None, "account_mobile": None}
            keys = [key] if refused is None else [key, refused]
            session.execute(update(model).where(column.in_(keys)).values(cleared))
            return False

        return Scope(name, usage, reset)

    def _usage(
        self,
        session: Session,
        name: str,
        limit: Limit,
        column: Column,
        key: int,
        condition: Any,
        now_ms: int,
    ) -> Usage:
        at = column.class_.at
        rows = select(at).where(column == key, at > now_ms - limit.seconds * 1000)
        if condition is not None:
            rows = rows.where(condition)
        times = session.scalars(rows.order_by(at.desc()).limit(limit.amount)).all()
        wait = 0
        if len(times) >= limit.amount:
            wait = seconds_left(times[-1], limit.seconds, now_ms)
        return Usage(name, limit, len(times), wait)

    def _account_mobiles(self, key: int) -> Scope:
        def usage(session: Session, now_ms: int) -> list[Usage]:
            found = []
            for limit in self._limits["mobiles_per_user"]:
                last_used = func.max(UsageSend.at).label("last_used")
                times = session.scalars(
                    select(last_used)
                    .where(UsageSend.account == key, UsageSend.account_mobile.is_not(None))
                    .where(UsageSend.at > now_ms - limit.seconds * 1000)
                    .group_by(UsageSend.account_mobile)
                    .order_by(last_used.desc())
                ).all()
                wait = 0
                if len(times) >= limit.amount:
                    wait = seconds_left(times[limit.amount - 1], limit.seconds, now_ms)
                found.append(Usage("mobiles_per_user", limit, len(times), wait))
            return found

        def reset(session: Session, _reset: _Reset) -> bool:
            session.execute(
                update(UsageSend).where(UsageSend.account == key).values(account_mobile=None)
            )
            return False

        return Scope("mobiles_per_user", usage, reset)

    def _other_failures(self, of: str, column: Column, key: int) -> Scope:
        """Return wrong guesses that are shown only if there are any.

        :param of: whose guesses they are.
        """
        scope = self._counted(
            "failures", self._limits["failures"], column, key, shown_as=f"failures ({of})"
        )

        def usage(session: Session, now_ms: int) -> list[Usage]:
            return [usage for usage in scope.usage(session, now_ms) if usage.used]

        return Scope(scope.name, usage, scope.reset)

    def _site_scopes(self) -> Iterator[Scope]:
        if self._limits["site"]:
            yield Scope("site", self._site_usage, self._reset_sends)
        if self._limits["site_failures"]:
            yield Scope("site_failures", self._site_failures, self._reset_guesses)

    def _reset_sends(self, session: Session, reset: _Reset) -> bool:
        limits, up_to = self._limits["site"], reset.last_send
        return reset_site(session, UsageSend.site_at, limits, reset.now_ms, up_to=up_to)

    def _reset_guesses(self, session: Session, reset: _Reset) -> bool:
        limits, up_to = self._limits["site_failures"], reset.last_guess
        return reset_site(session, UsageGuess.site_at, limits, reset.now_ms, up_to=up_to)

    def _site_usage(self, session: Session, now_ms: int) -> list[Usage]:
        last = session.execute(
            select(UsageSend.site_count).order_by(UsageSend.id.desc()).limit(1)
        ).scalar()
        found = []
        for limit in self._limits["site"]:
            edge = session.scalar(
                select(UsageSend.site_count)
                .where(UsageSend.site_at <= now_ms - limit.seconds * 1000)
                .order_by(UsageSend.site_at.desc(), UsageSend.id.desc())
                .limit(1)
            )
            used, wait = (last or 0) - (edge or 0), 0
            if used >= limit.amount:
                first = session.scalar(
                    select(UsageSend.site_at)
                    .where(UsageSend.site_count >= (last or 0) - limit.amount + 1)
                    .order_by(UsageSend.site_count, UsageSend.id)
                    .limit(1)
                )
                wait = seconds_left(first or now_ms, limit.seconds, now_ms)
            found.append(Usage("site", limit, used, wait))
        return found

    def _site_failures(self, session: Session, now_ms: int) -> list[Usage]:
        found = []
        for limit in self._limits["site_failures"]:
            times = session.scalars(
                select(UsageGuess.site_at)
                .where(UsageGuess.site_at > now_ms - limit.seconds * 1000)
                .order_by(UsageGuess.site_at.desc())
                .limit(limit.amount)
            ).all()
            wait = 0
            if len(times) >= limit.amount:
                wait = seconds_left(times[-1], limit.seconds, now_ms)
            found.append(Usage("site_failures", limit, len(times), wait))
        return found

    def _event_scopes(self, key: str, names: Sequence[str]) -> Iterator[Scope]:
        for name in names:
            if not self._limits[name]:
                continue
            charge = Charge(name, key, self._limits[name])
            yield Scope(
                name, partial(self._event_usage, charge), partial(self._reset_event, charge)
            )

    def _event_usage(self, charge: Charge, session: Session, now_ms: int) -> list[Usage]:
        return self._counters.usage_in(session, [charge], now_ms)

    def _reset_event(self, charge: Charge, session: Session, _reset: _Reset) -> bool:
        self._counters.reset_in(session, [charge])
        return False
