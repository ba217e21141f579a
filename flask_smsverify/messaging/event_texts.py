"""Compose the text of an event: choose it, render it, and add the signature and the footer.

The text is the edited one (`event_edits`) if there is one, otherwise the default one
(`event_catalogue`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from ..errors import ConfigurationError, TemplateError
from ..i18n.catalogue import Translator, available_locales, match_locale
from ..i18n.segments import count_segments
from ..log_events import log_event
from ..senders.base import Pattern
from ..settings.checks import suggest
from ..settings.runtime import LiveSettings
from .event_catalogue import SITE, Audience, Event, EventCatalogue
from .event_edits import EditStore, EventEdits
from .patterns import Patterns
from .template_language import MAX_PARTS, MAX_VALUE_LENGTH, clean_value, load_template

log = logging.getLogger(__name__)

#: Lengths to which the values of a default text are cut until it fits into `MAX_PARTS`.
_VALUE_LENGTHS = (MAX_VALUE_LENGTH, 60, 20)


@dataclass(frozen=True, slots=True)
class ComposedText:
    """A text that is ready to send.

    :param text: with signature and footer.
    :param parts: the number of SMS parts of `text`.
    :param patterns: sender → the pattern with which this sender sends the event instead of `text`.
    """

    text: str = field(repr=False)
    parts: int
    patterns: Mapping[str, Pattern] = field(default_factory=dict, repr=False)


class EventTexts:
    """Composes the texts of events, and checks and stores the edits that staff make.

    :param catalogue: the events. Events can be added while the app runs.
    :param store: the edits that staff made.
    :param live: the signature, the site's name and the staff's mobiles, read at each call.
    :param patterns: the approved patterns of the senders.
    :param opt_out_footer: the last line of every text; may be empty.
    :param parse_mobile: returns a mobile in E.164, or raises `MobileError`.
    :param on_failure: called with the name of an event whose edited text cannot be rendered.
    """

    def __init__(
        self,
        catalogue: EventCatalogue,
        store: EditStore,
        *,
        live: LiveSettings,
        patterns: Patterns,
        opt_out_footer: str,
        parse_mobile: Callable[[object], str],
        on_failure: Callable[[str], object],
    ) -> None:
        self.catalogue = catalogue
        self._store = store
        self._live = live
        self._patterns = patterns
        self._footer = opt_out_footer
        self._parse_mobile = parse_mobile
        self._on_failure = on_failure

    # --- sending ----------------------------------------------------------------------------------

    def audiences(self, event: str) -> tuple[Audience, ...]:
        """Return the audiences that get a text: `user`, `staff` or both.

        :raises ConfigurationError: there is no such event.
        """
        return self.catalogue.find(event).audiences

    def is_enabled(self, event: str, audience: str) -> bool:
        """Return whether the event has a text for this audience that is switched on.

        :raises ConfigurationError: there is no such event.
        """
        found = self.catalogue.find(event)
        return audience in found.audiences and (
            found.is_security_notice or self._store.get(event, audience).enabled
        )

    def recipients(self, event: str) -> tuple[str, ...]:
        """Return the staff who get the event's text, in E.164.

        :raises ConfigurationError: there is no such event.
        """
        self.catalogue.find(event)
        own = self._store.get(event, "staff").recipients
        return own or self._live.current.staff_mobiles

    def compose(
        self, event: str, audience: str, locale: str, values: Mapping[str, object]
    ) -> ComposedText:
        """Return the text of an event. Do not call it within a transaction of the ledger.

        An edited text that cannot be rendered is replaced by the default text and reported. A
        value that is too long is cut.

        :param values: a value for each name of the event: text, or an object whose `str` is shown.
        :raises ConfigurationError: there is no such event or audience, or a value is missing or
            unknown.
        :raises TemplateError: the default text is empty with these values.
        """
        found = self.catalogue.find(event)
        found.check_audience(audience)
        check_values(found, values)
        translator = Translator(locale)
        composed = self._compose_text(found, audience, locale, values, translator)
        patterns = self._patterns.render(
            found,
            audience,
            self._store.get(event, audience).patterns,
            self._show(found, values, translator.locale),
            translator,
        )
        return replace(composed, patterns=patterns)

    def _compose_text(
        self,
        event: Event,
        audience: str,
        locale: str,
        values: Mapping[str, object],
        translator: Translator,
    ) -> ComposedText:
        edited = self._edited_text(event.name, audience, locale)
        if edited is not None:
            try:
                return self._compose_checked(event, edited, values, translator)
            except TemplateError as error:
                log.warning(
                    "the edited text of %s for %s in %s cannot be sent, the default text is: %s",
                    event.name,
                    audience,
                    translator.locale,
                    error,
                    extra=log_event("edited_text_refused"),
                )
                self._on_failure(event.name)
        source = event.default_text(audience, locale)
        for limit in _VALUE_LENGTHS:
            composed = self._compose(event, source, values, translator, limit=limit)
            if composed.parts <= MAX_PARTS:
                break
        return composed

    def finish(self, text: str, locale: str) -> ComposedText:
        """Return a text with the signature and the opt-out footer, and count its parts.

        :param locale: the language of the signature.
        """
        lines = (text, self._live.current.signature[locale], self._footer)
        whole = "\n".join(line for line in lines if line)
        return ComposedText(whole, count_segments(whole))

    # --- editing ----------------------------------------------------------------------------------

    def render(
        self, event: str, audience: str, text: str, values: Mapping[str, object], locale: str
    ) -> ComposedText:
        """Return an edited text as it would be sent.

        :param values: a value for each name that the text shows.
        :raises TemplateError: staff may not write this text.
        :raises ConfigurationError: there is no such event or audience.
        """
        found = self.catalogue.find(event)
        found.check_audience(audience)
        return self._compose_checked(found, text, values, Translator(locale))

    def preview(self, event: str, audience: str, text: str, locale: str) -> ComposedText:
        """Return an edited text with the event's example values.

        :raises TemplateError: staff may not write this text.
        :raises ConfigurationError: there is no such event or audience.
        """
        examples = self.catalogue.find(event).example_values(locale)
        return self.render(event, audience, text, examples, locale)

    def edits(self, event: str, audience: str) -> EventEdits:
        """Return the edits that staff made to an event.

        :raises ConfigurationError: there is no such event or audience.
        """
        self.catalogue.find(event).check_audience(audience)
        return self._store.get(event, audience)

    def save(
        self,
        event: str,
        audience: str,
        *,
        enabled: bool | None = None,
        texts: Mapping[str, str | None] | None = None,
        recipients: Iterable[object] | None = None,
        patterns: Mapping[str, Mapping[str, object] | None] | None = None,
    ) -> EventEdits:
        """Check and write edits of an event. A parameter that is None keeps its value.

        Each process uses the new text within a second.

        :param texts: locale → edited text; None or a blank text restores the default text.
        :param recipients: the staff who get the text; empty for `SMSVERIFY_STAFF_MOBILES`.
        :param patterns: sender → pattern as in `SMSVERIFY_PATTERNS`, or None for a sender that is
            to send the text. The whole mapping is replaced, and an empty one restores the setting.
        :raises TemplateError: staff may not write one of the texts. Nothing was written.
        :raises InvalidMobile: a recipient is not a mobile. Nothing was written.
        :raises ConfigurationError: there is no such event, audience or language, or the event
            cannot be switched off, or a pattern is wrong. Nothing was written.
        """
        found = self.catalogue.find(event)
        found.check_audience(audience)
        if enabled is False and found.is_security_notice:
            raise ConfigurationError(
                f"{event} cannot be switched off: it informs the owner of a mobile that it changes"
            )
        checked = {}
        for locale, text in (texts or {}).items():
            name = self._find_locale(found, audience, locale)
            checked[name] = text if text is not None and text.strip() else None
            if checked[name] is not None:
                self.preview(event, audience, str(text), name)
        for sender, pattern in (patterns or {}).items():
            if pattern is not None:
                self._patterns.read(f"the pattern of {sender!r}", found, sender, pattern)
        mobiles = (
            None if recipients is None else self._parse_recipients(found, audience, recipients)
        )
        return self._store.save(
            event, audience, enabled=enabled, texts=checked, recipients=mobiles, patterns=patterns
        )

    def reset(self, event: str, audience: str, locale: str | None = None) -> EventEdits:
        """Restore the default text of a language; None restores everything of the event.

        :raises ConfigurationError: there is no such event, audience or language.
        """
        found = self.catalogue.find(event)
        found.check_audience(audience)
        name = None if locale is None else self._find_locale(found, audience, locale)
        return self._store.reset(event, audience, name)

    def locales(self, event: str, audience: str) -> tuple[str, ...]:
        """Return the languages in which staff can edit a text.

        :raises ConfigurationError: there is no such event or audience.
        """
        found = self.catalogue.find(event)
        texts = found.texts[found.check_audience(audience)]
        own = () if isinstance(texts, str) else tuple(texts)
        return tuple(dict.fromkeys([*available_locales(), *own]))

    # --- parts of these ---------------------------------------------------------------------------

    def _edited_text(self, event: str, audience: str, locale: str) -> str | None:
        texts = self._store.get(event, audience).texts
        found = match_locale(locale, tuple(texts)) if texts else None
        return None if found is None else texts[found]

    def _compose_checked(
        self, event: Event, source: str, values: Mapping[str, object], translator: Translator
    ) -> ComposedText:
        """Compose a text of the staff, which may take `MAX_PARTS` at most."""
        template = load_template(source, event.names)
        for name in event.required:
            if name not in template.shown:
                raise TemplateError("required_value", name=name)
        composed = self._compose(event, source, values, translator)
        if composed.parts > MAX_PARTS:
            raise TemplateError("too_many_parts", limit=MAX_PARTS)
        return composed

    def _compose(
        self,
        event: Event,
        source: str,
        values: Mapping[str, object],
        translator: Translator,
        *,
        limit: int = MAX_VALUE_LENGTH,
    ) -> ComposedText:
        template = load_template(source, event.names)
        locale = translator.locale
        shown = self._show(event, values, locale, limit=limit)
        return self.finish(template.render(shown, translator), locale)

    def _show(
        self,
        event: Event,
        values: Mapping[str, object],
        locale: str,
        *,
        limit: int = MAX_VALUE_LENGTH,
    ) -> dict[str, str]:
        """Return the values that a text can show."""
        shown = {
            name: clean_value(values[name], limit=limit) for name in event.values if name in values
        }
        shown[SITE] = clean_value(self._live.current.site_name[locale])
        return shown

    def _find_locale(self, event: Event, audience: str, locale: str) -> str:
        known = self.locales(event.name, audience)
        if locale not in known:
            raise ConfigurationError(
                f"there are no texts in the language {locale!r}; use one of: {', '.join(known)}"
            )
        return locale

    def _parse_recipients(
        self, event: Event, audience: str, recipients: Iterable[object]
    ) -> list[str]:
        mobiles = list(dict.fromkeys(map(self._parse_mobile, recipients)))
        if mobiles and audience != "staff":
            raise ConfigurationError(
                f"the text of {event.name} goes to the user; only staff texts have recipients"
            )
        return mobiles


def check_values(event: Event, values: Mapping[str, object]) -> None:
    """Check that there is a value for each name of an event, and no others.

    :raises ConfigurationError: a value is missing or unknown.
    """
    for name in values:
        if name not in event.values:
            known = ", ".join(event.values) or "none"
            hint = suggest(name, event.values) or f"; its values are: {known}"
            raise ConfigurationError(f"the event {event.name} has no value {name!r}{hint}")
    missing = [name for name in event.values if name not in values]
    if missing:
        raise ConfigurationError(f"the event {event.name} needs the value {missing[0]!r}")
