"""What a caller of the verifier gets wrong is said by name, and changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flows import Flow

MakeFlow = Callable[..., Flow]

NOT_A_LINE = ["", "  ", "two\nlines", "a\x00b", None, 3]


@pytest.mark.parametrize("purpose", [*NOT_A_LINE, "x" * 65])
def test_a_purpose_is_one_short_line(make_flow: MakeFlow, sqlite: str, purpose: Any) -> None:
    flow = make_flow(sqlite)
    for start in (
        lambda: flow.start(purpose=purpose),
        lambda: flow.verifier.start_for("09123450002", purpose=purpose),
    ):
        with pytest.raises(ValueError, match="a purpose must be one line of 1 to 64 characters"):
            start()
    assert list(flow.memory.messages) == []
    assert flow.used("site") == 0


@pytest.mark.parametrize("by", [*NOT_A_LINE, "x" * 192])
def test_who_vouches_or_takes_back_is_one_line(make_flow: MakeFlow, sqlite: str, by: Any) -> None:
    flow = make_flow(sqlite)
    with pytest.raises(ValueError, match="who vouches must be one line"):
        flow.verifier.mark_verified(flow.user(), by=by)
    assert flow.standing() is None
    flow.prove()
    with pytest.raises(ValueError, match="who takes it back must be one line"):
        flow.verifier.revoke(flow.user(), by=by)
    assert flow.verifier.status(flow.user()).state == "verified"


def test_the_longest_purpose_and_name_are_kept_by_every_database(
    make_flow: MakeFlow, database: str
) -> None:
    flow = make_flow(database)
    assert flow.start(purpose="‌پ" * 32).purpose == "‌پ" * 32
    assert flow.verifier.mark_verified(flow.user(), by="س" * 191).sender == "س" * 191


def test_nobody_starts_for_no_user(make_flow: MakeFlow, sqlite: str) -> None:
    with pytest.raises(TypeError, match="expected a User, got NoneType"):
        make_flow(sqlite).verifier.start(None)
