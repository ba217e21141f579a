"""The hosts of the app: which one serves the pages, and which ones `next` may name."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

from flask import Blueprint, Flask, current_app, request, url_for
from flask.blueprints import BlueprintSetupState
from werkzeug.sansio.utils import host_is_trusted

from ..errors import ConfigurationError
from ..settings import Settings

_NETLOC = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]+)?", re.ASCII)


class _SetupState(BlueprintSetupState):
    """Gives every rule of the blueprint the host with which the blueprint is registered."""

    def add_url_rule(
        self, rule: str, endpoint: str | None = None, view_func: Any = None, **options: Any
    ) -> None:
        if self.options.get("host"):
            options.setdefault("host", self.options["host"])
        super().add_url_rule(rule, endpoint, view_func, **options)


class HostBlueprint(Blueprint):
    """A blueprint that can be registered with the option `host`, as with `subdomain`."""

    def make_setup_state(
        self, app: Any, options: dict[str, Any], first_registration: bool = False
    ) -> BlueprintSetupState:
        return _SetupState(self, app, options, first_registration)


def registration_options(app: Flask, settings: Settings) -> dict[str, str]:
    """Return the options that register a blueprint on the host of the pages.

    :raises ConfigurationError: `SMSVERIFY_HOST` or `SMSVERIFY_SUBDOMAIN` does not fit the app.
    """
    has_hosts = app.url_map.host_matching
    if settings.host is not None and not has_hosts:
        raise ConfigurationError(
            "SMSVERIFY_HOST needs an app with Flask(host_matching=True); without it the pages are "
            "served on every host"
        )
    if settings.host is None and has_hosts:
        raise ConfigurationError(
            "SMSVERIFY_HOST is not set: the app has host_matching=True, so name the host that "
            "serves the pages, such as 'www.example.com'"
        )
    if settings.subdomain is not None and not (
        app.subdomain_matching and app.config.get("SERVER_NAME") and not has_hosts
    ):
        raise ConfigurationError(
            "SMSVERIFY_SUBDOMAIN needs an app with Flask(subdomain_matching=True) and SERVER_NAME"
        )
    named = {"host": settings.host, "subdomain": settings.subdomain}
    return {name: value for name, value in named.items() if value is not None}


def are_pages_here() -> bool:
    """Return whether the pages are on the host of this request."""
    return urlsplit(url_for("smsverify.page")).netloc in ("", request.host)


def is_own_host(netloc: str) -> bool:
    """Return whether a host, with its port, belongs to the app.

    It does if it is the host of this request, `SERVER_NAME`, one of `TRUSTED_HOSTS`, or the host or
    subdomain of a URL rule.
    """
    netloc = netloc.lower()
    if netloc == request.host.lower():
        return True
    if not _NETLOC.fullmatch(netloc):
        return False
    trusted = current_app.config.get("TRUSTED_HOSTS")
    if trusted and host_is_trusted(netloc, trusted):  # an empty list would trust every host
        return True
    return any(_matches(pattern.lower(), netloc) for pattern in _host_patterns())


def _host_patterns() -> set[str]:
    app, rules = current_app, current_app.url_map.iter_rules()
    server_name: str | None = app.config.get("SERVER_NAME")
    if app.url_map.host_matching:
        return {rule.host for rule in rules if rule.host}
    if not server_name:
        return set()
    if not app.subdomain_matching:
        return {server_name}
    return {f"{rule.subdomain}.{server_name}" for rule in rules if rule.subdomain} | {server_name}


def _matches(pattern: str, netloc: str) -> bool:
    """Return whether a host matches the host of a rule, such as `<shop>.example.com`.

    In a rule with variable parts, the fixed end must be a domain with a dot, because anybody can
    register a host below a top-level domain.
    """
    if "<" not in pattern:
        return pattern == netloc
    end = pattern.rpartition(">")[2]
    domain = end.partition(":")[0]
    is_domain = domain.startswith(".") and ("." in domain[1:] or domain == ".localhost")
    return is_domain and netloc.endswith(end)
