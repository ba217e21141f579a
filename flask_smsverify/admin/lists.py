"""Lists: the parameters that every list takes, and its answer as a page, as JSON or as CSV."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, TypeVar

from flask import current_app, request, url_for
from flask.typing import ResponseReturnValue

from ..errors import InvalidValues
from ..i18n.formats import FIRST_GREGORIAN_YEAR, PersianCalendarMissing, parse_short_date
from ..phone import ascii_digits
from ..web.interface import Interface, current_ui
from ..web.negotiation import wants_json
from ..web.times import latest
from .blueprint import is_read_only
from .csv_export import csv_response
from .keyset import MAX_PAGE_SIZE, PAGE_SIZE, Key, Page, Source, all_rows, dump_key, load_key
from .rendering import render

T = TypeVar("T")
Item = dict[str, Any]

_MAX_SEARCH_LENGTH = 254
#: The day in examples of how a date is typed.
_EXAMPLE_DAY = date(2026, 1, 31)
#: A day, or a day and a time of day, as in the lists. Python would read a day of the Persian
#: calendar as one of the Middle Ages.
_SHORT = re.compile(
    r"(?P<day>[0-9]{4}[/-][0-9]{1,2}[/-][0-9]{1,2})"
    r"(?: (?P<hour>[0-9]{1,2}):(?P<minute>[0-9]{2})(?P<utc> UTC)?)?"
)


# --- the parameters of a request ---------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Query:
    """The parameters of a list.

    :param search: `q`, without spaces around it.
    :param since: `from`: the first moment; a day begins in the reader's time zone.
    :param until: `to`: the moment after the last; a day is included.
    """

    search: str
    state: str
    since: datetime | None
    until: datetime | None
    limit: int

    def within(self, column: Any) -> list[Any]:
        """Return the conditions of `from` and `to` on a column."""
        conditions = []
        if self.since is not None:
            conditions.append(column >= self.since)
        if self.until is not None:
            conditions.append(column < self.until)
        return conditions


def read_query(states: Iterable[str] = ()) -> Query:
    """Read the parameters of a list.

    :param states: what `state` may be.
    :raises InvalidValues: one of them is wrong.
    """
    args = request.args
    t = current_ui().t
    errors = {}
    search = args.get("q", "").replace("\0", "").strip()
    if len(search) > _MAX_SEARCH_LENGTH:
        errors["q"] = t("Enter at most %(count)s characters.", count=_MAX_SEARCH_LENGTH)
    state = args.get("state", "")
    if state and state not in states:
        errors["state"] = t("Choose one of the listed states.")
    moments = {}
    for name in ("from", "to"):
        try:
            moments[name] = _read_moment(args.get(name, ""), is_end=name == "to")
        except PersianCalendarMissing:
            errors[name] = t(
                "Dates of the Persian calendar need the extra `fa`. Enter a date such as %(day)s.",
                day=current_ui().short_date(_EXAMPLE_DAY),
            )
        except (ValueError, OverflowError):
            errors[name] = t(
                "Enter a date such as %(day)s.", day=current_ui().short_date(_EXAMPLE_DAY)
            )
    try:
        limit = int(args.get("limit", PAGE_SIZE))
    except ValueError:
        limit = 0
    if not 1 <= limit <= MAX_PAGE_SIZE:
        errors["limit"] = t("Enter a number from 1 to %(count)s.", count=MAX_PAGE_SIZE)
    if errors:
        raise InvalidValues(errors)
    return Query(search, state, moments["from"], moments["to"], limit)


def _read_moment(typed: str, *, is_end: bool) -> datetime | None:
    """Return the moment of a day, of a day and a time as in the lists, or of a time in ISO 8601.

    :raises PersianCalendarMissing: a day of the Persian calendar, which needs an extra.
    :raises ValueError: it is none of these.
    :raises OverflowError: it is at the end of the calendar.
    """
    text = ascii_digits(typed).strip()
    if not text:
        return None
    zone = current_ui().timezone
    found = _SHORT.fullmatch(text)
    if found is None:
        moment = datetime.fromisoformat(text)
        if moment.year < FIRST_GREGORIAN_YEAR:
            raise ValueError(typed)
        return (moment if moment.tzinfo else moment.replace(tzinfo=zone)).astimezone(UTC)
    day = parse_short_date(found["day"])
    if found["hour"]:
        at = time(int(found["hour"]), int(found["minute"]))
        return datetime.combine(day, at, UTC if found["utc"] else zone).astimezone(UTC)
    day += timedelta(days=1) if is_end else timedelta()
    return datetime.combine(day, time(), zone).astimezone(UTC)


# --- how a list looks --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a list's page.

    :param kind: how the macro of lists shows the value: `text`, `mobile`, `time`, `state`, `code`
        (machine text, left to right), `number`, `cost`, `body`, `outcome` (the state, and the
        item's `_cause` if there is one) or `details` (pairs of a label and a value).
    """

    key: str
    label: str
    kind: str = "text"


@dataclass(frozen=True, slots=True)
class Filter:
    """A field of the search form.

    :param options: value → label, for a choice; empty for a text or a date.
    """

    name: str
    label: str
    kind: str
    options: Mapping[str, str] = field(default_factory=dict)
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Action:
    """A button for one row, and for all selected rows.

    :param name: the last part of the path.
    :param question: asked before the action; empty if the action can be undone.
    """

    name: str
    label: str
    question: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListView:
    """The data for the macro of lists. An item's `_without` names actions that it does not have.

    :param endpoint: the endpoint of the page.
    :param key: the item's key that is its id in paths.
    :param states: state → label and tone (`good`, `bad`, `wait`, `plain`).
    :param action_endpoint: takes the id and `action`; `many_endpoint` takes `action` and `ids`.
    """

    title: str
    endpoint: str
    key: str
    columns: Sequence[Column]
    filters: Sequence[Filter]
    empty: str
    states: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    actions: Sequence[Action] = ()
    action_endpoint: str = ""
    many_endpoint: str = ""
    template: str = "list.html"


Answer = Callable[[], ResponseReturnValue]


def explain_filters(view: Callable[[], ListView]) -> Callable[[Answer], Answer]:
    """Show wrong values of a list's search form at its fields, without rows.

    A program gets the problem, as does a browser whose URL has a wrong value that no field shows.

    :param view: returns the list, in a request.
    """

    def decorate(answer: Answer) -> Answer:
        @functools.wraps(answer)
        def explained() -> ResponseReturnValue:
            try:
                return answer()
            except InvalidValues as error:
                shown = view()
                fields = {item.name for item in shown.filters if item.kind != "hidden"}
                if wants_json() or not error.errors.keys() <= fields:
                    raise
                return render_list(shown, (), errors=error.errors), error.status

        return explained

    return decorate


def respond(
    view: ListView,
    query: Query,
    source: Source[T],
    key_types: Sequence[type],
    to_items: Callable[[Sequence[T]], list[Item]],
    *,
    csv_columns: Sequence[str],
    **context: Any,
) -> ResponseReturnValue:
    """Answer a request for a list as a page, JSON or CSV.

    :param key_types: of the values of the source's keys.
    :param to_items: returns the items of some rows, with values that JSON can hold, times or
        decimals.
    :param csv_columns: the keys of the items in an export.
    """
    if request.args.get("format") == "csv":
        pages = (to_items(rows) for rows in all_rows(source))
        return csv_response(view.endpoint.rpartition(".")[2], csv_columns, pages)
    after = request.args.get("after", "")
    try:
        key: Key | None = load_key(after, key_types) if after else None
    except ValueError:
        wrong = current_ui().t("This is not the key of a row of this list.")
        raise InvalidValues({"after": wrong}) from None
    page: Page[T] = source(key, query.limit)
    items = to_items(page.rows)
    next_key = dump_key(page.next) if page.next is not None else None
    if wants_json() or request.args.get("format") == "json":
        return current_app.json.response({"items": as_json(items), "next": next_key})
    return render_list(view, items, next_key=next_key, **context)


def render_list(
    view: ListView,
    items: Sequence[Item],
    *,
    next_key: str | None = None,
    errors: Mapping[str, str] | None = None,
    **context: Any,
) -> str:
    """Render the page of a list.

    :param errors: field of the search form → what is wrong with its value.
    """
    kept: dict[str, Any] = {
        name: request.args[name]
        for name in (*(item.name for item in view.filters), "limit")
        if request.args.get(name)
    }
    return render(
        view.template,
        sv_list=view,
        sv_items=items,
        sv_query=request.args,
        sv_next_url=url_for(view.endpoint, **kept, after=next_key) if next_key else None,
        sv_first_url=url_for(view.endpoint, **kept) if "after" in request.args else None,
        sv_csv_url=url_for(view.endpoint, **kept, format="csv"),
        sv_read_only=is_read_only(),
        sv_date_example=current_ui().short_date(_EXAMPLE_DAY),
        sv_deliveries=deliveries(current_ui()),
        sv_errors=errors or {},
        **context,
    )


def deliveries(ui: Interface) -> dict[str, tuple[str, str]]:
    """Return the state of a message → its label and tone."""
    t = ui.t
    return {
        "sending": (t("Sending"), "wait"),
        "queued": (t("Queued"), "wait"),
        "sent": (t("Sent"), "plain"),
        "delivered": (t("Delivered"), "good"),
        "undelivered": (t("Not delivered"), "bad"),
        "rejected": (t("Rejected"), "bad"),
        "failed": (t("Failed"), "bad"),
        "unknown": (t("Unknown"), "wait"),
    }


def as_json(items: Iterable[Item]) -> list[Item]:
    """Return items whose times are text in ISO 8601 and whose decimals are numbers."""
    return [
        {name: _json_value(value) for name, value in item.items() if not name.startswith("_")}
        for item in items
    ]


def _json_value(value: object) -> object:
    if isinstance(value, datetime):
        return latest(value)
    return json_number(value) if isinstance(value, Decimal) else value


def json_number(amount: Decimal) -> int | float:
    """Return an amount as a JSON number, an integer if possible."""
    return int(amount) if amount == amount.to_integral_value() else float(amount)
