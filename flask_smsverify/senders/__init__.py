"""The gateways: one file each, two transports, and the table that makes senders of options."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping
from importlib import import_module

from ..errors import ConfigurationError
from .base import Sender

#: Kind of gateway → module and class. Imported when configured, so that nobody pays for another's
#: SOAP.
_OURS = {
    "raygan": ("raygan", "Raygan"),
    "wikipayam": ("wikipayam", "WikiPayam"),
    "melipayamak": ("melipayamak", "MeliPayamak"),
    "asanak": ("asanak", "Asanak"),
    "smsir": ("smsir", "SmsIr"),
    "console": ("console", "Console"),
    "memory": ("memory", "Memory"),
}

#: Where a simulator has a gateway, by its name and `api`: what the default `base_url` has after its
#: host.
_SIMULATED = {
    "raygan": "/raygan/api/smsAPI",
    "wikipayam": "/wikipayam/api/v1",
    "melipayamak": "/melipayamak/post",
    "asanak": "/asanak/webservice/v1rest",
    "asanak v2rest": "/asanak/webservice/v2rest",
    "smsir": "/smsir/v1",
    "smsir legacy": "/smsir/api",
}


def build(
    name: str,
    options: Mapping[str, object],
    *,
    registered: Mapping[str, type[Sender]],
    simulator_url: str | None = None,
    debug: bool = False,
) -> Sender:
    """A sender of its options, as `SMSVERIFY_SENDERS` has them.

    :param registered: the host's own gateways, by kind; they win over ours.
    :param simulator_url: where to send instead, for the gateways that a simulator speaks.
    :param debug: whether `console` may write.
    :raises ConfigurationError: an unknown kind or option, or one that is missing or wrong.
    """
    kind = str(options["gateway"])
    cls = _class(name, kind, registered)
    arguments = {key: value for key, value in options.items() if key != "gateway"}
    # By the class's own word, so that a host's subclass of one of ours goes there too.
    simulated = _SIMULATED.get(f"{cls.gateway} {arguments.get('api')}") or _SIMULATED.get(
        cls.gateway
    )
    if simulator_url and simulated:
        arguments["base_url"] = simulator_url.rstrip("/") + simulated
        arguments.pop("code_base_url", None)
    if kind == "console":
        arguments["enabled"] = debug
    _check_names(name, cls, arguments)
    try:
        return cls(name=name, **arguments)
    except ConfigurationError as error:
        raise ConfigurationError(f"SMSVERIFY_SENDERS[{name!r}]: {error}") from None


def _class(name: str, kind: str, registered: Mapping[str, type[Sender]]) -> type[Sender]:
    if kind in registered:
        if not isinstance(getattr(registered[kind], "gateway", None), str):
            raise ConfigurationError(
                f"SMSVERIFY_SENDERS[{name!r}]: {registered[kind].__name__} must say in `gateway`, "
                "as a class attribute, which gateway it speaks to"
            )
        return registered[kind]
    if kind not in _OURS:
        known = [*registered, *_OURS]
        near = difflib.get_close_matches(kind, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else "known are " + ", ".join(known)
        raise ConfigurationError(
            f"SMSVERIFY_SENDERS[{name!r}]: there is no gateway {kind!r}; {hint}"
        )
    module, cls = _OURS[kind]
    found: type[Sender] = getattr(import_module(f".{module}", __package__), cls)
    return found


def _check_names(name: str, cls: type[Sender], arguments: Mapping[str, object]) -> None:
    parameters = inspect.signature(cls).parameters
    if "name" in arguments:
        raise ConfigurationError(
            f"SMSVERIFY_SENDERS[{name!r}]: there is no option 'name'; the name is {name!r}"
        )
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
        return
    if "name" not in parameters:
        raise ConfigurationError(
            f"SMSVERIFY_SENDERS[{name!r}]: {cls.__name__} must take the keyword 'name' and hand it "
            "to Sender.__init__"
        )
    options = [option for option in parameters if option not in ("name", "client", "enabled")]
    for key in arguments:
        if key not in parameters or key == "client":
            near = difflib.get_close_matches(key, options, n=1)
            takes = ", ".join(options) or "none"
            hint = f"did you mean {near[0]!r}?" if near else f"it takes {takes}"
            raise ConfigurationError(
                f"SMSVERIFY_SENDERS[{name!r}]: there is no option {key!r}; {hint}"
            )
    for key, parameter in parameters.items():
        if parameter.default is inspect.Parameter.empty and key not in arguments and key != "name":
            raise ConfigurationError(f"SMSVERIFY_SENDERS[{name!r}]: the option {key!r} is missing")
