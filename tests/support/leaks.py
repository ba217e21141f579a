"""The check of the whole suite that no log, error or response contains a code or a whole mobile.

Codes are collected when they are sent, and when native codes are checked. A mobile is any text in
the form of an Iranian one. Logs and responses of the simulator are not checked.
"""

from __future__ import annotations

import functools
import logging
import re
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from flask.testing import FlaskClient

from flask_smsverify.delivery.failover import Delivery
from flask_smsverify.errors import SMSVerifyError
from flask_smsverify.verification.code_job import CodeJob

#: The settings of tests that look for codes in text with ids and digests, where a short code may
#: occur by chance.
LONG_CODES = {"SMSVERIFY_CODE_LENGTH": 10}
#: Shorter codes, which some tests use, would be found in unrelated text.
_MIN_CODE_LENGTH = 6
_MOBILE = re.compile(r"(?<![0-9A-Za-z])(?:\+|00)?(?:98|0)?9\d{9}(?![0-9A-Za-z])")
#: Loggers that log messages on purpose: the console sender and the simulator's server.
_IGNORED = ("flask_smsverify.console", "werkzeug")
_PACKAGE_LOGGERS = ("flask_smsverify",)
#: Loggers of HTTP and SOAP clients, which log requests unless they are filtered.
_CLIENT_LOGGERS = ("httpx", "httpcore", "zeep")


class Leaks(logging.Handler):
    """Collects logs, errors and responses, and the codes that they must not contain."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.codes: set[str] = set()
        self.logged: list[str] = []
        self.raised: list[SMSVerifyError] = []
        self.responses: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        is_host_sql = record.name.startswith("sqlalchemy") and not record.name.endswith("smsverify")
        if record.name not in _IGNORED and not is_host_sql:
            self.logged.append(self.format(record))

    def add_code(self, code: object) -> None:
        if isinstance(code, str) and len(code) >= _MIN_CODE_LENGTH and code.isdigit():
            self.codes.add(code)

    def found(self) -> list[str]:
        """Return the leaks, each with its place and its text."""
        errors = [text for error in self.raised for text in _texts_of(error)]
        found = [
            f"a mobile in {where}: {text}"
            for where, texts in (("a log", self.logged), ("an error", errors))
            for text in texts
            if _MOBILE.search(text)
        ]
        if self.codes:
            code = re.compile(rf"(?<![0-9A-Za-z])(?:{'|'.join(self.codes)})(?![0-9A-Za-z])")
            found += [
                f"a code in {where}: {text}"
                for where, texts in (
                    ("a log", self.logged),
                    ("an error", errors),
                    ("a response", self.responses),
                )
                for text in texts
                if code.search(text)
            ]
        return found


def _texts_of(error: SMSVerifyError) -> Iterator[str]:
    yield repr(error)
    yield repr(error.args)
    yield repr(vars(error))
    yield "".join(traceback.format_exception_only(error))
    seen: BaseException | None = error
    while seen := seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__):
        yield "".join(traceback.format_exception_only(seen))


@contextmanager
def watch(*, clients: bool = True) -> Iterator[Leaks]:
    """Collect leaks within the block.

    :param clients: collect logs of HTTP and SOAP clients too; not if the test itself uses one.
    """
    leaks = Leaks()
    with pytest.MonkeyPatch.context() as patched:
        _wrap(patched, CodeJob, "call", lambda job, *_: leaks.add_code(job._code.code))
        _wrap(patched, Delivery, "check_native_code", lambda *args: leaks.add_code(args[-1]))

        def record_error(cls: type[SMSVerifyError], *_: object, **__: object) -> SMSVerifyError:
            error = Exception.__new__(cls)
            leaks.raised.append(error)
            return error

        patched.setattr(SMSVerifyError, "__new__", record_error)
        open_request = FlaskClient.open

        def record_response(client: FlaskClient, *args: Any, **kwargs: Any) -> Any:
            response = open_request(client, *args, **kwargs)
            if "smsverify" in client.application.extensions:
                leaks.responses.append(
                    f"{response.headers}\n{response.data.decode(errors='replace')}"
                )
            return response

        patched.setattr(FlaskClient, "open", record_response)
        root = logging.getLogger()
        root.addHandler(leaks)
        loggers = [
            logging.getLogger(name)
            for name in _PACKAGE_LOGGERS + (_CLIENT_LOGGERS if clients else ())
        ]
        levels = [logger.level for logger in loggers]
        for logger in loggers:
            logger.setLevel(logging.DEBUG)  # also clears the cache of `isEnabledFor`
        try:
            yield leaks
        finally:
            root.removeHandler(leaks)
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def _wrap(
    patched: pytest.MonkeyPatch, owner: type, name: str, callback: Callable[..., object]
) -> None:
    method = getattr(owner, name)

    @functools.wraps(method)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        callback(*args, **kwargs)
        return method(*args, **kwargs)

    patched.setattr(owner, name, wrapped)
