"""``/``: the feed in a browser. Static files of the package: no build step, nothing from any other host."""

from __future__ import annotations

import hashlib
from importlib import resources
from typing import Any, Final

from litestar import Request, Response, get
from litestar.exceptions import NotFoundException
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from millrace.app.access import Mode
from millrace.app.api.guard import OPEN

_TYPES: Final = {"html": "text/html; charset=utf-8", "css": "text/css; charset=utf-8", "js": "text/javascript"}
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
"""The page runs its own scripts and talks to its own server; style attributes place its bars."""

_MODE_MARK: Final = b'data-mode="tokens"'


def web_routes(mode: Mode) -> list[HTTPRouteHandler]:
    """Return the handlers; the files are read once, here. The page is told the mode that the server is in."""
    folder = resources.files("millrace.app") / "web"
    files = {
        entry.name: _File(entry.read_bytes(), _TYPES[ending])
        for entry in folder.iterdir()
        if (ending := entry.name.rpartition(".")[2]) in _TYPES
    }
    told = (folder / "index.html").read_bytes().replace(_MODE_MARK, b'data-mode="%b"' % mode.encode(), 1)
    index = _File(told, _TYPES["html"])

    @get("/", opt=OPEN, include_in_schema=False, sync_to_thread=False)
    def page(request: Request[Any, Any, Any]) -> Response[bytes]:
        return index.answer(request)

    @get("/web/{name:str}", opt=OPEN, include_in_schema=False, sync_to_thread=False)
    def file(request: Request[Any, Any, Any], name: FromPath[str]) -> Response[bytes]:
        found = files.get(name)
        if found is None:
            raise NotFoundException(detail="no such file of the page")
        return found.answer(request)

    return [page, file]


class _File:
    def __init__(self, data: bytes, media_type: str) -> None:
        self._data = data
        self._media_type = media_type
        self._tag = f'"{hashlib.blake2b(data, digest_size=8).hexdigest()}"'

    def answer(self, request: Request[Any, Any, Any]) -> Response[bytes]:
        # Asked again each time, answered with 304: after an upgrade no browser runs yesterday's script.
        headers = {"ETag": self._tag, "Cache-Control": "no-cache", "Content-Security-Policy": _POLICY}
        if request.headers.get("if-none-match") == self._tag:
            return Response(b"", status_code=304, headers=headers, media_type=self._media_type)
        return Response(self._data, headers=headers, media_type=self._media_type)
