"""Actions on rows: on one with the path, or on many with the field `ids`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from flask import current_app, redirect
from flask.typing import ResponseReturnValue

from ..errors import InvalidValues, ProblemError
from ..i18n.problems import problem_text
from ..web.fields import read_fields
from ..web.interface import current_ui
from ..web.negotiation import wants_json
from ..web.problems import Problem, problem_from_error
from .rendering import back_url, flash

#: The most rows that one request acts on.
_MAX_MANY = 200


def selected_ids(name: str) -> list[str]:
    """Return the ids of the selected rows, each once.

    :param name: the field in JSON; `ids` is accepted as well.
    :raises InvalidValues: none, too many, or not texts.
    """
    fields = read_fields()
    if hasattr(fields, "getlist"):
        ids: object = fields.getlist("ids") or fields.getlist(name)
    else:
        ids = fields.get("ids", fields.get(name))
    t = current_ui().t
    if not isinstance(ids, list) or not ids:
        raise InvalidValues({"ids": t("Select at least one row.")})
    if len(ids) > _MAX_MANY or not all(isinstance(key, str | int) for key in ids):
        raise InvalidValues({"ids": t("Select at most %(count)s rows.", count=_MAX_MANY)})
    return list(dict.fromkeys(map(str, ids)))


def act_on_one(key: str, act: Callable[[str], object], done: str) -> ResponseReturnValue:
    """Perform an action on one row and answer.

    :param act: raises a `ProblemError` if it cannot.
    :param done: the notice for a browser.
    """
    act(key)
    return answer([key], done)


def act_on_many(
    keys: Sequence[str], act: Callable[[str], object], done: Callable[[int], str]
) -> ResponseReturnValue:
    """Perform an action on many rows and answer. A row that fails does not stop the others."""
    succeeded, failures = [], {}
    for key in keys:
        try:
            act(key)
        except ProblemError as error:
            failures[key] = problem_from_error(error)
        else:
            succeeded.append(key)
    return answer(succeeded, done(len(succeeded)), failures)


def answer(
    done: Sequence[str], notice: str, failures: dict[str, Problem] | None = None
) -> ResponseReturnValue:
    """Answer 200 JSON to a program, and a redirect to a browser."""
    failed = failures or {}
    if wants_json():
        return current_app.json.response(
            {"done": list(done), "failed": [_failure(*item) for item in failed.items()]}
        )
    if done:
        flash(notice)
    if failed:
        flash(next(iter(failed.values())))
    return redirect(back_url(), 303)


def _failure(key: str, problem: Problem) -> dict[str, object]:
    text = problem_text(problem.error, problem.values, current_ui().translator)
    return {"id": key, "code": problem.code, "title": text.title, "detail": text.detail}
