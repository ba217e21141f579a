"""Settings: defaults, accepted and refused values of every key, and changes at run time."""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from typing import Any

import pytest
from conftest import MakeApp
from flask import Flask
from hostapp import User, db
from visiting import forget_limits

from flask_smsverify import SMSVerify
from flask_smsverify.errors import ConfigurationError
from flask_smsverify.i18n.by_language import complete_texts
from flask_smsverify.i18n.catalogue import available_locales
from flask_smsverify.phone import parse
from flask_smsverify.settings import (
    DEFAULT_LIMITS,
    Limit,
    LiveSettings,
    Settings,
    parse_limits,
)

MEMORY = {"memory": {"gateway": "memory"}}


def read(*, development: bool = True, **keys: Any) -> Settings:
    """Read a configuration with these keys, which lack the prefix."""
    config = {f"SMSVERIFY_{key}": value for key, value in keys.items()}
    return Settings.read(config, development=development)


DEFAULTS: dict[str, object] = {
    "SENDERS": {},
    "ROUTES": {},
    "CODE_LENGTH": 6,
    "CODE_LIFETIME": 600,
    "MAX_ATTEMPTS": 5,
    "RESEND": "same",
    "RESEND_DELAYS": (30, 60, 90, 120),
    "SITE_RESERVED": 0.4,
    "NETWORK_SHARE": 0.1,
    "DEVICE_TOKEN_DAYS": 365,
    "REVALIDATION_DAYS": 90,
    "EXEMPT_GROUPS": (),
    "AREAS": {},
    "LOGIN_GATE": False,
    "LOGIN_GATE_FIRST_PROOF": "phone",
    "SIGN_IN": False,
    "SIGN_UP": None,
    "SIGN_UP_URL": None,
    "ANONYMOUS_CHALLENGE": "off",
    "SIGN_IN_TOKEN": False,
    "SMS_RETRIEVER_HASH": None,
    "MOBILE_FIELD": "mobile",
    "EMAIL_FIELD": "email",
    "GROUPS_FIELD": "groups",
    "ACCOUNTS_PER_MOBILE": 1,
    "MOBILE_POLICY": "refuse",
    "MOBILE_SETTLED": 86_400,
    "CHANGE_DELAY": 86_400,
    "FRESH_LOGIN": 600,
    "DEFAULT_REGION": "IR",
    "ALLOWED_REGIONS": ("IR",),
    "SEND_DEADLINE": 15,
    "RECHECK_SECONDS": 0,
    "CONSECUTIVE_FAILURES": 100,
    "SIGNATURE": "",
    "OPT_OUT_FOOTER": None,
    "PATTERNS": {},
    "CODE_TEXT": None,
    "WEBOTP_HOST": None,
    "URL_PREFIX": "/verify-mobile",
    "FRAME_ANCESTORS": "'none'",
    "ADMIN_URL": "/admin/smsverify",
    "ADMIN_TEMPLATE": None,
    "NEXT_URL": "/",
    "SUPPORT_URL": None,
    "QUEUE": "inline",
    "QUIET_HOURS": None,
    "TIMEZONE": "Asia/Tehran",
    "NOTIFY_UNVERIFIED": True,
    "STAFF_MOBILES": (),
    "TEST_NUMBERS": {},
    "TEST_NUMBERS_UNTIL": None,
    "WEBHOOK_SECRET": None,
    "SIMULATOR_URL": None,
}


def test_a_missing_key_has_its_default() -> None:
    settings = read()
    for key, default in DEFAULTS.items():
        assert getattr(settings, key.lower()) == default, key


def test_the_default_limits_are_those_of_the_security_analysis() -> None:
    hour, day = 3600, 86_400
    assert read().limits == {
        "mobile": (Limit(5, hour), Limit(10, day)),
        "user": (Limit(5, hour), Limit(10, day)),
        "mobiles_per_user": (Limit(3, day),),
        "ip": (Limit(60, hour), Limit(300, day)),
        "network": (Limit(100, hour), Limit(600, day)),
        "wide": (Limit(200, hour), Limit(1000, day)),
        "tries": (Limit(30, hour),),
        "tries_network": (Limit(60, hour),),
        "failures_ip": (Limit(60, hour),),
        "failures_network": (Limit(150, hour),),
        "notices": (Limit(20, day),),
        "unproved_events": (Limit(3, day),),
        "foreign": (Limit(50, day),),
        "site": (Limit(1000, day),),
        "failures": (Limit(15, day),),
        "site_failures": (Limit(300, hour),),
        "messages": (),
        "unsolved": (),
    }


ACCEPTED: list[tuple[str, object, object]] = [
    ("SENDERS", MEMORY, MEMORY),
    ("CODE_LENGTH", 4, 4),
    ("CODE_LENGTH", 10, 10),
    ("CODE_LIFETIME", 600, 600),
    ("MAX_ATTEMPTS", 1, 1),
    ("RESEND", "new", "new"),
    ("RESEND_DELAYS", [10], (10,)),
    ("RESEND_DELAYS", [0], (0,)),
    ("SITE_RESERVED", 0, 0.0),
    ("NETWORK_SHARE", 1, 1.0),
    ("DEVICE_TOKEN_DAYS", 0, 0),
    ("REVALIDATION_DAYS", 0, 0),
    ("OPEN_ENDPOINTS", ["help", "legal.*"], ("help", "legal.*")),
    ("HOST", "WWW.example.com:8443", "www.example.com:8443"),
    ("SUBDOMAIN", "account", "account"),
    ("EXEMPT_GROUPS", ["staff", "vip"], ("staff", "vip")),
    ("EXEMPT_GROUPS", {"staff"}, ("staff",)),
    ("AREAS", {"a": True, "b": False, "c": ["c.*"]}, {"a": True, "b": False, "c": ("c.*",)}),
    ("LOGIN_GATE", True, True),
    ("SIGN_UP", False, False),
    ("SIGN_UP_URL", "/welcome?from=code", "/welcome?from=code"),
    ("SMS_RETRIEVER_HASH", "FA+9qCX9VSu", "FA+9qCX9VSu"),
    ("MOBILE_FIELD", "phone_number", "phone_number"),
    ("ACCOUNTS_PER_MOBILE", 0, 0),
    ("MOBILE_POLICY", "transfer", "transfer"),
    ("ALLOWED_REGIONS", ["ir", "DE"], ("IR", "DE")),
    ("SEND_DEADLINE", 2.5, 2.5),
    ("RECHECK_SECONDS", 60, 60),
    ("SIGNATURE", "لغو۱۱", "لغو۱۱"),
    ("SIGNATURE", {"fa": "چنار", "en": ""}, {"fa": "چنار", "en": ""}),
    ("SITE_NAME", {"fa": "چنار", "en": "Chenar"}, {"fa": "چنار", "en": "Chenar"}),
    ("SIGNATURE", "Chenar\nلغو۱۱", "Chenar\nلغو۱۱"),
    ("SITE_NAME", "خانه\u200cسبز", "خانه\u200cسبز"),
    ("OPT_OUT_FOOTER", "لغو۱۱", "لغو۱۱"),
    ("OPT_OUT_FOOTER", "", None),
    ("PATTERNS", {"a.b": {"main": {"template": 1}}}, {"a.b": {"main": {"template": 1}}}),
    ("SITE_NAME", "چنار", "چنار"),
    ("CODE_TEXT", {"fa": "{code}"}, {"fa": "{code}"}),
    ("WEBOTP_HOST", "Example.com", "example.com"),
    ("WEBOTP_HOST", "localhost", "localhost"),
    ("URL_PREFIX", "/account/phone-check", "/account/phone-check"),
    ("FRAME_ANCESTORS", "'self' https://portal.example", "'self' https://portal.example"),
    ("NEXT_URL", "/home?tab=1", "/home?tab=1"),
    ("SUPPORT_URL", "/help", "/help"),
    ("SUPPORT_URL", "mailto:help@example.com", "mailto:help@example.com"),
    ("SUPPORT_URL", "tel:+982112345678", "tel:+982112345678"),
    ("STAFF_MOBILES", ["+989120000000"], ("+989120000000",)),
    ("QUEUE", "celery", "celery"),
    ("QUIET_HOURS", "", None),
    ("QUIET_HOURS", "22:00-07:30", (time(22), time(7, 30))),
    ("TIMEZONE", "Europe/Berlin", "Europe/Berlin"),
    ("TEST_NUMBERS", {"+989120000000": "012345"}, {"+989120000000": "012345"}),
    ("TEST_NUMBERS_UNTIL", "2090-01-31", date(2090, 1, 31)),
    ("TEST_NUMBERS_UNTIL", date(2090, 1, 31), date(2090, 1, 31)),
    ("WEBHOOK_SECRET", "x" * 16, "x" * 16),
    ("WEBHOOK_SECRET", "dGhpcyBpcyBhIHRva2Vu_-Zw", "dGhpcyBpcyBhIHRva2Vu_-Zw"),
    ("WEBHOOK_SECRET", 1234567890123456, "1234567890123456"),
    ("SIMULATOR_URL", "http://127.0.0.1:8025/", "http://127.0.0.1:8025"),
]


def test_right_values_are_accepted() -> None:
    for key, value, kept in ACCEPTED:
        assert getattr(read(**{key: value}), key.lower()) == kept, (key, value)


REFUSED: list[tuple[str, object, str]] = [
    ("SENDERS", ["memory"], "gateway"),
    ("SENDERS", {"main": {"username": "x"}}, "'main'.*gateway"),
    ("SENDERS", {"main": "raygan"}, "'main'.*gateway"),
    ("SENDERS", {"": {"gateway": "memory"}}, "name"),
    ("ROUTES", {"fax": ["memory"]}, "'sms', 'voice' or 'text'"),
    ("ROUTES", {"sms": "memory"}, "list"),
    ("ROUTES", ["memory"], "'sms', 'voice' or 'text'"),
    ("CODE_LENGTH", 3, "4 to 10"),
    ("CODE_LENGTH", 11, "4 to 10"),
    ("CODE_LENGTH", "6", "whole number"),
    ("CODE_LENGTH", True, "whole number"),
    ("CODE_LENGTH", 6.0, "whole number"),
    ("CODE_LENGTH", None, "whole number"),
    ("CODE_LIFETIME", 601, "600"),
    ("CODE_LIFETIME", 0, "600"),
    ("MAX_ATTEMPTS", 0, "1 to"),
    ("MOBILE_SETTLED", -1, "0 to"),
    ("CHANGE_DELAY", 1.5, "0 to"),
    ("FRESH_LOGIN", 0, "1 to"),
    ("RESEND", "again", "'same' or 'new'"),
    ("RESEND_DELAYS", 30, "list"),
    ("RESEND_DELAYS", [], "list"),
    ("RESEND_DELAYS", [-1], "below 0"),
    ("SITE_RESERVED", 1.5, "from 0 to 1"),
    ("SITE_RESERVED", True, "from 0 to 1"),
    ("NETWORK_SHARE", "half", "from 0 to 1"),
    ("DEVICE_TOKEN_DAYS", -1, "0"),
    ("RESEND_DELAYS", "30", "list"),
    ("REVALIDATION_DAYS", -1, "whole number"),
    ("OPEN_ENDPOINTS", "help", "list of names"),
    ("HOST", "https://example.com", "a host without scheme"),
    ("HOST", "example.com:", "a host without scheme"),
    ("HOST", "example.com/", "a host without scheme"),
    ("HOST", 5000, "a host without scheme"),
    ("SUBDOMAIN", "account.", "host name"),
    ("EXEMPT_GROUPS", "staff", "list of names"),
    ("EXEMPT_GROUPS", [1], "list of names"),
    ("AREAS", ["billing"], "area"),
    ("AREAS", {"billing": "billing.*"}, "patterns"),
    ("AREAS", {"billing": 1}, "True"),
    ("LOGIN_GATE", "yes", "True or False"),
    ("LOGIN_GATE", 1, "True or False"),
    ("LOGIN_GATE_FIRST_PROOF", "sms", "'phone' or 'email' or 'staff'"),
    ("SIGN_IN", "yes", "True or False"),
    ("OPENAPI", "yes", "True or False"),
    ("SIGN_UP", "yes", "True, False or None"),
    ("SIGN_UP_URL", "//evil.example", "on this site"),
    ("SIGN_UP_URL", "welcome", "on this site"),
    ("SIGN_IN_TOKEN", 1, "True or False"),
    ("ANONYMOUS_CHALLENGE", "on", "'off' or 'auto' or 'always'"),
    ("SMS_RETRIEVER_HASH", "FA+9qCX9VS", "11 characters"),
    ("SMS_RETRIEVER_HASH", "FA+9qCX9VS u", "11 characters"),
    ("SMS_RETRIEVER_HASH", 12345678901, "11 characters"),
    ("MOBILE_FIELD", "phone number", "attribute"),
    ("MOBILE_FIELD", None, "attribute"),
    ("GROUPS_FIELD", 3, "attribute"),
    ("ACCOUNTS_PER_MOBILE", -1, "0 or more"),
    ("MOBILE_POLICY", "share", "'refuse' or 'transfer'"),
    ("DEFAULT_REGION", "Iran", "two letters"),
    ("DEFAULT_REGION", "DE", "ALLOWED_REGIONS"),
    ("ALLOWED_REGIONS", "IR", "list"),
    ("ALLOWED_REGIONS", [], "at least one"),
    ("ALLOWED_REGIONS", ["XX"], "two letters"),
    ("LIMITS", "5/hour", "mapping"),
    ("LIMITS", {"mobiles": "5/hour"}, "did you mean mobile"),
    ("LIMITS", {"ip": 5}, "'ip'.*5/hour;10/day"),
    ("LIMITS", {"ip": "a few"}, "'ip'.*5/hour;10/day"),
    ("LIMITS", {"ip": ""}, "'ip'.*5/hour;10/day"),
    ("LIMITS", {"ip": "0/hour"}, "'ip'.*'0/hour' has a 0"),
    ("LIMITS", {"ip": "5/second"}, "12 seconds"),
    ("SEND_DEADLINE", 0, "above 0"),
    ("SEND_DEADLINE", float("nan"), "above 0"),
    ("SEND_DEADLINE", "15", "number of seconds"),
    ("RECHECK_SECONDS", -1, "whole number"),
    ("CONSECUTIVE_FAILURES", 0, "whole number"),
    ("SIGNATURE", 11, "text"),
    ("ADMIN_TEMPLATE", "", "name of a template"),
    ("ADMIN_TEMPLATE", 5, "name of a template"),
    ("SIGNATURE", "Chenar\0", "control"),
    ("SIGNATURE", {"fa": "Chenar\0"}, "control"),
    ("SIGNATURE", {}, "control"),
    ("SITE_NAME", {"fa": ""}, "one line"),
    ("SITE_NAME", {"fa": None}, "one line"),
    ("SITE_NAME", {1: "Chenar"}, "one line"),
    ("APP_ID", ["x"], "up to 64"),
    ("APP_ID", "", "up to 64"),
    ("APP_ID", "a" * 65, "up to 64"),
    ("APP_ID", "two\nlines", "up to 64"),
    ("SITE_NAME", ["x"], "one line"),
    ("SITE_NAME", "", "one line"),
    ("SITE_NAME", "a\n@elsewhere.example #1", "one line"),
    ("OPT_OUT_FOOTER", "two\nlines", "one line"),
    ("OPT_OUT_FOOTER", 11, "one line"),
    ("PATTERNS", {"a.b": {"template": 1}}, "must map an event"),
    ("AREAS", {5: True}, "must map an area"),
    ("CODE_TEXT", 5, "text"),
    ("CODE_TEXT", {5: "{code}"}, "map a language"),
    ("WEBOTP_HOST", "https://example.com", "bare host"),
    ("WEBOTP_HOST", "example.com:8000", "bare host"),
    ("WEBOTP_HOST", "example.com\n@evil.example #1", "bare host"),
    ("WEBOTP_HOST", "exa mple.com", "bare host"),
    ("WEBOTP_HOST", "[", "bare host"),
    ("WEBOTP_HOST", "", "bare host"),
    ("URL_PREFIX", "verify", "starts with a slash"),
    ("FRAME_ANCESTORS", "'none'; script-src *", "frame-ancestors"),
    ("FRAME_ANCESTORS", "a, b", "frame-ancestors"),
    ("FRAME_ANCESTORS", "", "frame-ancestors"),
    ("URL_PREFIX", "/", "starts with a slash"),
    ("URL_PREFIX", "/verify/", "does not end"),
    ("URL_PREFIX", "//verify", "starts with a slash"),
    ("URL_PREFIX", "/<lang>/verify", "path"),
    ("ADMIN_URL", "", "starts with a slash"),
    ("NEXT_URL", "//evil.example", "on this site"),
    ("NEXT_URL", "/\\evil.example", "on this site"),
    ("NEXT_URL", "https://example.com/", "on this site"),
    ("NEXT_URL", "home", "on this site"),
    ("SUPPORT_URL", "javascript:alert(1)", "must be a path"),
    ("SUPPORT_URL", "//evil.example", "on this site"),
    ("QUEUE", "redis", "inline"),
    ("QUIET_HOURS", "22-7", "two different times"),
    ("QUIET_HOURS", "22:00-22:00", "two different times"),
    ("QUIET_HOURS", "24:00-07:00", "two different times"),
    ("TIMEZONE", "Asia/Nowhere", "time zone"),
    ("TIMEZONE", "../etc/passwd", "time zone"),
    ("NOTIFY_UNVERIFIED", "no", "True or False"),
    ("STAFF_MOBILES", "+989120000000", "list"),
    ("STAFF_MOBILES", [989120000000], "list"),
    ("TEST_NUMBERS", ["+989120000000"], "quotes"),
    ("TEST_NUMBERS", {"+989120000000": 123456}, "quotes"),
    ("TEST_NUMBERS", {"+989120000000": "۱۲۳۴۵۶"}, "quotes"),
    ("TEST_NUMBERS_UNTIL", "next year", "date"),
    ("TEST_NUMBERS_UNTIL", 2090, "date"),
    ("TEST_NUMBERS_UNTIL", datetime(2090, 1, 1, tzinfo=UTC), "date"),
    ("WEBHOOK_SECRET", "short", "16 or more"),
    ("WEBHOOK_SECRET", "a/b" * 10, "16 or more"),
    ("WEBHOOK_SECRET", 1e20, "16 or more"),
    ("WEBHOOK_SECRET", True, "16 or more"),
    ("SIMULATOR_URL", "127.0.0.1:8025", "http://127"),
    ("SIMULATOR_URL", "http://[", "http://127"),
    ("SIMULATOR_URL", "http://", "http://127"),
    ("SIMULATOR_URL", 8025, "http://127"),
]


def test_wrong_values_are_refused_with_the_key_and_what_is_expected() -> None:
    for key, value, expected in REFUSED:
        with pytest.raises(ConfigurationError, match=expected) as refused:
            read(**{key: value})
        assert str(refused.value).startswith(f"SMSVERIFY_{key}"), (key, value)
        assert_spelled(refused.value)


def assert_spelled(error: Exception) -> None:
    """Check that an error names each key once, and as Python does, and ends its sentences once."""
    text = str(error)
    assert re.match(r"SMSVERIFY_[A-Z_]+(\['[^']+'\])*(: | )[^\[]", text), text
    assert not re.search(r"[?.;:,] ?[.;:,?]", text.replace("…", "").replace("...", "")), text
    assert not re.search(r"\b(\w+): \1: ", text), text


def test_an_error_about_a_part_of_a_setting_names_its_key() -> None:
    for key, value, expected in [
        ("SENDERS", {"main": {}}, "SMSVERIFY_SENDERS['main'] needs 'gateway'"),
        ("LIMITS", {"ip": 5}, "SMSVERIFY_LIMITS['ip'] must be None or limits"),
        ("ROUTES", {"sms": "main"}, "SMSVERIFY_ROUTES['sms'] must be a list of names"),
        ("CODE_TEXT", {"fa": 5}, "SMSVERIFY_CODE_TEXT['fa'] must be text"),
    ]:
        with pytest.raises(ConfigurationError) as refused:
            read(**{key: value})
        assert str(refused.value).startswith(expected)


def test_a_text_instead_of_another_type_is_refused_with_the_json_to_write() -> None:
    texts = set()
    for item in dataclasses.fields(Settings):
        key = f"SMSVERIFY_{item.name.upper()}"
        try:
            read(**{item.name.upper(): "no value of a setting\0"})
        except ConfigurationError as error:
            if "write JSON" not in str(error):
                texts.add(item.name)
                continue
            assert_spelled(error)
            name, written = str(error).split("write JSON: ")[1].split("=", 1)
            assert name == f"FLASK_{key}"
            [value] = shlex.split(written)
            item.metadata["check"](json.loads(value))
    assert {"code_length", "senders", "sign_in", "areas", "sign_up"}.isdisjoint(texts)
    assert {"app_id", "resend", "host", "timezone", "quiet_hours", "test_numbers_until"} <= texts


def test_a_text_that_is_almost_json_is_refused_with_its_mistake() -> None:
    with pytest.raises(ConfigurationError) as refused:
        read(SENDERS="{'main': {'gateway': 'raygan', 'password': 'a secret'}}")
    assert "character 2" in str(refused.value)
    assert "a secret" not in str(refused.value)
    with pytest.raises(ConfigurationError, match="JSON inside a text"):
        read(EXEMPT_GROUPS='["staff"]')


def test_this_file_covers_every_key() -> None:
    names = {item.name.upper() for item in dataclasses.fields(Settings)}
    assert names - {key for key, _, _ in REFUSED} <= {"EMAIL_FIELD", "SENDS_IN_FLIGHT"}
    assert set(DEFAULTS) <= names


def test_an_unknown_key_is_refused_with_a_suggestion() -> None:
    with pytest.raises(ConfigurationError, match=r"SMSVERIFY_CODE_LENGHT.*SMSVERIFY_CODE_LENGTH"):
        read(CODE_LENGHT=6)
    with pytest.raises(ConfigurationError, match=r"SMSVERIFY_ROUTE is.*SMSVERIFY_ROUTES"):
        read(ROUTE={})


def test_keys_of_other_extensions_are_ignored() -> None:
    Settings.read({"SMSVERIFIED": 1, "SMS_VERIFY": 2, "MAIL_SERVER": 3}, development=True)


def test_a_missing_scope_keeps_its_default_and_none_lifts_its_limits() -> None:
    limits = read(LIMITS={"ip": "7/hour", "site": None}).limits
    assert limits["ip"] == (Limit(7, 3600),)
    assert limits["site"] == ()
    assert limits.keys() == DEFAULT_LIMITS.keys()
    assert limits["user"] == (Limit(5, 3600), Limit(10, 86_400))


def test_a_route_may_only_name_configured_senders() -> None:
    assert read(SENDERS=MEMORY, ROUTES={"sms": ["memory"]}).routes == {"sms": ("memory",)}
    with pytest.raises(ConfigurationError, match=r"SMSVERIFY_ROUTES.*'memori'.*memory"):
        read(SENDERS=MEMORY, ROUTES={"sms": ["memori"]})


def test_production_requires_a_sender() -> None:
    with pytest.raises(ConfigurationError, match="SMSVERIFY_SENDERS"):
        read(development=False)
    assert read(development=False, SENDERS=MEMORY).senders == MEMORY


def test_the_simulator_is_refused_in_production() -> None:
    with pytest.raises(ConfigurationError, match="SMSVERIFY_SIMULATOR_URL"):
        read(development=False, SENDERS=MEMORY, SIMULATOR_URL="http://127.0.0.1:8025")


def test_test_numbers_in_production_require_an_end_date() -> None:
    numbers = {"+989120000000": "123456"}
    today = datetime.now(UTC).date()
    for until in (None, today, today - timedelta(days=1)):
        with pytest.raises(ConfigurationError, match="SMSVERIFY_TEST_NUMBERS_UNTIL"):
            read(
                development=False,
                SENDERS=MEMORY,
                TEST_NUMBERS=numbers,
                TEST_NUMBERS_UNTIL=until,
            )
    until = today + timedelta(days=1)
    kept = read(development=False, SENDERS=MEMORY, TEST_NUMBERS=numbers, TEST_NUMBERS_UNTIL=until)
    assert kept.test_numbers == numbers


def test_a_repr_shows_no_setting() -> None:
    senders = {"main": {"gateway": "raygan", "username": "u", "password": "hunter2"}}
    assert "hunter2" not in repr(read(SENDERS=senders, WEBHOOK_SECRET="s" * 20))
    assert "ssss" not in repr(read(WEBHOOK_SECRET="s" * 20))


# --- from the environment ----------------------------------------------------------------------


def test_settings_can_come_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, make_app: MakeApp, sqlite: str
) -> None:
    environment = {
        "FLASK_SMSVERIFY_CODE_LENGTH": "7",
        "FLASK_SMSVERIFY_LOGIN_GATE": "true",
        "FLASK_SMSVERIFY_EXEMPT_GROUPS": '["staff"]',
        "FLASK_SMSVERIFY_AREAS__billing": "false",
        "FLASK_SMSVERIFY_AREAS__shop": '["shop.*"]',
        "FLASK_SMSVERIFY_LIMITS__ip": "9/hour",
        "FLASK_SMSVERIFY_LIMITS__site": "null",
        "FLASK_SMSVERIFY_WEBHOOK_SECRET": "1234567890123456",
        "FLASK_SMSVERIFY_RESEND_DELAYS": "[5, 10]",
        "FLASK_SMSVERIFY_SENDERS__main__gateway": "raygan",
        "FLASK_SMSVERIFY_SENDERS__main__username": "989120000000",
        "FLASK_SMSVERIFY_SENDERS__main__password": "0123",
        "FLASK_SMSVERIFY_SENDERS__main__line": "50001234",
        "FLASK_SMSVERIFY_SENDERS__second__gateway": "memory",
        "FLASK_SMSVERIFY_ROUTES__sms": '["second", "main"]',
        "FLASK_SMSVERIFY_SITE_NAME__en": "Chenar",
        "FLASK_SMSVERIFY_SITE_NAME__fa": "چنار",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    loaded = Flask("loaded")
    loaded.config.from_prefixed_env()
    keys = {key: loaded.config[key] for key in loaded.config if key.startswith("SMSVERIFY_")}
    state = make_app(sqlite, **keys).extensions["smsverify"]
    assert state.settings.code_length == 7
    assert state.settings.login_gate is True
    assert state.settings.exempt_groups == ("staff",)
    assert state.settings.areas == {"billing": False, "shop": ("shop.*",)}
    assert state.settings.limits["ip"] == (Limit(9, 3600),)
    assert state.settings.limits["site"] == ()
    assert state.settings.webhook_secret == "1234567890123456"
    assert state.settings.resend_delays == (5, 10)
    assert state.live.current.site_name == {"en": "Chenar", "ar": "چنار", "fa": "چنار"}
    assert [sender.name for sender in state.delivery.routes.route("sms")] == ["second", "main"]


SENDERS: list[dict[str, Any]] = [
    {"gateway": "raygan", "username": "u", "password": 1234, "line": 50001},
    {"gateway": "wikipayam", "token": 1234, "line": 3000},
    {"gateway": "melipayamak", "username": "u", "password": 1234, "line": 3000},
    {"gateway": "asanak", "username": "u", "password": 1234, "line": 3000},
    {"gateway": "smsir", "api_key": 1234, "line": 3000},
]


def make_sender(make_app: MakeApp, url: str, **options: Any) -> Any:
    return make_app(url, SMSVERIFY_SENDERS={"main": options})


def test_a_credential_may_be_a_whole_number_but_no_float_or_bool(
    make_app: MakeApp, sqlite: str
) -> None:
    for options in SENDERS:
        make_sender(make_app, sqlite, **options)
        secret = next(key for key in ("password", "token", "api_key") if key in options)
        for value in (12.5, True):
            with pytest.raises(ConfigurationError, match=f"'main'.*{secret}"):
                make_sender(make_app, sqlite, **options | {secret: value})


# --- checks that need the app ------------------------------------------------------------------

REFUSED_BY_THE_APP: list[tuple[dict[str, Any], str]] = [
    ({"SENDERS": {"main": {"gateway": "raigan"}}}, r"SMSVERIFY_SENDERS\['main'\].*raygan"),
    ({"SENDERS": {"main": {"gateway": "memory", "lines": 1}}}, r"SMSVERIFY_SENDERS\['main'\]"),
    ({"SENDERS": {"main": SENDERS[0] | {"pasword": "x"}}}, "'pasword'.*'password'"),
    ({"SENDERS": {"main": {"gateway": "raygan"}}}, "'username' is missing"),
    (
        {"SENDERS": {"main": SENDERS[0] | {"base_url": "http://example.com/api"}}},
        "'main'.*base_url.*https",
    ),
    ({"SENDERS": {"main": SENDERS[0] | {"base_url": "ftp://example.com"}}}, "'main'.*base_url"),
    ({"SENDERS": {"main": SENDERS[0] | {"timeout": "3"}}}, "'main'.*timeout"),
    ({"CODE_TEXT": "Your code"}, r"SMSVERIFY_CODE_TEXT.*\{code\}"),
    ({"CODE_TEXT": "{code} {user}"}, r"SMSVERIFY_CODE_TEXT.*\{code\}"),
    ({"CODE_TEXT": "{code:>9}"}, r"SMSVERIFY_CODE_TEXT.*\{code\}"),
    ({"CODE_TEXT": "{code!x}"}, r"SMSVERIFY_CODE_TEXT.*\{code\}"),
    ({"CODE_TEXT": "{code.__class__}"}, r"SMSVERIFY_CODE_TEXT.*\{code\}"),
    ({"CODE_TEXT": "{code"}, r"SMSVERIFY_CODE_TEXT.*\{code\}"),
    ({"CODE_TEXT": "{{code}}"}, r"SMSVERIFY_CODE_TEXT.*\{code\}"),
    ({"CODE_TEXT": "{code} " + "س" * 70}, "SMSVERIFY_CODE_TEXT.*one SMS segment"),
    ({"SITE_NAME": "س" * 60}, "SMSVERIFY_SITE_NAME"),
    (
        {"SITE_NAME": {"fa": "چنار", "en": "x", "ar": "س" * 60}},
        r"SMSVERIFY_CODE_TEXT \(ar\) .*SMSVERIFY_SITE_NAME",
    ),
    ({"SITE_NAME": {"de": "Chenar"}}, "SMSVERIFY_SITE_NAME names the language 'de'"),
    ({"TEST_NUMBERS": {"hello": "123456"}}, "SMSVERIFY_TEST_NUMBERS"),
    ({"TEST_NUMBERS": {"+16502530000": "123456"}}, "SMSVERIFY_TEST_NUMBERS"),
    ({"TEST_NUMBERS": {"+989120000000": "1234"}}, "SMSVERIFY_TEST_NUMBERS.*6 digits"),
    ({"STAFF_MOBILES": ["hello"]}, "SMSVERIFY_STAFF_MOBILES"),
    ({"MOBILE_FIELD": "mobil"}, "SMSVERIFY_MOBILE_FIELD.*'mobil'.*'mobile'"),
    ({"GROUPS_FIELD": "teams"}, "SMSVERIFY_GROUPS_FIELD.*'teams'"),
]


def test_a_wrong_setting_stops_the_start(make_app: MakeApp, sqlite: str) -> None:
    for keys, message in REFUSED_BY_THE_APP:
        with pytest.raises(ConfigurationError, match=message) as refused:
            make_app(sqlite, **{f"SMSVERIFY_{key}": value for key, value in keys.items()})
        assert_spelled(refused.value)


def test_an_error_of_a_sender_names_the_sender_once(make_app: MakeApp, sqlite: str) -> None:
    for options in SENDERS:
        with pytest.raises(ConfigurationError) as refused:
            make_sender(make_app, sqlite, **options, base_url="ftp://example.com")
        expected = "SMSVERIFY_SENDERS['main']: base_url must be an https URL"
        assert str(refused.value).startswith(expected)


def test_plain_http_is_accepted_on_loopback_and_with_allow_http(
    make_app: MakeApp, sqlite: str
) -> None:
    make_sender(make_app, sqlite, **SENDERS[0], base_url="http://127.0.0.1:8025/raygan")
    make_sender(make_app, sqlite, **SENDERS[0], base_url="http://sms.example/api", allow_http=True)


def test_a_code_of_less_than_six_digits_logs_a_warning(
    make_app: MakeApp, sqlite: str, caplog: pytest.LogCaptureFixture
) -> None:
    make_app(sqlite, SMSVERIFY_CODE_LENGTH=5)
    assert "SMSVERIFY_CODE_LENGTH" in caplog.text
    assert "100,000" in caplog.text
    caplog.clear()
    make_app(sqlite, SMSVERIFY_CODE_LENGTH=6)
    assert caplog.text == ""


def test_test_numbers_end_on_their_date_in_a_running_process(
    make_app: MakeApp, sqlite: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flask_smsverify.clock import Clock

    until = datetime.now(UTC).date() + timedelta(days=1)
    app = make_app(
        sqlite,
        TESTING=False,
        SMSVERIFY_SENDERS=MEMORY,
        SMSVERIFY_TEST_NUMBERS={"09123450001": "424242"},
        SMSVERIFY_TEST_NUMBERS_UNTIL=until.isoformat(),
    )
    phone = app.extensions["smsverify"].delivery.routes.senders["memory"]
    with app.app_context():
        user = db.session.get(User, 1)
        verifier = app.extensions["smsverify"].verifier
        verifier.start(user)
        assert phone.messages == []
        later = datetime.now(UTC) + timedelta(days=2)
        monkeypatch.setattr(Clock, "__call__", lambda _clock: later)
        forget_limits(app)
        verifier.start(user)
        assert len(phone.messages) == 1
        assert phone.last.code != "424242"


def test_the_configuration_is_not_modified(make_app: MakeApp, sqlite: str) -> None:
    keys: dict[str, Any] = {
        "SMSVERIFY_SENDERS": {"main": {"gateway": "memory"}},
        "SMSVERIFY_LIMITS": {"ip": "1/hour"},
        "SMSVERIFY_AREAS": {"a": ["b"]},
    }
    before = json.dumps(keys)
    make_app(sqlite, **keys)
    assert json.dumps(keys) == before


def test_init_app_requires_the_database_and_the_user_model() -> None:
    app = Flask("incomplete")
    app.config["TESTING"] = True
    with pytest.raises(ConfigurationError, match="user_model=User"):
        SMSVerify(app)
    with pytest.raises(ConfigurationError, match=r"db\.init_app"):
        SMSVerify(app, db, user_model=User)


# --- the notation of limits --------------------------------------------------------------------


def test_limits_are_parsed_from_their_notation() -> None:
    hour, day = 3600, 86_400
    for notation, expected in (
        ("5/hour", [(5, hour)]),
        ("5/hour;10/day", [(5, hour), (10, day)]),
        ("5/hour, 10/day | 20/month", [(5, hour), (10, day), (20, 30 * day)]),
        ("5 per 2 hours", [(5, 2 * hour)]),
        ("5/2hours", [(5, 2 * hour)]),
        ("5perhour", [(5, hour)]),
        (" 12 PER 30 Seconds ", [(12, 30)]),
        ("1/MINUTE", [(1, 60)]),
        ("1/year", [(1, 360 * day)]),
    ):
        assert parse_limits(notation) == tuple(expected), notation


def test_a_wrong_notation_is_refused_with_the_wrong_part() -> None:
    for notation, message in (
        ("", "''"),
        ("5", "'5'"),
        ("5/hour;", "''"),
        ("5/hour;;10/day", "''"),
        ("5/hour 10/day", "'5/hour 10/day'"),
        ("5/hour;ten/day", "'ten/day'"),
        ("-5/hour", "'-5/hour'"),
        ("5/fortnight", "'5/fortnight'"),
        ("5/hourss", "'5/hourss'"),
        ("۵/hour", "'۵/hour'"),
        ("0/hour", "'0/hour' has a 0"),
        ("5/hour;5/0 hours", "'5/0 hours' has a 0"),
    ):
        with pytest.raises(ValueError, match=message):
            parse_limits(notation)


# --- settings that staff can change ------------------------------------------------------------


def make_live(**keys: Any) -> LiveSettings:
    parse_mobile = partial(parse, default_region="IR", allowed_regions=("IR",))
    return LiveSettings(
        read(**keys),
        default_site_name="app",
        complete_texts=partial(complete_texts, default="fa"),
        parse_mobile=parse_mobile,
    )


def everywhere(text: str) -> dict[str, str]:
    """Return the text for every language."""
    return dict.fromkeys(available_locales(), text)


def test_the_first_version_holds_the_configuration() -> None:
    current = make_live(
        AREAS={"shop": ["shop.*"]},
        EXEMPT_GROUPS=["staff"],
        REVALIDATION_DAYS=30,
        SIGNATURE="Chenar",
        SITE_NAME="چنار",
        STAFF_MOBILES=["0912 111 0000"],
    ).current
    values = {item.name: getattr(current, item.name) for item in dataclasses.fields(current)}
    assert values == {
        "version": 1,
        "areas": {"shop": ("shop.*",)},
        "exempt_groups": ("staff",),
        "revalidation_days": 30,
        "signature": everywhere("Chenar"),
        "site_name": everywhere("چنار"),
        "staff_mobiles": ("+989121110000",),
        "quiet_hours": None,
    }
    assert make_live().current.site_name == everywhere("app")
    assert "912111" not in repr(current)


def test_an_update_makes_a_new_version_and_leaves_the_old_one_unchanged() -> None:
    live = make_live(SIGNATURE="Chenar")
    first = live.current
    second = live.update(revalidation_days=30, areas={"orders": False})
    assert live.current is second
    assert (second.version, second.revalidation_days, second.areas) == (2, 30, {"orders": False})
    assert second.signature == everywhere("Chenar")
    assert (first.version, first.revalidation_days, first.areas) == (1, 90, {})
    third = live.update(site_name="Chenar", staff_mobiles=["09121110000"])
    assert (third.version, third.site_name) == (3, everywhere("Chenar"))
    assert third.staff_mobiles == ("+989121110000",)
    assert live.update(site_name=None).site_name == everywhere("app")


def test_a_text_for_some_languages_is_completed_for_the_others() -> None:
    current = make_live(
        SITE_NAME={"en": "Chenar", "fa_IR": "چنار"}, SIGNATURE={"en": "Chenar", "ar": ""}
    ).current
    # A language that is left out gets the text of the app's language, or the first text.
    assert current.site_name == {"en": "Chenar", "ar": "چنار", "fa": "چنار"}
    assert current.signature == {"en": "Chenar", "ar": "", "fa": "Chenar"}
    with pytest.raises(TypeError):
        current.site_name["en"] = "x"  # type: ignore[index]  # wrong on purpose


def test_a_text_in_an_unknown_or_repeated_language_is_refused() -> None:
    for key in ("SITE_NAME", "SIGNATURE"):
        with pytest.raises(ConfigurationError, match=f"SMSVERIFY_{key} names .*'de'.*en, ar, fa"):
            make_live(**{key: {"fa": "چنار", "de": "Chenar"}})
        with pytest.raises(ConfigurationError, match=f"SMSVERIFY_{key} names .*'fa' twice"):
            make_live(**{key: {"fa": "چنار", "fa_IR": "چنار"}})
    live = make_live()
    with pytest.raises(ConfigurationError, match="SMSVERIFY_SIGNATURE names the language 'de'"):
        live.update(signature={"de": "Chenar"})
    assert live.current.version == 1


def test_a_snapshot_cannot_be_changed() -> None:
    areas = {"orders": True}
    live = make_live(AREAS=areas)
    current: Any = live.update(areas=areas)
    areas["orders"] = False
    with pytest.raises(TypeError):
        current.areas["orders"] = False
    with pytest.raises(AttributeError):
        current.signature = "x"
    assert live.current.areas == {"orders": True}


def test_an_update_with_a_wrong_value_changes_nothing() -> None:
    live = make_live()
    before = live.current
    for changes, message in (
        ({"revalidation_days": -1}, "SMSVERIFY_REVALIDATION_DAYS must be a whole number"),
        ({"signature": "new", "site_name": "two\nlines"}, "SMSVERIFY_SITE_NAME must be"),
        ({"areas": ["orders"]}, "SMSVERIFY_AREAS must map"),
        ({"exempt_groups": "staff"}, "SMSVERIFY_EXEMPT_GROUPS must be a list"),
        ({"staff_mobiles": ["09121110000", "hello"]}, "SMSVERIFY_STAFF_MOBILES: number 2"),
        ({"code_length": 4}, "SMSVERIFY_CODE_LENGTH cannot be changed"),
        ({"area": {}}, "SMSVERIFY_AREA cannot be changed.*did you mean areas"),
        ({"version": 7}, "SMSVERIFY_VERSION cannot be changed"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            live.update(**changes)  # type: ignore[arg-type]  # wrong on purpose
        assert live.current is before, changes


def test_parallel_updates_lose_no_change() -> None:
    live = make_live()

    def update(number: int) -> int:
        changes: dict[str, object] = {"signature": "x"} if number % 2 else {"revalidation_days": 1}
        return live.update(**changes).version

    with ThreadPoolExecutor(8) as threads:
        versions = list(threads.map(update, range(64)))
    assert sorted(versions) == list(range(2, 66))
    assert live.current.signature == everywhere("x")
    assert live.current.revalidation_days == 1


def test_the_options_of_one_sender_without_a_name_are_refused_with_the_right_form() -> None:
    options = {"gateway": "raygan", "username": "u", "password": "p"}
    with pytest.raises(ConfigurationError, match="SMSVERIFY_SENDERS holds the options") as caught:
        Settings.read({"SMSVERIFY_SENDERS": options}, development=True)
    assert "{'main': {'gateway': 'raygan', …}}" in str(caught.value)
