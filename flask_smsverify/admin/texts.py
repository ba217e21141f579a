"""`/texts`: the text of each event, for users and for staff."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from flask import current_app, redirect, request, url_for
from flask.typing import ResponseReturnValue

from ..errors import ConfigurationError, InvalidValues, MobileError, NotFound, TemplateError
from ..i18n.locales import direction
from ..i18n.problems import problem_text
from ..messaging.event_catalogue import Event
from ..messaging.event_edits import EventEdits
from ..messaging.event_texts import ComposedText, EventTexts
from ..state import get_state
from ..web.fields import read_fields
from ..web.interface import current_ui
from ..web.negotiation import wants_json
from ..web.problems import problem_from_error, problem_json
from . import audit_log
from .blueprint import blueprint, is_read_only
from .language_names import language_name, reader_first
from .rendering import flash, render


@blueprint.get("/texts")
def texts() -> ResponseReturnValue:
    """Show every event with a text, for users and for staff."""
    found = get_state().event_texts
    items = [
        _summary(event, audience, found.edits(event.name, audience))
        for audience in ("user", "staff")
        for event in found.catalogue.values()
        if audience in event.audiences
    ]
    if wants_json():
        return current_app.json.response({"items": items, "next": None})
    t = current_ui().t
    groups = {"user": t("Texts for users"), "staff": t("Texts for staff")}
    return render(
        "texts.html",
        sv_groups={
            label: [item | _sample(item) for item in items if item["audience"] == audience]
            for audience, label in groups.items()
        },
        sv_language=_language,
    )


def _sample(item: Mapping[str, Any]) -> dict[str, str]:
    """Return an event's text with example values, because its name says little to staff."""
    name, audience = item["event"], item["audience"]
    store = get_state().event_texts
    locale = reader_first(store.locales(name, audience), current_ui().translator.locale)[0]
    event = store.catalogue.find(name)
    text = store.edits(name, audience).texts.get(locale, event.default_text(audience, locale))
    try:
        sample = store.preview(name, audience, text, locale).text
    except TemplateError:
        sample = text
    return {"_sample": sample, "_locale": locale}


def _summary(event: Event, audience: str, edits: EventEdits) -> dict[str, Any]:
    return {
        "event": event.name,
        "audience": audience,
        "enabled": edits.enabled or event.is_security_notice,
        "edited": sorted(edits.texts),
        "recipients": list(edits.recipients) if edits.recipients is not None else None,
    }


# --- one text ----------------------------------------------------------------------------------


@blueprint.get("/texts/<any(user,staff):audience>/<event>")
def texts_one(audience: str, event: str) -> ResponseReturnValue:
    """Show one text in every language, with a preview."""
    values = _current(_find(audience, event), audience)
    if wants_json():
        return current_app.json.response(values)
    return _page(values)


@blueprint.post("/texts/<any(user,staff):audience>/<event>")
def texts_save(audience: str, event: str) -> ResponseReturnValue:
    """Change a text. If one value is wrong, nothing changes."""
    found = _find(audience, event)
    fields = read_fields()
    changes = dict(fields) if request.is_json else _read_form(found, audience)
    is_preview = request.form.get("do") == "preview"
    try:
        edited = _check(found, audience, changes)
        if not is_preview:
            _save(found, audience, changes, edited)
    except InvalidValues as error:
        if wants_json():
            return problem_json(problem_from_error(error), current_ui())
        return _page(_current(found, audience) | changes, error.errors), error.status
    if is_preview:
        return _page(_current(found, audience) | changes)
    if wants_json():
        return current_app.json.response(_current(found, audience))
    flash(current_ui().t("The text is saved and in use."))
    return redirect(url_for("smsverify_admin.texts_one", audience=audience, event=event), 303)


@blueprint.post("/texts/<any(user,staff):audience>/<event>/preview")
def texts_preview(audience: str, event: str) -> ResponseReturnValue:
    """Return a text as it would be sent, with the event's example values, and its parts.

    The number of parts is also returned in words, because languages have up to six plural forms.
    """
    found = _find(audience, event)
    fields = read_fields()
    locale = fields.get("locale")
    if locale not in get_state().event_texts.locales(found.name, audience):
        raise InvalidValues({"locale": current_ui().t("There are no texts in this language.")})
    text = str(fields.get("text") or "")
    if not text.strip():
        text = found.default_text(audience, str(locale))
    shown = get_state().event_texts.preview(found.name, audience, text, str(locale))
    parts = current_ui().n("%(count)s part", "%(count)s parts", shown.parts)
    return current_app.json.response(
        {"text": shown.text, "parts": shown.parts, "parts_text": parts}
    )


def _find(audience: str, name: str) -> Event:
    event = get_state().event_texts.catalogue.get(name)
    if event is None or audience not in event.audiences:
        raise NotFound
    return event


def _current(event: Event, audience: str) -> dict[str, Any]:
    """Return the texts and recipients in use, in the form of the JSON."""
    store = get_state().event_texts
    edits = store.edits(event.name, audience)
    locales = store.locales(event.name, audience)
    defaults = {locale: event.default_text(audience, locale) for locale in locales}
    return _summary(event, audience, edits) | {
        "texts": {locale: edits.texts.get(locale, defaults[locale]) for locale in locales},
        "defaults": defaults,
        "values": list(event.values),
        "required": list(event.required),
        "can_be_switched_off": not event.is_security_notice,
    }


def _read_form(event: Event, audience: str) -> dict[str, Any]:
    """Return the values of a form, in the form of the JSON."""
    form = request.form
    locales = get_state().event_texts.locales(event.name, audience)
    changes: dict[str, Any] = {
        "texts": {
            locale: form[f"text.{locale}"].replace("\r\n", "\n")
            for locale in locales
            if f"text.{locale}" in form
        }
    }
    if not event.is_security_notice:
        changes["enabled"] = "enabled" in form
    if "recipients" in form:
        numbers = re.split(r"[,،\n]", form["recipients"])
        changes["recipients"] = [number.strip() for number in numbers if number.strip()]
    return changes


def _check(event: Event, audience: str, changes: Mapping[str, Any]) -> dict[str, str | None]:
    """Check changes, and return the edited texts, None for the default.

    :raises InvalidValues: with a text for each wrong value.
    """
    t = current_ui().t
    store = get_state().event_texts
    known = {"enabled", "texts", "recipients", "patterns"}
    errors = {name: t("This cannot be changed here.") for name in set(changes) - known}
    enabled, texts = changes.get("enabled"), changes.get("texts")
    recipients = changes.get("recipients")
    if enabled is not None and not isinstance(enabled, bool):
        errors["enabled"] = t("Choose on or off.")
    elif enabled is False and event.is_security_notice:
        errors["enabled"] = t("This text protects accounts and cannot be switched off.")
    edited = _check_texts(store, event, audience, texts or {}, errors)
    if recipients is not None and not _are_mobiles(recipients):
        errors["recipients"] = t("Enter mobile numbers, one per line.")
    elif recipients and audience != "staff":
        errors["recipients"] = t("This text is sent to the user.")
    patterns = changes.get("patterns")
    if patterns is not None and not isinstance(patterns, Mapping):
        errors["patterns"] = "patterns must map the names of senders to patterns"
    if errors:
        raise InvalidValues(errors)
    return edited


def _save(
    event: Event, audience: str, changes: Mapping[str, Any], edited: Mapping[str, str | None]
) -> None:
    """Write checked changes and record them.

    :param edited: locale → edited text, None for the default.
    :raises InvalidValues: the patterns are wrong. Nothing was written.
    """
    changed = _changed(event, audience, changes, edited)
    if not changed:
        return
    with audit_log.recorded("texts", f"{audience}/{event.name}", **changed):
        try:
            get_state().event_texts.save(
                event.name,
                audience,
                enabled=changes.get("enabled"),
                texts=edited,
                recipients=changes.get("recipients"),
                patterns=changes.get("patterns"),
            )
        except ConfigurationError as error:
            raise InvalidValues({"patterns": str(error)}) from None


def _changed(
    event: Event, audience: str, changes: Mapping[str, Any], edited: Mapping[str, str | None]
) -> dict[str, Any]:
    """Return the changes without the values that are already set. A form contains every value.

    :param edited: locale → edited text, None for the default.
    """
    current = _current(event, audience)
    changed = {
        name: value
        for name, value in changes.items()
        if name != "texts" and (name not in current or (value or None) != (current[name] or None))
    }
    texts = {
        locale: text
        for locale, text in edited.items()
        if (text or current["defaults"][locale]) != current["texts"][locale]
    }
    return changed | ({"texts": texts} if texts else {})


def _check_texts(
    store: EventTexts, event: Event, audience: str, texts: object, errors: dict[str, str]
) -> dict[str, str | None]:
    """Return locale → edited text, None for the default; add what is wrong to the errors."""
    ui = current_ui()
    if not isinstance(texts, Mapping):
        errors["texts"] = ui.t("Enter a text for each language.")
        return {}
    edited: dict[str, str | None] = {}
    for locale, text in texts.items():
        if locale not in store.locales(event.name, audience):
            errors[f"text.{locale}"] = ui.t("There are no texts in this language.")
            continue
        if text is not None and not isinstance(text, str):
            errors[f"text.{locale}"] = ui.t("Enter a text.")
            continue
        is_default = not (text or "").strip() or text == event.default_text(audience, locale)
        edited[locale] = None if is_default else text
        try:
            if not is_default:
                store.preview(event.name, audience, str(text), locale)
        except TemplateError as error:
            errors[f"text.{locale}"] = _explain(error)
    return edited


def _explain(error: TemplateError) -> str:
    values = {name: getattr(error, name) for name in error.values}
    return problem_text(type(error), values, current_ui().translator).detail


def _are_mobiles(recipients: object) -> bool:
    if not isinstance(recipients, list):
        return False
    try:
        for mobile in recipients:
            get_state().parse_mobile(mobile)
    except MobileError:
        return False
    return True


# --- the page ----------------------------------------------------------------------------------


def _page(values: Mapping[str, Any], errors: Mapping[str, str] | None = None) -> str:
    store = get_state().event_texts
    event, audience = values["event"], values["audience"]
    order = reader_first(tuple(values["texts"]), current_ui().translator.locale)
    values = {**values, "texts": {locale: values["texts"][locale] for locale in order}}
    shown_errors = dict(errors or {})
    previews: dict[str, ComposedText | None] = {}
    for locale, text in values["texts"].items():
        try:
            shown = text if str(text or "").strip() else values["defaults"][locale]
            previews[locale] = store.preview(event, audience, str(shown), locale)
        except TemplateError as error:
            previews[locale] = None
            shown_errors.setdefault(f"text.{locale}", _explain(error))
    wrong = InvalidValues(errors) if errors else None
    return render(
        "text.html",
        problem=problem_from_error(wrong) if wrong is not None else None,
        sv_text=values,
        sv_errors=shown_errors,
        sv_previews=previews,
        sv_language=_language,
        sv_direction=direction,
        sv_read_only=is_read_only(),
    )


def _language(locale: str) -> str:
    return language_name(locale, current_ui().translator.locale)
