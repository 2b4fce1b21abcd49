"""`RedisProcess`: a Redis server of a test's own, which may be stopped, killed and started again on the same port."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Final, Self

_PATIENCE_S: Final = 20


class RedisProcess:
    """A ``redis-server`` on a free port of loopback; a context manager.

    Parameters
    ----------
    folder
        Where its files go.
    options
        Of the server, such as ``"--appendonly", "yes"``; nothing is kept on disk unless they say so.
    """

    def __init__(self, folder: Path, *options: str) -> None:
        program = shutil.which("redis-server")
        if program is None:
            raise FileNotFoundError("redis-server is not installed (Debian: apt-get install redis-server)")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._messages = folder / "redis.log"
        own = ("--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(folder), "--save", "")
        self._command = [program, *own, *options]
        self._process = self.start()

    def start(self) -> subprocess.Popen[bytes]:
        """Start it, again, and return when it answers."""
        with self._messages.open("ab") as output:
            self._process = subprocess.Popen(self._command, stdout=output, stderr=output)  # noqa: S603 - our own
        deadline_s = time.monotonic() + _PATIENCE_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline_s:
                raise RuntimeError(f"redis-server does not answer:\n{self._messages.read_text()}")
            time.sleep(0.02)
        return self._process

    def kill(self) -> None:
        """End it as a crash would."""
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False
