"""Languages: choice of locale, catalogues, formats, plural forms and the texts of problems."""

import ast
import gettext
import io
import re
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from io import BytesIO
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pytest
from babel.messages import extract, mofile, pofile
from babel.messages.catalog import Catalog
from babel.messages.frontend import parse_keywords, parse_mapping_cfg
from conftest import MakeApp
from flask import Flask, render_template_string
from markupsafe import Markup
from visiting import SEND, STATUS, browser, phone, set_user

import flask_smsverify
from flask_smsverify.errors import PROBLEMS
from flask_smsverify.i18n import catalogue as catalogues
from flask_smsverify.i18n import locales
from flask_smsverify.i18n.catalogue import available_locales, default_locale
from flask_smsverify.i18n.problems import problem_text
from flask_smsverify.locale import select_locale
from flask_smsverify.messaging.event_catalogue import BUILT_IN
from flask_smsverify.web.interface import Interface

PACKAGE = Path(flask_smsverify.__file__).parent
TRANSLATIONS = PACKAGE / "translations"
CONFIGURATION = (PACKAGE / "translations/babel.cfg").read_text("utf-8")
PLACEHOLDER = re.compile(r"%\(\w+\)s|\{\{[^}]*\}\}|\{\w+\}")
#: Values that a problem's description depends on; each problem is also described without values.
VALUES: dict[str, list[dict[str, object]]] = {
    "invalid_code": [
        {"problem": problem}
        for problem in ("empty", "not_text", "not_digits", "too_short", "too_long")
    ],
    "invalid_mobile": [{"problem": "not_text"}],
    "wrong_code": [{"attempts_left": left} for left in (0, 1, 4)],
    "too_soon": [{"retry_after": wait} for wait in (1, 29, 60, 600, 7200, 400_000)],
    "rate_limited": [
        {"retry_after": 3600, "scope": scope}
        for scope in ("mobile", "user", "mobiles_per_user", "ip", "foreign", "site", "failures")
    ],
    "too_many_attempts": [{"retry_after": 540}],
    "channel_unavailable": [{"channel": "voice"}, {"channel": "sms"}],
    "send_failed": [{"maybe_sent": True}],
}

#: Locale → characters of other languages, which its texts do not have.
FOREIGN = {
    "en": "[\u0600-\u06ff]",
    "fa": "[يكىة٠-٩0-9A-Za-z?;]",
    "ar": "[یکپچژگۀ۰-۹٠-٩A-Za-z?;]",
}
NOTHING = "(?!)"

fa = Interface(lambda: "fa")
en = Interface(lambda: "en")


@pytest.fixture
def app() -> Flask:
    return Flask(__name__)


@pytest.fixture(scope="module", params=available_locales()[1:])
def catalogue(request: pytest.FixtureRequest) -> Catalog:
    """Every language but English, whose texts are the messages themselves."""
    locale: str = request.param
    with compiled_file(locale).with_suffix(".po").open("rb") as file:
        return pofile.read_po(file, locale=locale)


def compiled_file(locale: object) -> Path:
    return TRANSLATIONS / f"{locale}/LC_MESSAGES/smsverify.mo"


def text_of(code: str, ui: Interface, **values: object) -> tuple[str, str]:
    """Return the title and the detail of a problem."""
    return problem_text(PROBLEMS[code], values, ui.translator)


def forms(text: str | tuple[str, ...]) -> tuple[str, ...]:
    """Return the plural forms of a message; a message without plural has one form."""
    return (text,) if isinstance(text, str) else tuple(text)


def fixed_forms(catalogue: Catalog) -> set[int]:
    """Return the plural forms that stand for one number only, so that a word may replace it."""
    plural = gettext.c2py(catalogue.plural_expr)  # type: ignore[attr-defined]  # not in typeshed
    numbers = Counter(plural(number) for number in range(1000))
    return {form for form, count in numbers.items() if count == 1}


def messages_in_use() -> Iterator[str | tuple[str, ...]]:
    """Extract every message, as the commands in babel.cfg do."""
    methods, options = parse_mapping_cfg(io.StringIO(CONFIGURATION))
    keywords = extract.DEFAULT_KEYWORDS | parse_keywords(re.findall(r"-k (\S+)", CONFIGURATION))
    for _, _, message, *_ in extract.extract_from_dir(PACKAGE, methods, options, keywords=keywords):
        yield message


# --- the catalogue ----------------------------------------------------------------------------


def test_the_catalogue_has_exactly_the_messages_in_use_and_all_are_translated(
    catalogue: Catalog,
) -> None:
    used = set(messages_in_use())
    assert len(used) > 100
    assert {entry.id for entry in catalogue if entry.id} == used
    for entry in catalogue:
        if entry.id:
            assert all(forms(entry.string)), entry.id
            assert not entry.fuzzy, entry.id


def test_every_problem_and_default_text_is_among_the_extracted_messages() -> None:
    used = {form for message in messages_in_use() for form in forms(message)}
    for error in PROBLEMS.values():
        assert error.title in used
    for event in BUILT_IN:
        assert set(event.texts.values()) <= used


def test_each_translation_has_the_placeholders_of_its_message(catalogue: Catalog) -> None:
    for entry in catalogue:
        if not entry.id:
            continue
        expected = sorted(PLACEHOLDER.findall(forms(entry.id)[0]))
        fixed = fixed_forms(catalogue) if isinstance(entry.id, tuple) else set()
        for number, form in enumerate(forms(entry.string)):
            found = sorted(PLACEHOLDER.findall(form))
            assert found == expected or (number in fixed and not found), form
        for form in (*forms(entry.id), *forms(entry.string)):
            assert "%" not in PLACEHOLDER.sub("", form), form


def test_each_plural_has_as_many_forms_as_its_language(catalogue: Catalog) -> None:
    for entry in catalogue:
        if isinstance(entry.id, tuple):
            assert len(forms(entry.string)) == catalogue.num_plurals, entry.id


def test_texts_have_only_the_letters_and_digits_of_their_language(catalogue: Catalog) -> None:
    foreign = FOREIGN.get(str(catalogue.locale), NOTHING)
    for entry in catalogue:
        if entry.id:
            for form in forms(entry.string):
                text = re.sub("`[^`]*`", "", PLACEHOLDER.sub("", form))
                assert not re.search(foreign, text), entry.id


def test_the_compiled_catalogue_matches_the_text_file(catalogue: Catalog) -> None:
    fresh = BytesIO()
    mofile.write_mo(fresh, catalogue)
    fresh.seek(0)
    wanted = gettext.GNUTranslations(fresh)
    with compiled_file(catalogue.locale).open("rb") as compiled:
        committed = gettext.GNUTranslations(compiled)
    for message in messages_in_use():
        singular, *rest = forms(message)
        assert committed.gettext(singular) == wanted.gettext(singular)
        for plural in rest:
            for count in (0, 1, 2, 3, 11, 100):
                assert committed.ngettext(singular, plural, count) == wanted.ngettext(
                    singular, plural, count
                )


def test_the_commands_that_update_the_catalogues_change_nothing_that_is_up_to_date(
    tmp_path: Path,
) -> None:
    package = shutil.copytree(PACKAGE, tmp_path / PACKAGE.name)
    commands = re.findall(r"^# +(pybabel .+)$", CONFIGURATION, re.MULTILINE)
    assert len(commands) == 3
    for command in commands:
        subprocess.run(
            [sys.executable, "-P", "-m", "babel.messages.frontend", *shlex.split(command)[1:]],
            cwd=package,
            check=True,
            capture_output=True,
        )
    for file in PACKAGE.glob("translations/*/LC_MESSAGES/*.po"):
        assert (package / file.relative_to(PACKAGE)).read_text("utf-8") == file.read_text("utf-8")


def test_no_message_is_translated_inside_an_f_string_where_extraction_misses_it() -> None:
    names = {"_", "_n", "t", "n", "gettext", "ngettext"}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.JoinedStr):
                for call in (part for part in ast.walk(node) if isinstance(part, ast.Call)):
                    name = getattr(call.func, "id", getattr(call.func, "attr", None))
                    assert name not in names, path


def test_no_module_names_a_translated_language() -> None:
    """English is the language of the messages; every other one is known by its catalogue alone."""
    modules = [
        path
        for part in ("i18n", "messaging", "verification", "web")
        for path in (PACKAGE / part).rglob("*.py")
    ]
    for path in (*modules, PACKAGE / "locale.py", PACKAGE / "extension.py"):
        assert not re.search("""["'](fa|fa_IR|fas|per|ar|ara)["']""", path.read_text("utf-8")), path


# --- the choice of locale ---------------------------------------------------------------------


def selected(locale: str | None = None) -> str:
    return select_locale(lambda: locale, ("en", "fa"), default="fa")


def test_the_browser_chooses_between_the_available_languages(app: Flask) -> None:
    for header, locale in {
        "fa-IR,fa;q=0.9": "fa",
        "en-US,en;q=0.9": "en",
        "de,en;q=0.5": "en",
        "de": "fa",
        "en;q=0.3,fa;q=0.8": "fa",
        "fa-IR,en;q=0.5": "fa",
        "en-US,fa;q=0.5": "en",
        "en-GB,en-US;q=0.9,fa;q=0.1": "en",
        "*,en;q=0.5": "en",
        "fa;q=0,de": "fa",
        "en;q=0,fa;q=0.1": "fa",
        "fas,en;q=0.5": "fa",
        "en," * 400: "fa",
        "x-y_z-,;q=1,é": "fa",
    }.items():
        with app.test_request_context(headers={"Accept-Language": header}):
            assert select_locale(None, ("en", "fa"), default="fa") == locale, header


def test_the_default_locale_is_used_outside_a_request() -> None:
    assert select_locale(None, ("en", "fa"), default="fa") == "fa"
    assert select_locale(None, ("en", "fa")) == "en"


def test_the_default_locale_is_an_official_language_of_the_region() -> None:
    for region, locale in {"IR": "fa", "AF": "fa", "US": "en", "DE": "en", "ZZ": "en"}.items():
        assert default_locale(region) == locale, region


def test_the_host_apps_choice_overrides_the_browsers(app: Flask) -> None:
    for locale, expected in {
        "fa": "fa",
        "fa_IR": "fa",
        "fa-AF": "fa",
        "en_GB": "en",
        "de": "en",
        "FA": "fa",
    }.items():
        header = "en" if expected == "fa" else "fa"
        with app.test_request_context(headers={"Accept-Language": header}):
            assert selected(locale) == expected, locale
    with app.test_request_context(headers={"Accept-Language": "en"}):
        assert selected(None) == "en"


def test_a_locale_getter_that_fails_is_ignored_outside_a_request_only(app: Flask) -> None:
    def fail() -> str:
        raise LookupError

    assert select_locale(fail, ("en", "fa"), default="fa") == "fa"
    with app.test_request_context(), pytest.raises(LookupError):
        select_locale(fail, ("en", "fa"))


def test_flask_babel_decides_where_the_host_app_uses_it(app: Flask) -> None:
    flask_babel = pytest.importorskip("flask_babel")
    chosen = ["fa"]
    flask_babel.Babel(app, locale_selector=lambda: chosen[0])
    with app.test_request_context(headers={"Accept-Language": "en"}):
        assert selected("en") == "fa"
    chosen[0] = "en_US"
    with app.test_request_context(headers={"Accept-Language": "fa"}):
        assert selected("fa") == "en"


def test_another_extension_named_babel_does_no_harm(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    app.extensions["babel"] = object()
    monkeypatch.setitem(sys.modules, "flask_babel", None)
    with app.test_request_context(headers={"Accept-Language": "en"}):
        assert selected() == "en"
        assert Interface().time(datetime(2025, 3, 21, 9, 30, tzinfo=UTC)) == "09:30 UTC"


# --- formats ----------------------------------------------------------------------------------


def test_numbers_have_the_readers_digits() -> None:
    assert fa.number(1234567890) == "۱۲۳۴۵۶۷۸۹۰"
    assert en.number(42) == "42"
    message = "%(count)s attempt left", "%(count)s attempts left"
    assert fa.n(*message, 3).startswith("۳")
    assert [en.n(*message, count) for count in (1, 3)] == ["1 attempt left", "3 attempts left"]


def test_a_countdown_reads_as_a_clock() -> None:
    clocks = [en.clock(seconds) for seconds in (-5, 0, 9, 65, 3605)]
    assert clocks == ["0:00", "0:00", "0:09", "1:05", "1:00:05"]
    assert fa.clock(65) == "۱:۰۵"


def test_a_value_with_markup_is_escaped_by_the_template(app: Flask) -> None:
    text = en.t("Try again %(when)s.", when=Markup("<b>100%</b>"))
    assert type(text) is str
    with app.app_context():
        page = render_template_string("{{ text }}", text=text)
    assert page == "Try again &lt;b&gt;100%&lt;/b&gt;."


def test_a_message_without_values_may_contain_a_percent_sign() -> None:
    assert en.t("100% sure") == "100% sure"


def test_persian_dates_are_jalali() -> None:
    pytest.importorskip("persiantools")
    assert fa.date(date(2025, 3, 21)) == "۱ فروردین ۱۴۰۴"
    assert en.date(date(2025, 3, 21)) == "21 March 2025"


def test_persian_dates_are_gregorian_without_persiantools(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "persiantools", None)
    monkeypatch.setitem(sys.modules, "persiantools.jdatetime", None)
    assert fa.date(date(2025, 3, 21)) == "۲۱ مارس ۲۰۲۵"


def test_persian_readers_see_the_time_in_tehran_and_others_a_named_utc() -> None:
    moment = datetime(2025, 3, 20, 21, 30, tzinfo=UTC)
    assert fa.time(moment) == "۰۱:۰۰"
    assert fa.date(moment) == "۱ فروردین ۱۴۰۴"
    assert fa.datetime(moment) == "۱ فروردین ۱۴۰۴، ساعت ۰۱:۰۰"
    assert en.datetime(moment) == "20 March 2025, 21:30 UTC"


def test_the_host_apps_time_zone_is_used(app: Flask) -> None:
    moment = datetime(2025, 1, 1, 12, 0, tzinfo=UTC)
    assert Interface(lambda: "en", timezone="Europe/Berlin").time(moment) == "13:00"
    app.config["BABEL_DEFAULT_TIMEZONE"] = "Asia/Tokyo"
    with app.app_context():
        assert en.time(moment) == "21:00"


def test_flask_babels_time_zone_is_used_where_the_host_app_set_one(app: Flask) -> None:
    flask_babel = pytest.importorskip("flask_babel")
    moment = datetime(2025, 1, 1, 12, 0, tzinfo=UTC)
    flask_babel.Babel(app, default_locale="fa")
    with app.test_request_context():
        assert Interface().time(moment) == "۱۵:۳۰"
    other = Flask("other")
    flask_babel.Babel(other, default_locale="en", timezone_selector=lambda: "Asia/Tokyo")
    with other.test_request_context():
        assert Interface().time(moment) == "21:00"


def test_the_time_in_tehran_is_right_without_a_time_zone_database(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_database(name: str) -> None:
        raise ZoneInfoNotFoundError(name)

    monkeypatch.setattr(locales, "ZoneInfo", no_database)
    locales.load_timezone.cache_clear()
    try:
        assert fa.time(datetime(2025, 7, 1, 12, 0, tzinfo=UTC)) == "۱۵:۳۰"
        with pytest.raises(ZoneInfoNotFoundError):
            Interface(timezone="Nowhere/Land")
    finally:
        locales.load_timezone.cache_clear()


def test_a_language_of_many_countries_has_no_usual_time_zone() -> None:
    moment = datetime(2025, 3, 20, 21, 30, tzinfo=UTC)
    assert Interface(lambda: "ar").datetime(moment) == "20 مارس 2025، 21:30 UTC"
    assert locales.usual_timezone("ar_EG") == ZoneInfo("Africa/Cairo")


def test_no_time_is_written_as_an_empty_text() -> None:
    assert (fa.date(None), fa.time(None), fa.datetime(None)) == ("", "", "")


def test_a_time_without_a_zone_is_utc() -> None:
    naive = datetime(2025, 1, 1, 12, 0, tzinfo=UTC).replace(tzinfo=None)
    assert fa.time(naive) == "۱۵:۳۰"


def test_a_wait_is_rounded_up_and_never_too_short() -> None:
    for seconds, text in {
        0: "in 1 second",
        0.2: "in 1 second",
        59: "in 59 seconds",
        60: "in 1 minute",
        61: "in 2 minutes",
        5400: "in 90 minutes",
        5401: "in 2 hours",
        timedelta(hours=36).total_seconds(): "in 36 hours",
        timedelta(hours=37).total_seconds(): "in 2 days",
        timedelta(days=40).total_seconds(): "in 40 days",
    }.items():
        assert en.wait(seconds) == text
    assert fa.wait(600) == "۱۰ دقیقه بعد"


# --- problems and notices ---------------------------------------------------------------------


def test_every_problem_has_a_title_and_sentences_in_each_language() -> None:
    for code in PROBLEMS:
        for values in ({}, *VALUES.get(code, [])):
            for locale in available_locales():
                ui = Interface(lambda locale=locale: locale)
                title, detail = text_of(code, ui, **values)
                assert title, (code, values)
                assert not title.endswith(".")
                assert detail.endswith(".")
                assert "%" not in title + detail
                assert not re.search(FOREIGN.get(locale, NOTHING), title + detail), (code, values)


def test_the_problems_of_an_invalid_code_have_different_texts() -> None:
    problems = ("empty", "not_text", "not_digits", "too_short", "too_long", "else")
    assert len({text_of("invalid_code", en, problem=problem) for problem in problems}) == 6


def test_a_wrong_code_says_how_many_attempts_are_left() -> None:
    for left, text in {4: "4 attempts left.", 1: "1 attempt left.", 0: "last attempt"}.items():
        assert text in text_of("wrong_code", en, attempts_left=left)[1]
    assert "۴" in text_of("wrong_code", fa, attempts_left=4)[1]


def test_a_limit_says_when_it_is_over() -> None:
    ar = Interface(lambda: "ar")
    for code in ("too_soon", "rate_limited", "too_many_attempts"):
        assert "in 10 minutes" in text_of(code, en, retry_after=600)[1]
        assert "۱۰ دقیقه بعد" in text_of(code, fa, retry_after=600)[1]
        assert "خلال 10 دقائق" in text_of(code, ar, retry_after=600)[1]


def test_a_locked_account_is_referred_to_support_without_a_wait() -> None:
    _, detail = text_of("account_locked", en)
    assert "support" in detail
    assert "again" not in detail


def test_the_problem_of_a_missing_csrf_token_names_its_url() -> None:
    for ui in (fa, en):
        _, detail = text_of("csrf", ui, status_url="/status", header="X-CSRFToken")
        assert "/status" in detail
        assert "X-CSRFToken" in detail
        assert "csrf_token" in detail


# --- a third language -------------------------------------------------------------------------


def test_a_third_language_is_a_catalogue_and_nothing_else(make_app: MakeApp, sqlite: str) -> None:
    app = make_app(sqlite, SMSVERIFY_SITE_NAME="چنار", SMSVERIFY_DEFAULT_REGION="IR")
    client = browser(app)
    arabic = {"Accept-Language": "ar-IQ,ar;q=0.9,fa;q=0.5"}
    page = client.get(client.post(SEND, headers=arabic).location, headers=arabic).text
    assert '<html lang="ar" dir="rtl">' in page
    assert "أدخل الرمز الوارد في الرسالة النصية" in page
    assert re.search(">0:[0-5][0-9]</span>", page)  # the countdown
    assert 'data-sv-intl="ar-u-nu-latn"' in page
    code = phone(app).last.code
    assert phone(app).last.text == f"رمز التحقق من چنار: {code}"
    assert client.get(STATUS, headers=arabic).json["state"] == "pending"
    # The other languages are not affected.
    assert 'lang="fa" dir="rtl"' in client.get("/verify-mobile/").text


def test_arabic_has_its_six_plural_forms() -> None:
    ar = Interface(lambda: "ar")
    message = "%(count)s attempt left", "%(count)s attempts left"
    assert {count: ar.n(*message, count) for count in (0, 1, 2, 3, 10, 11, 99, 100, 102, 103)} == {
        0: "لم تتبقَّ محاولات",
        1: "تبقت محاولة واحدة",
        2: "تبقت محاولتان",
        3: "تبقت 3 محاولات",
        10: "تبقت 10 محاولات",
        11: "تبقت 11 محاولة",
        99: "تبقت 99 محاولة",
        100: "تبقت 100 محاولة",
        102: "تبقت 102 محاولة",
        103: "تبقت 103 محاولات",
    }
    recipients = "Send to %(count)s recipient", "Send to %(count)s recipients"
    assert [ar.n(*recipients, count) for count in (3, 11, 100)] == [
        "الإرسال إلى 3 مستلمين",
        "الإرسال إلى 11 مستلمًا",
        "الإرسال إلى 100 مستلم",
    ]


EGYPTIAN: dict[str | tuple[str, str], str | tuple[str, ...]] = {
    "Your {site} verification code is {code}": "كود التحقق من {site}: {code}",
    "Your mobile number was confirmed for another {{ site }} account. It is no longer valid for "
    "the previous account.": "رقمك مؤكد الآن لحساب آخر في {{ site }}.",
    ("%(count)s attempt left", "%(count)s attempts left"): (
        "لا محاولات",
        "محاولة واحدة",
        "محاولتان",
        "%(count)s محاولات",
        "%(count)s محاولة أخرى",
        "%(count)s محاولة",
    ),
}


@pytest.fixture
def with_egyptian(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Add a catalogue of a language in one country to those of the package."""
    catalogue = Catalog(locale="ar_EG")
    for message, text in EGYPTIAN.items():
        catalogue.add(message, text)
    folder = tmp_path / "translations"
    shutil.copytree(TRANSLATIONS, folder)
    (folder / "ar_EG/LC_MESSAGES").mkdir(parents=True)
    with (folder / "ar_EG/LC_MESSAGES/smsverify.mo").open("wb") as file:
        mofile.write_mo(file, catalogue)
    monkeypatch.setattr(catalogues, "FOLDER", folder)


@pytest.mark.usefixtures("with_egyptian")
def test_a_language_of_one_country_has_its_own_digits_formats_and_time_zone() -> None:
    assert available_locales() == ("en", "ar", "ar_EG", "fa")
    ar = Interface(lambda: "ar-EG")
    left = [ar.n("%(count)s attempt left", "%(count)s attempts left", n) for n in (1, 2, 5, 11)]
    assert left == ["محاولة واحدة", "محاولتان", "٥ محاولات", "١١ محاولة"]
    moment = datetime(2025, 3, 21, 9, 30, tzinfo=UTC)
    assert (ar.date(moment), ar.time(moment)) == ("٢١ مارس ٢٠٢٥", "١١:٣٠")
    assert [ar.wait(60), ar.wait(120), ar.wait(300)] == [
        "خلال دقيقة واحدة",
        "خلال دقيقتين",
        "خلال ٥ دقائق",
    ]
    [transferred] = [event for event in BUILT_IN if event.name == "mobile.transferred"]
    text = transferred.default_text("user", "ar_EG")
    assert text == "رقمك مؤكد الآن لحساب آخر في {{ site }}."
    assert ar.t("Confirm") == "تأكيد"  # the language's own catalogue has what this one lacks


@pytest.mark.usefixtures("with_egyptian")
def test_the_code_text_can_be_set_in_the_language_of_one_country(
    make_app: MakeApp, sqlite: str
) -> None:
    app = make_app(sqlite, SMSVERIFY_CODE_TEXT={"ar-EG": "{code} رمزك"})
    set_user(app, mobile="+989123450001")
    client = browser(app)
    client.post(SEND, headers={"Accept-Language": "ar-EG"})
    assert phone(app).last.text == f"{phone(app).last.code} رمزك"
