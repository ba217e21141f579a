"""Texts: how many parts one takes, and the text that a code travels in."""

from __future__ import annotations

import pytest
from conftest import MakeApp
from hypothesis import given
from hypothesis import strategies as st
from visiting import SEND, browser, phone

from flask_smsverify.errors import ConfigurationError
from flask_smsverify.text import CODE_TEXTS, WEBOTP_MAX_LENGTH, CodeTexts, checked_template, parts

CODE = "012345"


def texts(template: str, **more: str) -> CodeTexts:
    return CodeTexts({"fa": template}, more.pop("site", "x"), **more)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 1),
        ("a" * 160, 1),
        ("a" * 161, 2),
        ("a" * 306, 2),
        ("a" * 307, 3),
        ("س" * 70, 1),
        ("س" * 71, 2),
        ("س" * 134, 2),
        ("س" * 135, 3),
        ("€" * 80, 1),
        ("€" * 81, 2),
        ("a" * 152 + "€" + "a" * 152, 3),  # `€` takes two septets and is not cut in two
        ("😀" * 35, 1),
        ("😀" * 36, 2),
        ("a" * 66 + "😀" + "a" * 66, 3),  # nor is a character of two units
        ("a" * 69 + "\u200c", 1),
        ("`" * 71, 2),  # the grave accent is not in the default alphabet
        ("@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ" * 4, 1),
    ],
)
def test_parts_are_counted_as_operators_count(text: str, count: int) -> None:
    assert parts(text) == count


@given(st.text(max_size=400))
def test_parts_are_never_fewer_than_the_units_need(text: str) -> None:
    units = len(text.encode("utf-16-le", "surrogatepass")) // 2
    count = parts(text)
    assert 1 <= count <= max(1, -(-units // 66))
    assert parts(text + "a") >= count


def test_the_text_is_body_signature_and_webotp_line() -> None:
    composed = texts("{site}: {code}", site="Chenar", signature="bye", webotp_host="chenar.example")
    assert composed.compose(CODE, "fa") == f"Chenar: {CODE}\nbye\n@chenar.example #{CODE}"


def test_without_a_host_and_a_signature_there_is_the_body_alone() -> None:
    assert texts("{code}").compose(CODE, "fa") == CODE


def test_a_language_that_has_no_text_gets_one_that_is_there() -> None:
    assert texts("fa {code}").compose(CODE, "de") == f"fa {CODE}"


def test_what_does_not_fit_goes_in_order_signature_then_webotp_line() -> None:
    host = "example.com"  # with the code: 20 characters and a line end
    for length, expected in (
        (30, "body signature webotp"),
        (43, "body webotp"),
        (63, "body"),
    ):
        composed = texts("س" * (length - 6) + "{code}", signature="s" * 15, webotp_host=host)
        lines = composed.compose(CODE, "fa").split("\n")
        named = ["webotp" if line.startswith("@") else line[:1] for line in lines]
        named = [{"س": "body", "s": "signature"}.get(name, name) for name in named]
        assert " ".join(named) == expected, length


def test_what_never_fits_is_refused_by_name() -> None:
    too_long = texts("س" * 70 + "{code}")
    with pytest.raises(ConfigurationError, match=r"SMSVERIFY_CODE_TEXT \(fa\)"):
        too_long.check(6)


def test_a_text_with_a_webotp_line_has_140_characters_at_most() -> None:
    host = "example.com"
    composed = texts("a" * 120 + "{code}", webotp_host=host).compose(CODE, "fa")
    assert "@" not in composed
    fits = texts("a" * 113 + "{code}", webotp_host=host).compose(CODE, "fa")
    assert fits.endswith(f"\n@{host} #{CODE}")
    assert len(fits) == WEBOTP_MAX_LENGTH


@given(
    st.integers(0, 70),
    st.integers(0, 40),
    st.sampled_from([None, "example.com", "a.very.long.host.of.an.example.company.example"]),
    st.sampled_from("aس"),
)
def test_a_text_of_a_code_is_one_part_and_holds_the_code(
    body: int, signature: int, host: str | None, letter: str
) -> None:
    composed = CodeTexts({"fa": letter * body + "{code}"}, "x", "s" * signature, host)
    try:
        text = composed.compose(CODE, "fa")
    except ConfigurationError:
        assert parts(letter * body + CODE) > 1
        return
    assert parts(text) == 1
    assert CODE in text
    if "\n@" in text:
        assert len(text) <= WEBOTP_MAX_LENGTH
        assert text.split("\n")[-1] == f"@{host} #{CODE}"


@pytest.mark.parametrize("template", [*CODE_TEXTS.values(), "{code}", "{site}{code}{code} {{x}}"])
def test_a_text_with_code_and_site_is_taken(template: str) -> None:
    assert checked_template(template) == template
    texts(template).check(10)


@pytest.mark.parametrize(
    "template",
    [
        "",
        "no code",
        "{site}",
        "{}",
        "{0}",
        "{code} {name}",
        "{code.__class__}",
        "{code[0]}",
        "{code!r}",
        "{code!x}",
        "{code:>9}",
        "{code:d}",
        "{code:{site}}",
        "{code:>999999999999}",
        "{code} {site!s}",
        "{code",
        "code}",
        "{{code}}",
    ],
)
def test_a_text_with_anything_else_is_refused(template: str) -> None:
    with pytest.raises(ConfigurationError, match="SMSVERIFY_CODE_TEXT"):
        checked_template(template)


def test_the_host_of_the_webotp_line_is_the_servers_name_and_not_its_port(
    make_app: MakeApp, sqlite: str
) -> None:
    app = make_app(sqlite, SERVER_NAME="shop.example:8443", SMSVERIFY_SIGNATURE="chenar")
    browser(app).post(SEND, headers={"Accept-Language": "en"})
    code = phone(app).last.code
    assert phone(app).last.text == (
        f"Your host verification code is {code}\nchenar\n@shop.example #{code}"
    )


def test_the_text_speaks_the_visitors_language(make_app: MakeApp, sqlite: str) -> None:
    app = make_app(sqlite, SMSVERIFY_SITE_NAME="چنار")
    browser(app).post(SEND, headers={"Accept-Language": "fa"})
    assert phone(app).last.text.startswith("کد تأیید شما در چنار")


def test_a_value_that_looks_like_a_field_is_put_in_as_it_is() -> None:
    """Case 46 of docs/safety.md: a text is filled in once, and from code and site alone."""
    for site in ("{code}", "{code.__class__}", "{0}", "{site.__init__.__globals__}", "%(code)s {"):
        composed = texts("{site}: {code}", site=site).compose(CODE, "fa")
        assert composed == f"{site}: {CODE}"
