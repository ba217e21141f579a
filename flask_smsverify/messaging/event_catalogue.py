"""The catalogue of events: the names, values and default texts of all events.

An app adds its own events to the catalogue. The default texts are templates (`template_language`).
The built-in ones are in English here and in other languages in the message catalogues. Staff can
replace a text (`event_edits`), and `event_texts` composes the text that is sent.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, get_args

from ..errors import ConfigurationError, TemplateError
from ..i18n.catalogue import Translator, available_locales, match_locale
from ..settings.checks import suggest
from .template_language import clean_value, load_template

Audience = Literal["user", "staff"]
AUDIENCES: tuple[Audience, ...] = get_args(Audience)

#: The value that every text has in addition to those of its event: the name of the site.
SITE = "site"

#: Names of parameters of `notify()`.
_RESERVED = frozenset({SITE, "event", "user", "dedupe_key", "not_before", "expires_at"})
_EVENT_NAME = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*", re.ASCII)
_VALUE_NAME = re.compile(r"[a-z][a-z0-9_]*", re.ASCII)
#: A name with a prefix fits into `Message.event` and `Alert.name`.
_MAX_NAME_LENGTH = 56


def _(message: str) -> str:
    """Mark a message for extraction into the catalogues."""
    return message


@dataclass(frozen=True, slots=True)
class Event:
    """Something that users or staff are notified of.

    :param name: such as `invoice.created`.
    :param audiences: who gets a text: `"user"`, `"staff"` or both.
    :param values: the names of the values that `notify` takes and the texts can show.
    :param examples: value → an example, for previews.
    :param texts: audience → default text by locale, or one text that the catalogues translate.
    :param required: values that every text must show.
    :param is_security_notice: whether the event informs the owner of a mobile about its change.
        Such a text cannot be switched off, and no limit stops it.
    """

    name: str
    audiences: tuple[Audience, ...]
    values: tuple[str, ...]
    examples: Mapping[str, str] = field(repr=False)
    texts: Mapping[Audience, str | Mapping[str, str]] = field(repr=False)
    required: tuple[str, ...] = ()
    is_security_notice: bool = False

    @property
    def names(self) -> frozenset[str]:
        """The names that a text of this event may show."""
        return frozenset({*self.values, SITE})

    def default_text(self, audience: str, locale: str) -> str:
        """Return the source of the default text.

        A locale without a text gets the text of its language, or else the first one.

        :raises ConfigurationError: the event has no text for this audience.
        """
        text = self.texts[self.check_audience(audience)]
        if isinstance(text, str):
            return Translator(locale).gettext(text)
        return text[match_locale(locale, tuple(text)) or next(iter(text))]

    def example_values(self, locale: str) -> dict[str, str]:
        """Return an example for each value, in the language if there is a translation."""
        translator = Translator(locale)
        return {
            name: translator.gettext(text) if text else "" for name, text in self.examples.items()
        }

    def check_audience(self, audience: str) -> Audience:
        """Return the audience if the event has texts for it.

        :raises ConfigurationError: it has none.
        """
        for known in self.audiences:
            if known == audience:
                return known
        raise ConfigurationError(
            f"the event {self.name!r} has no text for {audience!r}; its audiences are "
            + ", ".join(map(repr, self.audiences))
        )


class EventCatalogue(Mapping[str, Event]):
    """All events by name: the built-in ones, and those that the app has registered."""

    def __init__(self) -> None:
        self._events = {event.name: event for event in BUILT_IN}

    def __getitem__(self, name: str) -> Event:
        return self._events[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._events)

    def __len__(self) -> int:
        return len(self._events)

    def find(self, name: str) -> Event:
        """Return an event.

        :raises ConfigurationError: there is no event with this name.
        """
        event = self._events.get(name)
        if event is None:
            hint = suggest(str(name), self._events) or "."
            raise ConfigurationError(
                f"there is no event {name!r}{hint} Add events of the app with "
                "smsverify.register_event."
            )
        return event

    def register(
        self,
        name: str,
        *,
        audiences: Iterable[str],
        values: Mapping[str, str] | Iterable[str],
        texts: Mapping[str, object] | str,
    ) -> Event:
        """Add an event. The parameters are those of `SMSVerify.register_event`.

        :raises ConfigurationError: a parameter is wrong, or the event exists.
        """
        label = f"register_event({name!r})"
        if not isinstance(name, str) or not _EVENT_NAME.fullmatch(name):
            raise ConfigurationError(
                f"{label}: the name must be lower-case words with dots, such as 'parcel.delivered'"
            )
        if len(name) > _MAX_NAME_LENGTH:
            raise ConfigurationError(
                f"{label}: the name is longer than {_MAX_NAME_LENGTH} characters"
            )
        if name in self._events:
            raise ConfigurationError(f"{label}: there is already an event with this name")
        known = _read_audiences(label, audiences)
        examples = _read_values(label, values)
        event = Event(
            name,
            known,
            tuple(examples),
            MappingProxyType(examples),
            MappingProxyType(_read_texts(label, known, texts)),
        )
        _check_texts(label, event)
        self._events[name] = event
        return event


# --- the parameters of a registration -------------------------------------------------------------


def _read_audiences(label: str, audiences: Iterable[str]) -> tuple[Audience, ...]:
    wanted = () if isinstance(audiences, str) else tuple(audiences)
    if not wanted or any(audience not in AUDIENCES for audience in wanted):
        raise ConfigurationError(f"{label}: audiences must be ('user',), ('staff',) or both")
    return tuple(audience for audience in AUDIENCES if audience in wanted)


def _read_values(label: str, values: Mapping[str, str] | Iterable[str]) -> dict[str, str]:
    """Return value → example. Without examples, the words of the name are the example."""
    if isinstance(values, str):
        raise ConfigurationError(
            f"{label}: values must be a list of names, or map names to examples"
        )
    examples: dict[str, str] = {}
    for name in values:
        if not isinstance(name, str) or not _VALUE_NAME.fullmatch(name):
            raise ConfigurationError(
                f"{label}: the value {name!r} must be a lower-case word such as 'order_number', "
                "which texts may also write as {{ order.number }}"
            )
        if name in _RESERVED:
            raise ConfigurationError(f"{label}: {name!r} is reserved; give the value another name")
        example = values[name] if isinstance(values, Mapping) else name.replace("_", " ")
        examples[name] = str(example)
    return examples


def _read_texts(
    label: str, audiences: tuple[Audience, ...], texts: Mapping[str, object] | str
) -> dict[Audience, str | Mapping[str, str]]:
    if isinstance(texts, Mapping) and texts and set(texts) <= set(AUDIENCES):
        by_audience = dict(texts)
    else:
        by_audience = dict.fromkeys(audiences, texts)
    if set(by_audience) != set(audiences):
        raise ConfigurationError(
            f"{label}: texts must have a text for each audience: " + ", ".join(audiences)
        )
    return {audience: _read_languages(label, by_audience[audience]) for audience in audiences}


def _read_languages(label: str, texts: object) -> str | Mapping[str, str]:
    expected = (
        f"{label}: texts must be a text, or map a language such as 'en' to its text; for several "
        "audiences, map each audience to its texts"
    )
    if isinstance(texts, str):
        return MappingProxyType({"en": texts})
    if not isinstance(texts, Mapping) or not texts:
        raise ConfigurationError(expected)
    read: dict[str, str] = {}
    for language, text in texts.items():
        if not isinstance(language, str) or not isinstance(text, str):
            raise ConfigurationError(expected)
        read[language] = text
    return MappingProxyType(read)


def _check_texts(label: str, event: Event) -> None:
    """Render every default text with the examples."""
    for audience in event.audiences:
        texts = event.texts[audience]
        languages = available_locales() if isinstance(texts, str) else tuple(texts)
        for language in languages:
            translator = Translator(language)
            values = event.example_values(language) | {SITE: "x"}
            shown = {name: clean_value(value) for name, value in values.items()}
            try:
                source = event.default_text(audience, language)
                load_template(source, event.names).render(shown, translator)
            except TemplateError as error:
                raise ConfigurationError(
                    f"{label}: the text for {audience!r} in {language!r}: {error}"
                ) from None


# --- the built-in events --------------------------------------------------------------------------

_ORDER = {"order_number": "1042"}
_SERVICE = {"service_name": _("Starter hosting")}
_DOMAIN = {"domain_name": "example.com", "expiry_date": "2027-03-20"}
_CLIENT = {"client_name": _("Sara Ahmadi")}
_REASON = {"reason": _("no credit at the registrar")}
_INVOICE = {"invoice_number": "2071", "amount": _("250,000 tomans"), "due_date": "2026-12-21"}
_TICKET = {"ticket_number": "318", "ticket_subject": _("The site is slow")}
_LOGIN = {"ip_address": "203.0.113.7"}


def _event(
    name: str,
    values: Mapping[str, str],
    *,
    user: str | None = None,
    staff: str | None = None,
    required: tuple[str, ...] = (),
    is_security_notice: bool = False,
) -> Event:
    texts: dict[Audience, str | Mapping[str, str]] = {}
    if user is not None:
        texts["user"] = user
    if staff is not None:
        texts["staff"] = staff
    return Event(
        name,
        tuple(texts),
        tuple(values),
        MappingProxyType(dict(values)),
        MappingProxyType(texts),
        required,
        is_security_notice,
    )


#: Every built-in event, in the order in which lists show them.
BUILT_IN: tuple[Event, ...] = (
    # Orders and services
    _event(
        "order.accepted",
        _ORDER,
        user=_("{{ site }}: Your order {{ order_number }} has been placed. Thank you."),
    ),
    _event(
        "package.changed",
        _SERVICE | {"package_name": _("Business")},
        user=_("{{ site }}: The plan of {{ service_name }} is now {{ package_name }}."),
    ),
    _event(
        "service.password_changed",
        _SERVICE,
        user=_(
            "{{ site }}: The password of {{ service_name }} was changed. "
            "If this was not you, contact support."
        ),
    ),
    _event(
        "hosting.created",
        _SERVICE | {"domain_name": "example.com"},
        user=_("{{ site }}: {{ service_name }} for {{ domain_name }} is ready to use."),
    ),
    _event(
        "service.suspended",
        _SERVICE,
        user=_(
            "{{ site }}: {{ service_name }} has been suspended. "
            "Sign in to your account or contact support to restore it."
        ),
    ),
    _event(
        "service.unsuspended",
        _SERVICE,
        user=_("{{ site }}: {{ service_name }} is active again."),
    ),
    # Domains
    _event(
        "domain.registered",
        _DOMAIN | _CLIENT,
        user=_("{{ site }}: {{ domain_name }} is registered until {{ expiry_date|date }}."),
        staff=_("{{ site }}: {{ domain_name }} was registered for {{ client_name }}."),
    ),
    _event(
        "domain.registration_failed",
        {"domain_name": "example.com"} | _CLIENT | _REASON,
        user=_(
            "{{ site }}: {{ domain_name }} could not be registered. "
            "Contact support to complete your order."
        ),
        staff=_(
            "{{ site }}: {{ domain_name }} could not be registered for {{ client_name }}: "
            "{{ reason }}"
        ),
    ),
    _event(
        "domain.renewed",
        _DOMAIN | _CLIENT,
        user=_("{{ site }}: {{ domain_name }} is renewed until {{ expiry_date|date }}."),
        staff=_("{{ site }}: {{ domain_name }} was renewed for {{ client_name }}."),
    ),
    _event(
        "domain.renewal_failed",
        {"domain_name": "example.com"} | _CLIENT | _REASON,
        staff=_(
            "{{ site }}: {{ domain_name }} could not be renewed for {{ client_name }}: {{ reason }}"
        ),
    ),
    _event(
        "domain.renewal_notice",
        _DOMAIN | {"days_left": "15"},
        user=_(
            "{{ site }}: {{ domain_name }} expires on {{ expiry_date|date }}. "
            "Days left: {{ days_left|digits }}. Renew it to keep it."
        ),
    ),
    # Clients
    _event(
        "client.registered",
        _CLIENT,
        user=_("Welcome to {{ site }}, {{ client_name }}. Your account is ready."),
        staff=_("{{ site }}: {{ client_name }} created an account."),
    ),
    _event(
        "client.password_changed",
        {},
        user=_(
            "{{ site }}: The password of your account was changed. "
            "If this was not you, contact support."
        ),
    ),
    _event(
        "client.logged_in",
        _CLIENT | _LOGIN,
        staff=_("{{ site }}: {{ client_name }} signed in from {{ ip_address }}."),
    ),
    _event(
        "staff.logged_in",
        {"staff_name": _("Ali Karimi")} | _LOGIN,
        staff=_("{{ site }}: {{ staff_name }} signed in to the staff pages from {{ ip_address }}."),
    ),
    # Invoices
    _event(
        "invoice.created",
        _INVOICE,
        user=_(
            "{{ site }}: Your invoice {{ invoice_number }} for {{ amount }} is ready. "
            "Please pay it by {{ due_date|date }}."
        ),
    ),
    _event(
        "invoice.paid",
        {"invoice_number": "2071", "amount": _("250,000 tomans")},
        user=_(
            "{{ site }}: We received {{ amount }} for invoice {{ invoice_number }}. "
            "Thank you for your payment."
        ),
    ),
    _event(
        "invoice.reminder",
        _INVOICE,
        user=_(
            "{{ site }}: Invoice {{ invoice_number }} for {{ amount }} is due on "
            "{{ due_date|date }}."
        ),
    ),
    _event(
        "invoice.first_overdue",
        _INVOICE,
        user=_(
            "{{ site }}: Invoice {{ invoice_number }} for {{ amount }} was due on "
            "{{ due_date|date }}. Please pay it as soon as you can."
        ),
    ),
    _event(
        "invoice.second_overdue",
        _INVOICE,
        user=_(
            "{{ site }}: Invoice {{ invoice_number }} for {{ amount }} is still unpaid. It was due "
            "on {{ due_date|date }}. Please pay it to keep your services."
        ),
    ),
    _event(
        "invoice.third_overdue",
        _INVOICE,
        user=_(
            "{{ site }}: Last reminder: invoice {{ invoice_number }} for {{ amount }} was due on "
            "{{ due_date|date }}. Your services may be suspended if it stays unpaid."
        ),
    ),
    # Tickets
    _event(
        "ticket.opened",
        _TICKET | _CLIENT,
        staff=_(
            "{{ site }}: {{ client_name }} opened ticket {{ ticket_number }}: "
            "{{ ticket_subject|truncate(80) }}"
        ),
    ),
    _event(
        "ticket.replied",
        _TICKET,
        user=_(
            "{{ site }}: There is a new reply to your ticket {{ ticket_number }}: "
            "{{ ticket_subject|truncate(80) }}"
        ),
    ),
    _event(
        "ticket.user_replied",
        _TICKET | _CLIENT,
        staff=_(
            "{{ site }}: {{ client_name }} replied to ticket {{ ticket_number }}: "
            "{{ ticket_subject|truncate(80) }}"
        ),
    ),
    _event(
        "ticket.closed",
        _TICKET,
        user=_(
            "{{ site }}: Your ticket {{ ticket_number }} was closed. "
            "Reply to it if you need more help."
        ),
    ),
    # Verifications
    _event(
        "verification.expiring",
        {"expiry_date": "2026-12-21"},
        user=_(
            "{{ site }}: Your mobile number is confirmed until {{ expiry_date|date }}. "
            "Sign in to your account to confirm it again."
        ),
    ),
    # `mobile_ending` is the last digits of the new mobile: inside right-to-left text, an SMS app
    # would display the characters of a masked number in the wrong order.
    _event(
        "mobile.changed",
        {"mobile_ending": "6789"},
        user=_(
            "The mobile number of your {{ site }} account was changed to a number ending in "
            "{{ mobile_ending|digits }}. If this was not you, contact support."
        ),
        is_security_notice=True,
    ),
    _event(
        "mobile.change_requested",
        {"mobile_ending": "6789", "url": "https://example.com/verify-mobile/mobile/undo/Ab3"},
        user=_(
            "A change of the mobile number of your {{ site }} account to a number ending in "
            "{{ mobile_ending|digits }} was requested. If this was not you, stop it here: {{ url }}"
        ),
        required=("url",),
        is_security_notice=True,
    ),
    _event(
        "mobile.transferred",
        {},
        user=_(
            "Your mobile number was confirmed for another {{ site }} account. "
            "It is no longer valid for the previous account."
        ),
        is_security_notice=True,
    ),
    _event(
        "limit.reached",
        {"limit_name": "site", "percent": "50"},
        staff=_(
            "{{ site }}: {{ percent|digits }} percent of the limit {{ limit_name }} for "
            "verification codes is used."
        ),
    ),
    _event(
        "text.failed",
        {"text_name": "invoice.created"},
        staff=_(
            "{{ site }}: The edited text of {{ text_name }} cannot be sent. The default text is "
            "sent instead. Correct it on the staff pages."
        ),
    ),
)
