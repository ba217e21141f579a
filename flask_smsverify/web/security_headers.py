"""Security headers of the pages: Content-Security-Policy and Referrer-Policy.

A page whose template and layout are the package's own sends a full policy. Any other page, with a
template or layout of the host, sends `frame-ancestors` alone, because the host's scripts and styles
are unknown here. A policy of the host is never replaced: the header is added outside the app, after
every `after_request` function of the host.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from flask import Response, request

from ..state import get_state
from . import templating
from .interface import current_ui

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_HEADER = "Content-Security-Policy"
#: The key in the WSGI environment that holds the policy of a page.
_POLICY = "smsverify.csp"
#: Without `form-action`: Chromium applies it to every redirect after a form, and the page that the
#: visitor wanted may redirect to another site, such as a bank.
_OWN_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; "
)


def render_own_template(
    name: str, parts: Sequence[str] = (), layout: str | None = "base.html", /, **context: Any
) -> str:
    """Render a template of the folder `smsverify`, and choose the policy of the page.

    Every template gets the name of the site and the address of its support.

    :param parts: templates that this one includes for the host to replace.
    :param layout: the template that it extends, in the same folder; None if it is the host's.
    """
    state = get_state()
    page = templating.render(
        f"smsverify/{name}",
        sv_site_name=state.live.current.site_name[current_ui().translator.locale],
        sv_support_url=state.settings.support_url,
        **context,
    )
    parts = () if layout is None else (name, layout, *parts)
    if parts and all(templating.is_own(f"smsverify/{part}") for part in parts):
        request.environ[_POLICY] = _OWN_POLICY + _framing()
    return page


def add_headers(response: Response) -> Response:
    """Add the headers that every page sends. A blueprint's `after_request` function."""
    if response.mimetype == "text/html":
        request.environ.setdefault(_POLICY, _framing())
    response.headers.setdefault("Referrer-Policy", "same-origin")
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    return response


def _framing() -> str:
    return f"frame-ancestors {get_state().settings.frame_ancestors}"


class PolicyMiddleware:
    """Adds the chosen policy to a response that has none."""

    def __init__(self, wsgi_app: WSGIApplication) -> None:
        self._wsgi_app = wsgi_app

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        def start(
            status: str, headers: list[tuple[str, str]], exc_info: Any = None
        ) -> Callable[[bytes], object]:
            policy = environ.get(_POLICY)
            if policy and not any(name.lower() == _HEADER.lower() for name, _ in headers):
                headers = [*headers, (_HEADER, policy)]
            return start_response(status, headers, exc_info)

        return self._wsgi_app(environ, start)
