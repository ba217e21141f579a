"""The package's advice about errors of senders has translations."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import flask_smsverify
from flask_smsverify.admin.advice import _ADVICE, show_advice
from flask_smsverify.web.interface import Interface

#: The position of the advice among the arguments of a row of a gateway's error table.
POSITION = 2


def constants(trees: list[ast.Module]) -> dict[str, ast.expr]:
    """Return the constants of the modules."""
    return {
        node.targets[0].id: node.value
        for tree in trees
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }


def given(tree: ast.Module) -> Iterator[ast.expr]:
    """Yield the expressions of a module that become advice."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield from (key.value for key in node.keywords if key.arg == "advice")
            if getattr(node.func, "id", "") == "KnownError":
                yield from node.args[POSITION:]
        elif isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(getattr(target, "id", "") == "default_advice" for target in targets):
                yield node.value


def texts(value: ast.expr, known: dict[str, ast.expr]) -> Iterator[str]:
    """Yield the texts that an expression can have. A text from an argument comes from a caller."""
    if isinstance(value, ast.Constant):
        yield from filter(None, [value.value]) if isinstance(value.value, str) else ()
    elif isinstance(value, ast.Name) and value.id in known:
        yield from texts(known[value.id], known)
    elif isinstance(value, ast.IfExp):
        yield from texts(value.body, known)
        yield from texts(value.orelse, known)
    elif not (isinstance(value, ast.Name | ast.Attribute) or "advice" in ast.unparse(value)):
        raise AssertionError(f"cannot read {ast.unparse(value)}")


def sentences() -> dict[str, str]:
    """Return each advice of the package → where it is."""
    package = Path(flask_smsverify.__file__).parent
    paths = [package / "errors.py", *sorted((package / "senders").rglob("*.py"))]
    trees = {path: ast.parse(path.read_text("utf-8")) for path in paths}
    imported = constants(list(trees.values()))
    return {
        text: f"{path.relative_to(package)}:{value.lineno}"
        for path, tree in trees.items()
        for value in given(tree)
        for text in texts(value, imported | constants([tree]))
    }


def test_every_advice_of_the_package_has_a_translation_and_no_other_has() -> None:
    found = sentences()
    assert len(found) > 60  # the walk finds advice at all
    assert {text: where for text, where in found.items() if text not in _ADVICE} == {}
    assert _ADVICE - found.keys() == set()


def test_names_of_options_in_advice_are_isolated_from_the_direction_of_the_page() -> None:
    shown = show_advice("Check the option line.", Interface(lambda: "fa"))
    assert shown == 'گزینهٔ <code dir="ltr">line</code> را بررسی کنید.'


def test_the_advice_of_a_sender_of_the_app_is_shown_as_it_is() -> None:
    assert show_advice("Ask <Ali>.", Interface(lambda: "fa")) == "Ask &lt;Ali&gt;."
