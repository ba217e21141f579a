"""Which requests the simulator takes, by their `Host`, and where they go.

A loopback name reaches the phone page and the gateways by path. A gateway's real host name (a
client that uses the simulator as its `http_proxy`, or a changed hosts file) reaches that gateway
alone. Any other name is refused: a web page whose name was rebound to 127.0.0.1 would come with
its own.
"""

import ipaddress
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from werkzeug.wrappers import Response

from .gateway import Gateway

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

SOAP_ENCODING_HOST = "schemas.xmlsoap.org"
"""WSDLs that import SOAP's encoding schema send their readers here."""

ORIGINAL_PATH = "simulator.path"
"""The key of the environ under which the path as received is kept."""


def host_name(host: str) -> str:
    """The name in a `Host` value, lowered, without port and brackets."""
    host = host.strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].rstrip(".")


def is_loopback(name: str) -> bool:
    """Whether a host name or address is this machine's own and nobody else's."""
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


class Door:
    """WSGI middleware: turns strangers away and real host names into paths."""

    def __init__(self, app: "WSGIApplication", gateways: Sequence[type[Gateway]]) -> None:
        self._app = app
        self._by_host: Mapping[str, str] = {
            host: gateway.name for gateway in gateways for host in gateway.hosts
        }
        self._folding = {gateway.name for gateway in gateways if gateway.folds_case}

    def __call__(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        name = host_name(environ.get("HTTP_HOST", ""))
        path = environ.get("PATH_INFO", "") or "/"
        environ[ORIGINAL_PATH] = path
        if environ["REQUEST_METHOD"] == "CONNECT":
            return _say(
                501, "The simulator cannot carry https. Use http, or the client's base URL."
            )(environ, start_response)
        if name in self._by_host:
            path = f"/{self._by_host[name]}{path}"
        elif name == SOAP_ENCODING_HOST:
            path = f"/{SOAP_ENCODING_HOST}{path}"
        elif not is_loopback(name):
            return _say(421, "The simulator answers to loopback and the gateways' names only.")(
                environ, start_response
            )
        environ["PATH_INFO"] = self._folded(path)
        return self._app(environ, start_response)

    def _folded(self, path: str) -> str:
        """Lower case and no slash at the end, for the gateways that do not care."""
        gateway = path.split("/", 2)[1] if path.startswith("/") else ""
        return path.lower().rstrip("/") if gateway in self._folding else path


def _say(status: int, text: str) -> "Callable[[WSGIEnvironment, StartResponse], Iterable[bytes]]":
    return Response(text + "\n", status, content_type="text/plain; charset=utf-8")
