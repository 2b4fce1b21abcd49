"""`Connection`: one connection to a server that is kept open, made anew where it is cut, asked again after a 503."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from millrace.base.errors import FeedClientError

_FIRST_PAUSE_S: Final = 0.05
_LONGEST_PAUSE_S: Final = 2.0
_BUSY: Final = 503


class CutError(Exception):
    """A connection was cut before its answer came, and the caller did not want another one for its request."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    path: str
    status: int
    body: bytes

    def error(self) -> FeedClientError:
        """Return this answer as an error, in the server's own words where it has any."""
        try:
            told: Any = json.loads(self.body)["error"]
            problem, remedy = str(told["message"]), str(told["remedy"])
        except (ValueError, KeyError, TypeError):
            problem, remedy = self.body[:200].decode(errors="replace"), ""
        return FeedClientError(
            self.path.partition("?")[0],
            value=self.status,
            problem=f"answered with {problem}",
            remedy=remedy or "see the server's log",
        )


class Connection:
    """One connection; used by one thread at a time.

    Parameters
    ----------
    url
        Of the server, without a path.
    timeout_s
        How long one call may take with all its retries.

    Attributes
    ----------
    reached, reached_ms
        The log position and event time that the process at the other end is known to have come to. Whoever asks keeps
        them; a new connection, perhaps to another process, knows nothing.
    """

    def __init__(self, url: str, timeout_s: float) -> None:
        parts = urlsplit(url)
        try:
            port, is_usable = parts.port, True
        except ValueError:
            port, is_usable = None, False
        if not is_usable or parts.scheme != "http" or not parts.hostname or parts.path not in ("", "/"):
            raise FeedClientError(
                "server URL", value=url, problem="cannot be used", remedy="give http://HOST:PORT, without a path"
            )
        self._url = url
        self._timeout_s = timeout_s
        self._http = http.client.HTTPConnection(parts.hostname, port, timeout=timeout_s)
        self.reached = self.reached_ms = -1

    def ask(
        self,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        retries: bool = True,
        reopens: bool = True,
    ) -> Answer:
        """Return the answer to a GET, or to a POST where there is a body.

        Parameters
        ----------
        path, body, headers
            Of the request. It must be safe to send twice: events are, by their ids.
        retries
            Whether 503 is asked again until the time is over; its ``Retry-After`` says when.
        reopens
            Whether the request is sent again over another connection where this one is cut.

        Raises
        ------
        CutError
            If it is cut and not to be opened again.
        FeedClientError
            If nobody answers in time.
        """
        deadline_s = time.monotonic() + self._timeout_s
        pause_s = _FIRST_PAUSE_S
        has_been_idle = True
        while True:
            try:
                self._http.request("GET" if body is None else "POST", path, body, dict(headers or {}))
                found = self._http.getresponse()
                answer = Answer(path, found.status, found.read())
            except (OSError, http.client.HTTPException) as error:
                self.close()
                if not reopens:
                    raise CutError(str(error)) from error
                # A server closes connections that nothing was asked on for a while: that is no fault of it.
                wait_s, has_been_idle = 0.0 if has_been_idle else pause_s, False
                if time.monotonic() + wait_s > deadline_s:
                    raise FeedClientError(
                        "server",
                        value=self._url,
                        problem=f"does not answer {path.partition('?')[0]} ({type(error).__name__}: {error})",
                        remedy="is it running?",
                    ) from error
            else:
                if found.will_close:
                    self.close()
                if answer.status != _BUSY or not retries:
                    return answer
                wait_s = _seconds(found.getheader("Retry-After")) or pause_s
                if time.monotonic() + wait_s > deadline_s:
                    raise answer.error()
            time.sleep(wait_s)
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)

    def close(self) -> None:
        """Close it; the next request opens another, perhaps to another process."""
        self._http.close()
        self.reached = self.reached_ms = -1


def _seconds(retry_after: str | None) -> float:
    return float(retry_after) if retry_after is not None and retry_after.isdigit() else 0.0
