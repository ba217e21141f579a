"""The OpenAPI document: it is valid and it is complete."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from conftest import MakeApp
from flask import Flask
from flask.testing import FlaskClient
from flask_wtf import CSRFProtect
from openapi_watch import EVERYTHING, Answer, Described, everything, watch, whole_document
from visiting import CHECK, MOBILE, SEND, STATUS, api, browser
from web.openapi_app import JSON, OPENAPI, SIGN_IN, operations_of, whole_app, whole_operations

import flask_smsverify.web
from flask_smsverify.errors import PROBLEMS
from flask_smsverify.web.operations import CODE, NEXT, OPERATIONS, Fields, Operation

#: Problems of the staff pages, which are no part of the document.
OF_STAFF = {"invalid_template", "invalid_values", "not_found", "read_only", "staff_required"}


def document_of(app: Flask) -> dict[str, Any]:
    answer = app.test_client().get(OPENAPI)
    assert answer.status_code == 200
    body: dict[str, Any] = answer.json
    return body


# --- what is served -----------------------------------------------------------------------------


def test_the_document_is_not_served_by_default(client: FlaskClient) -> None:
    assert client.get(OPENAPI).status_code == 404


def test_the_document_is_served_where_the_setting_is_on(make_app: MakeApp, sqlite: str) -> None:
    app = make_app(sqlite, SMSVERIFY_OPENAPI=True)
    answer = app.test_client().get(OPENAPI)
    assert (answer.status_code, answer.mimetype) == (200, "application/json")
    assert answer.json["openapi"] == "3.1.1"


@pytest.mark.parametrize("config", [{}, EVERYTHING])
def test_the_document_is_valid(make_app: MakeApp, sqlite: str, config: dict[str, Any]) -> None:
    from openapi_spec_validator import OpenAPIV31SpecValidator, validate

    app = whole_app(make_app, sqlite) if config else make_app(sqlite, SMSVERIFY_OPENAPI=True)
    validate(document_of(app), cls=OpenAPIV31SpecValidator)


def test_the_command_prints_the_document_whether_it_is_served_or_not(
    make_app: MakeApp, sqlite: str
) -> None:
    app = make_app(sqlite, SMSVERIFY_SIGN_IN=True)
    printed = json.loads(app.test_cli_runner().invoke(args=["smsverify", "openapi"]).output)
    assert printed["servers"] == [{"url": "/"}]
    assert SIGN_IN in printed["paths"]


def test_the_command_names_the_host_of_the_pages(make_app: MakeApp, sqlite: str) -> None:
    app = make_app(sqlite, SERVER_NAME="shop.example", APPLICATION_ROOT="/shop")
    printed = json.loads(app.test_cli_runner().invoke(args=["smsverify", "openapi"]).output)
    assert printed["servers"] == [{"url": "http://shop.example/shop"}]


def test_paths_begin_with_the_prefix_of_the_app(make_app: MakeApp, sqlite: str) -> None:
    app = make_app(sqlite, SMSVERIFY_OPENAPI=True, SMSVERIFY_URL_PREFIX="/phone")
    served = app.test_client().get("/phone/openapi.json", base_url="http://localhost/shop")
    assert served.json["servers"] == [{"url": "/shop"}]
    assert "/phone/mobile/undo/{token}" in served.json["paths"]


def test_operations_that_the_settings_do_not_offer_are_left_out(
    make_app: MakeApp, sqlite: str
) -> None:
    few = operations_of(document_of(make_app(sqlite, SMSVERIFY_OPENAPI=True)))
    assert set(whole_operations()) - set(few) == {
        "post_leave",
        "get_sign_in",
        "post_sign_in",
        "post_sign_in_check",
        "get_first_proof",
        "post_first_proof",
        "get_first_proof_link",
        "post_first_proof_link",
    }


# --- it is complete -----------------------------------------------------------------------------


def test_every_endpoint_and_method_of_the_pages_is_in_the_document(app: Flask) -> None:
    served = {
        f"{method.lower()}_{rule.endpoint.partition('.')[2]}"
        for rule in app.url_map.iter_rules()
        if rule.endpoint.partition(".")[0] == "smsverify"
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert served - {"get_static", "get_openapi"} == set(whole_operations())


def test_every_problem_of_the_pages_is_in_the_document() -> None:
    schemas = whole_document()["components"]["schemas"].values()
    problems = [schema["properties"] for schema in schemas if "allOf" in schema]
    described = {members["code"]["const"] for members in problems}
    assert described == set(PROBLEMS) - OF_STAFF


def test_a_problem_is_described_as_its_class_says() -> None:
    schemas = whole_document()["components"]["schemas"]
    for name, schema in schemas.items():
        if "allOf" not in schema:
            continue
        properties, code = schema["properties"], schema["properties"]["code"]["const"]
        error = next(cls for cls in _classes_of(PROBLEMS[code]) if cls.__name__ == name)
        assert properties["status"]["const"] == error.status
        assert properties["final"]["const"] is error.final
        assert properties["type"]["const"] == f"urn:flask-smsverify:{code}"
        assert {*error.members} <= {*properties} & {*schema["required"]}, name


def _classes_of(cls: type) -> Iterable[Any]:
    return [cls, *cls.__subclasses__()]


def test_a_response_that_is_not_in_the_document_is_found(app: Flask, client: FlaskClient) -> None:
    with watch() as answers:
        client.get(STATUS)
        api(client, SEND)
        api(client, SEND)
        api(client, CHECK, code="12")
    assert [answer.status for answer in answers] == [200, 200, 429, 422]
    assert everything().deviations(answers) == []
    for change, index in (
        (lambda document: _of(document, "/send")["responses"].pop("429"), 2),
        (lambda document: _of(document, "/send")["responses"]["429"].pop("headers"), 2),
        (lambda document: _drop(document, "Verification", "csrf_token"), 0),
        (lambda document: _drop(document, "TooSoon", "retry_after"), 2),
        (lambda document: _retype(document, "InvalidCode"), 3),
    ):
        document = json.loads(json.dumps(whole_document()))
        change(document)
        found = Described(document).deviations(answers)
        assert any(str(answers[index][:3]) in text for text in found), index


def _of(document: dict[str, Any], path: str) -> Any:
    return document["paths"][f"/verify-mobile{path}"]["post"]


def _drop(document: dict[str, Any], schema: str, member: str) -> None:
    del document["components"]["schemas"][schema]["properties"][member]


def _retype(document: dict[str, Any], schema: str) -> None:
    document["components"]["schemas"][schema]["properties"]["code"]["const"] = "other"


def test_a_page_for_a_program_is_found() -> None:
    page = Answer("get_status", 200, "text/html", "<p>a page</p>", {})
    assert everything().deviations([page])


def test_a_field_that_no_operation_declares_cannot_be_read() -> None:
    fields = Fields({"code": "1", "other": "2"}, (CODE, NEXT))
    assert (dict(fields), fields.get("next"), "next" in fields) == ({"code": "1"}, None, False)
    for read in (fields.get, fields.__getitem__, fields.__contains__):
        with pytest.raises(LookupError, match="'other' is not declared"):
            read("other")


#: The raw content of a request.
READS = {
    f"request.{name}"
    for name in ("args", "form", "values", "json", "files", "data", "get_json", "get_data")
}
#: Where raw requests are read: the tools that views use, and the URLs of others.
RAW = {"fields", "csrf", "request_limits", "negotiation", "webhooks", "guard_responses"}
#: Where JSON is written.
WRITERS = {"responses", "problems", "openapi"}


def test_views_read_and_write_only_what_their_operations_declare() -> None:
    for path in Path(flask_smsverify.web.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.Attribute):
                continue
            source = ast.unparse(node)
            if source in READS:
                assert path.stem in RAW, f"{path.name}: {source}"
            if source == "current_app.json.response":
                assert path.stem in WRITERS, f"{path.name}: {source}"


def test_every_field_has_a_description() -> None:
    for operation in _all_operations():
        for field in (*operation.query, *operation.body):
            assert field.description.endswith("."), field


def _all_operations() -> list[Operation]:
    return [operation for methods in OPERATIONS.values() for operation in methods.values()]


def test_a_body_is_required_where_a_field_is(app: Flask, client: FlaskClient) -> None:
    described = {
        name: operation["requestBody"]["required"]
        for name, operation in whole_operations().items()
        if "requestBody" in operation
    }
    assert {name for name in described if described[name]} == {"post_check", "post_sign_in_check"}
    assert client.post(SEND, headers=JSON).json["state"] == "pending"
    assert client.post(CHECK, headers=JSON).json["code"] == "invalid_code"


def test_a_head_request_is_answered_like_a_get(client: FlaskClient) -> None:
    for path in (STATUS, MOBILE):
        answer = client.head(path, headers=JSON)
        assert (answer.status_code, answer.mimetype) == (200, "application/json")


# --- authentication -----------------------------------------------------------------------------


def test_an_operation_needs_a_user_if_and_only_if_it_says_so(
    make_app: MakeApp, sqlite: str
) -> None:
    app = whole_app(make_app, sqlite, WTF_CSRF_ENABLED=False)
    document = document_of(app)
    for path, described in document["paths"].items():
        for method in described.keys() - {"parameters"}:
            answer = app.test_client().open(
                path.replace("{token}", "x"), method=method.upper(), headers=JSON
            )
            is_public = {} in described[method]["security"]
            assert (answer.status_code == 401) is not is_public, (method, path)


def test_a_post_needs_a_csrf_token_where_the_app_requires_one(
    make_app: MakeApp, sqlite: str
) -> None:
    app = make_app(
        sqlite,
        SMSVERIFY_OPENAPI=True,
        WTF_CSRF_ENABLED=True,
        WTF_CSRF_HEADERS=["X-Token"],
        SESSION_COOKIE_NAME="sid",
    )
    document = document_of(app)
    schemes = document["components"]["securitySchemes"]
    assert (schemes["csrf"]["in"], schemes["csrf"]["name"]) == ("header", "X-Token")
    assert (schemes["session"]["in"], schemes["session"]["name"]) == ("cookie", "sid")
    send = operations_of(document)["post_send"]
    assert send["security"] == [{"session": [], "csrf": []}]
    assert "400" in send["responses"]
    assert operations_of(document)["get_status"]["security"] == [{"session": []}]


@pytest.mark.parametrize("is_served_first", [False, True])
def test_no_csrf_token_is_described_where_the_app_exempts_the_pages(
    make_app: MakeApp, sqlite: str, is_served_first: bool
) -> None:
    app = make_app(sqlite, WTF_CSRF_ENABLED=True)
    CSRFProtect(app).exempt(app.blueprints["smsverify"])
    if is_served_first:
        browser(app).get(STATUS)
    printed = json.loads(app.test_cli_runner().invoke(args=["smsverify", "openapi"]).output)
    assert "csrf" not in printed["components"]["securitySchemes"]
    assert operations_of(printed)["post_send"]["security"] == [{"session": []}]
    assert "400" not in operations_of(printed)["post_send"]["responses"]


def test_a_request_loader_is_an_alternative_to_the_session(make_app: MakeApp, sqlite: str) -> None:
    app = whole_app(make_app, sqlite)
    document = document_of(app)
    assert document["components"]["securitySchemes"]["authorization"]["name"] == "Authorization"
    send = operations_of(document)["post_send"]
    assert send["security"] == [{"session": [], "csrf": []}, {"authorization": []}]
    answer = app.test_client().post(SEND, json={}, headers={"Authorization": "Token 1"})
    assert answer.json["state"] == "pending"


def test_a_limit_is_described_with_its_header() -> None:
    limits = whole_operations()["post_first_proof"]["responses"]["429"]
    assert limits["headers"]["Retry-After"]["required"] is True
    limits = whole_operations()["post_send"]["responses"]["429"]
    assert limits["headers"]["Retry-After"]["required"] is False, "a lock has no end"
