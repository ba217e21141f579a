"""docs/safety.md has every case, and each case names its mechanism and tests that exist."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "safety.md"
_BASIC = list(range(1, 61))
_FURTHER = list(range(61, 87))
NUMBERS = {str(number) for number in _BASIC + _FURTHER} | {"7a"}
TEST = re.compile(r"`([\w/]+\.py)::(test_\w+)`")


def cases() -> list[list[str]]:
    """Return the cells of each row: number, required behaviour, mechanism, tests."""
    rows = [line for line in PAGE.read_text("utf-8").splitlines() if re.match(r"\| \d", line)]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


@cache
def functions_of(path: str) -> set[str]:
    """Return the names of the functions in a test file, also of those in classes."""
    tree = ast.parse((ROOT / "tests" / path).read_text("utf-8"))
    return {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def test_every_case_is_on_the_page_once() -> None:
    numbers = [row[0].rstrip("∥") for row in cases()]
    assert sorted(numbers) == sorted(NUMBERS)


def test_every_case_has_a_behaviour_a_mechanism_and_tests() -> None:
    for row in cases():
        assert len(row) == 4, row[0]
        number, behaviour, mechanism, tests = row
        assert behaviour, f"case {number} has no required behaviour"
        assert mechanism, f"case {number} has no mechanism"
        assert TEST.findall(tests), f"case {number} names no test"
        rest = TEST.sub("", tests).replace("<br>", "")
        assert rest == "", f"case {number}: {rest!r} is not the name of a test"


def test_every_test_that_a_case_names_exists() -> None:
    missing = [
        f"case {row[0]}: {path}::{name}"
        for row in cases()
        for path, name in TEST.findall(row[3])
        if not (ROOT / "tests" / path).is_file() or name not in functions_of(path)
    ]
    assert missing == []


def test_every_case_that_a_test_refers_to_is_on_the_page() -> None:
    for path in (ROOT / "tests").rglob("test_*.py"):
        for mention in re.findall(
            r"[Cc]ases? (\d+a?(?:(?:,| to| and) \d+a?)*)", path.read_text("utf-8")
        ):
            for number in re.findall(r"\d+a?", mention):
                assert number in NUMBERS, f"{path.name}: case {number}"
