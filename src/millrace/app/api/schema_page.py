"""``/schema``: the OpenAPI document, and a page of it that loads nothing from anywhere."""

from __future__ import annotations

import html
import json
from typing import Any

from litestar import Request
from litestar.openapi.plugins import OpenAPIRenderPlugin

_STYLE = """
:root{color-scheme:light dark}
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
section{border-top:1px solid #8886;padding:.5rem 0}h2{font-size:1.1rem;margin:.5rem 0}
code{font-family:ui-monospace,monospace}b.m{display:inline-block;min-width:4rem;color:#0a7d5a}
table{border-collapse:collapse;margin:.5rem 0}td,th{text-align:left;padding:.15rem .8rem .15rem 0;vertical-align:top}
pre{overflow:auto;background:#8881;padding:.8rem;border-radius:.4rem}
"""


class SchemaPage(OpenAPIRenderPlugin):
    """Renders the OpenAPI document as one plain HTML page: no script, no other host."""

    def __init__(self) -> None:
        super().__init__(path="/")

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:  # noqa: ARG002
        """Return the page."""
        info = openapi_schema["info"]
        operations = [
            _operation(path, method, operation)
            for path, item in sorted(openapi_schema.get("paths", {}).items())
            for method, operation in item.items()
            if isinstance(operation, dict)
        ]
        models = [
            f"<section id='{_text(name)}'><h2>{_text(name)}</h2><p>{_text(model.get('description', ''))}</p>"
            f"<details><summary>JSON Schema</summary><pre>{_text(json.dumps(model, indent=1))}</pre></details>"
            "</section>"
            for name, model in sorted(openapi_schema.get("components", {}).get("schemas", {}).items())
        ]
        page = (
            "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
            "<meta name='viewport' content='width=device-width,initial-scale=1'>"
            "<link rel='icon' href='data:,'>"
            f"<title>{_text(info['title'])}</title><style>{_STYLE}</style></head><body>"
            f"<h1>{_text(info['title'])} <small>{_text(info['version'])}</small></h1>"
            f"<p>{_text(info.get('description') or '')} "
            "The document itself: <a href='/schema/openapi.json'>openapi.json</a>.</p>"
            f"{''.join(operations)}<h1>Models</h1>{''.join(models)}</body></html>"
        )
        return page.encode()


def _operation(path: str, method: str, operation: dict[str, Any]) -> str:
    rows = "".join(
        f"<tr><td><code>{_text(p['name'])}</code></td><td>{_text(p['in'])}</td>"
        f"<td>{'required' if p.get('required') else ''}</td><td>{_text(p.get('description', ''))}</td></tr>"
        for p in operation.get("parameters", ())
    )
    answers = "".join(
        f"<tr><td><code>{_text(status)}</code></td><td>{_text(answer.get('description', ''))}</td></tr>"
        for status, answer in operation.get("responses", {}).items()
    )
    return (
        f"<section><h2><b class='m'>{_text(method.upper())}</b> <code>{_text(path)}</code> "
        f"{_text(operation.get('summary', ''))}</h2><p>{_text(operation.get('description', ''))}</p>"
        f"{f'<h3>Parameters</h3><table>{rows}</table>' if rows else ''}"
        f"<h3>Answers</h3><table>{answers}</table></section>"
    )


def _text(value: object) -> str:
    return html.escape(str(value))
