"""A check that every JSON response of the pages is in the OpenAPI document."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from flask import Flask, Response, request, request_finished
from hostapp import create_app

from flask_smsverify.web.negotiation import wants_json
from flask_smsverify.web.openapi import build_document
from flask_smsverify.web.operations import OPERATIONS

#: Settings that offer every operation.
EVERYTHING: dict[str, Any] = {
    "SMSVERIFY_SIGN_IN": True,
    "SMSVERIFY_LOGIN_GATE": True,
    "SMSVERIFY_LOGIN_GATE_FIRST_PROOF": "email",
    "SMSVERIFY_WEBOTP_HOST": "www.example.com",
    "WTF_CSRF_ENABLED": True,
}


class Answer(NamedTuple):
    """A response to a program."""

    operation_id: str
    status: int
    media_type: str
    text: str
    headers: dict[str, str]


@contextmanager
def watch() -> Iterator[list[Answer]]:
    """Collect the responses to programs, including those that are not JSON.

    A 404 that is not JSON is omitted, because the app does not offer the URL.
    """
    answers: list[Answer] = []

    def collect(app: Flask, response: Response, **_: Any) -> None:
        endpoint, method = request.endpoint or "", request.method
        if "smsverify" not in app.extensions or method not in OPERATIONS.get(endpoint, ()):
            return
        is_json = response.mimetype.endswith("json")
        if not is_json and (response.status_code == 404 or not wants_json()):
            return
        operation_id = f"{method.lower()}_{endpoint.partition('.')[2]}"
        headers = dict(response.headers)
        text = response.get_data(as_text=True)
        answers.append(Answer(operation_id, response.status_code, response.mimetype, text, headers))

    with request_finished.connected_to(collect):
        yield answers


@functools.cache
def whole_document() -> dict[str, Any]:
    """Return the document of an app that offers every operation."""
    from flask_smsverify import SMSVerify

    smsverify = SMSVerify()
    smsverify.email_sender(lambda user, url: None)
    app = create_app("sqlite://", smsverify=smsverify, **EVERYTHING)
    app.login_manager.request_loader(lambda request: None)  # type: ignore[attr-defined]  # Flask-Login sets it
    with app.app_context():
        document: dict[str, Any] = json.loads(app.json.dumps(build_document("")))
    app.extensions["smsverify"].close()
    return document


class Described:
    """The responses that a document describes."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._operations = {
            described["operationId"]: described["responses"]
            for path in document["paths"].values()
            for described in path.values()
            if isinstance(described, dict)
        }
        self._schemas = json.loads(json.dumps(document["components"]["schemas"]))
        for name, schema in self._schemas.items():
            if name != "Problem":  # its members are a part of every other problem
                schema["unevaluatedProperties"] = False
        self._validators: dict[tuple[str, int], Any] = {}

    def deviations(self, answers: list[Answer]) -> list[str]:
        """Return the parts of responses that the document does not describe."""
        found = [(answer, self._deviation(answer)) for answer in answers]
        return [f"{answer[:3]}: {text}" for answer, text in found if text]

    def _deviation(self, answer: Answer) -> str | None:
        response = self._operations[answer.operation_id].get(str(answer.status))
        if response is None:
            return f"this status is not in the document: {answer.text[:200]}"
        media_type = response["content"].get(answer.media_type)
        if media_type is None:
            return "this media type is not in the document"
        if "Retry-After" in answer.headers and "Retry-After" not in response.get("headers", ()):
            return "the header Retry-After is not in the document"
        validator = self._validator(answer, media_type["schema"])
        errors = validator.iter_errors(json.loads(answer.text))
        return next((f"{error.json_path}: {error.message}" for error in errors), None)

    def _validator(self, answer: Answer, schema: dict[str, Any]) -> Any:
        """Return a validator that refuses members which the document does not name."""
        from jsonschema import Draft202012Validator

        key = answer.operation_id, answer.status
        if key not in self._validators:
            self._validators[key] = Draft202012Validator(
                {**schema, "components": {"schemas": self._schemas}},
                format_checker=Draft202012Validator.FORMAT_CHECKER,
            )
        return self._validators[key]


@functools.cache
def everything() -> Described:
    """Return the responses of an app that offers every operation."""
    return Described(whole_document())
