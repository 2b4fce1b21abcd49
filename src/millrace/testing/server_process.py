"""`ServerProcess`: a real ``millrace serve`` with its keeper and workers, for tests that kill it or look at it."""

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
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import psutil

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
        Further ``--set`` options.
    """

    def __init__(self, home: Path, *, n_workers: int = 2, overrides: Sequence[str] = ()) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}"
        self.home = home
        self._n_workers = n_workers
        self._overrides = (f"server.port={self._port}", *overrides)
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        options = [part for override in self._overrides for part in ("--set", override)]
        with (self.home / "server.log").open("a") as messages:
            return subprocess.Popen(  # noqa: S603 - our own program
                [*COMMAND, "serve", "--home", str(self.home), "--workers", str(self._n_workers), *options],
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
            with urllib.request.urlopen(self.url + path, data=data, timeout=20) as answer:  # noqa: S310 - loopback
                return answer.read()  # type: ignore[no-any-return]
        except http.client.HTTPException as error:  # a kill cut the answer off
            raise ConnectionError(self.url + path) from error

    def is_ready(self) -> bool:
        """Whether ``/readyz`` says so."""
        try:
            return bool(json.loads(self.get("/readyz"))["is_ready"])
        except OSError:
            return False

    def wait_ready(self, timeout_s: float = 60) -> None:
        """Return once it is ready."""
        until(self.is_ready, timeout_s)

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
