"""Mobiles: every spelling of one is the same one, and nothing else is a mobile."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_smsverify.errors import InvalidMobile, MobileError, MobileRequired, RegionNotAllowed
from flask_smsverify.phone import ascii_digits, mask, parse, region_of

MOBILE = "+989123456789"


def read(typed: object, *regions: str) -> str:
    return parse(typed, default_region="IR", allowed_regions=regions or ("IR",))


@pytest.mark.parametrize(
    "typed",
    [
        "09123456789",
        "+989123456789",
        "00989123456789",
        "989123456789",
        "9123456789",
        "0912 345 6789",
        "0912-345-6789",
        "(0912) 345.6789",
        "0912\u2013345\u20116789",
        "0912\u00a0345\u20096789",
        "  +98 912 345 6789  ",
        "+98 (0) 912 345 6789",
        "۰۹۱۲۳۴۵۶۷۸۹",
        "٠٩١٢٣٤٥٦٧٨٩",
        "۰۹۱۲ ٣٤٥ 6789",
        "０９１２３４５６７８９",
        "＋９８９１２３４５６７８９",
        "+۹۸۹۱۲۳۴۵۶۷۸۹",
        "\u200e+989123456789\u200e",
        "\u2066۰۹۱۲۳۴۵۶۷۸۹\u2069",
        "\u202a0912\u202c3456789",
        "\ufeff09123456789",
    ],
)
def test_every_spelling_is_one_mobile(typed: str) -> None:
    """Case 29 of docs/safety.md."""
    assert read(typed) == MOBILE


@pytest.mark.parametrize("typed", [None, "", "   ", "\u200e"])
def test_nothing_typed_is_a_mobile_that_is_missing(typed: object) -> None:
    with pytest.raises(MobileRequired):
        read(typed)


@pytest.mark.parametrize(
    "typed",
    [
        "09123456789;ext=5",
        "09123456789 ext 5",
        "09123456789#5",
        "09123456789x5",
        "09123456789,5",
        "0912ABCDEFG",
        "tel:09123456789",
        "tel:9123456789;phone-context=+98",
        "09123456789\n",
        "0912\n3456789",
        "0912\t3456789",
        "0912\x003456789",
        "0912345678",
        "091234567890",
        "+9891234567890",
        "++989123456789",
        "+98+9123456789",
        "0912/345/6789",
        "*09123456789",
        "1",
        "-",
        "()",
        "+",
        "9" * 48,
        "9" * 10_000,
        9123456789,
        b"09123456789",
        ["09123456789"],
        True,
        "\ud800",
        "سلام",
    ],
)
def test_what_is_no_mobile_is_refused(typed: object) -> None:
    """Case 30 of docs/safety.md."""
    with pytest.raises(InvalidMobile) as refused:
        read(typed)
    assert "912" not in str(refused.value)


@pytest.mark.parametrize(
    "typed",
    [
        "02188776655",  # landline
        "+982188776655",
        "9090000",  # short
        "110",
        "+1 900 555 0123",  # premium
        "+44 909 879 0000",  # premium
        "+800 1234 5678",  # freephone
    ],
)
def test_numbers_that_get_no_messages_are_refused(typed: str) -> None:
    """Case 23 of docs/safety.md."""
    with pytest.raises(InvalidMobile):
        read(typed, "IR", "US", "GB")


@pytest.mark.parametrize(
    "typed", ["+4915112345678", "+16502530000", "+971501234567", "+8816 1234 5678"]
)
def test_mobiles_of_other_regions_are_refused(typed: str) -> None:
    """Case 22 of docs/safety.md."""
    with pytest.raises(MobileError) as refused:
        read(typed)
    assert isinstance(refused.value, RegionNotAllowed | InvalidMobile)


def test_a_region_that_is_allowed_is_taken() -> None:
    assert read("+49 151 12345678", "IR", "DE") == "+4915112345678"
    assert read("+1 650-253-0000", "IR", "US") == "+16502530000"
    assert region_of("+4915112345678") == "DE"
    assert region_of(MOBILE) == "IR"


def test_the_national_form_is_read_in_the_default_region() -> None:
    german = parse("0151 12345678", default_region="DE", allowed_regions=("DE",))
    assert german == "+4915112345678"


@given(st.integers(min_value=0, max_value=9_999_999), st.sampled_from(["0912", "0935", "0901"]))
def test_what_is_read_is_read_again_as_it_is(rest: int, prefix: str) -> None:
    mobile = read(f"{prefix}{rest:07}")
    assert mobile == f"+98{prefix[1:]}{rest:07}"
    assert read(mobile) == mobile


@given(st.text(max_size=60) | st.text("0123456789+-() .۰۹", max_size=30))
def test_whatever_is_typed_is_a_mobile_or_refused(typed: str) -> None:
    try:
        mobile = read(typed)
    except MobileError:
        return
    assert mobile.startswith("+989")
    assert len(mobile) == 13
    assert mobile[1:].isascii()
    assert mobile[1:].isdecimal()


@given(st.text(max_size=30))
def test_digits_become_ascii_and_invisible_marks_go(text: str) -> None:
    plain = ascii_digits(text)
    assert not any(char.isdecimal() and not char.isascii() for char in plain)
    assert ascii_digits(plain) == plain


def test_a_mask_hides_the_middle() -> None:
    assert mask(MOBILE) == "+98912•••6789"
    assert mask("+4915112345678") == "+49•••678"
    for mobile in (MOBILE, "+4915112345678", "+16502530000", "+37060112345"):
        hidden = mask(mobile)
        assert "•••" in hidden
        assert len(hidden.replace("•", "")) <= len(mobile) - 3
