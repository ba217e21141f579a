"""The page of each gateway lists the calls, options and errors of the code."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from senders.cases import each_case

from flask_smsverify.senders import asanak, melipayamak, raygan, smsir, wikipayam
from flask_smsverify.senders.asanak import v1rest, v2rest
from flask_smsverify.senders.asanak.client import AsanakClient
from flask_smsverify.senders.base import KnownError, Sender
from flask_smsverify.senders.http import STATUS_ERRORS
from flask_smsverify.senders.melipayamak.client import PATTERN_CODES, MeliPayamakClient
from flask_smsverify.senders.raygan.client import ERRORS as RAYGAN_ERRORS
from flask_smsverify.senders.raygan.client import RayganClient
from flask_smsverify.senders.registry import build
from flask_smsverify.senders.smsir import legacy, v1
from flask_smsverify.senders.wikipayam.client import WikiPayamClient
from flask_smsverify.simulator import create_simulator

HERE = Path(__file__).parent
TESTS = HERE.parents[1]
PAGES = TESTS.parent / "docs" / "gateways"

GATEWAYS: dict[str, type[Sender]] = {
    "raygan": raygan.Raygan,
    "wikipayam": wikipayam.WikiPayam,
    "melipayamak": melipayamak.MeliPayamak,
    "asanak": asanak.Asanak,
    "smsir": smsir.SmsIr,
}

#: The objects of a sender that have the gateway's calls.
PARTS: Mapping[str, Mapping[str, type]] = {
    "raygan": {"client": RayganClient},
    "wikipayam": {"client": WikiPayamClient},
    "melipayamak": {"client": MeliPayamakClient},
    "asanak": {"client": AsanakClient},
    "smsir": {"v1": v1.V1Client, "legacy": legacy.LegacyClient},
}

ERRORS: Mapping[str, Mapping[int, KnownError]] = {
    "raygan": RAYGAN_ERRORS,
    "melipayamak": PATTERN_CODES,
    "asanak": v2rest.ERRORS,
    "smsir": v1.ERRORS,
}

#: The options of every gateway, which `docs/configuration.md` describes.
COMMON = {"timeout", "allow_http", "http_client", "name"}

every_gateway = each_case("gateway", GATEWAYS)


def page(gateway: str) -> str:
    return (PAGES / f"{gateway}.md").read_text()


def rows(text: str, *heading: str) -> Iterator[list[str]]:
    """Yield the cells of each row of the tables with this heading."""
    lines = iter(text.splitlines())
    for line in lines:
        if cells(line) == list(heading):
            next(lines)
            for row in lines:
                if not row.startswith("|"):
                    break
                yield cells(row)


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def words(cell: str) -> list[str]:
    """Return the words in backticks."""
    return re.findall(r"`([^`]+)`", cell)


@dataclass(frozen=True)
class Call:
    """A row of a table of calls."""

    gateway_call: str
    method: str
    simulated: str

    @property
    def name(self) -> str:
        return self.method.rpartition(".")[2]


def calls(gateway: str) -> list[Call]:
    heading = ("gateway's call", "method", "simulator", "purpose")
    found = []
    for gateway_call, method, simulated, purpose in rows(page(gateway), *heading):
        assert purpose
        [method_name], [route] = words(method), words(simulated)
        found.append(Call(gateway_call, method_name, route))
    assert found
    return found


def owner(gateway: str, method: str) -> type:
    part, _, _ = method.rpartition(".")
    return PARTS[gateway][part] if part else GATEWAYS[gateway]


def public_methods(cls: type) -> set[str]:
    return {
        name
        for name, value in vars(cls).items()
        if inspect.isfunction(value) and not name.startswith("_") and name != "close"
    }


@cache
def simulator_routes() -> frozenset[str]:
    return frozenset(
        f"{method} {rule.rule}".lower()
        for rule in create_simulator().url_map.iter_rules()
        for method in rule.methods or ()
    )


@cache
def sources_of_tests() -> str:
    texts = [
        path.read_text()
        for path in TESTS.glob("*/senders/*.py")
        if path.name != Path(__file__).name
    ]
    return "\n".join(texts)


# --- calls ---------------------------------------------------------------------------------------


@every_gateway
def test_every_call_on_a_page_has_its_method(gateway: str) -> None:
    for call in calls(gateway):
        method = getattr(owner(gateway, call.method), call.name, None)
        assert inspect.isfunction(method), f"{call.gateway_call}: there is no {call.method}"
        assert inspect.getdoc(method), f"{call.method} has no docstring"


@every_gateway
def test_every_call_on_a_page_is_simulated(gateway: str) -> None:
    for call in calls(gateway):
        assert call.simulated.lower() in simulator_routes(), (
            f"{call.gateway_call}: {call.simulated}"
        )
        path = call.simulated.partition(" ")[2]
        assert path.startswith((f"/{gateway}/", "/_api/"))


@every_gateway
def test_every_call_on_a_page_is_tested(gateway: str) -> None:
    for call in calls(gateway):
        assert re.search(rf"\.{call.name}\(", sources_of_tests()), f"no test calls {call.method}"


@every_gateway
def test_every_method_that_calls_a_gateway_is_on_its_page(gateway: str) -> None:
    named = {call.method for call in calls(gateway)}
    for methods, gateway_call in rows(page(gateway), "method of a sender", "gateway's calls"):
        named.update(words(methods))
        assert gateway_call
    written = public_methods(GATEWAYS[gateway])
    for part, cls in PARTS.get(gateway, {}).items():
        written |= {f"{part}.{name}" for name in public_methods(cls)}
    assert written - named == set(), "these are on no page"
    base = public_methods(Sender)
    assert {name for name in named - written if name not in base} == set(), "these do not exist"


def test_every_operation_of_melipayamaks_wsdl_is_on_its_page() -> None:
    description = Path(melipayamak.__file__).with_name("service.wsdl").read_text()
    operations = set(re.findall(r'<(?:wsdl:)?operation name="(\w+)"', description))
    assert {
        word for call in calls("melipayamak") for word in words(call.gateway_call)
    } == operations


# --- options -------------------------------------------------------------------------------------


@every_gateway
def test_every_option_is_on_its_page_with_its_default(gateway: str) -> None:
    parameters = inspect.signature(GATEWAYS[gateway]).parameters
    documented: dict[str, str] = {}
    for options, default, _meaning in rows(page(gateway), "option", "default", "meaning"):
        documented |= dict.fromkeys(words(options), default)
    assert set(documented) == set(parameters) - COMMON
    for name, default in documented.items():
        if name.endswith("base_url"):
            assert all(address.startswith("https://") for address in words(default))
            continue
        value = parameters[name].default
        if value is inspect.Parameter.empty:
            assert default == ""
        elif value in (None, "") and default == "none":
            continue
        else:
            assert default == f"`{_written(value)}`", name


def _written(value: object) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_written, value)) + "]"
    return f'"{value}"' if isinstance(value, str) else repr(value)


@every_gateway
def test_the_example_on_a_page_works(gateway: str) -> None:
    [block] = re.findall(r"```python\n(SMSVERIFY_SENDERS = .*?)```", page(gateway), re.S)
    given: dict[str, Any] = {}
    exec(block.replace("…", "open-sesame"), given)  # noqa: S102 -- the page's own example
    for name, options in given["SMSVERIFY_SENDERS"].items():
        assert options["gateway"] == gateway
        sender = build(name, options, registered={})
        assert isinstance(sender, GATEWAYS[gateway])
        sender.close()


# --- errors --------------------------------------------------------------------------------------


@each_case("gateway", ERRORS)
def test_the_errors_on_a_page_are_those_of_the_code(gateway: str) -> None:
    on_page = {
        int(code): (words(kind)[0], meaning, advice)
        for code, kind, meaning, advice in rows(
            page(gateway), "code", "error", "meaning", "what to do"
        )
    }
    assert on_page == {
        code: (error.kind.__name__, error.reason, advice_of(error))
        for code, error in ERRORS[gateway].items()
    }


def advice_of(error: KnownError) -> str:
    return error.kind.default_advice if error.advice is None else error.advice


def test_every_known_error_has_advice_in_a_sentence() -> None:
    tables = [*ERRORS.values(), v1rest.SENTENCES, STATUS_ERRORS]
    for table in tables:
        for code, error in table.items():
            advice = advice_of(error)
            assert advice.endswith("."), f"{code}: {advice!r}"
            assert advice[0].isupper(), f"{code}: {advice!r}"


# --- prose ---------------------------------------------------------------------------------------


@every_gateway
def test_a_page_names_its_sources(gateway: str) -> None:
    text = page(gateway)
    assert re.search(r"^Sources?: |[.)] Sources?: ", text, re.M)
    assert "../" not in text
    assert max(map(len, re.sub(r"^\|.*$", "", text, flags=re.M).splitlines())) <= 100
