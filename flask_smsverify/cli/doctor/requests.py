"""Checks of what requests depend on: sessions, logins, CSRF, proxies, hosts, templates."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator
from typing import Any

from flask.sessions import SecureCookieSessionInterface
from flask_wtf import CSRFProtect
from jinja2 import Environment, TemplateError, TemplateNotFound, nodes
from werkzeug.middleware.proxy_fix import ProxyFix

from ...open_endpoints import unmatched
from ...state import AppState
from .finding import Check, Finding

_TEMPLATES = (
    "base.html",
    "page.html",
    "mobile.html",
    "change.html",
    "problem.html",
    "undo.html",
    "assets.html",
    "widgets.html",
)
#: Where WSGI middleware keeps the application that it wraps.
_WRAPPED = ("app", "wsgi_app", "_wsgi_app", "application")
#: The blocks of the layout that the pages fill.
_BLOCKS = ("title", "content")
#: The blocks of a layout for the staff pages.
_ADMIN_BLOCKS = ("title", "head", "content")


def check_guards(state: AppState) -> Iterator[Finding]:
    """A route decorator below `require_verified_mobile` registers the view without its guard."""
    bypassed = [
        endpoint
        for endpoint, view in state.app.view_functions.items()
        if hasattr(inspect.unwrap(view), "smsverify_guarded")
        and not hasattr(view, "smsverify_area")  # every guard has one, and wrappers copy it
    ]
    if bypassed:
        yield Finding(
            "error",
            "guards",
            f"{', '.join(sorted(bypassed))}: the route bypasses require_verified_mobile. Put the "
            "decorator below the route",
        )


def check_exceptions(state: AppState) -> Iterator[Finding]:
    """An endpoint that a guard should leave open, and that does not exist, is misspelled."""
    names = set(state.app.view_functions)
    for owner, functions in state.app.before_request_funcs.items():
        inner = {name.removeprefix(f"{owner}.") for name in names} if owner else set()
        for function in functions:
            unknown = unmatched(getattr(function, "smsverify_except", ()), names | inner)
            if unknown:
                yield Finding(
                    "warning",
                    "guards",
                    f"except_ names {', '.join(unknown)}, which is no endpoint, so nothing is left "
                    "open for it",
                )


def check_session_cookie(state: AppState) -> Iterator[Finding]:
    """The session cookie is the login."""
    config = state.app.config
    weak = []
    if not config.get("SESSION_COOKIE_HTTPONLY", True):
        yield Finding("error", "session", "SESSION_COOKIE_HTTPONLY is off: scripts can read logins")
    if not config.get("SESSION_COOKIE_SECURE"):
        weak.append("SESSION_COOKIE_SECURE = True")
    if config.get("SESSION_COOKIE_SAMESITE") not in ("Lax", "Strict"):
        weak.append('SESSION_COOKIE_SAMESITE = "Lax"')
    if weak:
        yield Finding("warning", "session", f"set {' and '.join(weak)}")
    else:
        yield Finding("ok", "session", "the cookie is Secure and SameSite")


def check_session_domain(state: AppState) -> Iterator[Finding]:
    """If guarded views and pages are on different hosts, both must get the session cookie."""
    app, settings = state.app, state.settings
    is_apart = settings.host is not None or settings.subdomain is not None
    is_apart = is_apart or app.subdomain_matching
    if is_apart and not app.config.get("SESSION_COOKIE_DOMAIN"):
        yield Finding(
            "error",
            "session",
            "the app has several hosts and SESSION_COOKIE_DOMAIN is not set: a login on one is "
            "unknown on the pages. Set it to the domain that the hosts share",
        )


def check_session_renewal(state: AppState) -> Iterator[Finding]:
    """A login must end a session id that was planted before it."""
    interface = state.app.session_interface
    name = type(interface).__name__
    if isinstance(interface, SecureCookieSessionInterface):
        yield Finding("ok", "session", "is kept in the cookie, so no id can be planted")
    elif callable(getattr(interface, "regenerate", None)):
        yield Finding("ok", "session", f"{name} gives it a new id at a login")
    else:
        yield Finding(
            "warning",
            "session",
            f"{name} has no function for a new id, so flask_smsverify replaces `sid` at a login. "
            "Check that the cookie changes when you log in",
        )


def check_login_manager(state: AppState) -> Iterator[Finding]:
    """Guards need Flask-Login."""
    manager: Any = getattr(state.app, "login_manager", None)
    if manager is None:
        yield Finding(
            "error",
            "login",
            "there is no Flask-Login: create LoginManager(app) with a user_loader",
        )
        return
    if manager._user_callback is None and manager._request_callback is None:
        yield Finding("error", "login", "there is no user_loader: every request of a user is a 500")
    view = manager.login_view
    if not view and manager.unauthorized_callback is None:
        yield Finding(
            "warning",
            "login",
            "login_view is not set: anonymous visitors get 401 and no form",
        )
    elif view and not view.startswith(("/", "http", ".")) and view not in state.app.view_functions:
        yield Finding("error", "login", f"login_view names {view!r}, which is no endpoint")
    else:
        yield Finding("ok", "login", f"anonymous visitors go to {view or 'unauthorized_handler'}")
    for name in ("is_authenticated", "is_active"):
        if callable(getattr(state.users.model, name, None)):
            yield Finding(
                "error",
                "login",
                f"{state.users.model.__name__}.{name} is a method: make it a property",
            )


def check_csrf(state: AppState) -> Iterator[Finding]:
    """Without tokens, other sites can act in the name of a logged-in user."""
    app = state.app
    protection = app.extensions.get("csrf")
    exempted = protection._exempt_blueprints if isinstance(protection, CSRFProtect) else ()
    if not app.config.get("WTF_CSRF_ENABLED", True):
        yield Finding(
            "error", "csrf", "WTF_CSRF_ENABLED is off: other sites can send codes for your users"
        )
    elif app.blueprints["smsverify"] in exempted:
        yield Finding("warning", "csrf", "the pages are exempt: other sites can send their forms")
    else:
        yield Finding("ok", "csrf", "the pages require tokens of sessions")


def check_proxy(state: AppState) -> Iterator[Finding]:
    """Limits count the client's address."""
    if state.callbacks.address_getter is not None:
        yield Finding("ok", "address", "limits count what address_getter returns")
        return
    proxy = _find_proxy_fix(state.app.wsgi_app)
    if proxy is not None and proxy.x_for:
        yield Finding("ok", "address", f"ProxyFix trusts {proxy.x_for} proxies")
    else:
        yield Finding(
            "warning",
            "address",
            "there is no ProxyFix: behind a proxy or a unix socket, all visitors share an address "
            "or have none, and limits per address count them together. Add ProxyFix, or "
            "@smsverify.address_getter",
        )


def _find_proxy_fix(application: Any) -> ProxyFix | None:
    """Return the `ProxyFix` among the WSGI applications that wrap an app."""
    for _ in range(20):  # a chain that refers to itself would not end
        if isinstance(application, ProxyFix):
            return application
        wrapped = (getattr(application, name, None) for name in _WRAPPED)
        application = next(filter(None, wrapped), None)
    return None


def check_hooks(state: AppState) -> Iterator[Finding]:
    """Guards run last before the view, if nothing replaces the function that runs them."""
    function = state.app.preprocess_request
    if isinstance(function, functools.partial) or hasattr(function, "__wrapped__"):
        yield Finding("ok", "hooks", "guards run after all before_request functions")
    else:
        yield Finding(
            "warning",
            "hooks",
            "another extension replaced app.preprocess_request: guards run in the order of their "
            "registration. Initialize that extension before flask_smsverify",
        )


def check_templates(state: AppState) -> Iterator[Finding]:
    """Templates of the host must compile, and its layout must have the blocks of the pages."""
    environment = state.app.jinja_env
    replaced, is_good = [], True
    for name in _TEMPLATES:
        try:
            template = environment.get_template(f"smsverify/{name}")
        except TemplateError as error:
            is_good = False
            yield Finding("error", "templates", f"smsverify/{name} does not compile: {error}")
            continue
        if template.environment is environment:
            replaced.append(name)
    if "base.html" in replaced:
        try:
            missing = set(_BLOCKS) - _blocks_of(environment, "smsverify/base.html")
        except TemplateError as error:
            is_good = False
            yield Finding("error", "templates", f"the layout does not compile: {error}")
        else:
            for block in sorted(missing):
                is_good = False
                yield Finding("error", "templates", f"the layout has no block {block!r}")
    for finding in _check_admin_template(state, environment):
        is_good = False
        yield finding
    if is_good:
        own = f"your {', '.join(replaced)}" if replaced else "the built-in layout"
        yield Finding("ok", "templates", f"the pages use {own}")


def _check_admin_template(state: AppState, environment: Environment) -> Iterator[Finding]:
    """The staff pages extend a template of the host, if the configuration names one."""
    name = state.settings.admin_template
    if name is None:
        return
    subject = "SMSVERIFY_ADMIN_TEMPLATE"
    try:
        environment.get_template(name)
        missing = set(_ADMIN_BLOCKS) - _blocks_of(environment, name)
    except TemplateNotFound as error:
        yield Finding("error", subject, f"there is no template {error.name!r}")
    except TemplateError as error:
        yield Finding("error", subject, f"does not compile: {error}")
    else:
        for block in sorted(missing):
            yield Finding("error", subject, f"{name} has no block {block!r}")


def _blocks_of(environment: Environment, name: str) -> set[str]:
    """Return the blocks of a template and of those that it extends."""
    blocks: set[str] = set()
    loader = environment.loader
    for _ in range(20):  # templates that extend each other would not end
        assert loader is not None  # noqa: S101 -- the pages were just loaded by it
        source, _, _ = loader.get_source(environment, name)
        tree = environment.parse(source)
        blocks |= {block.name for block in tree.find_all(nodes.Block)}
        parent = tree.find(nodes.Extends)
        if parent is None:
            return blocks
        if not isinstance(parent.template, nodes.Const):
            return blocks | set(_ADMIN_BLOCKS)  # the parent is chosen when the page is rendered
        name = str(parent.template.value)
    return blocks


CHECKS: tuple[Check, ...] = (
    check_guards,
    check_exceptions,
    check_session_cookie,
    check_session_domain,
    check_session_renewal,
    check_login_manager,
    check_csrf,
    check_proxy,
    check_hooks,
    check_templates,
)
