"""Approved patterns: which sender sends an event with a text that its gateway has approved.

Operators block free texts from many accounts. A pattern has an id at the gateway and values, which
are templates like the texts of events. `SMSVERIFY_PATTERNS` names the patterns, and staff can
replace them.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from ..errors import ConfigurationError, Misconfigured, TemplateError
from ..i18n.catalogue import Translator, available_locales
from ..log_events import log_event
from ..senders.base import Capability, Pattern, Sender
from ..settings.checks import suggest
from .event_catalogue import AUDIENCES, SITE, Event, EventCatalogue
from .template_language import clean_value, load_template

log = logging.getLogger(__name__)

#: event → sender → pattern, as in `SMSVERIFY_PATTERNS`.
Configured = Mapping[str, Mapping[str, Mapping[str, object]]]


@dataclass(frozen=True, slots=True)
class PatternSource:
    """A pattern before its values are known.

    :param template: the gateway's id of the text.
    :param values: variable → the template of its value.
    """

    template: str
    values: Mapping[str, str]


class Patterns:
    """The patterns of all events. Each is checked at start, with the events' example values.

    :param configured: `SMSVERIFY_PATTERNS`. An event of users and staff is named with the audience
        in front for the staff's text: `staff/domain.registered`.
    :param senders: the senders that can get an event, by name.
    :raises ConfigurationError: a pattern is wrong; the message says where.
    """

    def __init__(
        self, configured: Configured, catalogue: EventCatalogue, senders: Mapping[str, Sender]
    ) -> None:
        self._senders = senders
        self._sources: dict[tuple[str, str], Mapping[str, PatternSource]] = {}
        for key, patterns in configured.items():
            label = f"SMSVERIFY_PATTERNS[{key!r}]"
            event, audience = _find_event(label, key, catalogue)
            self._sources[event.name, audience] = {
                name: self.read(f"{label}[{name!r}]", event, name, pattern)
                for name, pattern in patterns.items()
            }

    def read(
        self, label: str, event: Event, sender_name: str, pattern: Mapping[str, object]
    ) -> PatternSource:
        """Check a pattern, and render it with the event's example values.

        :param label: what the message of an error starts with.
        :raises ConfigurationError: the pattern is wrong, or the sender cannot send it.
        """
        sender = self._senders.get(sender_name)
        if sender is None:
            hint = suggest(sender_name, self._senders)
            raise ConfigurationError(
                f"{label}: there is no sender {sender_name!r} in SMSVERIFY_SENDERS that the route "
                f"'text' of SMSVERIFY_ROUTES uses{hint}"
            )
        if Capability.PATTERN not in sender.capabilities:
            raise ConfigurationError(
                f"{label}: the gateway of this sender, or its options, has no patterns"
            )
        source = _read_source(label, pattern)
        for locale in available_locales():
            shown = {
                name: clean_value(value) for name, value in event.example_values(locale).items()
            }
            try:
                rendered = _render(source, event, shown | {SITE: "x"}, Translator(locale))
                sender.check_pattern(rendered)
            except TemplateError as error:
                raise ConfigurationError(f"{label}: {error}") from None
            except Misconfigured as error:
                raise ConfigurationError(
                    f"{label}: with the example values of {event.name} in {locale!r}, "
                    f"{error.reason}"
                ) from None
        return source

    def render(
        self,
        event: Event,
        audience: str,
        edited: Mapping[str, Mapping[str, object] | None],
        shown: Mapping[str, str],
        translator: Translator,
    ) -> dict[str, Pattern]:
        """Return sender → pattern with its values.

        A sender whose gateway would refuse the values is left out and logged. It sends the plain
        text if it can.

        :param edited: sender → pattern that staff set; None stands for no pattern.
        :param shown: the event's values in the form in which texts show them.
        """
        configured = self._sources.get((event.name, audience), {})
        rendered = {}
        for name in {**configured, **edited}:
            pattern = edited.get(name)
            if name not in self._senders or (name in edited and pattern is None):
                continue
            try:
                source = configured[name] if pattern is None else _read_source(name, pattern)
                pattern_with_values = _render(source, event, shown, translator)
                self._senders[name].check_pattern(pattern_with_values)
            except (TemplateError, Misconfigured, ConfigurationError) as error:
                log.warning(
                    "%s does not go by the pattern of %s: %s",
                    event.name,
                    name,
                    error,
                    extra=log_event("pattern_not_used"),
                )
            else:
                rendered[name] = pattern_with_values
        return rendered


def _find_event(label: str, key: str, catalogue: EventCatalogue) -> tuple[Event, str]:
    """Return the event and audience of a key such as `order.accepted` or `staff/order.accepted`."""
    audience, slash, name = key.rpartition("/")
    if slash and audience not in AUDIENCES:
        raise ConfigurationError(f"{label}: before '/' must be 'user' or 'staff'")
    try:
        event = catalogue.find(name)
        return event, event.check_audience(audience) if slash else event.audiences[0]
    except ConfigurationError as error:
        raise ConfigurationError(
            f"{label}: {error} An event of the app must be registered before init_app."
        ) from None


def _read_source(label: str, pattern: Mapping[str, object]) -> PatternSource:
    """Return the pattern that an entry of `SMSVERIFY_PATTERNS` describes."""
    unknown = [str(key) for key in pattern if key not in ("template", "values")]
    if unknown:
        hint = suggest(unknown[0], ("template", "values"))
        raise ConfigurationError(f"{label}: there is no key {unknown[0]!r}{hint}")
    template = pattern.get("template")
    if isinstance(template, bool) or not isinstance(template, str | int) or template == "":
        raise ConfigurationError(f"{label}: 'template' must be the gateway's id of the text")
    values = pattern.get("values", {})
    if isinstance(values, list | tuple):  # for gateways whose variables have an order and no names
        values = {str(number): value for number, value in enumerate(values, start=1)}
    if not isinstance(values, Mapping) or not all(
        isinstance(name, str) and name and isinstance(value, str) for name, value in values.items()
    ):
        raise ConfigurationError(
            f"{label}: 'values' must map each variable to its value, such as "
            "{'ORDER': '{{ order_number }}'}"
        )
    return PatternSource(str(template), dict(values))


def _render(
    source: PatternSource, event: Event, shown: Mapping[str, str], translator: Translator
) -> Pattern:
    """Return a pattern with its values, each on one line.

    :raises TemplateError: a value is not a valid template, or is empty.
    """
    return Pattern(
        source.template,
        {
            name: clean_value(load_template(value, event.names).render(shown, translator))
            for name, value in source.values.items()
        },
    )
