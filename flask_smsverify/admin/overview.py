"""`/`: what was sent and proved in the last two weeks, and what needs attention now."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from flask import current_app, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from ..db.models import Alert, Attempt, Incoming, Message, Verification
from ..senders.base import DeliveryState
from ..state import AppState, get_state
from ..web.interface import Interface, current_ui
from ..web.negotiation import wants_json
from .blueprint import blueprint
from .figures import Count, FigureCache, merge
from .messages import KINDS, kind_labels
from .operators import operator_of
from .rendering import render

_DAYS = 14
#: A code without an answer of its gateway after so long will not get one.
_UNANSWERED = timedelta(minutes=15)
#: Rows of attention are counted up to here; then "99+".
_MAX_COUNT = 100


@dataclass(frozen=True, slots=True)
class Share:
    """How many challenges were sent and proved.

    :param label: a sender, or an operator.
    """

    label: str
    sent: int
    proved: int

    @property
    def conversion(self) -> int | None:
        """The proved ones in percent; None if nothing was sent."""
        return round(100 * self.proved / self.sent) if self.sent else None


@dataclass(frozen=True, slots=True)
class Day:
    """One day of the chart."""

    day: date
    sent: int
    proved: int


@dataclass(frozen=True, slots=True)
class Attention:
    """Something that staff should look at.

    :param tone: `bad`, or `wait` if nothing is broken.
    """

    text: str
    url: str
    tone: str = "bad"


@dataclass(frozen=True, slots=True)
class _Figures:
    days: list[Day]
    senders: list[Share]
    operators: list[Share]


@blueprint.get("/")
def overview() -> ResponseReturnValue:
    """Show figures per day, sender and operator, and what needs attention."""
    state, ui = get_state(), current_ui()
    bounds = _day_bounds(state.clock(), ui)
    figures = state.ledger.read(lambda session: _figures(session, bounds, ui))
    attention = _attention(state, ui, bounds)
    if wants_json():
        return current_app.json.response(
            {
                "days": [
                    {"day": day.day.isoformat(), "sent": day.sent, "proved": day.proved}
                    for day in figures.days
                ],
                "senders": [_share_json(share, "sender") for share in figures.senders],
                "operators": [_share_json(share, "operator") for share in figures.operators],
                "attention": [item.text for item in attention],
            }
        )
    total = Share(
        "", sum(day.sent for day in figures.days), sum(day.proved for day in figures.days)
    )
    return render(
        "overview.html",
        sv_days=figures.days,
        sv_bars=_bars(figures.days, ui.dir),
        sv_today=figures.days[-1],
        sv_total=total,
        sv_senders=figures.senders,
        sv_operators=figures.operators,
        sv_attention=attention,
    )


def _share_json(share: Share, name: str) -> dict[str, object]:
    return {
        name: share.label,
        "sent": share.sent,
        "proved": share.proved,
        "conversion": share.conversion,
    }


# --- figures -----------------------------------------------------------------------------------


def _day_bounds(now: datetime, ui: Interface) -> list[tuple[date, datetime]]:
    """Return the last days and when each begins, in the reader's time zone."""
    today = now.astimezone(ui.timezone).date()
    days = [today - timedelta(days=back) for back in reversed(range(_DAYS))]
    return [
        (day, datetime(day.year, day.month, day.day, tzinfo=ui.timezone).astimezone(UTC))
        for day in days
    ]


def _figures(session: Session, bounds: Sequence[tuple[date, datetime]], ui: Interface) -> _Figures:
    cache: FigureCache = current_app.extensions["smsverify_figures"]
    counted = cache.count(session, [begin for _, begin in bounds], get_state().clock())
    days = [
        Day(day, figures.total.sent, figures.total.proved)
        for (day, _), figures in zip(bounds, counted, strict=True)
    ]
    locale = ui.translator.locale
    operators = merge(
        {operator_of(start, locale) or ui.t("Other"): count}
        for start, count in merge(figures.prefixes for figures in counted).items()
    )
    return _Figures(days, _shares(merge(one.senders for one in counted)), _shares(operators))


def _shares(counts: Mapping[str, Count]) -> list[Share]:
    """Return the shares by name, the largest first."""
    shares = [Share(name, count.sent, count.proved) for name, count in counts.items()]
    return sorted(shares, key=lambda share: (-share.sent, share.label))


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar of the chart, in the units of its SVG: 100 is the highest."""

    day: date
    x: int
    sent: float
    proved: float


def _bars(days: Sequence[Day], direction: str) -> list[Bar]:
    """Return a bar for each day, in the reading direction."""
    highest = max((day.sent for day in days), default=0) or 1
    places = range(len(days)) if direction == "ltr" else reversed(range(len(days)))
    return [
        Bar(
            day.day,
            20 * place,
            round(100 * day.sent / highest, 1),
            round(100 * day.proved / highest, 1),
        )
        for place, day in zip(places, days, strict=True)
    ]


# --- attention ---------------------------------------------------------------------------------


def _senders_attention(state: AppState, ui: Interface) -> list[Attention]:
    t = ui.t
    found = []
    for name in state.delivery.routes.senders:
        health, tone = state.health.latest(name), "bad"
        if state.delivery.breakers.state(name) != "closed":
            text = t("The sender %(sender)s is failing and is skipped for now.", sender=name)
        elif health is None or health.state in ("ok", "unchecked"):
            continue
        elif health.state == "no_credit":
            text = t("The sender %(sender)s has no credit.", sender=name)
        elif health.state == "low_credit":
            text = t("The sender %(sender)s is running out of credit.", sender=name)
            tone = "wait"
        else:
            text = t("The last check of the sender %(sender)s failed.", sender=name)
        found.append(Attention(text, url_for("smsverify_admin.senders"), tone))
    return found


@dataclass(frozen=True, slots=True)
class Finding:
    """Messages that staff should look at, as one filter of the list of messages.

    :param since: the day on which the list begins.
    :param begin: the first moment of that day.
    :param end: the moment after the last; None for no end.
    """

    state: str
    kind: str | None
    since: date
    begin: datetime
    end: datetime | None = None

    @property
    def rows(self) -> Select[Any]:
        """The ids of the rows that the list shows. An index has this order of conditions."""
        kinds = KINDS if self.kind is None else (self.kind,)
        found = select(Message.id).where(
            Message.kind.in_(kinds), Message.state == self.state, Message.created_at >= self.begin
        )
        return found if self.end is None else found.where(Message.created_at < self.end)

    def url(self, ui: Interface) -> str:
        """Return the URL of the list."""
        query: dict[str, Any] = {"from": ui.short_date(self.since)}  # a keyword of Python
        if self.end is not None:
            query["to"] = ui.short(self.end)
        return url_for("smsverify_admin.messages", state=self.state, kind=self.kind, **query)


def findings(now: datetime, bounds: Sequence[tuple[date, datetime]]) -> dict[str, Finding]:
    """Return the messages that staff should look at, by what is wrong with them.

    A code is of no use after some minutes, so codes are counted since yesterday.

    :param bounds: the last days and when each begins, oldest first.
    """
    yesterday, week = bounds[-2], bounds[-7]
    unanswered_until = (now - _UNANSWERED).replace(second=0, microsecond=0)
    return {
        "code": Finding(Attempt.FAILED, Message.CODE, *yesterday),
        "event": Finding(Attempt.FAILED, Message.EVENT, *week),
        "bulk": Finding(Attempt.FAILED, Message.BULK, *week),
        "notice": Finding(Attempt.FAILED, Message.NOTICE, *week),
        "unanswered": Finding(Attempt.SENDING, Message.CODE, *yesterday, unanswered_until),
        "unknown": Finding(str(DeliveryState.UNKNOWN), None, *yesterday),
    }


def _messages_attention(
    found: Mapping[str, Finding], counts: Mapping[str, int], ui: Interface
) -> list[Attention]:
    n, kinds = functools.partial(_counted, ui), kind_labels(ui)
    attention = []
    for name, finding in found.items():
        count = counts[name]
        if not count:
            continue
        if name == "code":
            text = n(
                "%(count)s code could not be sent since yesterday.",
                "%(count)s codes could not be sent since yesterday.",
                count,
            )
        elif name == "unanswered":
            text = n(
                "The gateway did not answer for %(count)s code since yesterday.",
                "The gateway did not answer for %(count)s codes since yesterday.",
                count,
            )
        elif name == "unknown":
            text = n(
                "It is unknown whether %(count)s message was sent since yesterday.",
                "It is unknown whether %(count)s messages were sent since yesterday.",
                count,
            )
        else:
            text = n(
                "%(kind)s: %(count)s message of the last 7 days could not be sent.",
                "%(kind)s: %(count)s messages of the last 7 days could not be sent.",
                count,
                kind=kinds[name],
            )
        attention.append(Attention(text, finding.url(ui)))
    return attention


def _attention(
    state: AppState, ui: Interface, bounds: Sequence[tuple[date, datetime]]
) -> list[Attention]:
    now = state.clock()
    t, n = ui.t, functools.partial(_counted, ui)
    found = _senders_attention(state, ui)
    messages = findings(now, bounds)

    def work(session: Session) -> tuple[list[str], dict[str, int]]:
        alerts = select(Alert.name).where(Alert.until > now, Alert.name.startswith(Alert.LIMIT))
        locked = select(Verification.user_id).where(Verification.locked_at.is_not(None))
        unread = select(Incoming.id).where(Incoming.read_at.is_(None))
        rows = {name: finding.rows for name, finding in messages.items()}
        rows |= {"locked": locked, "unread": unread}
        counts = {
            name: len(session.scalars(wanted.limit(_MAX_COUNT)).all())
            for name, wanted in rows.items()
        }
        return list(session.scalars(alerts)), counts

    alerts, counts = state.ledger.read(work)
    for name in alerts:
        scope, part, _seconds = name.removeprefix(Alert.LIMIT).split(" ")
        percent = ui.percent(50 if part == "half" else 100)
        if part == "open":
            text = t(
                "%(percent)s of the open part of the limit “%(scope)s” is used.",
                percent=percent,
                scope=scope,
            )
        else:
            text = t("%(percent)s of the limit “%(scope)s” is used.", percent=percent, scope=scope)
        found.append(Attention(text, url_for("smsverify_admin.overview")))
    found += _messages_attention(messages, counts, ui)
    locked, unread = counts["locked"], counts["unread"]
    if locked:
        text = n("%(count)s user is locked.", "%(count)s users are locked.", locked)
        found.append(Attention(text, url_for("smsverify_admin.verifications", state="locked")))
    if unread:
        text = n("%(count)s unread message.", "%(count)s unread messages.", unread)
        found.append(Attention(text, url_for("smsverify_admin.incoming", state="unread"), "wait"))
    return found


def _counted(ui: Interface, one: str, many: str, count: int, **values: object) -> str:
    """Return a text with a count, or with "99+" if no more rows were counted."""
    if count < _MAX_COUNT:
        return ui.n(one, many, count, **values)
    most = _MAX_COUNT - 1
    return ui.n(one, many, most, **values).replace(ui.number(most), f"{ui.number(most)}+")
