"""Mobiles: all spellings of a mobile are the same, and everything else is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_smsverify.errors import InvalidMobile, MobileError, MobileRequired, RegionNotAllowed
from flask_smsverify.phone import MAX_TYPED_LENGTH, ascii_digits, mask, parse, region_of, spaced

MOBILE = "+989123456789"


def read(typed: object, *regions: str) -> str:
    return parse(typed, default_region="IR", allowed_regions=regions or ("IR",))


def test_every_spelling_gives_the_same_mobile() -> None:
    """Case 29 of docs/safety.md."""
    for typed in (
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
    ):
        assert read(typed) == MOBILE, ascii(typed)


def test_empty_input_is_a_missing_mobile() -> None:
    for typed in (None, "", "   ", "\u200e"):
        with pytest.raises(MobileRequired):
            read(typed)


def test_input_that_is_not_a_mobile_is_refused() -> None:
    """Case 30 of docs/safety.md."""
    for typed in (
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
    ):
        with pytest.raises(InvalidMobile) as refused:
            read(typed)
        assert "912" not in str(refused.value), ascii(typed)


def test_a_value_that_is_no_string_is_refused_with_its_type() -> None:
    for typed, name in ((9123456789, "int"), (9.1e9, "float"), (True, "bool"), ([MOBILE], "list")):
        with pytest.raises(InvalidMobile, match=f"must be a string, not {name}"):
            read(typed)


def test_numbers_that_cannot_receive_messages_are_refused() -> None:
    """Case 23 of docs/safety.md."""
    for typed in (
        "02188776655",  # landline
        "+982188776655",
        "9090000",  # short
        "110",
        "+1 900 555 0123",  # premium
        "+44 909 879 0000",  # premium
        "+800 1234 5678",  # freephone
    ):
        with pytest.raises(InvalidMobile):
            read(typed, "IR", "US", "GB")


def test_mobiles_of_regions_that_are_not_allowed_are_refused() -> None:
    """Case 22 of docs/safety.md."""
    for typed in ("+4915112345678", "+16502530000", "+971501234567", "+8816 1234 5678"):
        with pytest.raises((RegionNotAllowed, InvalidMobile)):
            read(typed)


def test_a_mobile_of_an_allowed_region_is_accepted() -> None:
    assert read("+49 151 12345678", "IR", "DE") == "+4915112345678"
    assert read("+1 650-253-0000", "IR", "US") == "+16502530000"
    assert region_of("+4915112345678") == "DE"
    assert region_of(MOBILE) == "IR"


def test_the_national_form_is_read_in_the_default_region() -> None:
    german = parse("0151 12345678", default_region="DE", allowed_regions=("DE",))
    assert german == "+4915112345678"


@given(st.integers(min_value=0, max_value=9_999_999), st.sampled_from(["0912", "0935", "0901"]))
def test_parsing_a_parsed_mobile_changes_nothing(rest: int, prefix: str) -> None:
    mobile = read(f"{prefix}{rest:07}")
    assert mobile == f"+98{prefix[1:]}{rest:07}"
    assert read(mobile) == mobile


@given(st.text(max_size=60) | st.text("0123456789+-() .۰۹", max_size=30))
def test_any_input_gives_a_mobile_or_a_mobile_error(typed: str) -> None:
    try:
        mobile = read(typed)
    except MobileError:
        return
    assert mobile.startswith("+989")
    assert len(mobile) == 13
    assert mobile[1:].isascii()
    assert mobile[1:].isdecimal()


@given(st.text(max_size=30))
def test_all_digits_become_ascii(text: str) -> None:
    plain = ascii_digits(text)
    assert not any(char.isdecimal() and not char.isascii() for char in plain)
    assert ascii_digits(plain) == plain


def test_a_masked_mobile_lacks_its_middle_digits() -> None:
    assert mask(MOBILE) == "+98912•••6789"
    assert mask("+4915112345678") == "+49•••678"
    for mobile in (MOBILE, "+4915112345678", "+16502530000", "+37060112345"):
        masked = mask(mobile)
        assert "•••" in masked
        assert len(masked.replace("•", "")) <= len(mobile) - 3


def test_a_mask_keeps_seven_digits_of_an_iranian_mobile_and_fewer_of_others() -> None:
    assert mask(MOBILE) == "+98912•••6789"
    assert spaced(mask(MOBILE)) == "0912 ••• 6789"
    for mobile, masked in (
        ("+971501234567", "+97•••567"),  # as long as an Iranian mobile
        ("+98912345678", "+98•••678"),
        ("+4915123456789", "+49•••789"),
    ):
        assert mask(mobile) == masked
        assert spaced(masked) == masked.replace("•••", " ••• ")


def test_a_mobile_may_be_typed_with_48_characters_and_no_more() -> None:
    assert read(" " * (MAX_TYPED_LENGTH - 11) + "09123456789") == MOBILE
    with pytest.raises(InvalidMobile):
        read(" " * (MAX_TYPED_LENGTH - 10) + "09123456789")
