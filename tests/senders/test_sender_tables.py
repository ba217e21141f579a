"""The page of each gateway has the calls, options and errors that the code has."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from flask_smsverify.senders import asanak, build, melipayamak, raygan, smsir, wikipayam
from flask_smsverify.senders.base import Sender
from flask_smsverify.simulator import create_simulator

HERE = Path(__file__).parent
PAGES = HERE.parents[1] / "docs" / "gateways"

GATEWAYS: dict[str, type[Sender]] = {
    "raygan": raygan.Raygan,
    "wikipayam": wikipayam.WikiPayam,
    "melipayamak": melipayamak.MeliPayamak,
    "asanak": asanak.Asanak,
    "smsir": smsir.SmsIr,
}

#: Where a sender keeps calls of its own on an object of its own.
PARTS: Mapping[str, Mapping[str, type]] = {"smsir": {"v1": smsir.V1, "legacy": smsir.Legacy}}

ERRORS = {
    "raygan": raygan.ERRORS,
    "melipayamak": melipayamak.PATTERN_CODES,
    "asanak": asanak.V2_CODES,
    "smsir": smsir.V1_CODES,
}

#: Options that every gateway takes; `docs/configuration.md` has them.
COMMON = {"timeout", "allow_http", "client", "name"}

every_gateway = pytest.mark.parametrize("gateway", GATEWAYS)


def page(gateway: str) -> str:
    return (PAGES / f"{gateway}.md").read_text()


def rows(text: str, *heading: str) -> Iterator[list[str]]:
    """The cells of every table with that heading."""
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
    """What stands in backticks."""
    return re.findall(r"`([^`]+)`", cell)


@dataclass(frozen=True)
class Call:
    """A row of a table of calls."""

    theirs: str
    method: str
    simulated: str

    @property
    def name(self) -> str:
        return self.method.rpartition(".")[2]


def calls(gateway: str) -> list[Call]:
    heading = ("its call", "our method", "at the simulator", "what it does")
    found = []
    for theirs, method, simulated, what in rows(page(gateway), *heading):
        assert what
        [ours], [route] = words(method), words(simulated)
        found.append(Call(theirs, ours, route))
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
    texts = [path.read_text() for path in HERE.glob("*.py") if path.name != Path(__file__).name]
    return "\n".join(texts)


# --- calls ---------------------------------------------------------------------------------------


@every_gateway
def test_every_call_has_the_method_that_the_table_names(gateway: str) -> None:
    for call in calls(gateway):
        method = getattr(owner(gateway, call.method), call.name, None)
        assert inspect.isfunction(method), f"{call.theirs}: there is no {call.method}"
        assert inspect.getdoc(method), f"{call.method} says nothing of itself"


@every_gateway
def test_every_call_is_one_that_the_simulator_answers(gateway: str) -> None:
    for call in calls(gateway):
        assert call.simulated.lower() in simulator_routes(), f"{call.theirs}: {call.simulated}"
        path = call.simulated.partition(" ")[2]
        assert path.startswith((f"/{gateway}/", "/_api/"))


@every_gateway
def test_every_call_is_tested(gateway: str) -> None:
    for call in calls(gateway):
        assert re.search(rf"\.{call.name}\(", sources_of_tests()), f"no test calls {call.method}"


@every_gateway
def test_every_method_that_calls_a_gateway_is_in_its_tables(gateway: str) -> None:
    named = {call.method for call in calls(gateway)}
    for methods, theirs in rows(page(gateway), "method", "its calls"):
        named.update(words(methods))
        assert theirs
    written = public_methods(GATEWAYS[gateway])
    for part, cls in PARTS.get(gateway, {}).items():
        written |= {f"{part}.{name}" for name in public_methods(cls)}
    assert written - named == set(), "these are on no page"
    base = public_methods(Sender)
    assert {name for name in named - written if name not in base} == set(), "these do not exist"


def test_every_operation_of_melipayamaks_description_is_in_its_table() -> None:
    description = Path(melipayamak.__file__).with_name("melipayamak.wsdl").read_text()
    operations = set(re.findall(r'<(?:wsdl:)?operation name="(\w+)"', description))
    assert {word for call in calls("melipayamak") for word in words(call.theirs)} == operations


# --- options -------------------------------------------------------------------------------------


@every_gateway
def test_every_option_is_on_the_page_with_its_default(gateway: str) -> None:
    parameters = inspect.signature(GATEWAYS[gateway]).parameters
    told: dict[str, str] = {}
    for options, default, _meaning in rows(page(gateway), "option", "default", "meaning"):
        told |= dict.fromkeys(words(options), default)
    assert set(told) == set(parameters) - COMMON
    for name, default in told.items():
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
def test_the_example_on_the_page_works(gateway: str) -> None:
    [block] = re.findall(r"```python\n(SMSVERIFY_SENDERS = .*?)```", page(gateway), re.S)
    given: dict[str, Any] = {}
    exec(block.replace("…", "open-sesame"), given)  # noqa: S102 -- the page's own example
    for name, options in given["SMSVERIFY_SENDERS"].items():
        assert options["gateway"] == gateway
        sender = build(name, options, registered={})
        assert isinstance(sender, GATEWAYS[gateway])
        sender.close()


# --- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize("gateway", ERRORS)
def test_the_errors_on_the_page_are_those_of_the_code(gateway: str) -> None:
    told = {
        int(code): (words(kind)[0], meaning)
        for code, kind, meaning in rows(page(gateway), "code", "error", "meaning")
    }
    assert told == {
        code: (kind.__name__, meaning) for code, (kind, meaning) in ERRORS[gateway].items()
    }


# --- words ---------------------------------------------------------------------------------------


@every_gateway
def test_a_page_names_its_sources_and_no_file_of_ours(gateway: str) -> None:
    text = page(gateway)
    assert re.search(r"^Sources?: |[.)] Sources?: ", text, re.M)
    assert "../" not in text
    assert max(map(len, re.sub(r"^\|.*$", "", text, flags=re.M).splitlines())) <= 100
