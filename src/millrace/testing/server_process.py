"""`ServerProcess`: a real ``millrace serve`` with its keeper and workers, for tests that kill it or look at it.

Which worker answers is the kernel's choice, once per connection. A `Connection` is kept open, and tells which one it
was from the table of the machine's connections.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self

import psutil

PATIENCE_S: Final = 90.0
"""How long tests wait for what must come: other tests are at work on the same cores."""

PATIENT: Final = ("home.deadline_ms=30000", "home.claim_timeout_ms=30000", "home.content_timeout_ms=30000")
"""``--set`` options of a server whose pages are looked at, not timed: on a busy machine a source that is late changes a
page, and a claim that is late is a page that does not leave."""

_ROLES: Final = ("near_line.is_on", "guards.is_on", "flywheel.joins")
COMMAND: Final = (sys.executable, "-c", "from millrace.app.cli import main; main()")


def until(condition: Callable[[], object], timeout_s: float) -> None:
    """Return once ``condition`` holds; raise `TimeoutError` if it never does."""
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"not so within {timeout_s} s")
        time.sleep(0.02)


class ServerProcess:
    """A server on a free port of loopback, in a process group of its own.

    Parameters
    ----------
    home
        An existing home; what the processes print goes to ``server.log`` in it.
    n_workers
        Worker processes.
    overrides
        Further ``--set`` options. The near-line process and the joiner are only there if they ask for them.
    flags
        Further options of ``millrace serve``, such as ``--virtual-time``.
    """

    def __init__(
        self, home: Path, *, n_workers: int = 2, overrides: Sequence[str] = (), flags: Sequence[str] = ()
    ) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}"
        self.home = home
        self._n_workers = n_workers
        named = {override.partition("=")[0] for override in overrides}
        alone = (f"{key}=false" for key in _ROLES if key not in named)
        self._overrides = (f"server.port={self._port}", *alone, *overrides)
        self._flags = tuple(flags)
        self._messages = home / "server.log"
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        options = [part for override in self._overrides for part in ("--set", override)]
        with self._messages.open("a") as messages:
            self._told_before = messages.tell()
            return subprocess.Popen(  # noqa: S603 - our own program
                [
                    *COMMAND,
                    "serve",
                    "--home",
                    str(self.home),
                    "--workers",
                    str(self._n_workers),
                    *options,
                    *self._flags,
                ],
                stdout=messages,
                stderr=messages,
                start_new_session=True,
            )

    def restart(self) -> None:
        """Start it again on the same port and wait until it is ready."""
        self.process = self._start()
        self.wait_ready()

    def get(self, path: str, data: bytes | None = None) -> bytes:
        """Return the body of a GET, or of a POST where there is data; raise `OSError` where it fails or is cut off."""
        try:
            with urllib.request.urlopen(self.url + path, data=data, timeout=60) as answer:  # noqa: S310 - loopback
                return answer.read()  # type: ignore[no-any-return]
        except http.client.HTTPException as error:  # a kill cut the answer off
            raise ConnectionError(self.url + path) from error

    def is_ready(self) -> bool:
        """Whether ``/readyz`` says so."""
        try:
            return bool(json.loads(self.get("/readyz"))["is_ready"])
        except OSError:
            return False

    def wait_ready(self, timeout_s: float = 2 * PATIENCE_S) -> None:
        """Return once it has said that all of its processes were ready, and whoever answers is."""
        until(lambda: self._has_said_ready() and self.is_ready(), timeout_s)

    def _has_said_ready(self) -> bool:
        # One worker's answer tells nothing of the others, which refuse pages until they have caught up.
        with self._messages.open("rb") as messages:
            messages.seek(self._told_before)
            return b"Ready: " in messages.read()

    def children(self) -> list[psutil.Process]:
        """Return the supervisor's direct children."""
        return psutil.Process(self.process.pid).children()

    def kill_all(self) -> None:
        """Send SIGKILL to the whole process group."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        """Send SIGTERM to the supervisor; return its exit code."""
        self.process.terminate()
        return self.process.wait(60)


class Connection:
    """A connection to a server that is kept open, and so to one worker for as long as that lives."""

    def __init__(self, server: ServerProcess, timeout_s: float = 60) -> None:
        host, _, port = server.url.removeprefix("http://").partition(":")
        self._http = http.client.HTTPConnection(host, int(port), timeout=timeout_s)
        self._http.connect()
        self.local_port: int = self._http.sock.getsockname()[1]
        try:
            self.get("/healthz")  # accepted now, and so by somebody
        except OSError:
            self._http.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def request(
        self, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, bytes]:
        """Return status and body of a GET, or of a POST with a body; raise `OSError` where the worker is gone."""
        try:
            self._http.request("GET" if body is None else "POST", path, body, dict(headers or {}))
            answer = self._http.getresponse()
            return answer.status, answer.read()
        except http.client.HTTPException as error:
            raise ConnectionError(path) from error

    def get(self, path: str, events: Sequence[Mapping[str, Any]] | None = None) -> Any:
        """Return the answer to a GET, or to a POST of events; raise `OSError` where the worker is gone."""
        body = None if events is None else "\n".join(json.dumps(event) for event in events).encode()
        status, data = self.request(path, body)
        if status >= http.client.MULTIPLE_CHOICES:
            raise AssertionError(path, status, data[:300])
        return json.loads(data)

    def worker(self, server: ServerProcess) -> int:
        """Return the process id of the worker at the other end."""
        for child in server.children():
            if any(tuple(c.raddr)[1:] == (self.local_port,) for c in child.net_connections("tcp")):
                return child.pid
        raise ConnectionError(f"nobody holds the other end of port {self.local_port}")


def connect_each(server: ServerProcess, n_workers: int, timeout_s: float = PATIENCE_S) -> dict[int, Connection]:
    """Return an open connection to each worker, by its process id.

    Which worker accepts is the kernel's choice, and often the same again: connections are opened until every worker
    has one, and those that were not needed are closed only then (a worker with nothing to hold would accept again).
    """
    opened: list[Connection] = []
    found: dict[int, Connection] = {}

    def has_all() -> bool:
        opened.append(Connection(server))
        found.setdefault(opened[-1].worker(server), opened[-1])
        return len(found) == n_workers

    try:
        until(has_all, timeout_s)
    finally:
        for connection in opened:
            if len(found) < n_workers or connection not in found.values():
                with connection:
                    pass
    return found


def wait_for_offset(by_worker: Mapping[int, Connection], offset: int) -> dict[int, float]:
    """Wait until every worker's state has reached an offset; return how long each one took, in milliseconds."""
    took_ms: dict[int, float] = {}
    began_s = time.perf_counter()

    def has_all() -> bool:
        for worker, connection in by_worker.items():
            if worker not in took_ms and sum(connection.get("/readyz")["state_offset"]) >= offset:
                took_ms[worker] = (time.perf_counter() - began_s) * 1e3
        return len(took_ms) == len(by_worker)

    while not has_all():
        if time.perf_counter() - began_s > PATIENCE_S:
            raise TimeoutError(f"only {took_ms} reached {offset}")
    return took_ms
