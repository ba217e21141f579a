"""The recipients of a bulk send: numbers in any spelling, users, and iterables of either."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from ..errors import ConfigurationError, MobileError

ALL = "all"
CLUB = "club"
GROUP = "group:"
#: Recipients that cannot be read again after an interruption.
LIST = "list"
_MAX_SOURCE = 191


class BulkHost(Protocol):
    """The host's users, for a bulk send."""

    def is_user(self, item: object) -> bool:
        """Return whether an item is a user of the host."""

    def mobile_of(self, user: object) -> str | None:
        """Return the user's mobile in E.164; None if it is missing or invalid."""

    def id_of(self, user: object) -> str:
        """Return the user's primary key as text."""

    def recipients(self, group: str | None) -> Iterable[object]:
        """Yield the users of a group, or all users, without loading all at once."""


@dataclass(frozen=True, slots=True)
class Recipient:
    """One item of the recipients.

    :param mobile: E.164; None if the item is neither a mobile nor a user with one.
    :param shown: the item as the caller wrote it, for a list of invalid items.
    """

    mobile: str | None
    user_id: str | None = None
    shown: str = ""


class Recipients:
    """Reads recipients.

    :param parse_mobile: any spelling → E.164; raises `MobileError`.
    :param contacts: yields the numbers of the gateway's customer club.
    """

    def __init__(
        self,
        host: BulkHost,
        *,
        parse_mobile: Callable[[object], str],
        contacts: Callable[[], Iterable[str]],
    ) -> None:
        self._host = host
        self._parse_mobile = parse_mobile
        self._contacts = contacts

    def source_of(self, to: object) -> str:
        """Return what the batch stores about its recipients: `all`, `group:NAME` … or `list`.

        :raises ConfigurationError: the group has no name, or too long a one.
        """
        if not isinstance(to, str) or not is_source(to):
            return LIST
        if to.startswith(GROUP) and not 0 < len(to) - len(GROUP) <= _MAX_SOURCE - len(GROUP):
            raise ConfigurationError("name the group, such as 'group:customers'")
        return to

    def read(self, to: object) -> Iterator[Recipient]:
        """Yield the recipients one by one.

        :param to: `"all"`, `"group:NAME"`, `"club"`, a number, a user, or an iterable of these.
        """
        if isinstance(to, str) and to == ALL:
            yield from self._read_items(self._host.recipients(None))
        elif isinstance(to, str) and to == CLUB:
            yield from self._read_items(self._contacts())
        elif isinstance(to, str) and to.startswith(GROUP):
            yield from self._read_items(self._host.recipients(to.removeprefix(GROUP)))
        else:
            yield from self._read_item(to)

    def _read_items(self, items: Iterable[object]) -> Iterator[Recipient]:
        for item in items:
            yield from self._read_item(item)

    def _read_item(self, item: object) -> Iterator[Recipient]:
        if isinstance(item, str | int) or item is None:
            yield self._read_number(str(item or ""))
        elif self._host.is_user(item):
            user_id = self._host.id_of(item)
            yield Recipient(self._host.mobile_of(item), user_id, f"user {user_id}")
        elif isinstance(item, Iterable) and not isinstance(item, bytes | bytearray):
            yield from self._read_items(item)
        else:
            yield Recipient(None, shown=type(item).__name__)

    def _read_number(self, text: str) -> Recipient:
        try:
            return Recipient(self._parse_mobile(text))
        except MobileError:
            return Recipient(None, shown=text[:64])


def is_source(to: str) -> bool:
    """Return whether a text names recipients that can be read again."""
    return to in (ALL, CLUB) or to.startswith(GROUP)
