"""A real server of two workers for every test, with checkpoints so often that kills meet them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from millrace.app.commands.init import make_home
from millrace.app.settings import Settings
from millrace.testing.server_process import Connection, ServerProcess, connect_each

N_WORKERS = 2
# And with time for the disk: a claim that a busy test machine makes late is a page that does not leave.
OFTEN = (
    "replica.checkpoint_every_records=300",
    "replica.checkpoint_every_s=0.5",
    "home.claim_timeout_ms=30000",
)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return make_home(tmp_path / "home")[0]


@pytest.fixture
def overrides() -> tuple[str, ...]:
    """Return the server's ``--set`` options; modules may add to them."""
    return OFTEN


@pytest.fixture
def n_workers() -> int:
    return N_WORKERS


@pytest.fixture
def server(settings: Settings, n_workers: int, overrides: tuple[str, ...]) -> Iterator[ServerProcess]:
    server = ServerProcess(settings.home, n_workers=n_workers, overrides=overrides)
    try:
        server.wait_ready()
        yield server
    finally:
        if server.process.poll() is None:
            server.kill_all()


@pytest.fixture
def by_worker(server: ServerProcess, n_workers: int) -> Iterator[dict[int, Connection]]:
    """Return one open connection to each worker, by the worker's process id."""
    found = connect_each(server, n_workers)
    yield found
    for connection in found.values():
        with connection:
            pass
