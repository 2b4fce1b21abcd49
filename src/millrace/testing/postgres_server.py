"""`PostgresServer`: a PostgreSQL server of one run's own, on a free port of loopback, for tests and benches.

It keeps its files in a temporary folder and forgets everything when it ends; a server that runs already is left alone.
PostgreSQL refuses to run as root, so where we are root it runs as user ``postgres`` or ``nobody``, in a folder that
this user owns: that is why the folder is not one of pytest's, which others may not enter.
"""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Final, Self

_PATIENCE_S: Final = 60.0
_POLL_S: Final = 0.02
_DEBIAN_ROOT: Final = Path("/usr/lib/postgresql")
# Nothing here outlives the server, so nothing waits for a disk; times are UTC and texts compare byte by byte anywhere.
_SETTINGS: Final = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "unix_socket_directories": "",
    "listen_addresses": "127.0.0.1",
    "shared_buffers": "64MB",
    "max_connections": "100",
    "timezone": "UTC",
}


def find_programs() -> Path | None:
    """Return the folder of ``initdb`` and ``postgres``: that of PATH, else Debian's newest, else None."""
    found = [Path(path).resolve().parent for name in ("initdb", "postgres") if (path := shutil.which(name))]
    folders = [*found, *sorted(_DEBIAN_ROOT.glob("*/bin"), key=_version, reverse=True)]
    return next((f for f in folders if (f / "initdb").is_file() and (f / "postgres").is_file()), None)


def _version(folder: Path) -> float:
    try:
        return float(folder.parent.name)
    except ValueError:
        return 0.0


class PostgresServer:
    """Runs from entering the block to its end.

    Parameters
    ----------
    programs
        The folder of ``initdb`` and ``postgres``; looked for by default (`find_programs`).
    settings
        Server settings over those that this file states, by name.
    """

    def __init__(self, programs: Path | None = None, **settings: str) -> None:
        programs = programs or find_programs()
        if programs is None:
            raise FileNotFoundError("no initdb and postgres in PATH or under /usr/lib/postgresql")
        self._programs = programs
        self._settings = {**_SETTINGS, **settings}
        self._folder: Path | None = None
        self._server: subprocess.Popen[bytes] | None = None
        self._port = 0

    @property
    def url(self) -> str:
        """Where clients connect, as a superuser, without a password."""
        return f"postgresql://millrace@127.0.0.1:{self._port}/postgres"

    def __enter__(self) -> Self:
        self._folder = Path(tempfile.mkdtemp(prefix="millrace-postgres-"))
        try:
            self._start(self._folder)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()

    def _start(self, folder: Path) -> None:
        run_as = _unprivileged(folder)
        data = folder / "data"
        # fmt: off
        made = subprocess.run(  # noqa: S603 - our own arguments
            [self._programs / "initdb", "--pgdata", data, "--username", "millrace", "--auth", "trust",
             "--encoding", "UTF8", "--no-locale", "--no-sync"],
            capture_output=True, check=False, cwd=folder, **run_as,
        )
        # fmt: on
        if made.returncode != 0:
            raise RuntimeError(f"initdb failed with {made.returncode}:\n{made.stderr.decode(errors='replace')}")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self._serve(folder)

    def go_away(self) -> None:
        """End the server, and keep its files: `come_back` serves them at the same place."""
        if self._server is not None:
            self._server.send_signal(2)  # SIGINT: PostgreSQL's fast shutdown, which does not wait for its clients
            try:
                self._server.wait(10)
            except subprocess.TimeoutExpired:
                self._server.kill()
                self._server.wait()
            self._server = None

    def come_back(self) -> None:
        """Serve again what was there when it went away."""
        if self._folder is None:
            raise RuntimeError("the server is closed: its files are gone")
        self._serve(self._folder)

    def _serve(self, folder: Path) -> None:
        run_as, data = _unprivileged(folder), folder / "data"
        options = [part for name, value in self._settings.items() for part in ("-c", f"{name}={value}")]
        messages = folder / "messages"
        with messages.open("ab") as output:
            self._server = subprocess.Popen(  # noqa: S603 - our own arguments
                [self._programs / "postgres", "-D", data, "-p", str(self._port), *options],
                stdout=output,
                stderr=output,
                cwd=folder,
                **run_as,
            )
        deadline_s = time.monotonic() + _PATIENCE_S
        # The file's last line says so once connections are taken. A port that somebody else took in between shows as
        # a server that ended.
        while not (data / "postmaster.pid").exists() or b"ready" not in (data / "postmaster.pid").read_bytes():
            if self._server.poll() is not None or time.monotonic() > deadline_s:
                raise RuntimeError(f"postgres on port {self._port} does not answer:\n{messages.read_text()}")
            time.sleep(_POLL_S)

    def close(self) -> None:
        """End the server at once and remove its files."""
        self.go_away()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None


def _unprivileged(folder: Path) -> dict[str, Any]:
    """Give the folder to a user that PostgreSQL accepts; return what a subprocess needs to run as that user."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            continue
        os.chown(folder, user.pw_uid, user.pw_gid)
        return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    raise RuntimeError("PostgreSQL does not run as root, and there is no user postgres or nobody to run it as")
