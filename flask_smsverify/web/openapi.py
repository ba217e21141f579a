"""The OpenAPI 3.1 document of the pages' JSON, from the operations of their URLs.

It is built for one app: with its prefix, its CSRF settings, and the operations that its settings
offer. Webhooks are left out, because the gateways define their bodies, and a request without the
secret must not reveal that they exist.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import version
from typing import Annotated, TypedDict, cast, get_type_hints

from flask import Flask, current_app, request
from flask.blueprints import BlueprintSetupState
from flask.typing import ResponseReturnValue
from werkzeug.routing import Rule

from ..errors import CsrfFailed, ProblemError, VerificationRequired
from ..i18n.locales import SOURCE_LOCALE
from ..state import get_state
from .blueprint import blueprint
from .bodies import ADDED_MEMBERS, Seconds
from .csrf import csrf_headers, is_csrf_required
from .operations import OPERATIONS, Errors, Field, Operation
from .schemas import Schema, Schemas, summary_of

_DESCRIPTION = """\
The pages of flask_smsverify for programs.

Send `Accept: application/json`, or JSON, in each request. Otherwise, the same URLs respond to a
browser with HTML.

Numbers in responses are masked. Texts in problems are in the language of the request.

Guarded views of the app respond to a user without a verified number with 403 and
`VerificationRequired`.\
"""
_VARIABLE = re.compile(r"<(?:[^<>:]+:)?([^<>:]+)>")
_PROBLEM_TYPE = "application/problem+json"
_SESSION, _CSRF, _AUTHORIZATION = "session", "csrf", "authorization"


class Problem(TypedDict):
    """Problem details (RFC 9457)."""

    type: Annotated[str, "A URN that ends with `code`."]
    title: str
    status: Annotated[int, "The HTTP status."]
    detail: str
    code: str
    final: Annotated[bool, "Whether neither waiting nor other input helps."]


@blueprint.record
def _add_rule(setup: BlueprintSetupState) -> None:
    """Serve the document if `SMSVERIFY_OPENAPI` is set."""
    if get_state(cast(Flask, setup.app)).settings.openapi:
        setup.add_url_rule("/openapi.json", "openapi", openapi)


def openapi() -> ResponseReturnValue:
    """Return the document."""
    return current_app.json.response(build_document(request.script_root))


def build_document(root: str) -> Schema:
    """Return the document of the current app.

    :param root: the URL of the app, or its path on the host that serves the document.
    """
    schemas = Schemas()
    paths: dict[str, Schema] = {}
    for rule, method, operation in _offered_operations():
        path = paths.setdefault(_VARIABLE.sub(r"{\1}", rule.rule), _path_item(rule))
        path[method.lower()] = _operation(schemas, rule.endpoint, method, operation)
    _problem(schemas, VerificationRequired)
    return {
        "openapi": "3.1.1",
        "info": {
            "title": f"{get_state().live.current.site_name[SOURCE_LOCALE]}: mobile numbers",
            "version": version("flask-smsverify"),
            "description": _DESCRIPTION,
        },
        "servers": [{"url": root or "/"}],
        "paths": paths,
        "components": {"schemas": schemas.components, "securitySchemes": _security_schemes()},
    }


def _offered_operations() -> Iterator[tuple[Rule, str, Operation]]:
    """Yield the operations that the settings offer, in the order of their paths."""
    settings = get_state().settings
    for rule in sorted(current_app.url_map.iter_rules(), key=lambda rule: rule.rule):
        for method, operation in OPERATIONS.get(rule.endpoint, {}).items():
            if operation.is_offered(settings):
                yield rule, method, operation


def _path_item(rule: Rule) -> Schema:
    names = _VARIABLE.findall(rule.rule)
    if not names:
        return {}
    schema = {"type": "string", "minLength": 1}
    common = {"in": "path", "required": True, "schema": schema}
    return {"parameters": [{"name": name} | common for name in names]}


def _operation(schemas: Schemas, endpoint: str, method: str, operation: Operation) -> Schema:
    needs_csrf = method == "POST" and is_csrf_required(endpoint)
    described: Schema = {
        "operationId": f"{method.lower()}_{endpoint.partition('.')[2]}",
        "summary": operation.summary,
        "security": _security(operation, needs_csrf=needs_csrf),
        "responses": _responses(schemas, operation, needs_csrf=needs_csrf),
    }
    if operation.query:
        described["parameters"] = [
            {"name": field.name, "in": "query", **_described(schemas, field)}
            for field in operation.query
        ]
    if method == "POST":
        schema = _form(schemas, operation.body)
        content = {"application/json": {"schema": schema}}
        is_required = any(field.is_required for field in operation.body)
        described["requestBody"] = {"required": is_required, "content": content}
    return described


def _described(schemas: Schemas, field: Field) -> Schema:
    return {"description": field.description, "schema": schemas.of(field.hint)}


def _form(schemas: Schemas, fields: Iterable[Field]) -> Schema:
    fields = tuple(fields)
    properties = {
        field.name: schemas.of(Annotated[field.hint, field.description]) for field in fields
    }
    schema: Schema = {"type": "object", "properties": properties}
    required = [field.name for field in fields if field.is_required]
    return schema | ({"required": required} if required else {})


# --- responses ----------------------------------------------------------------------------------


def _responses(schemas: Schemas, operation: Operation, *, needs_csrf: bool) -> Schema:
    bodies = [schemas.of(body) for body in operation.returns]
    content = {"application/json": {"schema": bodies[0] if len(bodies) == 1 else {"anyOf": bodies}}}
    description = " ".join(map(summary_of, operation.returns))
    responses: Schema = {"200": {"description": description, "content": content}}
    errors: Errors = (*operation.access.errors, *operation.errors)
    errors += (CsrfFailed,) if needs_csrf else ()
    for status in sorted({error.status for error in errors}):
        found = {_described_class(error) for error in errors if error.status == status}
        responses[str(status)] = _problems(schemas, sorted(found, key=lambda error: error.code))
    return responses


def _problems(schemas: Schemas, errors: Sequence[type[ProblemError]]) -> Schema:
    """Return the response with one of these problems, which have the same HTTP status."""
    references = {error.code: _problem(schemas, error) for error in errors}
    if len(errors) == 1:
        schema = references[errors[0].code]
    else:
        mapping = {code: reference["$ref"] for code, reference in references.items()}
        schema = {
            "oneOf": [*references.values()],
            "discriminator": {"propertyName": "code", "mapping": mapping},
        }
    response: Schema = {
        "description": ", ".join(f"`{code}`" for code in references),
        "content": {_PROBLEM_TYPE: {"schema": schema}},
    }
    waits = ["retry_after" in error.members for error in errors]
    if any(waits):
        header = {
            "description": "Whole seconds until the request may be repeated.",
            "required": all(waits),
            "schema": schemas.of(Seconds),
        }
        response["headers"] = {"Retry-After": header}
    return response


def _problem(schemas: Schemas, error: type[ProblemError]) -> Schema:
    """Return a reference to the schema of a problem, which is added to the components."""
    name = error.__name__
    if name not in schemas.components:
        hints = get_type_hints(error.__init__)
        properties: Schema = {
            "type": {"const": f"urn:flask-smsverify:{error.code}"},
            "title": {"examples": [error.title]},
            "status": {"const": error.status},
            "code": {"const": error.code},
            "final": {"const": error.final},
        }
        properties |= {member: schemas.of(hints[member]) for member in error.members}
        required = list(error.members)
        if error in ADDED_MEMBERS:
            added = schemas.members(ADDED_MEMBERS[error])
            properties |= added["properties"]
            required += added["required"]
        schemas.components[name] = {
            "description": summary_of(error),
            "allOf": [schemas.of(Problem)],
            "type": "object",
            "properties": properties,
            # Named here as well, because a discriminator looks for it in each schema.
            "required": ["code", *required],
        }
    return {"$ref": f"#/components/schemas/{name}"}


def _described_class(error: type[ProblemError]) -> type[ProblemError]:
    """Return the class that gives a problem its code and status: several errors may share one."""
    return next(cls for cls in error.__mro__ if vars(cls).keys() & {"code", "status"})


# --- security -----------------------------------------------------------------------------------


def _security_schemes() -> Schema:
    app = current_app._get_current_object()  # type: ignore[attr-defined]  # a werkzeug LocalProxy
    schemes: Schema = {
        _SESSION: {
            "type": "apiKey",
            "in": "cookie",
            "name": app.session_interface.get_cookie_name(app),
            "description": "The app's session.",
        }
    }
    header = next(iter(csrf_headers()), None)
    if header is not None and any(map(is_csrf_required, OPERATIONS)):
        schemes[_CSRF] = {
            "type": "apiKey",
            "in": "header",
            "name": header,
            "description": "The `csrf_token` of the same session, from a GET.",
        }
    if _has_request_loader():
        schemes[_AUTHORIZATION] = {
            "type": "apiKey",
            "in": "header",
            "name": "Authorization",
            "description": "What the app's `request_loader` accepts. It needs no session.",
        }
    return schemes


def _security(operation: Operation, *, needs_csrf: bool) -> list[Schema]:
    """Return the alternative requirements of an operation."""
    session: Schema = {_SESSION: [], _CSRF: []} if needs_csrf else {_SESSION: []}
    if operation.access.needs_user:
        return [session, {_AUTHORIZATION: []}] if _has_request_loader() else [session]
    return [session] if needs_csrf else [{}, session]


def _has_request_loader() -> bool:
    return current_app.login_manager._request_callback is not None  # type: ignore[attr-defined]  # Flask-Login sets it
