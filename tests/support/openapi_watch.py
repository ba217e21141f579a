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
    """Collect the responses to programs, also those that are no JSON.

    A 404 that is no JSON is left out: the app does not offer the URL.
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


def deviations(answers: list[Answer], document: dict[str, Any]) -> list[str]:
    """Return what is in the responses and not in the document."""
    found = (_deviation(answer, document) for answer in answers)
    return [f"{answer[:3]}: {text}" for answer, text in zip(answers, found, strict=True) if text]


def _deviation(answer: Answer, document: dict[str, Any]) -> str | None:
    response = _responses(document, answer.operation_id).get(str(answer.status))
    if response is None:
        return f"this status is not in the document: {answer.text[:200]}"
    media_type = response["content"].get(answer.media_type)
    if media_type is None:
        return "this media type is not in the document"
    header = response.get("headers", {}).get("Retry-After")
    if ("Retry-After" in answer.headers) > (header is not None):
        return "the header Retry-After is not in the document"
    errors = _validator(media_type["schema"], document).iter_errors(json.loads(answer.text))
    return next((f"{error.json_path}: {error.message}" for error in errors), None)


def _responses(document: dict[str, Any], operation_id: str) -> dict[str, Any]:
    for path in document["paths"].values():
        for described in path.values():
            if isinstance(described, dict) and described["operationId"] == operation_id:
                responses: dict[str, Any] = described["responses"]
                return responses
    return {}


def _validator(schema: dict[str, Any], document: dict[str, Any]) -> Any:
    return _cached_validator(
        json.dumps(schema), json.dumps(document["components"]["schemas"], sort_keys=True)
    )


@functools.cache
def _cached_validator(schema: str, components: str) -> Any:
    """Return a validator that refuses members which the document does not name."""
    from jsonschema import Draft202012Validator

    schemas = json.loads(components)
    for name, one in schemas.items():
        if name != "Problem":  # its members are a part of every other problem
            one["unevaluatedProperties"] = False
    return Draft202012Validator(
        {**json.loads(schema), "components": {"schemas": schemas}},
        format_checker=Draft202012Validator.FORMAT_CHECKER,
    )
