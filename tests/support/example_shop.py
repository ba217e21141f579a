"""Helpers for tests of the example shop: log in, verify a mobile, and press buttons."""

from __future__ import annotations

from typing import Any

import lxml.html
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from flask_smsverify.testing import outbox


def log_in(shop: Flask, username: str) -> FlaskClient:
    """Return the client of a demo customer."""
    client = shop.test_client()
    response = client.post("/login", data={"username": username, "password": f"{username}-demo"})
    assert response.status_code == 302
    return client


def verify(shop: Flask, client: FlaskClient) -> None:
    """Prove the customer's mobile."""
    with outbox(shop) as box:
        client.post("/verify-mobile/send", data={"channel": "sms"})
        client.post("/verify-mobile/check", data={"code": box.last.code})


class Browser:
    """Presses the buttons of pages, and submits their forms with the CSRF tokens.

    A button that a page does not show cannot be pressed. `page` is the HTML of the open page. A
    test assigns an earlier page to press a button of a page that is out of date.
    """

    def __init__(self, shop: Flask) -> None:
        self._client = shop.test_client()
        self._path = "/"
        self.page = ""

    def open(self, path: str) -> str:
        """Open a page, follow redirects, and return its HTML."""
        return self._keep(self._client.get(path, follow_redirects=True))

    def press(self, label: str, /, *, within: str = "", **fields: str) -> str:
        """Press a button on the open page with these fields filled in, and return the next page.

        :param within: a text in the list item of the button, if several have such a button.
        """
        for form in lxml.html.fromstring(self.page).forms:
            for button in form.iter("button"):
                items = [item.text_content() for item in form.iterancestors("li")]
                if button.text_content().strip() == label and within in "".join(items):
                    return self._submit(form, button, fields)
        raise AssertionError(f"the page has no button {label!r} within {within!r}: {self.page}")

    def _submit(self, form: Any, button: Any, fields: dict[str, str]) -> str:
        missing = fields.keys() - form.inputs.keys()
        assert not missing, f"the form has no {missing}"
        data = dict(form.form_values()) | fields
        if button.get("name"):
            data[button.get("name")] = button.get("value")
        path = form.get("action") or self._path
        return self._keep(self._client.post(path, data=data, follow_redirects=True))

    def _keep(self, response: TestResponse) -> str:
        assert response.status_code == 200, (response.request.path, response.status)
        self._path = response.request.full_path
        self.page = response.text
        return self.page
