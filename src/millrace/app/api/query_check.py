"""Query parameters are known and given once: a misspelt one that silently keeps its default is worst of all."""

from __future__ import annotations

import difflib
from typing import Any, Final

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from millrace.base.errors import SchemaError

_NOT_QUERIED: Final = frozenset({"request", "return"})


async def check_query(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """Refuse parameters that a route of the API does not know, or that are given twice; a guard.

    Raises
    ------
    SchemaError
        Naming the parameter.
    """
    query = connection.query_params
    if not query or not connection.url.path.startswith("/api/"):
        return
    known = handler.parsed_fn_signature.parameters.keys() - _NOT_QUERIED - connection.path_params.keys()
    for name in query:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            listed = ", ".join(sorted(known)) or "none"
            remedy = f"did you mean {near[0]}?" if near else f"known here: {listed}"
            raise SchemaError("query parameter", value=name, problem="not known", remedy=remedy)
        if len(given := query.getall(name)) > 1:
            raise SchemaError(
                f"query parameter {name}", problem=f"given {len(given)} times", remedy="give it once, or not at all"
            )
