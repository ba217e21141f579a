"""Every `SMSVERIFY_*` key with its type, default and check.

`Settings.read` reads Flask's configuration once, at start. With a wrong value or an unknown key,
the app does not start, and the error names the key and what is expected. Settings that staff can
change later are in `runtime.py`. The options of a single sender are checked by the sender itself.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any, Literal

from ..errors import ConfigurationError
from .checks import (
    Check,
    about,
    check_app_id,
    check_areas,
    check_attribute,
    check_bool,
    check_code_text,
    check_date,
    check_delays,
    check_footer,
    check_frame_ancestors,
    check_host,
    check_integer,
    check_limits,
    check_local_url,
    check_names,
    check_netloc,
    check_one_of,
    check_optional_bool,
    check_optional_local_url,
    check_path,
    check_patterns,
    check_region,
    check_regions,
    check_retriever_hash,
    check_routes,
    check_seconds,
    check_secret,
    check_senders,
    check_share,
    check_signature,
    check_site_name,
    check_support_url,
    check_template,
    check_test_numbers,
    check_timezone,
    check_url,
    suggest,
)
from .json_text import explain_text
from .limits_notation import Limit
from .quiet_hours import QuietHours, check_quiet_hours

PREFIX = "SMSVERIFY_"
MAX_REVALIDATION_DAYS = 36_500

#: Scope → limits. `docs/configuration.md` explains each scope.
DEFAULT_LIMITS: Mapping[str, str | None] = {
    "mobile": "5/hour;10/day",
    "user": "5/hour;10/day",
    "mobiles_per_user": "3/day",
    "ip": "60/hour;300/day",
    "network": "100/hour;600/day",
    "wide": "200/hour;1000/day",
    "foreign": "50/day",
    "site": "1000/day",
    "tries": "30/hour",
    "tries_network": "60/hour",
    "failures": "15/day",
    "failures_ip": "60/hour",
    "failures_network": "150/hour",
    "site_failures": "300/hour",
    "notices": "20/day",
    "unproved_events": "3/day",
    "messages": None,
    "unsolved": None,
}


def _key(check: Check[Any], default: object) -> Any:  # a dataclass field stands for any type
    """Return a field that reads `SMSVERIFY_<ITS NAME>`. The default is checked as well."""
    return field(metadata={"check": check, "default": default})


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Settings:
    """The checked configuration. `docs/configuration.md` explains each key.

    A comment names the module that uses a key, if it is only one and not obvious. `build` passes
    many of the values to it, so the module may know the value by another name.
    """

    senders: Mapping[str, Mapping[str, object]] = _key(check_senders, {})
    routes: Mapping[str, tuple[str, ...]] = _key(check_routes, {})
    code_length: int = _key(check_integer(4, 10), 6)
    code_lifetime: int = _key(check_integer(30, 600), 600)
    max_attempts: int = _key(check_integer(1, 100), 5)
    resend: Literal["same", "new"] = _key(check_one_of("same", "new"), "same")
    resend_delays: tuple[int, ...] = _key(check_delays, (30, 60, 90, 120))
    revalidation_days: int = _key(check_integer(0, MAX_REVALIDATION_DAYS), 90)
    exempt_groups: tuple[str, ...] = _key(check_names, ())
    areas: Mapping[str, bool | tuple[str, ...]] = _key(check_areas, {})
    #: Used by `guard.py`.
    open_endpoints: tuple[str, ...] = _key(check_names, ())
    login_gate: bool = _key(check_bool, False)
    login_gate_first_proof: Literal["phone", "email", "staff"] = _key(
        check_one_of("phone", "email", "staff"), "phone"
    )
    sign_in: bool = _key(check_bool, False)
    sign_up: bool | None = _key(check_optional_bool, None)
    sign_up_url: str | None = _key(check_optional_local_url, None)
    #: Used by `web/sign_in_pages.py`.
    sign_in_token: bool = _key(check_bool, False)
    #: Used by `verification/proof_of_work.py`.
    anonymous_challenge: Literal["off", "auto", "always"] = _key(
        check_one_of("off", "auto", "always"), "off"
    )
    mobile_field: str = _key(check_attribute, "mobile")
    email_field: str = _key(check_attribute, "email")
    #: Used by `users.py`.
    groups_field: str = _key(check_attribute, "groups")
    accounts_per_mobile: int = _key(check_integer(0), 1)
    mobile_policy: Literal["refuse", "transfer"] = _key(
        check_one_of("refuse", "transfer"), "refuse"
    )
    #: Used by `verification/ownership.py`.
    mobile_settled: int = _key(check_integer(0, 2_592_000), 86_400)
    #: Used by `verification/change.py`.
    change_delay: int = _key(check_integer(0, 2_592_000), 86_400)
    fresh_login: int = _key(check_integer(1, 86_400), 600)
    default_region: str = _key(check_region, "IR")
    allowed_regions: tuple[str, ...] = _key(check_regions, ("IR",))
    limits: Mapping[str, tuple[Limit, ...]] = _key(check_limits(DEFAULT_LIMITS), {})
    #: Used by `limits/sends.py`.
    site_reserved: float = _key(check_share, 0.4)
    #: Used by `limits/sends.py`.
    network_share: float = _key(check_share, 0.1)
    #: Used by `verification/devices.py`.
    device_token_days: int = _key(check_integer(0, 3650), 365)
    send_deadline: float = _key(check_seconds, 15)
    sends_in_flight: int = _key(check_integer(1, 1000), 8)
    #: Used by `guard.py`.
    recheck_seconds: int = _key(check_integer(0, 86_400), 0)
    #: Used by `verification/rules.py`.
    consecutive_failures: int = _key(check_integer(1, 1_000_000), 100)
    signature: str | Mapping[str, str] = _key(check_signature, "")
    site_name: str | Mapping[str, str] | None = _key(check_site_name, None)
    #: Used by `build.py`.
    app_id: str | None = _key(check_app_id, None)
    #: Used by `i18n/code_text.py`.
    code_text: str | Mapping[str, str] | None = _key(check_code_text, None)
    #: Used by `i18n/code_text.py`.
    sms_retriever_hash: str | None = _key(check_retriever_hash, None)
    webotp_host: str | None = _key(check_host, None)
    host: str | None = _key(check_netloc, None)
    subdomain: str | None = _key(check_host, None)
    url_prefix: str = _key(check_path, "/verify-mobile")
    openapi: bool = _key(check_bool, False)
    admin_url: str = _key(check_path, "/admin/smsverify")
    admin_template: str | None = _key(check_template, None)
    #: Used by `web/security_headers.py`.
    frame_ancestors: str = _key(check_frame_ancestors, "'none'")
    #: Used by `web/redirects.py`.
    next_url: str = _key(check_local_url, "/")
    #: Used by `web/security_headers.py`.
    support_url: str | None = _key(check_support_url, None)
    #: Used by `messaging/event_texts.py`.
    opt_out_footer: str | None = _key(check_footer, None)
    patterns: Mapping[str, Mapping[str, Mapping[str, object]]] = _key(check_patterns, {})
    queue: Literal["inline", "celery"] = _key(check_one_of("inline", "celery"), "inline")
    quiet_hours: QuietHours | None = _key(check_quiet_hours, None)
    timezone: str = _key(check_timezone, "Asia/Tehran")
    #: Used by `messaging/event_queue.py`.
    notify_unverified: bool = _key(check_bool, True)
    staff_mobiles: tuple[str, ...] = _key(check_names, ())
    test_numbers: Mapping[str, str] = _key(check_test_numbers, {})
    test_numbers_until: date | None = _key(check_date, None)
    webhook_secret: str | None = _key(check_secret, None)
    simulator_url: str | None = _key(check_url, None)

    def __repr__(self) -> str:
        return f"<Settings with {len(self.senders)} senders>"  # the values include credentials

    def pages_host(self, server_name: str | None) -> str | None:
        """Return the configured host of the pages, with its port; None if none is configured.

        :param server_name: Flask's `SERVER_NAME`.
        """
        if self.subdomain is not None and server_name:
            return f"{self.subdomain}.{server_name}"
        return self.host or server_name

    @classmethod
    def read(cls, config: Mapping[str, Any], *, development: bool) -> Settings:
        """Read and check every key.

        :param config: Flask's configuration, or any mapping with `SMSVERIFY_*` keys.
        :param development: whether the app is in debug or testing mode, which some keys require.
        :raises ConfigurationError: a value is wrong or a key unknown. The message names the key.
        """
        known = {PREFIX + item.name.upper(): item for item in dataclasses.fields(cls)}
        for key in config:
            if key.startswith(PREFIX) and key not in known:
                raise ConfigurationError(f"{key} is not a setting{suggest(key, known)}")
        values = {}
        for key, item in known.items():
            try:
                values[item.name] = item.metadata["check"](
                    config.get(key, item.metadata["default"])
                )
            except ConfigurationError as error:
                raise about(key, f"{error}{explain_text(item, key, config.get(key))}") from None
        settings = cls(**values)
        settings._check_combinations(development=development)
        return settings

    def _check_combinations(self, *, development: bool) -> None:
        if self.default_region not in self.allowed_regions:
            raise ConfigurationError(
                "SMSVERIFY_DEFAULT_REGION must be one of SMSVERIFY_ALLOWED_REGIONS"
            )
        if not development:
            if not self.senders:
                raise ConfigurationError(
                    "SMSVERIFY_SENDERS is empty. Configure a sender, or run with --debug to print "
                    "codes to the console."
                )
            if self.simulator_url:
                raise ConfigurationError(
                    "SMSVERIFY_SIMULATOR_URL is allowed in debug and testing only"
                )
            today = datetime.now(UTC).date()
            if self.test_numbers and not (
                self.test_numbers_until and self.test_numbers_until > today
            ):
                raise ConfigurationError(
                    "SMSVERIFY_TEST_NUMBERS is allowed in debug and testing only, unless "
                    "SMSVERIFY_TEST_NUMBERS_UNTIL is a date in the future"
                )
        for route, names in self.routes.items():
            for name in names:
                if name not in self.senders:
                    raise ConfigurationError(
                        f"SMSVERIFY_ROUTES[{route!r}] names {name!r}, which is not in "
                        f"SMSVERIFY_SENDERS{suggest(name, self.senders)}"
                    )
