"""JSON schemas of type hints, for the OpenAPI document."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from typing import Any, NotRequired, get_args, get_origin, get_type_hints

Schema = dict[str, Any]

_PRIMITIVES: Mapping[object, str] = {
    str: "string",
    int: "integer",
    bool: "boolean",
    type(None): "null",
}


class Keywords(dict[str, object]):
    """Keywords of JSON Schema in the metadata of `Annotated`."""

    def __hash__(self) -> int:  # type: ignore[override]  # `|` hashes the metadata of `Annotated`
        return id(self)


def one_of(*values: str) -> Keywords:
    """Return the keywords of a text that is one of these."""
    return Keywords(enum=list(values))


class Schemas:
    """Translates type hints, and collects the schemas that others refer to."""

    def __init__(self) -> None:
        #: Name → schema: `components.schemas` of a document.
        self.components: dict[str, Schema] = {}

    def of(self, hint: Any) -> Schema:
        """Return the schema of a type hint: a primitive, a union, `Annotated` or a `TypedDict`.

        In the metadata of `Annotated`, text is a description.

        :raises TypeError: any other type.
        """
        origin = get_origin(hint)
        if origin is typing.Annotated:
            return self._annotated(*get_args(hint))
        if origin is types.UnionType or origin is typing.Union:
            return _merged([self.of(one) for one in get_args(hint)])
        if typing.is_typeddict(hint):
            return self._reference(hint)
        if hint in _PRIMITIVES:
            return {"type": _PRIMITIVES[hint]}
        raise TypeError(f"there is no schema of {hint!r}")

    def _annotated(self, hint: Any, *metadata: object) -> Schema:
        schema = self.of(hint)
        for item in metadata:
            schema = schema | (item if isinstance(item, Keywords) else {"description": item})
        return schema

    def _reference(self, cls: type) -> Schema:
        name = cls.__name__.removesuffix("Body")
        if name not in self.components:
            self.components[name] = {}  # ends a recursion
            self.components[name] = self._object(cls)
        return {"$ref": f"#/components/schemas/{name}"}

    def _object(self, cls: type) -> Schema:
        schema: Schema = {"type": "object", "description": summary_of(cls)}
        return schema | self.members(cls)

    def members(self, cls: type) -> Schema:
        """Return the keywords `properties` and `required` of a `TypedDict`."""
        hints = get_type_hints(cls, include_extras=True)
        properties = {
            name: self.of(get_args(hint)[0] if get_origin(hint) is NotRequired else hint)
            for name, hint in hints.items()
        }
        required = [name for name, hint in hints.items() if get_origin(hint) is not NotRequired]
        return {"properties": properties, "required": required}


def summary_of(documented: object) -> str:
    """Return the first paragraph of a docstring on one line."""
    return " ".join((documented.__doc__ or "").split("\n\n")[0].split())


def _merged(options: list[Schema]) -> Schema:
    """Return the schema of a union. A primitive or null becomes a list of types."""
    *others, last = options
    if len(others) == 1 and last == {"type": "null"} and "type" in others[0]:
        schema = others[0] | {"type": [others[0]["type"], "null"]}
        return schema | {"enum": [*schema["enum"], None]} if "enum" in schema else schema
    return {"anyOf": options}
