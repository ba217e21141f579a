"""The phrases with which the package explains a failure have translations."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import flask_smsverify
from flask_smsverify import errors
from flask_smsverify.admin.causes import _PATTERNS, _PHRASES
from flask_smsverify.errors import ChannelUnavailable, RateLimited, SenderError
from flask_smsverify.senders import batching

#: A folder whose phrases can become causes → its variables and constants that hold one.
SOURCES: dict[str, set[str]] = {
    "senders": {"reason"},
    "delivery": set(),
    "messaging": {"OPTED_OUT", "STOPPED", "WORKER_DIED", "_BLACKLISTED"},
}
#: Calls whose second argument is a reason, besides those of the classes of errors.
MAKERS = {"make_error", "KnownError"}
#: Functions that return a reason.
FUNCTIONS = {"find_problem", "redact_reason"}
#: What stands for the variable part of a phrase.
VARIABLE = "7"


def error_names() -> set[str]:
    """Return the names of the classes of senders' errors."""
    classes = [*vars(errors).values(), *vars(batching).values()]
    return {
        one.__name__ for one in classes if isinstance(one, type) and issubclass(one, SenderError)
    }


def reasons(tree: ast.Module, makers: set[str], names: set[str]) -> Iterator[ast.expr]:
    """Yield the expressions of a module that become the reason of an error."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            if name in makers:
                yield from node.args[1:2]
                yield from (key.value for key in node.keywords if key.arg in ("reason", "cause"))
            elif name == "NoSlot":
                yield node.args[0]
        elif isinstance(node, ast.Assign):
            yield from assigned(node.targets[0], node.value, names)
        elif isinstance(node, ast.FunctionDef) and node.name in FUNCTIONS:
            returned = [one for one in ast.walk(node) if isinstance(one, ast.Return)]
            yield from (one.value for one in returned if one.value is not None)


def assigned(target: ast.expr, value: ast.expr, names: set[str]) -> Iterator[ast.expr]:
    """Yield what an assignment binds to a name of a reason."""
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        for one, its in zip(target.elts, value.elts, strict=True):
            yield from assigned(one, its, names)
    elif isinstance(target, ast.Name) and target.id in names:
        yield value


def texts(value: ast.expr) -> Iterator[str]:
    """Yield the texts that an expression can have, with `VARIABLE` for what varies."""
    if isinstance(value, ast.Constant) and isinstance(value.value, str):
        yield value.value
    elif isinstance(value, ast.JoinedStr):
        yield "".join(map(part, value.values))
    elif isinstance(value, ast.IfExp):
        yield from texts(value.body)
        yield from texts(value.orelse)
    elif isinstance(value, ast.BoolOp):
        for one in value.values:
            yield from texts(one)


def part(value: ast.expr) -> str:
    if isinstance(value, ast.Constant):
        return str(value.value)
    is_quoted = isinstance(value, ast.FormattedValue) and value.conversion == ord("r")
    return repr(VARIABLE) if is_quoted else VARIABLE


def phrases() -> dict[str, str]:
    """Return each phrase of the package → where it is."""
    package = Path(flask_smsverify.__file__).parent
    makers = MAKERS | error_names()
    found = {}
    for folder, names in SOURCES.items():
        for path in sorted((package / folder).rglob("*.py")):
            for reason in reasons(ast.parse(path.read_text("utf-8")), makers, names):
                where = f"{path.relative_to(package)}:{reason.lineno}"
                found |= dict.fromkeys(filter(None, texts(reason)), where)
    return found


def test_every_phrase_that_can_become_a_cause_has_a_translation() -> None:
    found = phrases()
    assert len(found) > 100  # the walk finds phrases at all
    missing = {
        text: where
        for text, where in found.items()
        if text not in _PHRASES
        and not (VARIABLE in text and any(one.fullmatch(text) for one, _ in _PATTERNS))
    }
    assert not missing, "add them to admin/causes.py"


def test_every_translated_phrase_and_pattern_is_one_of_the_package() -> None:
    found = phrases()
    others = [str(ChannelUnavailable("text")), str(RateLimited(30, "messages"))]
    # These are put together from parts.
    others += ["the gateway refuses the request", "the gateway refuses receiver, to"]
    others += ["the gateway refuses sender, to"]
    assert {*_PHRASES} - {*found, *others} == set()
    for pattern, _ in _PATTERNS:
        assert any(map(pattern.fullmatch, [*found, *others])), pattern.pattern


@pytest.mark.parametrize("error", [ChannelUnavailable("text"), RateLimited(30, "messages")])
def test_the_cause_of_a_text_that_no_sender_was_asked_to_send_has_a_translation(
    error: Exception,
) -> None:
    assert any(pattern.fullmatch(str(error)) for pattern, _ in _PATTERNS)
