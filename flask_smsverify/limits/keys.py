"""The keys of sends and guesses: what each of them counts against."""

from __future__ import annotations

from typing import Any

from ..keyring import Keyring
from .addresses import Address
from .guesses import GuessKeys
from .sends import SendKeys


class UsageKeys:
    """Makes the keys of the log: digests, because they outlive the users that they identify."""

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring

    def for_send(
        self,
        mobile: str,
        user_id: str | None,
        address: Address | None,
        *,
        purpose: str,
        by_device: bool = False,
        counts_mobile: bool = True,
    ) -> SendKeys:
        """Return what one send of a code counts against.

        :param by_device: without an account: whether the guesses on the devices of the mobile's
            owner refuse it, and not those at the mobile.
        :param counts_mobile: whether the mobile counts as one of the account's different ones.
        """
        mobile_key = self.mobile(mobile)
        account = self.account(user_id) if user_id is not None else None
        keys = {} if address is None else self.of_address(address)
        return SendKeys(
            mobile=mobile_key,
            cooldown=self.cooldown(mobile, user_id, purpose),
            **self._of_guesses(mobile, user_id, by_device=by_device),
            account=account,
            account_mobile=mobile_key if account is not None and counts_mobile else None,
            refused_mobile=self.refused_mobile(mobile),
            refused_account=self.refused_account(user_id) if user_id is not None else None,
            **keys,
        )

    def for_guess(self, mobile: str, user_id: str | None, *, by_device: bool) -> GuessKeys:
        """Return what one guess at a code counts against.

        :param by_device: whether the challenge was started on a device of the mobile's owner.
        """
        return GuessKeys(
            mobile=self.mobile(mobile), **self._of_guesses(mobile, user_id, by_device=by_device)
        )

    def _of_guesses(self, mobile: str, user_id: str | None, *, by_device: bool) -> dict[str, Any]:
        """Return the keys of guesses by their names in `SendKeys` and `GuessKeys`."""
        guesses = self.guesses(mobile, user_id)
        if user_id is not None:
            return {"guesses": guesses, "subject": guesses, "number": self.number(mobile)}
        subject = self.guesses(mobile, None, by_device=True) if by_device else guesses
        return {"guesses": guesses, "subject": subject, "number": None}

    def mobile(self, mobile: str) -> int:
        """Return the key of a mobile."""
        return self._keyring.key("mobile", mobile)

    def account(self, user_id: str) -> int:
        """Return the key of an account."""
        return self._keyring.key("account", user_id)

    def refused_mobile(self, mobile: str) -> int:
        """Return the key of sends to a mobile that a gateway refused."""
        return self._keyring.key("refused mobile", mobile)

    def refused_account(self, user_id: str) -> int:
        """Return the key of an account's sends that a gateway refused."""
        return self._keyring.key("refused account", user_id)

    def cooldown(self, mobile: str, user_id: str | None, purpose: str) -> int:
        """Return the key of sends with one cooldown: an account's for a purpose, or a mobile's."""
        subject = f"user {user_id}" if user_id is not None else f"mobile {mobile}"
        return self._keyring.key("cooldown", purpose, subject)

    def guesses(self, mobile: str, user_id: str | None, *, by_device: bool = False) -> int:
        """Return the key of the guesses that count together: an account's, or those at a mobile.

        :param by_device: without an account: those on the devices of the mobile's owner.
        """
        if user_id is not None:
            return self._keyring.key("guesses of account", user_id)
        if by_device:
            return self._keyring.key("guesses on device", mobile)
        return self._keyring.key("guesses at mobile", mobile)

    def number(self, mobile: str) -> int:
        """Return the key of the guesses at a mobile by accounts that have not proved it."""
        return self._keyring.key("guesses of accounts at mobile", mobile)

    def of_address(self, address: Address) -> dict[str, int]:
        """Return the keys of an address by their names in `SendKeys`."""
        return {
            "ip": self._keyring.key("ip", address.ip),
            "network": self._keyring.key("network", address.network),
            "wide": self._keyring.key("wide", address.wide),
            "tries": self._keyring.key("tries", address.ip),
            "tries_network": self._keyring.key("tries_network", address.network),
        }
