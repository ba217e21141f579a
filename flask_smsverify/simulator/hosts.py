"""Routing by the `Host` header.

A loopback name reaches the phone page, and the gateways by path. A gateway's real host name reaches
that gateway only. A client sends it if the simulator is its `http_proxy`, or if the hosts file maps
it to the simulator. All other names are refused, because a web page could reach the simulator
through DNS rebinding.
"""

import ipaddress
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from werkzeug.wrappers import Response

from .gateways.base import Gateway

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

SOAP_ENCODING_HOST: Final = "schemas.xmlsoap.org"
"""The host of SOAP's encoding schema, which clients fetch when a WSDL imports it."""

ORIGINAL_PATH: Final = "simulator.path"
"""The WSGI environ key of the path as it was received."""


def host_name(host: str) -> str:
    """Return the name in a `Host` header, in lower case, without port and brackets."""
    host = host.strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].rstrip(".")


def is_loopback(name: str) -> bool:
    """Return whether a host name or an IP address is loopback."""
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


class HostRouter:
    """WSGI middleware that turns gateways' host names into paths and refuses unknown hosts."""

    def __init__(self, app: "WSGIApplication", gateways: Sequence[type[Gateway]]) -> None:
        self._app = app
        self._gateway_by_host: Mapping[str, str] = {
            host: gateway.name for gateway in gateways for host in gateway.hosts
        }
        self._case_insensitive = {g.name for g in gateways if g.is_case_insensitive}

    def __call__(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        name = host_name(environ.get("HTTP_HOST", ""))
        path = environ.get("PATH_INFO", "") or "/"
        environ[ORIGINAL_PATH] = path
        if environ["REQUEST_METHOD"] == "CONNECT":
            return _text_response(
                501,
                "The simulator does not support https. Use http, or set the client's base URL.",
            )(environ, start_response)
        if name in self._gateway_by_host:
            path = f"/{self._gateway_by_host[name]}{path}"
        elif name == SOAP_ENCODING_HOST:
            path = f"/{SOAP_ENCODING_HOST}{path}"
        elif not is_loopback(name):
            return _text_response(
                421, "The simulator serves loopback hosts and the gateways' hosts only."
            )(environ, start_response)
        environ["PATH_INFO"] = self._normalized(path)
        return self._app(environ, start_response)

    def _normalized(self, path: str) -> str:
        gateway = path.split("/", 2)[1] if path.startswith("/") else ""
        return path.lower().rstrip("/") if gateway in self._case_insensitive else path


def _text_response(
    status: int, text: str
) -> "Callable[[WSGIEnvironment, StartResponse], Iterable[bytes]]":
    return Response(text + "\n", status, content_type="text/plain; charset=utf-8")
