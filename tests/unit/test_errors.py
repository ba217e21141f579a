"""Errors can be copied and pickled, as task queues do."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest

from flask_smsverify import errors

ERRORS = [
    errors.ConfigurationError("say how"),
    errors.InvalidMobile("too short"),
    errors.ChannelUnavailable("voice"),
    errors.TooSoon(17),
    errors.RateLimited(17, "site"),
    errors.InvalidCode("empty"),
    errors.WrongCode(3),
    errors.Unavailable("gate", "down", code="5", written=False),
    errors.SendFailed([errors.Unavailable("gate", "down"), errors.Unknown("way", "silent")]),
    errors.CheckFailed(errors.Unknown("gate", "silent")),
]


@pytest.mark.parametrize(
    ("channel", "message"),
    [
        ("sms", "no sender sends codes by SMS"),
        ("voice", "no sender sends codes by phone call"),
        ("text", "no sender sends ordinary texts"),
    ],
)
def test_a_channel_without_a_sender_says_what_no_sender_sends(channel: str, message: str) -> None:
    where = "see SMSVERIFY_SENDERS and SMSVERIFY_ROUTES"
    assert str(errors.ChannelUnavailable(channel)) == f"{message}; {where}"


@pytest.mark.parametrize("channel", ["fax", "event", [], None])
def test_an_unknown_channel_says_which_channels_there_are(channel: object) -> None:
    assert str(errors.ChannelUnavailable(channel)) == "the channel must be 'sms' or 'voice'"


def pickled(error: Exception) -> object:
    return pickle.loads(pickle.dumps(error))  # noqa: S301 -- what was pickled a moment ago


@pytest.mark.parametrize("again", [copy.copy, pickled])
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_can_be_copied_and_pickled(
    error: Exception, again: Callable[[Exception], object]
) -> None:
    same = again(error)
    assert type(same) is type(error)
    assert str(same) == str(error)
    assert repr(vars(same)) == repr(vars(error))
