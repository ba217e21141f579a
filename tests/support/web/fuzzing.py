"""Generated and oversized input for tests of requests, and a record of what is parsed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import werkzeug.formparser
import werkzeug.sansio.request
from flask.json.provider import DefaultJSONProvider
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from flask_smsverify.web.request_limits import MAX_BODY_BYTES

#: For tests in which one app serves every example.
shared_app = settings(
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)


def json_values(*likely: Any) -> st.SearchStrategy[Any]:
    """Return a strategy for any JSON value.

    :param likely: values that the code under test may know, tried more often.
    """
    leaves = (
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(max_size=20)
    )
    return st.recursive(
        leaves | st.sampled_from(likely) if likely else leaves,
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
        ),
        max_leaves=6,
    )


@contextmanager
def parsed_sizes() -> Iterator[list[int]]:
    """Collect the size of everything that Flask and Werkzeug parse: JSON, forms, Accept headers."""
    sizes: list[int] = []

    def watch(patch: pytest.MonkeyPatch, owner: Any, name: str, size: Callable[..., int]) -> None:
        parse = getattr(owner, name)

        def watched(*args: Any, **kwargs: Any) -> Any:
            sizes.append(size(*args))
            return parse(*args, **kwargs)

        patch.setattr(owner, name, watched)

    def multipart_size(_parser: object, _stream: object, _boundary: bytes, length: int) -> int:
        return length

    with pytest.MonkeyPatch.context() as patch:
        watch(patch, DefaultJSONProvider, "loads", lambda _self, text: len(text))
        watch(patch, werkzeug.formparser, "parse_qsl", len)
        watch(patch, werkzeug.formparser.MultiPartParser, "parse", multipart_size)
        accept_size: Callable[..., int] = lambda value, *_: len(value or "")  # noqa: E731
        watch(patch, werkzeug.sansio.request, "parse_accept_header", accept_size)
        yield sizes


#: Larger than all other input that these tests parse.
LARGE = 2_000


class Unread(str):
    """A text of which only the length and the start may be read.

    The time to read a text grows with its length, so an oversized text must be refused by its
    length.
    """

    __slots__ = ()

    def _fail(self, *_args: object) -> Any:
        raise AssertionError("the content of an oversized text was read")

    __iter__ = __getitem__ = __contains__ = __add__ = __hash__ = _fail  # type: ignore[assignment]
    translate = encode = strip = split = replace = isdecimal = isascii = lower = find = _fail  # type: ignore[assignment]


def body_of(pattern: str, *, size: int = MAX_BODY_BYTES, ends: tuple[str, str] = ("", "")) -> str:
    """Return a body of `size` bytes that repeats a pattern."""
    inside = size - sum(len(end.encode()) for end in ends)
    return ends[0] + pattern * (inside // len(pattern.encode())) + ends[1]


JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data; boundary=x"
IN_A_LIST = ('{"code":[', "0]}")
IN_A_STRING = ('{"code":"', '"}')
PART = 'Content-Disposition: form-data; name="code"'
_MULTIPART_PATTERNS = [
    ("\r\n\r\n", "\r\n--"),
    ("\r\n\r\n", "\r\n"),
    ('; z="', '\\"'),
    ('; z="', "z"),
    ("", ";a=1"),
    ("", ";"),
    ("\r\n", "a:\n"),
]


def _multipart_bodies(size: int) -> list[tuple[str, str]]:
    return [
        (
            MULTIPART,
            body_of(pattern, size=size, ends=(f"--x\r\n{PART}{begin}", "\r\n\r\n1\r\n--x--\r\n")),
        )
        for begin, pattern in _MULTIPART_PATTERNS
    ]


#: (content type, body) of requests that must be refused without parsing.
REFUSED_BODIES = [
    (JSON, body_of("[],", ends=IN_A_LIST)),
    (JSON, body_of("{},", ends=IN_A_LIST)),
    (JSON, body_of("1,", ends=IN_A_LIST)),
    (JSON, body_of("1", size=MAX_BODY_BYTES + 1, ends=IN_A_STRING)),
    (FORM, body_of("%2b", ends=("mobile=", ""))),
    (FORM, body_of("a=1&")),
    (FORM, body_of("1", size=MAX_BODY_BYTES + 1, ends=("code=", ""))),
    (MULTIPART, body_of(f"--x\r\n{PART}\r\n\r\n1\r\n")),
    (MULTIPART, body_of("--x\r\n" + PART + "\r\na:b" * 220 + "\r\n\r\n1\r\n")),
    *_multipart_bodies(MAX_BODY_BYTES),
]
#: The bodies within the limits that take longest to parse.
HEAVY_BODIES = [
    (JSON, body_of("1", ends=IN_A_STRING)),
    (JSON, body_of("۱", ends=IN_A_STRING)),
    (JSON, body_of("\\u0660", ends=IN_A_STRING)),
    (JSON, body_of("[],", size=59_000, ends=IN_A_LIST)),
    (JSON, body_of("1e5,", size=79_000, ends=IN_A_LIST)),
    (JSON, body_of("1", ends=("{", "}"))),
    (JSON, body_of("1", ends=('{"code":', "}"))),
    (JSON, body_of("0", ends=('{"code":1.', "1}"))),
    (JSON, body_of("[")),
    (JSON, body_of("[", size=900, ends=('{"code":', "]" * 900 + "}"))),
    (JSON, body_of(" ")),
    (FORM, body_of("1", ends=("code=", ""))),
    (FORM, body_of("%2b", size=59_000, ends=("mobile=", ""))),
    (FORM, body_of("/", ends=("next=", ""))),
    (FORM, body_of("a=1&", size=79_000)),
    (FORM, body_of("+")),
    *_multipart_bodies(32_000),
]
LONG_HEADERS = [
    {name: pattern * (60_000 // len(pattern))}
    for name in ("Accept", "Accept-Language", "Content-Type")
    for pattern in ("a/b,", "fa,", "en;q=0.5,", ",", ";", "a")
]
LONG_QUERIES = ["next=" + "%2f" * 20_000, "a=1&" * 15_000, "next=" + "/" * 60_000]
