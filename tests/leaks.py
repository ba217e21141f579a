"""Listens to the whole suite: no log line, error or answer may hold a code or a whole mobile.

What codes there are, is heard where they leave us and where they are typed. A mobile is whatever
has the form of an Iranian one. What a gateway's simulator shows or logs is the other party's.
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

#: Shorter ones, which tests have too, are found in anything.
_SHORTEST_CODE = 6
_MOBILE = re.compile(r"(?<![0-9A-Za-z])(?:\+|00)?(?:98|0)?9\d{9}(?![0-9A-Za-z])")
#: What logs messages on purpose: the console sender, and the simulator's server its requests.
_ON_PURPOSE = ("flask_smsverify.console", "werkzeug")
_OURS = ("flask_smsverify",)
#: Loggers that would tell what a gateway was asked, were they let.
_WIRE = ("httpx", "httpcore", "zeep")


class Leaks(logging.Handler):
    """What was logged, raised and answered, and the codes that must not be in it."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.codes: set[str] = set()
        self.logged: list[str] = []
        self.raised: list[SMSVerifyError] = []
        self.answered: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        hosts = record.name.startswith("sqlalchemy") and not record.name.endswith("smsverify")
        if record.name not in _ON_PURPOSE and not hosts:
            self.logged.append(self.format(record))

    def note_code(self, code: object) -> None:
        if isinstance(code, str) and len(code) >= _SHORTEST_CODE and code.isdigit():
            self.codes.add(code)

    def found(self) -> list[str]:
        """What should not be there, each with where it is."""
        errors = [told for error in self.raised for told in _told_by(error)]
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
                    ("an answer", self.answered),
                )
                for text in texts
                if code.search(text)
            ]
        return found


def _told_by(error: SMSVerifyError) -> Iterator[str]:
    yield repr(error)
    yield repr(error.args)
    yield repr(vars(error))
    yield "".join(traceback.format_exception_only(error))
    seen: BaseException | None = error
    while seen := seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__):
        yield "".join(traceback.format_exception_only(seen))


@contextmanager
def listening(*, wire: bool = True) -> Iterator[Leaks]:
    """Hear everything that happens inside.

    :param wire: also what HTTP and SOAP clients log; not where those are a test's own.
    """
    leaks = Leaks()
    with pytest.MonkeyPatch.context() as patched:
        _wrap(patched, CodeJob, "call", lambda job, *_: leaks.note_code(job._code.code))
        _wrap(patched, Delivery, "check_native_code", lambda *args: leaks.note_code(args[-1]))

        def made(cls: type[SMSVerifyError], *_: object, **__: object) -> SMSVerifyError:
            error = Exception.__new__(cls)
            leaks.raised.append(error)
            return error

        patched.setattr(SMSVerifyError, "__new__", made)
        answers = FlaskClient.open

        def opened(client: FlaskClient, *args: Any, **kwargs: Any) -> Any:
            answer = answers(client, *args, **kwargs)
            if "smsverify" in client.application.extensions:
                leaks.answered.append(f"{answer.headers}\n{answer.data.decode(errors='replace')}")
            return answer

        patched.setattr(FlaskClient, "open", opened)
        root = logging.getLogger()
        root.addHandler(leaks)
        loggers = [logging.getLogger(name) for name in _OURS + (_WIRE if wire else ())]
        levels = [logger.level for logger in loggers]
        for logger in loggers:
            logger.setLevel(logging.DEBUG)  # which also makes loggers ask anew what they may say
        try:
            yield leaks
        finally:
            root.removeHandler(leaks)
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def _wrap(patched: pytest.MonkeyPatch, owner: type, name: str, hear: Callable[..., object]) -> None:
    method = getattr(owner, name)

    @functools.wraps(method)
    def heard(*args: Any, **kwargs: Any) -> Any:
        hear(*args, **kwargs)
        return method(*args, **kwargs)

    patched.setattr(owner, name, heard)
