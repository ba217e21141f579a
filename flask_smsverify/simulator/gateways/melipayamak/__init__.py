"""MeliPayamak: its SOAP service `Send.asmx`, the HTTP binding of that service, and its REST calls.

The vendor documents `SendSms` and its result numbers. The other operations, their types and the
REST calls are those that the vendor's public clients use.
"""

from collections.abc import Mapping
from typing import ClassVar

from flask import Blueprint

from ...account import Account
from ...messages import MessageState
from .rest import RestService
from .sending import CODES, RAW_STATES, Outbox
from .soap_service import SendService


class MeliPayamak:
    """The gateway at api.payamak-panel.com and rest.payamak-panel.com."""

    name: ClassVar[str] = "melipayamak"
    title: ClassVar[str] = "MeliPayamak"
    hosts: ClassVar[tuple[str, ...]] = ("api.payamak-panel.com", "rest.payamak-panel.com")
    is_case_insensitive: ClassVar[bool] = True
    setup_endpoints: ClassVar[frozenset[str]] = frozenset({"describe"})
    codes: ClassVar[tuple[int, ...]] = CODES
    takes_any_code: ClassVar[bool] = True
    raw_states: ClassVar[Mapping[str, MessageState]] = RAW_STATES

    def __init__(self, account: Account) -> None:
        self.account = account

    def add_routes(self, blueprint: Blueprint) -> None:
        """Add the SOAP service and the REST calls."""
        outbox = Outbox(self.account)
        SendService(self.account, outbox).add_routes(blueprint)
        RestService(self.account, outbox).add_routes(blueprint)
