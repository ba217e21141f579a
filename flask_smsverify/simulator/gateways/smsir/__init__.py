"""SMS.ir: the API v1, and the legacy service at RestfulSms.com.

SMS.ir documents little of either, so the calls are those of its public clients.
"""

from collections.abc import Mapping
from typing import ClassVar

from flask import Blueprint

from ...account import Account
from ...messages import MessageState
from .legacy import Legacy
from .sending import CODES, Outbox
from .v1 import RAW_STATES, V1


class SMSIr:
    """The gateway at api.sms.ir and RestfulSms.com."""

    name: ClassVar[str] = "smsir"
    title: ClassVar[str] = "SMS.ir"
    hosts: ClassVar[tuple[str, ...]] = ("api.sms.ir", "restfulsms.com", "www.restfulsms.com")
    is_case_insensitive: ClassVar[bool] = True
    setup_endpoints: ClassVar[frozenset[str]] = frozenset({"legacy Token"})
    codes: ClassVar[tuple[int, ...]] = CODES
    takes_any_code: ClassVar[bool] = True
    raw_states: ClassVar[Mapping[str, MessageState]] = RAW_STATES

    def __init__(self, account: Account) -> None:
        self.account = account

    def add_routes(self, blueprint: Blueprint) -> None:
        """Add v1 under `/v1` and the legacy service under `/api`."""
        outbox = Outbox(self.account)
        V1(self.account, outbox).add_routes(blueprint)
        Legacy(self.account, outbox).add_routes(blueprint)
