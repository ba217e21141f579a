"""Generated input of staff: each is answered, and none with a server error."""

from __future__ import annotations

import json
from typing import Any

from flask.testing import FlaskClient
from hypothesis import example, given
from hypothesis import strategies as st
from staff import ADMIN, JSON
from web.fuzzing import json_values, shared_app

VALUES = json_values("1", "3", "09123456789", "all", "fa", "x" * 300, "\ud800", "\0", "۳", 10**30)
#: Path of a POST → the names of its fields.
FIELDS = {
    "/verifications": ["q"],
    "/verifications/verify": ["ids", "user_ids"],
    "/verifications/3/resend": [],
    "/messages/delete": ["ids"],
    "/incoming/read": ["ids"],
    "/texts/user/invoice.created": ["enabled", "texts", "recipients", "patterns"],
    "/texts/staff/ticket.opened": ["enabled", "texts", "recipients", "patterns"],
    "/texts/user/invoice.created/preview": ["text", "locale"],
    "/send": ["text", "to", "confirm", "token"],
    "/senders/memory/test": ["mobile"],
    "/settings": [
        "areas", "exempt_groups", "revalidation_days", "signature", "staff_mobiles", "quiet_hours",
    ],
}  # fmt: skip
LISTS = ("/verifications", "/messages", "/incoming", "/send", "/audit")
PARAMETERS = ["q", "state", "kind", "batch", "from", "to", "after", "limit", "format"]
#: What a URL can hold.
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30) | st.sampled_from(
    ["WyIxIl0", "1404/12/30", "9999-12-31", "0001-01-01", "2026-01-01T00:00", "-1", "٣", "\0"]
)


def bodies(path: str) -> st.SearchStrategy[tuple[str, Any]]:
    names = st.sampled_from([*FIELDS[path], "x"])
    return st.tuples(st.just(path), st.dictionaries(names, VALUES, max_size=4) | VALUES)


@example(sent=("/texts/user/invoice.created", {"patterns": [None]}))
@shared_app
@given(sent=st.sampled_from([*FIELDS]).flatmap(bodies))
def test_any_json_body_is_answered_without_a_server_error(
    client: FlaskClient, sent: tuple[str, Any]
) -> None:
    path, body = sent
    answer = client.post(
        ADMIN + path, data=json.dumps(body), content_type="application/json", headers=JSON
    )
    assert answer.status_code in (200, 404, 422, 429), (path, answer.text)
    assert json.loads(answer.text)


@shared_app
@given(
    path=st.sampled_from([*FIELDS]),
    form=st.dictionaries(
        st.sampled_from(
            [*sorted({name for names in FIELDS.values() for name in names}), "text.fa"]
        ),
        TEXTS,
        max_size=5,
    ),
)
def test_any_form_is_answered_without_a_server_error(
    client: FlaskClient, path: str, form: dict[str, str]
) -> None:
    assert client.post(ADMIN + path, data=form).status_code in (200, 303, 422)


@shared_app
@given(
    path=st.sampled_from(LISTS),
    query=st.dictionaries(st.sampled_from(PARAMETERS), TEXTS, max_size=4),
)
def test_any_query_of_a_list_is_answered_without_a_server_error(
    client: FlaskClient, path: str, query: dict[str, str]
) -> None:
    answer = client.get(ADMIN + path, query_string=query, headers=JSON)
    assert answer.status_code in (200, 422), answer.text
