"""Security headers of the pages: Content-Security-Policy and Referrer-Policy.

A page on the package's own layout sends a full policy. Inside the host's layout, whose scripts and
styles are unknown here, it sends `frame-ancestors` alone. A policy of the host's is never replaced:
the header is added outside the app, when every `after_request` function of the host has run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flask import Response, current_app, request

from ..state import get_state

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_LAYOUT = "smsverify/base.html"
_OWN_LAYOUT = Path(__file__).parent.parent / "templates" / _LAYOUT
_HEADER = "Content-Security-Policy"
#: The key in the WSGI environment that holds the policy of a page.
_POLICY = "smsverify.csp"
_OWN_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; "
)


def choose_policy(response: Response) -> Response:
    """Choose the policy of a page of the package. A blueprint's `after_request` function."""
    if response.mimetype == "text/html":
        framing = f"frame-ancestors {get_state().settings.frame_ancestors}"
        request.environ[_POLICY] = _OWN_POLICY + framing if _has_own_layout() else framing
    response.headers.setdefault("Referrer-Policy", "same-origin")
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    return response


def _has_own_layout() -> bool:
    filename = current_app.jinja_env.get_template(_LAYOUT).filename
    return filename is not None and Path(filename) == _OWN_LAYOUT


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
