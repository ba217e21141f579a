"""Invalid arguments of the verifier raise errors that name them, and change nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask_login import AnonymousUserMixin
from flows import Flow

MakeFlow = Callable[..., Flow]

NOT_A_LINE: list[Any] = ["", "  ", "two\nlines", "a\x00b", None, 3]


def test_a_purpose_must_be_one_line_of_at_most_64_characters(flow: Flow) -> None:
    for purpose in (*NOT_A_LINE, "x" * 65):
        for start in (
            lambda purpose=purpose: flow.start(purpose=purpose),
            lambda purpose=purpose: flow.verifier.start_for("09123450002", purpose=purpose),
        ):
            with pytest.raises(ValueError, match="purpose must be one line of 1 to 64 characters"):
                start()
    assert list(flow.memory.messages) == []
    assert flow.used("site") == 0


def test_a_staff_name_must_be_one_line_of_at_most_191_characters(flow: Flow) -> None:
    names = (*NOT_A_LINE, "x" * 192)
    for by in names:
        with pytest.raises(ValueError, match="by must be one line of 1 to 191 characters"):
            flow.verifier.mark_verified(flow.user(), by=by)
    assert flow.verification() is None
    flow.prove()
    for by in names:
        with pytest.raises(ValueError, match="by must be one line of 1 to 191 characters"):
            flow.verifier.revoke(flow.user(), by=by)
    assert flow.verifier.status(flow.user()).state == "verified"


def test_every_database_stores_the_longest_purpose_and_staff_name(
    make_flow: MakeFlow, database: str
) -> None:
    flow = make_flow(database)
    purpose = "\u200cپ" * 32
    assert flow.start(purpose=purpose).purpose == purpose
    assert flow.verifier.mark_verified(flow.user(), by="س" * 191).sender == "س" * 191


def test_start_refuses_an_object_that_is_not_a_user(flow: Flow) -> None:
    with pytest.raises(TypeError, match="expected a User, got NoneType"):
        flow.verifier.start(None)


def test_start_says_that_nobody_is_logged_in(flow: Flow) -> None:
    with pytest.raises(TypeError, match="nobody is logged in: put @login_required above"):
        flow.verifier.start(AnonymousUserMixin())
