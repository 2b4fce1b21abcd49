"""What the OpenAPI document says that the framework cannot know, or says wrong."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

from litestar.openapi.spec import OpenAPIHeader, OpenAPIResponse, Operation, Parameter, Schema
from litestar.openapi.spec.enums import OpenAPIType

_NULL: Final = OpenAPIType.NULL
_NOW: Final = OpenAPIHeader(
    schema=Schema(type=OpenAPIType.INTEGER),
    required=True,
    description="The server's event time in epoch milliseconds: ages and the times of events are relative to it",
)


@dataclass
class TimedOperation(Operation):
    """An operation whose answers tell event time, as all under ``/api/`` do."""

    def __post_init__(self) -> None:
        for response in (self.responses or {}).values():
            if isinstance(response, OpenAPIResponse):
                response.headers = {**(response.headers or {}), "X-Millrace-Now": _NOW}


@dataclass
class PlainOperation(TimedOperation):
    """An operation whose parameters are there or not, and never null: a query has no null."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.parameters = [_without_null(parameter) for parameter in self.parameters or ()] or None


@dataclass
class NamedViewerOperation(PlainOperation):
    """One that has to be told whose timeline is meant: nobody's token says it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for parameter in self.parameters or ():
            if isinstance(parameter, Parameter) and parameter.name == "viewer":
                parameter.required = True


def inlined(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a JSON Schema that refers to nothing outside itself: every ``#/$defs/…`` in its place.

    An OpenAPI document resolves references from its own root, where a schema's definitions are not. The schema must
    not be recursive.
    """
    definitions = schema.get("$defs", {})

    def put_in(node: Any) -> Any:
        if isinstance(node, list):
            return [put_in(item) for item in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            return put_in(definitions[node["$ref"].rpartition("/")[2]])
        return {key: put_in(value) for key, value in node.items() if key not in {"$defs", "discriminator"}}

    found: dict[str, Any] = put_in(schema)
    return found


def _without_null(parameter: Any) -> Any:
    schema = parameter.schema
    if not isinstance(schema, Schema) or not schema.one_of:
        return parameter
    kinds = [kind for kind in schema.one_of if not (isinstance(kind, Schema) and kind.type is _NULL)]
    if len(kinds) == 1 and isinstance(kinds[0], Schema):
        return replace(parameter, schema=replace(schema, one_of=None, type=kinds[0].type))
    return parameter
