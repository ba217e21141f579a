"""What to write instead of a text if a setting needs another type.

A value from the environment is text unless it is JSON: `from_prefixed_env` of Flask keeps `True`
and `{'main': 1}` as they are written.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any

#: Settings whose default shows no value: an example in JSON.
_EXAMPLES = {
    "senders": '{"main": {"gateway": "memory"}}',
    "routes": '{"sms": ["main"]}',
    "exempt_groups": '["staff"]',
    "areas": '{"billing": ["billing.*"]}',
    "open_endpoints": '["help"]',
    "allowed_regions": '["IR"]',
    "limits": '{"ip": "60/hour;300/day"}',
    "patterns": '{"order.accepted": {"main": {"template": 100}}}',
    "staff_mobiles": '["+98 912 000 0000"]',
    "test_numbers": '{"+98 912 000 0000": "123456"}',
}


def explain_text(item: dataclasses.Field[Any], key: str, value: object) -> str:
    """Return a sentence with the JSON that a setting needs; empty if the value may be a text.

    It does not show the value, which may be a secret.

    :param item: the setting's field of `Settings`.
    :param key: its key in Flask's configuration.
    """
    if not isinstance(value, str) or _may_be_text(str(item.type)):
        return ""
    problem = f" ({_json_problem(value)})" if value[:1] in ("{", "[") else ""
    form = f"FLASK_{key}={_form(item)}"
    return f". It was given as text{problem}. In the environment, write JSON: {form}"


def _may_be_text(annotation: str) -> bool:
    """Return whether one of the alternatives of a type is written as text."""
    names = {name.strip() for name in annotation.split("|")}
    return annotation.startswith("Literal") or not names.isdisjoint({"str", "date", "QuietHours"})


def _json_problem(text: str) -> str:
    """Return why a text is not valid JSON."""
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        return f"it is no JSON: {error.msg}, character {error.pos + 1}"
    return "it is JSON inside a text"


def _form(item: dataclasses.Field[Any]) -> str:
    """Return an accepted value, quoted for a shell."""
    default = item.metadata["default"]
    if item.name in _EXAMPLES:
        return f"'{_EXAMPLES[item.name]}'"
    if "bool" in str(item.type):
        return "true"
    return f"'{json.dumps(default)}'" if isinstance(default, tuple) else json.dumps(default)
