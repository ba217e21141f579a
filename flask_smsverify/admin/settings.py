"""`/settings`: the settings that staff change while the app runs."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping
from typing import Any

from flask import current_app, redirect, request, url_for
from flask.typing import ResponseReturnValue
from flask.views import View
from sqlalchemy.orm import Session

from ..db.ids import new_id
from ..db.models import Audit
from ..errors import ConfigurationError, InvalidValues
from ..i18n.catalogue import available_locales
from ..phone import ascii_digits
from ..settings.schema import MAX_REVALIDATION_DAYS
from ..state import get_state
from ..web.fields import read_fields
from ..web.interface import current_ui
from ..web.negotiation import wants_json
from ..web.problems import problem_from_error, problem_json
from .blueprint import blueprint, is_read_only, staff_id
from .language_names import language_name, reader_first
from .rendering import flash, render

#: Settings name → the part of the form that belongs to it.
_NAMES = (
    "areas",
    "exempt_groups",
    "revalidation_days",
    "signature",
    "staff_mobiles",
    "quiet_hours",
)


@blueprint.get("/settings")
def settings() -> ResponseReturnValue:
    """Show the current settings."""
    values = _current()
    if wants_json():
        return current_app.json.response(values)
    return _page(values)


@blueprint.post("/settings", endpoint="settings_save")
def save() -> ResponseReturnValue:
    """Change settings. If one value is wrong, nothing changes."""
    fields = read_fields()
    changes = dict(fields) if request.is_json else _read_form(request.form)
    try:
        _check(changes)
        current = _current()
        get_state().setting_store.save(
            _changed(changes, current), functools.partial(_record, current)
        )
    except InvalidValues as error:
        if wants_json():
            return problem_json(problem_from_error(error), current_ui())
        return _page(_current() | changes, errors=error.errors), error.status
    if wants_json():
        return current_app.json.response(_current())
    flash(current_ui().t("The settings are saved and in effect."))
    return redirect(url_for("smsverify_admin.settings"), 303)


def _changed(changes: Mapping[str, object], current: Mapping[str, Any]) -> dict[str, object]:
    """Return the changes without the values that are already set.

    A form contains every setting. Unchanged settings still come from the configuration.
    """
    live = get_state().live
    changed: dict[str, object] = {}
    for name, value in changes.items():
        if name == "areas" and isinstance(value, Mapping):
            switched = {area: on for area, on in value.items() if current[name].get(area) is not on}
            if switched:
                changed[name] = switched
        elif value is None or live.check(name, value)[name] != getattr(live.current, name):
            changed[name] = value
    return changed


def _record(
    current: Mapping[str, Any], session: Session, name: str, stored: object, after: object
) -> None:
    """Add a row to the audit, in the transaction of the change.

    :param current: the values in force before the change, for settings that staff had not changed.
    """
    before = current[name] if stored is None else stored
    session.add(
        Audit(
            id=new_id(),
            who=staff_id(),
            action="settings",
            subject=name,
            detail=json.dumps({"before": before, "after": after}, ensure_ascii=False),
            at=get_state().clock(),
        )
    )


# --- the values --------------------------------------------------------------------------------


def _current() -> dict[str, Any]:
    """Return the current values, in the form of the JSON."""
    now = get_state().live.current
    quiet = now.quiet_hours
    return {
        "areas": {name: now.areas.get(name, True) is not False for name in _known_areas()},
        "exempt_groups": list(now.exempt_groups),
        "revalidation_days": now.revalidation_days,
        "signature": _one_text(now.signature),
        "staff_mobiles": list(now.staff_mobiles),
        "quiet_hours": f"{quiet.begin:%H:%M}-{quiet.end:%H:%M}" if quiet is not None else None,
    }


def _one_text(texts: Mapping[str, str]) -> str | dict[str, str]:
    """Return locale → text as one text if it is the same in every language."""
    different = set(texts.values())
    return dict(texts) if len(different) > 1 else different.pop()


def _known_areas() -> list[str]:
    """Return the areas of the configuration, and those that decorators and guards name.

    A stored area that neither names is left out: it is of an earlier version of the app.
    """
    checks: list[Any] = [*current_app.view_functions.values()]
    for view in current_app.view_functions.values():
        for part in getattr(view, "view_class", View).__mro__:
            checks += vars(part).values()
    for functions in current_app.before_request_funcs.values():
        checks += functions
    named = {getattr(check, "smsverify_area", None) for check in checks}
    areas = {*get_state().settings.areas, *named}
    return sorted(area for area in areas if isinstance(area, str))


def _read_form(form: Any) -> dict[str, Any]:
    """Return the settings of a form, in the form of the JSON."""
    changes: dict[str, Any] = {}
    if "areas_shown" in form:
        on = form.getlist("areas_on")
        changes["areas"] = {name: name in on for name in form.getlist("areas_shown")}
    for name in ("exempt_groups", "staff_mobiles"):
        if name in form:
            lines = re.split(r"[,،\n]", form[name])
            changes[name] = [line.strip() for line in lines if line.strip()]
    if "revalidation_days" in form:
        typed = ascii_digits(form["revalidation_days"]).strip()
        changes["revalidation_days"] = int(typed) if typed.isdecimal() else typed
    signature = _read_texts(form, "signature")
    if signature is not None:
        changes["signature"] = signature
    if "quiet_hours" in form:
        changes["quiet_hours"] = (
            ascii_digits(form["quiet_hours"]).replace(" ", "").replace("–", "-")
        )
    return changes


def _read_texts(form: Any, name: str) -> str | dict[str, str] | None:
    """Return the text or texts of a setting; None if the form has none.

    The field `name` has the text of the languages whose own field, such as `name.fa`, is empty. A
    form without it has the text of each language, which may be empty.
    """

    def read(field: str) -> str:
        return str(form[field]).replace("\r\n", "\n").strip()

    common = read(name) if name in form else ""
    own = {
        locale: read(f"{name}.{locale}") or common
        for locale in available_locales()
        if f"{name}.{locale}" in form
    }
    if own:
        return _one_text(own)
    return common if name in form else None


def _check(changes: Mapping[str, object]) -> None:
    """Check every value.

    :raises InvalidValues: with a text for each wrong value.
    """
    t = current_ui().t
    texts = {
        "areas": t("An area can only be switched on or off."),
        "exempt_groups": t("Enter group names, one per line."),
        "revalidation_days": t(
            "Enter a whole number of days from 0 to %(count)s. 0 means no limit.",
            count=MAX_REVALIDATION_DAYS,
        ),
        "signature": t("Enter a text without control characters."),
        "staff_mobiles": t("Enter mobile numbers, one per line."),
        "quiet_hours": t("Enter two times, such as 22:00-07:00."),
    }
    errors = {}
    for name, value in changes.items():
        if name not in texts:
            errors[name] = t("This setting cannot be changed here.")
            continue
        try:
            if name == "areas":
                _check_areas(value)
            if value is not None:
                get_state().live.check(name, value)
        except ConfigurationError:
            errors[name] = texts[name]
            continue
        unknown = set(value).difference(_known_areas()) if isinstance(value, Mapping) else set()
        if name == "areas" and unknown:
            errors[name] = t("There is no area %(name)s.", name=min(unknown))
    if errors:
        raise InvalidValues(errors)


def _check_areas(value: object) -> None:
    """Check that areas are only switched.

    Patterns stay in the configuration: a pattern that matches too much would guard the login page.
    """
    if value is None:
        return
    if not isinstance(value, Mapping) or not all(
        isinstance(name, str) and isinstance(state, bool) for name, state in value.items()
    ):
        raise ConfigurationError("areas must map names to true or false")


def _page(values: Mapping[str, Any], errors: Mapping[str, str] | None = None) -> str:
    problem = InvalidValues(errors) if errors else None
    if isinstance(values["areas"], Mapping):
        known = _known_areas()
        shown = {name: on for name, on in values["areas"].items() if name in known}
        values = {**values, "areas": shown}
    return render(
        "settings.html",
        problem=problem_from_error(problem) if problem is not None else None,
        sv_values=values,
        sv_errors=errors or {},
        sv_read_only=is_read_only(),
        sv_languages={
            locale: language_name(locale, current_ui().translator.locale)
            for locale in reader_first(available_locales(), current_ui().translator.locale)
        },
        sv_timezone=get_state().settings.timezone,
    )
