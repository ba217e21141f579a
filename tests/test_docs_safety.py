"""docs/safety.md: every case is there and names tests that there are."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "safety.md"
#: 52 to 55 belong to what is not part of this release.
NUMBERS = {str(number) for number in range(1, 61) if number not in range(52, 56)} | {"7a"}
TEST = re.compile(r"`([\w/]+\.py)::(test_\w+)`")


def cases() -> list[list[str]]:
    """The cells of each row: number, what must hold, what holds it, tests."""
    rows = [line for line in PAGE.read_text().splitlines() if re.match(r"\| \d", line)]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


@cache
def named_in(path: str) -> set[str]:
    """The names of the tests of a file, in classes too."""
    tree = ast.parse((ROOT / "tests" / path).read_text())
    return {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def test_every_case_is_on_the_page_once() -> None:
    numbers = [row[0].rstrip("∥") for row in cases()]
    assert sorted(numbers) == sorted(NUMBERS)


@pytest.mark.parametrize("row", cases(), ids=lambda row: row[0].rstrip("∥"))
def test_a_case_says_what_holds_it_and_names_tests_that_there_are(row: list[str]) -> None:
    number, must_hold, held_by, tests = row
    assert must_hold
    assert held_by
    named = TEST.findall(tests)
    assert named, f"case {number} names no test"
    assert TEST.sub("", tests).replace("<br>", "") == "", f"case {number}: not the name of a test"
    for path, name in named:
        assert (ROOT / "tests" / path).is_file(), f"case {number}: {path}"
        assert name in named_in(path), f"case {number}: {path}::{name}"


def test_a_case_that_a_test_claims_is_on_the_page() -> None:
    for path in (ROOT / "tests").rglob("test_*.py"):
        for said in re.findall(r"[Cc]ases? (\d+a?(?:(?:,| to| and) \d+a?)*)", path.read_text()):
            for number in re.findall(r"\d+a?", said):
                assert number in NUMBERS, f"{path.name}: case {number}"
