"""`PageLoad`: viewers who ask a server for pages all the time, for tests and benches of what happens meanwhile."""

from __future__ import annotations

import json
import threading
import time
from typing import NamedTuple, Self

from millrace.testing.server_process import Connection, ServerProcess

_PATIENCE_S = 60.0


class AskedPage(NamedTuple):
    """One page, or what came in its place.

    Attributes
    ----------
    began_s, ended_s
        Of `time.perf_counter`.
    version
        Of the ranker that it was made with; empty for none.
    n_posts
        On the page.
    problem
        What went wrong, also within a page that came all the same; empty for nothing.
    """

    began_s: float
    ended_s: float
    version: str
    n_posts: int
    problem: str


class PageLoad:
    """Asks for first pages of ever new viewers, on several connections, until the block ends.

    Parameters
    ----------
    server
        In development mode.
    n_connections
        Each is kept open, so with one worker, and has one page under way.
    limit
        Posts of a page.
    rate_per_s
        Pages asked for, of all connections together, as far as they come that fast; None: as fast as they come.

    Attributes
    ----------
    pages_by_connection
        What came, in order.
    """

    def __init__(
        self, server: ServerProcess, n_connections: int, limit: int = 10, rate_per_s: float | None = None
    ) -> None:
        self._server = server
        self._limit = limit
        self._every_s = 0.0 if rate_per_s is None else n_connections / rate_per_s
        self._is_over = threading.Event()
        self.pages_by_connection: list[list[AskedPage]] = [[] for _ in range(n_connections)]
        self._threads = [
            threading.Thread(target=self._ask, args=(number,), name=f"page-load-{number}", daemon=True)
            for number in range(n_connections)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join(_PATIENCE_S)

    @property
    def pages(self) -> list[AskedPage]:
        """All pages so far, by when they came."""
        return sorted((page for pages in self.pages_by_connection for page in pages), key=lambda page: page.ended_s)

    def serves(self, version: str, n_pages: int = 1) -> bool:
        """Whether the last ``n_pages`` of every connection were made with a version of the ranker."""
        newest = [pages[-n_pages:] for pages in self.pages_by_connection]
        return all(len(pages) == n_pages and {page.version for page in pages} == {version} for pages in newest)

    def _ask(self, number: int) -> None:
        pages = self.pages_by_connection[number]
        with Connection(self._server, _PATIENCE_S) as connection:
            began_s = time.perf_counter() - self._every_s
            while not self._is_over.wait(max(began_s + self._every_s - time.perf_counter(), 0.0)):
                path = f"/api/v1/timeline/home?viewer=load-{number}-{len(pages)}&limit={self._limit}&debug=true"
                began_s = time.perf_counter()
                try:
                    status, body = connection.request(path)
                except OSError as error:  # the connection is of no use any more
                    pages.append(AskedPage(began_s, time.perf_counter(), "", 0, repr(error)))
                    return
                pages.append(_read(began_s, status, body))


def _read(began_s: float, status: int, body: bytes) -> AskedPage:
    ended_s = time.perf_counter()
    if status != 200:
        return AskedPage(began_s, ended_s, "", 0, f"{status}: {body[:300]!r}")
    page = json.loads(body)
    version = page["debug_info"]["models"].get("ranker", "")
    outcomes = [f"{one['component']} {one['fate']}" for one in page["debug_info"]["outcomes"]]
    return AskedPage(began_s, ended_s, version, len(page["posts"]), ", ".join(outcomes))
