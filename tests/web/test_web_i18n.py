"""The language of the pages: choice of language, catalogue, digits, dates, problem texts."""

import ast
import gettext
import re
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from io import BytesIO
from pathlib import Path
from zoneinfo import ZoneInfoNotFoundError

import pytest
from babel.messages import extract, mofile, pofile
from babel.messages.catalog import Catalog
from flask import Flask, render_template_string
from markupsafe import Markup

from flask_smsverify import web
from flask_smsverify.web import i18n
from flask_smsverify.web.i18n import Interface, in_how_long, select_locale
from flask_smsverify.web.problems import problem_text

PACKAGE = Path(web.__file__).parent.parent
PO = PACKAGE / "translations/fa/LC_MESSAGES/smsverify.po"
PLACEHOLDER = re.compile(r"%\((\w+)\)s")
CODES = [
    "csrf",
    "login_required",
    "verification_required",
    "fresh_login_required",
    "no_challenge",
    "mobile_taken",
    "mobile_required",
    "invalid_mobile",
    "region_not_allowed",
    "channel_unavailable",
    "invalid_code",
    "wrong_code",
    "code_expired",
    "invalid_request",
    "too_soon",
    "budget_spent",
    "too_many_attempts",
    "account_locked",
    "send_failed",
    "check_failed",
    "store_unavailable",
]
CASES: list[tuple[str, dict[str, object]]] = [
    *((code, {}) for code in CODES),
    ("something_new", {}),
    *(
        ("invalid_code", {"problem": problem})
        for problem in ("empty", "not_digits", "too_short", "too_long")
    ),
    *(("wrong_code", {"attempts_left": left}) for left in (0, 1, 4)),
    *(("too_soon", {"retry_after": wait}) for wait in (1, 29, 60, 600, 7200, 400_000)),
    *(
        ("budget_spent", {"retry_after": 3600, "scope": scope})
        for scope in ("mobile", "user", "mobiles_per_user", "ip", "foreign", "site", "failures")
    ),
    ("too_many_attempts", {"retry_after": 540}),
    ("channel_unavailable", {"channel": "voice"}),
    ("channel_unavailable", {"channel": "sms"}),
    ("send_failed", {"maybe_sent": True}),
]

fa = Interface(lambda: "fa")
en = Interface(lambda: "en")


@pytest.fixture
def app() -> Flask:
    return Flask(__name__)


@pytest.fixture(scope="module")
def catalogue() -> Catalog:
    with PO.open("rb") as file:
        return pofile.read_po(file, locale="fa")


def messages_in_use() -> Iterator[str]:
    """Every text that a module of `web` or a template hands to `t`."""
    for method, folder, pattern in (
        ("python", "web", "**.py"),
        ("jinja2", "templates/smsverify", "**.html"),
    ):
        found = extract.extract_from_dir(
            PACKAGE / folder, [(pattern, method)], keywords={"t": None, "sv_t": None}
        )
        for _, _, message, *_ in found:
            yield message if isinstance(message, str) else message[0]


def test_every_text_in_use_has_a_finished_persian_translation(catalogue: Catalog) -> None:
    used = set(messages_in_use())
    assert len(used) > 100
    for text in used:
        entry = catalogue.get(text)
        assert entry is not None, text
        assert entry.string, text
        assert not entry.fuzzy, text


def test_the_catalogue_holds_no_text_that_nobody_uses(catalogue: Catalog) -> None:
    assert {entry.id for entry in catalogue if entry.id} == set(messages_in_use())


def test_a_translation_has_the_placeholders_of_its_text(catalogue: Catalog) -> None:
    for entry in catalogue:
        if entry.id:
            assert sorted(PLACEHOLDER.findall(entry.id)) == sorted(
                PLACEHOLDER.findall(entry.string)
            )
            assert "%" not in PLACEHOLDER.sub("", entry.id + entry.string)


def test_persian_texts_use_persian_letters_and_digits_only(catalogue: Catalog) -> None:
    for entry in catalogue:
        if entry.id:
            assert not re.search("[يكىة٠-٩0-9A-Za-z?;]", PLACEHOLDER.sub("", entry.string)), (
                entry.id
            )


def test_the_compiled_catalogue_is_that_of_the_text_file(catalogue: Catalog) -> None:
    fresh = BytesIO()
    mofile.write_mo(fresh, catalogue)
    fresh.seek(0)
    with PO.with_suffix(".mo").open("rb") as compiled:
        committed = gettext.GNUTranslations(compiled)
    wanted = gettext.GNUTranslations(fresh)
    for text in messages_in_use():
        assert committed.gettext(text) == wanted.gettext(text)


def test_no_text_is_translated_inside_an_f_string_where_extraction_misses_it() -> None:
    for path in (PACKAGE / "web/problems.py", PACKAGE / "web/i18n.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.JoinedStr):
                inside = (part for part in ast.walk(node) if isinstance(part, ast.Call))
                assert not any(isinstance(c.func, ast.Name) and c.func.id == "t" for c in inside)


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("fa-IR,fa;q=0.9", "fa"),
        ("en-US,en;q=0.9", "en"),
        ("de,en;q=0.5", "en"),
        ("de", "fa"),
        ("en;q=0.3,fa;q=0.8", "fa"),
        ("fa-IR,en;q=0.5", "fa"),
        ("en-US,fa;q=0.5", "en"),
        ("en-GB,en-US;q=0.9,fa;q=0.1", "en"),
        ("*,en;q=0.5", "en"),
        ("fa;q=0,de", "fa"),
        ("en;q=0,fa;q=0.1", "fa"),
    ],
)
def test_the_browser_chooses_between_our_languages_and_persian_is_the_fallback(
    app: Flask, header: str, language: str
) -> None:
    with app.test_request_context(headers={"Accept-Language": header}):
        assert select_locale() == language


def test_persian_is_spoken_where_there_is_no_request() -> None:
    assert select_locale() == "fa"


@pytest.mark.parametrize(
    ("locale", "language"),
    [("fa", "fa"), ("fa_IR", "fa"), ("fa-AF", "fa"), ("en_GB", "en"), ("de", "en"), ("FA", "fa")],
)
def test_the_hosts_choice_goes_before_the_browsers(app: Flask, locale: str, language: str) -> None:
    with app.test_request_context(headers={"Accept-Language": "en" if language == "fa" else "fa"}):
        assert select_locale(lambda: locale) == language


def test_a_host_that_leaves_the_choice_open_gets_the_browsers(app: Flask) -> None:
    with app.test_request_context(headers={"Accept-Language": "en"}):
        assert select_locale(lambda: None) == "en"


def test_flask_babel_decides_where_the_host_uses_it(app: Flask) -> None:
    flask_babel = pytest.importorskip("flask_babel")
    chosen = ["fa"]
    flask_babel.Babel(app, locale_selector=lambda: chosen[0])
    with app.test_request_context(headers={"Accept-Language": "en"}):
        assert select_locale(lambda: "en") == "fa"
    chosen[0] = "en_US"
    with app.test_request_context(headers={"Accept-Language": "fa"}):
        assert select_locale(lambda: "fa") == "en"


def test_another_extension_named_babel_does_no_harm(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    app.extensions["babel"] = object()
    monkeypatch.setitem(sys.modules, "flask_babel", None)
    with app.test_request_context(headers={"Accept-Language": "en"}):
        assert select_locale() == "en"
        assert Interface().time(datetime(2025, 3, 21, 9, 30, tzinfo=UTC)) == "09:30 UTC"


def test_numbers_have_the_readers_digits() -> None:
    assert fa.number(1234567890) == "۱۲۳۴۵۶۷۸۹۰"
    assert en.number(42) == "42"
    assert fa.t("%(tries)s tries left", tries=3).startswith("۳")
    assert en.t("%(tries)s tries left", tries=3) == "3 tries left"


def test_the_countdown_reads_as_a_clock() -> None:
    assert [en.clock(s) for s in (-5, 0, 9, 65, 3605)] == [
        "0:00",
        "0:00",
        "0:09",
        "1:05",
        "1:00:05",
    ]
    assert fa.clock(65) == "۱:۰۵"


def test_a_value_with_markup_stays_text_and_is_escaped_by_the_template(app: Flask) -> None:
    text = en.t("You can try again %(when)s.", when=Markup("<b>100%</b>"))
    assert type(text) is str
    with app.app_context():
        page = render_template_string("{{ text }}", text=text)
    assert page == "You can try again &lt;b&gt;100%&lt;/b&gt;."


def test_a_text_without_values_may_hold_a_percent_sign() -> None:
    assert en.t("100% sure") == "100% sure"


def test_persian_dates_are_jalali() -> None:
    pytest.importorskip("persiantools")
    assert fa.date(date(2025, 3, 21)) == "۱ فروردین ۱۴۰۴"
    assert en.date(date(2025, 3, 21)) == "21 March 2025"


def test_persian_dates_are_gregorian_in_persian_words_without_persiantools(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "persiantools", None)
    monkeypatch.setitem(sys.modules, "persiantools.jdatetime", None)
    assert fa.date(date(2025, 3, 21)) == "۲۱ مارس ۲۰۲۵"


def test_persian_readers_see_tehrans_time_and_others_a_named_utc() -> None:
    moment = datetime(2025, 3, 20, 21, 30, tzinfo=UTC)
    assert fa.time(moment) == "۰۱:۰۰"
    assert fa.date(moment) == "۱ فروردین ۱۴۰۴"
    assert fa.datetime(moment) == "۱ فروردین ۱۴۰۴، ساعت ۰۱:۰۰"
    assert en.datetime(moment) == "20 March 2025 at 21:30 UTC"


def test_the_hosts_time_zone_is_used_where_it_has_one(app: Flask) -> None:
    moment = datetime(2025, 1, 1, 12, 0, tzinfo=UTC)
    assert Interface(lambda: "en", timezone="Europe/Berlin").time(moment) == "13:00"
    app.config["BABEL_DEFAULT_TIMEZONE"] = "Asia/Tokyo"
    with app.app_context():
        assert en.time(moment) == "21:00"


def test_flask_babels_time_zone_is_used_where_the_host_set_one(app: Flask) -> None:
    flask_babel = pytest.importorskip("flask_babel")
    moment = datetime(2025, 1, 1, 12, 0, tzinfo=UTC)
    flask_babel.Babel(app, default_locale="fa")
    with app.test_request_context():
        assert Interface().time(moment) == "۱۵:۳۰"
    other = Flask("other")
    flask_babel.Babel(other, default_locale="en", timezone_selector=lambda: "Asia/Tokyo")
    with other.test_request_context():
        assert Interface().time(moment) == "21:00"


def test_tehrans_time_is_right_without_a_time_zone_database(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_database(name: str) -> None:
        raise ZoneInfoNotFoundError(name)

    monkeypatch.setattr(i18n, "ZoneInfo", no_database)
    i18n._zone.cache_clear()
    try:
        assert fa.time(datetime(2025, 7, 1, 12, 0, tzinfo=UTC)) == "۱۵:۳۰"
        with pytest.raises(ZoneInfoNotFoundError):
            Interface(timezone="Nowhere/Land")
    finally:
        i18n._zone.cache_clear()


def test_nothing_is_written_of_no_time() -> None:
    assert (fa.date(None), fa.time(None), fa.datetime(None)) == ("", "", "")


def test_a_time_without_a_zone_is_taken_for_utc() -> None:
    naive = datetime(2025, 1, 1, 12, 0, tzinfo=UTC).replace(tzinfo=None)
    assert fa.time(naive) == "۱۵:۳۰"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "in 1 second"),
        (0.2, "in 1 second"),
        (59, "in 59 seconds"),
        (60, "in 1 minute"),
        (61, "in 2 minutes"),
        (5400, "in 90 minutes"),
        (5401, "in 2 hours"),
        (timedelta(hours=36).total_seconds(), "in 36 hours"),
        (timedelta(hours=37).total_seconds(), "in 2 days"),
    ],
)
def test_a_wait_is_rounded_up_and_never_promises_too_early(seconds: float, text: str) -> None:
    assert in_how_long(seconds, en.t) == text
    assert en.wait(seconds) == text


@pytest.mark.parametrize("ui", [fa, en], ids=["fa", "en"])
@pytest.mark.parametrize(("code", "data"), CASES)
def test_every_problem_has_a_title_and_a_sentence_in_both_languages(
    ui: Interface, code: str, data: dict[str, object]
) -> None:
    title, detail = problem_text(code, data, ui.t)
    assert title
    assert not title.endswith(".")
    assert detail.endswith(".")
    assert "%" not in title + detail
    persian = any("\u0600" <= letter <= "\u06ff" for letter in title + detail)
    latin = re.search("[A-Za-z0-9]", title + detail) is not None
    assert (persian, latin) == ((True, False) if ui is fa else (False, True))


def test_problems_of_a_code_that_cannot_be_one_are_told_apart() -> None:
    texts = {
        problem_text("invalid_code", {"problem": problem}, en.t)
        for problem in ("empty", "not_digits", "too_short", "too_long", "else")
    }
    assert len(texts) == 5


def test_a_wrong_code_says_how_many_tries_are_left() -> None:
    def detail(left: int) -> str:
        return problem_text("wrong_code", {"attempts_left": left}, en.t).detail

    assert "4 tries left" in detail(4)
    assert "1 try left" in detail(1)
    assert "last try" in detail(0)
    assert "۴" in problem_text("wrong_code", {"attempts_left": 4}, fa.t).detail


@pytest.mark.parametrize("code", ["too_soon", "budget_spent", "too_many_attempts"])
def test_a_limit_says_when_it_is_over(code: str) -> None:
    assert "in 10 minutes" in problem_text(code, {"retry_after": 600}, en.t).detail
    assert "۱۰ دقیقهٔ دیگر" in problem_text(code, {"retry_after": 600}, fa.t).detail


def test_a_locked_account_is_not_told_to_wait() -> None:
    assert "waiting does not help" in problem_text("account_locked", {}, en.t).detail
