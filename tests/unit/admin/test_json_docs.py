"""The tables of `docs/staff-pages.md` about JSON name what the pages take and return."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from staff import ADMIN, JSON

from flask_smsverify.db.models import Incoming

PAGE = (Path(__file__).parents[3] / "docs/staff-pages.md").read_text("utf-8")
#: What stands for a part of a documented path.
EXAMPLES = {"<audience>": "user", "<event>": "invoice.created"}


def rows(head: str) -> list[list[str]]:
    """Return the cells of a table, by the beginning of its first line."""
    table = PAGE[PAGE.index(f"| {head} |") :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in table]


def names(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


@pytest.fixture
def batch(app: Flask, client: FlaskClient) -> str:
    """Fill every list, and return the id of a send."""
    state: Any = app.extensions["smsverify"]
    client.post(f"{ADMIN}/verifications/3/verify", json={})
    received = Incoming(
        id="1" * 32,
        sender="memory",
        originator="+989123450003",
        line="3000",
        text="hello",
        received_at=state.clock(),
    )
    state.ledger.run(lambda session: session.add(received))
    body = {"text": "hello", "to": "09123450003", "confirm": True}
    started: str = client.post(f"{ADMIN}/send", json=body).json["id"]
    return started


def test_the_members_of_each_response_are_documented(client: FlaskClient, batch: str) -> None:
    for paths, members in rows("GET"):
        for path in names(paths):
            url = path.replace("<id>", batch)
            for variable, value in EXAMPLES.items():
                url = url.replace(variable, value)
            body = client.get(ADMIN + url, headers=JSON).json
            shown = body["items"][0] if "items" in body else body
            assert sorted(shown) == sorted(names(members)), path


def test_every_post_is_documented_with_what_it_returns(
    app: Flask, client: FlaskClient, batch: str
) -> None:
    documented = {path for paths, *_ in rows("POST") for path in names(paths)}
    assert documented == {
        re.sub(r"<[^<>]*:([a-z_]+)>", r"<\1>", rule.rule.removeprefix(ADMIN))
        for rule in app.url_map.iter_rules()
        if rule.endpoint.startswith("smsverify_admin.") and "POST" in rule.methods
    }
    preview = client.post(f"{ADMIN}/send", json={"text": "x", "to": "09123450003"}).json
    text = f"{ADMIN}/texts/user/invoice.created/preview"
    shown = client.post(text, json={"text": "x", "locale": "en"}).json
    acted = client.post(f"{ADMIN}/send/{batch}/stop", json={}).json
    members = {path: names(last) for paths, _, last in rows("POST") for path in names(paths)}
    assert sorted([*preview, "confirm", "id"]) == sorted(members["/send"])
    assert sorted(shown) == sorted(members["/texts/<audience>/<event>/preview"])
    assert sorted(acted) == sorted(members["/send/<id>/<action>"])
