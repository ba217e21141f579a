"""JSON bodies, responses and validation errors as in Laravel, in which WikiPayam is written."""

from flask import Response, request

from ...http_data import Fields, json_response, json_value
from ...phone_numbers import parse_mobile

Errors = dict[str, list[str]]
"""Validation errors by the name of the field."""


def json_body() -> object:
    """Return the body, or None if it is not JSON."""
    try:
        return json_value(request)
    except ValueError:
        return None


def json_rows() -> list[Fields] | None:
    """Return the rows of a list in the body, or None if there is no such list."""
    value = json_body()
    if not isinstance(value, list) or not value:
        return None
    return [Fields(row) if isinstance(row, dict) else Fields({}) for row in value]


def data_response(value: object) -> Response:
    """Return `{"data": …}`."""
    return laravel_response({"data": value}, 200)


def laravel_response(value: object, status: int) -> Response:
    """Return a JSON response with Laravel's Content-Type."""
    return json_response(value, status, content_type="application/json")


def unauthenticated_response() -> Response:
    """Return the response to a missing or wrong token."""
    return laravel_response({"message": "Unauthenticated."}, 401)


def invalid_response(errors: Errors) -> Response:
    """Return the response to a request with validation errors."""
    texts = [text for field_errors in errors.values() for text in field_errors]
    more = len(texts) - 1
    suffix = f" (and {more} more error{'s' if more > 1 else ''})" if more else ""
    return laravel_response({"message": texts[0] + suffix, "errors": errors}, 422)


def add_missing(errors: Errors, field: str) -> None:
    """Add the error of a missing field."""
    errors[field] = [f"The {field} field is required."]


def require(errors: Errors, row: Fields, index: int, name: str) -> None:
    """Add an error if a field of a row is empty."""
    if not row.text(name).strip():
        add_missing(errors, f"{index}.{name}")


def require_mobile(errors: Errors, row: Fields, index: int) -> None:
    """Add an error if `receiver` of a row is not a mobile."""
    require(errors, row, index, "receiver")
    field = f"{index}.receiver"
    if field not in errors and parse_mobile(row.text("receiver")) is None:
        errors[field] = [f"The {field} format is invalid."]
