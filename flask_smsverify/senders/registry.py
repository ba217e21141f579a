"""Make senders from `SMSVERIFY_SENDERS`: the table of gateways, and the checks of options."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping
from decimal import Decimal
from importlib import import_module

from ..errors import ConfigurationError
from .base import Sender

#: Kind of gateway → module in this package and class. A module is imported when it is configured,
#: so that an app does not load the SOAP client of a gateway that it does not use.
GATEWAYS: Mapping[str, tuple[str, str]] = {
    "raygan": ("raygan", "Raygan"),
    "wikipayam": ("wikipayam", "WikiPayam"),
    "melipayamak": ("melipayamak", "MeliPayamak"),
    "asanak": ("asanak", "Asanak"),
    "smsir": ("smsir", "SmsIr"),
    "console": ("console", "Console"),
    "memory": ("memory", "Memory"),
}

#: Gateway, or gateway and `api` → the path of its simulated API. It is the gateway's name and the
#: path of the default `base_url`.
SIMULATED_PATHS: Mapping[str, str] = {
    "raygan": "/raygan/api/smsAPI",
    "wikipayam": "/wikipayam/api/v1",
    "melipayamak": "/melipayamak/post",
    "asanak": "/asanak/webservice/v1rest",
    "asanak v2rest": "/asanak/webservice/v2rest",
    "smsir": "/smsir/v1",
    "smsir legacy": "/smsir/api",
}

#: Options that every sender may have. They are not passed to its class.
GENERAL_OPTIONS = frozenset({"gateway", "quiet_hours", "low_credit"})

#: Parameters that are not options. Tests and `build` pass them.
_NOT_OPTIONS = frozenset({"name", "http_client", "enabled"})


def build(
    name: str,
    options: Mapping[str, object],
    *,
    registered: Mapping[str, type[Sender]],
    simulator_url: str | None = None,
    debug: bool = False,
) -> Sender:
    """Return a sender made from its options in `SMSVERIFY_SENDERS`.

    :param registered: the app's own gateways by kind. They take precedence over the built-in ones.
    :param simulator_url: the simulator to send to, for the gateways that it simulates.
    :param debug: whether the app runs in debug mode, which `console` requires.
    :raises ConfigurationError: a kind or option is unknown, missing or invalid.
    """
    kind = str(options["gateway"])
    cls = _find_class(name, kind, registered)
    arguments = {key: value for key, value in options.items() if key not in GENERAL_OPTIONS}
    # The class's own `gateway`, so that an app's subclass of a built-in gateway is simulated too.
    simulated = SIMULATED_PATHS.get(f"{cls.gateway} {arguments.get('api')}") or SIMULATED_PATHS.get(
        cls.gateway
    )
    if simulator_url and simulated:
        arguments["base_url"] = simulator_url.rstrip("/") + simulated
        arguments.pop("code_base_url", None)
    if kind == "console":
        arguments["enabled"] = debug
    _check_arguments(name, cls, arguments)
    try:
        return cls(name=name, **arguments)
    except ConfigurationError as error:
        text = str(error).removeprefix(f"{name}: ")  # the class adds the name itself
        raise ConfigurationError(f"SMSVERIFY_SENDERS[{name!r}]: {text}") from None


def find_gateway(kind: str) -> type[Sender] | None:
    """Return the class of a built-in gateway; None if there is none of this kind."""
    if kind not in GATEWAYS:
        return None
    module, class_name = GATEWAYS[kind]
    found: type[Sender] = getattr(import_module(f".{module}", __package__), class_name)
    return found


def _find_class(name: str, kind: str, registered: Mapping[str, type[Sender]]) -> type[Sender]:
    if kind in registered:
        if not isinstance(getattr(registered[kind], "gateway", None), str):
            raise ConfigurationError(
                f"SMSVERIFY_SENDERS[{name!r}]: {registered[kind].__name__} needs the class "
                "attribute `gateway`, a string with the kind of gateway"
            )
        return registered[kind]
    found = find_gateway(kind)
    if found is None:
        known = [*registered, *GATEWAYS]
        near = difflib.get_close_matches(kind, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else "the gateways are " + ", ".join(known)
        raise ConfigurationError(
            f"SMSVERIFY_SENDERS[{name!r}]: there is no gateway {kind!r}; {hint}"
        )
    return found


def _check_arguments(name: str, cls: type[Sender], arguments: Mapping[str, object]) -> None:
    """Check the options against the parameters of the class."""
    parameters = inspect.signature(cls).parameters
    if "name" in arguments:
        raise ConfigurationError(
            f"SMSVERIFY_SENDERS[{name!r}]: there is no option 'name'; the name is {name!r}"
        )
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
        return
    if "name" not in parameters:
        raise ConfigurationError(
            f"SMSVERIFY_SENDERS[{name!r}]: {cls.__name__} must accept the keyword 'name' and pass "
            "it to Sender.__init__"
        )
    options = [option for option in parameters if option not in _NOT_OPTIONS]
    for key in arguments:
        if key not in parameters or key == "http_client":
            near = difflib.get_close_matches(key, options, n=1)
            accepted = ", ".join(options) or "none"
            hint = f"did you mean {near[0]!r}?" if near else f"the options are {accepted}"
            raise ConfigurationError(
                f"SMSVERIFY_SENDERS[{name!r}]: there is no option {key!r}; {hint}"
            )
    for key, parameter in parameters.items():
        if parameter.default is inspect.Parameter.empty and key not in arguments and key != "name":
            raise ConfigurationError(f"SMSVERIFY_SENDERS[{name!r}]: the option {key!r} is missing")


def low_credits(senders: Mapping[str, Mapping[str, object]]) -> dict[str, Decimal]:
    """Return sender → the credit below which it is low, from the option `low_credit`.

    :param senders: `SMSVERIFY_SENDERS`.
    :raises ConfigurationError: a value is not a number or is negative.
    """
    found = {}
    for name, options in senders.items():
        value = options.get("low_credit", 0)
        if isinstance(value, bool) or not isinstance(value, int | float | Decimal) or value < 0:
            raise ConfigurationError(
                f"SMSVERIFY_SENDERS[{name!r}]: low_credit must be a number of at least 0, in the "
                f"unit in which the gateway reports its credit, not {value!r}"
            )
        found[name] = Decimal(str(value))
    return found
