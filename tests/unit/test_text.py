"""The text of a code, and how many SMS segments a text takes."""

from __future__ import annotations

import pytest
from conftest import MakeApp
from hypothesis import given
from hypothesis import strategies as st
from visiting import SEND, browser, forget_limits, phone

from flask_smsverify.errors import ConfigurationError
from flask_smsverify.i18n.catalogue import available_locales
from flask_smsverify.i18n.code_text import (
    WEBOTP_MAX_LENGTH,
    CodeTexts,
    built_in_template,
    check_template,
    code_templates,
)
from flask_smsverify.i18n.segments import count_segments

CODE = "012345"


def compose(template: str, *, site: str = "x", signature: str = "", host: str | None = None) -> str:
    """Return the text of a code whose only template is Persian."""
    return CodeTexts({"fa": template}, host).compose(CODE, "fa", site=site, signature=signature)


GSM_BASIC = (
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡"
    "ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
GSM_EXTENSION = "\f^{}\\[~]|€"


def test_segments_are_counted_by_the_rules_of_3gpp_ts_23_038() -> None:
    for text, count in {
        "": 1,
        "a" * 160: 1,
        "a" * 161: 2,
        "a" * 306: 2,
        "a" * 307: 3,
        GSM_BASIC: 1,
        GSM_EXTENSION * 8: 1,
        GSM_EXTENSION * 8 + "a": 2,
        "€" * 80: 1,
        "€" * 81: 2,
        "\f" * 81: 2,
        "[x]{y}\\^~|" * 10: 2,
        "a" * 152 + "€" + "a" * 152: 3,  # `€` takes two septets and is not split
        "ΔΦΓΛΩΠΨΣΘΞ" * 16: 1,
        "àèéìòùÄÖÑÜäöñüß§¿¡ÆæØøÅåÇ¤£¥" * 5: 1,
        "a\r\n" * 53: 1,
        "ç" * 70: 1,  # the small letter is not in the default alphabet
        "ç" * 71: 2,
        "`" * 71: 2,
        "\t" * 71: 2,
        "\x1b" + "a" * 70: 2,  # the escape is not a character
        "س" * 70: 1,
        "س" * 71: 2,
        "س" * 134: 2,
        "س" * 135: 3,
        "😀" * 35: 1,
        "😀" * 36: 2,
        "س" * 66 + "😀" + "س" * 66: 3,  # a character of two UTF-16 units is not split
        "a" * 159 + "😀": 3,
        "it’s " * 15: 2,
        "a" * 69 + "\u200c": 1,
    }.items():
        assert count_segments(text) == count, text


@given(
    st.sampled_from(
        [GSM_BASIC, GSM_BASIC + GSM_EXTENSION * 9, GSM_EXTENSION, "aب😀", "a😀", "ç€é", "aΔ€[`"]
    ).flatmap(lambda alphabet: st.text(alphabet, max_size=700))
)
def test_segments_are_those_of_a_count_of_each_character(text: str) -> None:
    if set(text) <= set(GSM_BASIC + GSM_EXTENSION):
        sizes, single, multiple = [2 if char in GSM_EXTENSION else 1 for char in text], 160, 153
    else:
        sizes, single, multiple = [2 if char > "\uffff" else 1 for char in text], 70, 67
    segments, used = 1, 0
    for size in sizes:
        if used + size > multiple:
            segments, used = segments + 1, 0
        used += size
    assert count_segments(text) == (1 if sum(sizes) <= single else segments)


@given(st.text(max_size=400))
def test_there_are_never_fewer_segments_than_the_units_need(text: str) -> None:
    units = len(text.encode("utf-16-le", "surrogatepass")) // 2
    count = count_segments(text)
    assert 1 <= count <= max(1, -(-units // 66))
    assert count_segments(text + "a") >= count


def test_the_text_is_body_signature_and_webotp_line() -> None:
    text = compose("{site}: {code}", site="Chenar", signature="bye", host="chenar.example")
    assert text == f"Chenar: {CODE}\nbye\n@chenar.example #{CODE}"


def test_without_host_and_signature_the_text_is_the_body_alone() -> None:
    assert compose("{code}") == CODE


def test_a_language_without_a_text_gets_the_first_one() -> None:
    assert CodeTexts({"fa": "fa {code}"}).compose(CODE, "de", site="x") == f"fa {CODE}"


def test_a_text_that_is_too_long_loses_the_signature_then_the_webotp_line() -> None:
    host = "example.com"  # with the code: 20 characters and a line end
    for length, expected in (
        (30, "body signature webotp"),
        (43, "body webotp"),
        (63, "body"),
    ):
        template = "س" * (length - 6) + "{code}"
        lines = compose(template, signature="s" * 15, host=host).split("\n")
        named = ["webotp" if line.startswith("@") else line[:1] for line in lines]
        named = [{"س": "body", "s": "signature"}.get(name, name) for name in named]
        assert " ".join(named) == expected, length


def test_a_text_that_never_fits_is_refused_with_its_language() -> None:
    too_long = CodeTexts({"fa": "س" * 70 + "{code}"})
    with pytest.raises(ConfigurationError, match=r"SMSVERIFY_CODE_TEXT \(fa\)"):
        too_long.check(6, sites={"fa": "x"})


def test_a_text_with_a_webotp_line_has_at_most_140_characters() -> None:
    host = "example.com"
    assert "@" not in compose("a" * 120 + "{code}", host=host)
    fits = compose("a" * 113 + "{code}", host=host)
    assert fits.endswith(f"\n@{host} #{CODE}")
    assert len(fits) == WEBOTP_MAX_LENGTH


@given(
    st.integers(0, 70),
    st.integers(0, 40),
    st.sampled_from([None, "example.com", "a.very.long.host.of.an.example.company.example"]),
    st.sampled_from("aس"),
)
def test_the_text_of_a_code_is_one_segment_and_contains_the_code(
    body: int, signature: int, host: str | None, letter: str
) -> None:
    try:
        text = compose(letter * body + "{code}", signature="s" * signature, host=host)
    except ConfigurationError:
        assert count_segments(letter * body + CODE) > 1
        return
    assert count_segments(text) == 1
    assert CODE in text
    if "\n@" in text:
        assert len(text) <= WEBOTP_MAX_LENGTH
        assert text.split("\n")[-1] == f"@{host} #{CODE}"


def test_a_text_with_code_and_site_is_accepted() -> None:
    built_in = map(built_in_template, available_locales())
    for template in (*built_in, "{code}", "{site}{code}{code} {{x}}"):
        assert check_template(template) == template
        CodeTexts({"fa": template}).check(10, sites={"fa": "x"})


def test_a_text_with_any_other_field_is_refused() -> None:
    for template in (
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
    ):
        with pytest.raises(ConfigurationError, match="SMSVERIFY_CODE_TEXT"):
            check_template(template)


def test_a_configured_text_replaces_the_built_in_text_of_its_languages() -> None:
    assert code_templates(None) == {
        "en": "Your {site} verification code is {code}",
        "ar": "رمز التحقق من {site}: {code}",
        "fa": "کد تأیید {site}: {code}",
    }
    assert code_templates("{code}!") == dict.fromkeys(available_locales(), "{code}!")
    assert code_templates({"fa_IR": "{code}!"}) == {**code_templates(None), "fa": "{code}!"}


def test_a_text_in_an_unknown_language_is_refused_with_the_known_ones(
    make_app: MakeApp, sqlite: str
) -> None:
    with pytest.raises(ConfigurationError, match=r"'de'.*en, ar, fa"):
        make_app(sqlite, SMSVERIFY_CODE_TEXT={"de": "{code}"})


def test_the_webotp_line_has_the_host_of_the_server_name_without_its_port(
    make_app: MakeApp, sqlite: str
) -> None:
    app = make_app(sqlite, SERVER_NAME="shop.example:8443", SMSVERIFY_SIGNATURE="chenar")
    browser(app).post(SEND, headers={"Accept-Language": "en"})
    code = phone(app).last.code
    assert phone(app).last.text == (
        f"Your host verification code is {code}\nchenar\n@shop.example #{code}"
    )


def test_the_text_is_in_the_visitors_language(make_app: MakeApp, sqlite: str) -> None:
    app = make_app(sqlite, SMSVERIFY_SITE_NAME="چنار")
    browser(app).post(SEND, headers={"Accept-Language": "fa"})
    assert phone(app).last.text.startswith("کد تأیید چنار: ")


def test_codes_and_pages_have_the_name_and_signature_of_their_language(
    make_app: MakeApp, sqlite: str
) -> None:
    app = make_app(
        sqlite,
        SMSVERIFY_SITE_NAME={"fa": "چنار", "en": "Chenar"},
        SMSVERIFY_SIGNATURE={"fa": "چنار دات کام", "en": "chenar.com"},
    )
    for locale, text, name in (
        ("en", "Your Chenar verification code is {}\nchenar.com", "Chenar"),
        ("fa", "کد تأیید چنار: {}\nچنار دات کام", "چنار"),
        ("ar", "رمز التحقق من چنار: {}\nچنار دات کام", "چنار"),
    ):
        client = browser(app)
        language = {"Accept-Language": locale}
        page = client.get(client.post(SEND, headers=language).location, headers=language).text
        assert phone(app).last.text == text.format(phone(app).last.code)
        assert f"– {name}</title>" in page
        forget_limits(app)


def test_a_site_name_that_looks_like_a_field_is_inserted_unchanged() -> None:
    """Case 46 of docs/safety.md: fields are replaced once, by the code and the site alone."""
    for site in ("{code}", "{code.__class__}", "{0}", "{site.__init__.__globals__}", "%(code)s {"):
        assert compose("{site}: {code}", site=site) == f"{site}: {CODE}"


def test_the_hash_of_an_android_app_ends_a_text_where_it_fits() -> None:
    templates = {"en": "Your {site} code is {code}"}
    texts = CodeTexts(templates, "shop.example", "FA+9qCX9VSu")
    assert texts.compose("123456", "en", site="Shop", signature="Bye").splitlines() == [
        "Your Shop code is 123456",
        "Bye",
        "@shop.example #123456",
        "FA+9qCX9VSu",
    ]
    # The signature is left out first, then the hash, then the WebOTP line.
    for length, lines in ((85, 3), (91, 2), (105, 2), (125, 1)):
        site = "x" * length
        text = texts.compose("123456", "en", site=site, signature="Bye")
        assert len(text.splitlines()) == lines, length
        assert ("FA+9qCX9VSu" in text) is (length in (85, 105)), length
