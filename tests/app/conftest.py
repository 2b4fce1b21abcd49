"""A worker in this process, over a real home, in either mode of access."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from litestar.testing import TestClient

from millrace.app import wiring
from millrace.app.commands.init import make_home
from millrace.app.settings import CONFIG_NAME

PATIENT = "[home]\ndeadline_ms = 20_000\nclaim_timeout_ms = 20_000\nlogs_features = false\n"
"""The first page of a process may compile kernels; that must not decide what these tests see. What models saw is logged
half a second after a page: some of these tests look whether a request has written anything."""

MakeService = Callable[..., "Service"]


class Service:
    """The HTTP service of one worker, and everything that it writes to."""

    def __init__(self, home: Path, mode: str, *, follows: bool = True, more: str = "") -> None:
        home.mkdir(parents=True, exist_ok=True)
        config = f'{PATIENT}[auth]\nmode = "{mode}"\n[server]\nmax_body_bytes = 100_000\n{more}'
        (home / CONFIG_NAME).write_text(config)
        self.settings, _ = make_home(home)
        self.mode = mode
        self.log = wiring.build_log(self.settings)
        self.codec = wiring.build_codec(self.settings)
        self.replica = wiring.build_replica(self.settings, self.log)
        self.app = wiring.build_http_app(self.settings, self.replica)
        if follows:
            self.app.on_startup.append(self._follow)
            self.app.on_shutdown.append(self._stop)
        # An address from elsewhere: what is open to this machine alone shows.
        base_url = "http://127.0.0.1:8000" if mode == "development" else "https://feed.example"
        self.client = TestClient(self.app, base_url=base_url)
        self.tokens = wiring.build_tokens(self.settings)
        self.keys = wiring.build_api_keys(self.settings)
        self.key_by_role = {role: self.keys.add(role, role, 1) for role in ("ingest", "admin")}  # type: ignore[arg-type]

    async def _follow(self) -> None:
        self.replica.restore()
        self.following = asyncio.create_task(self.replica.follow())

    async def _stop(self) -> None:
        self.following.cancel()

    def headers(self, who: str) -> dict[str, str]:
        """Return the credentials of a role's key (``"ingest"``, ``"admin"``), a viewer's token, or nobody's."""
        if not who:
            return {}
        key = self.key_by_role.get(who)
        return {"Authorization": f"Bearer {self.tokens.make(who, 600) if key is None else key}"}

    def get(self, path: str, who: str = "", **params: Any) -> Any:
        return self.get_with(self.headers(who), path, **params)

    def get_with(self, headers: dict[str, Any], path: str, **params: Any) -> Any:
        """Return the answer; a page has also been logged as served then."""
        answer = self.client.get(path, params=params, headers=headers)
        if answer.status_code == 200 and "/timeline/" in path:
            self.wait(lambda: answer.json()["request_id"] in self.served())
        return answer

    def send(self, who: str, *payloads: dict[str, Any]) -> Any:
        body = msgspec.json.encode([{"payload": payload} for payload in payloads])
        return self.client.post("/api/v1/events", content=body, headers=self.headers(who))

    def send_and_fold(self, who: str, *payloads: dict[str, Any]) -> None:
        answer = self.send(who, *payloads)
        assert answer.json()["n_refused"] == 0, answer.text
        self.wait(lambda: list(self.replica.position) >= answer.json()["state_offset"])

    def wait(self, condition: Callable[[], bool]) -> None:
        deadline_s = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < deadline_s
            self.client.get("/healthz")

    def served(self) -> set[str]:
        """Return the ids of the requests whose pages are logged as served, which is a moment after they leave."""
        consumer = self.log.subscribe("test", start=self.log.begin(), topics=["events.served"])
        found = {self.codec.decode(data).payload.request_id for data in consumer.poll(10_000).data}
        consumer.close()
        return found

    def written(self) -> tuple[Any, ...]:
        """Return what requests can change: the end of the log, dead letters, keys and secret."""
        letters = [letter.letter_id for letter in self.log.dead_letters()]
        return (self.log.end(), letters, self.settings.keys_path.read_bytes(), self.settings.secret_path.read_bytes())

    def close(self) -> None:
        self.replica.close()
        self.log.close()


@pytest.fixture(scope="module")
def make_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeService]:
    """Return a function that gives the module's service in a mode; it is ready, unless it does not follow the log.

    ``more`` is further config, as text.
    """
    made: dict[tuple[str, bool, str], Service] = {}

    def make(mode: str, *, follows: bool = True, more: str = "") -> Service:
        key = (mode, follows, more)
        if key not in made:
            service = Service(tmp_path_factory.mktemp("home"), mode, follows=follows, more=more)
            service.client.__enter__()
            made[key] = service
            if follows:
                service.wait(lambda: service.client.get("/readyz").status_code == 200)
        return made[key]

    yield make
    for service in made.values():
        service.client.__exit__(None, None, None)
        service.close()
