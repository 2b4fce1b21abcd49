"""Real homes in this process: a worker in either mode of access, and one whose pages are logged."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from litestar.testing import TestClient

from millrace.app import wiring
from millrace.app.commands.init import make_home
from millrace.app.evaluation import hear_log
from millrace.app.sampling import samples_as_of
from millrace.app.settings import CONFIG_NAME, Settings, load_settings
from millrace.app.training import home_samples
from millrace.base.clock import ManualClock
from millrace.base.ids import IdHasher
from millrace.events.envelope import AnyEvent
from millrace.flywheel.logged_samples import LoggedCandidates
from millrace.flywheel.sample_set import SampleSet
from millrace.flywheel.warehouse import Warehouse
from millrace.mixer.feed import FeedRequest
from millrace.testing.builders import NOW_MS, a_post_created
from millrace.testing.logged_world import HOUR_MS, MINUTE_MS, Kept, before, later, looks
from millrace.testing.progress import in_silence

PATIENT = "[home]\ndeadline_ms = 20_000\nclaim_timeout_ms = 20_000\nlogs_features = false\n"
"""The first page of a process may compile kernels; that must not decide what these tests see. What models saw is logged
half a second after a page: some of these tests look whether a request has written anything."""

NO_DEADLINES = [("home.deadline_ms", "60000"), ("home.claim_timeout_ms", "60000"), ("home.is_strict", "true")]

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
        deadline_s = time.monotonic() + 60
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


class LiveHome:
    """A home that serves pages and logs what it made them from, in this process (`millrace.testing.logged_world`)."""

    def __init__(self, folder: Path, *settings: tuple[str, str]) -> None:
        made, _ = make_home(folder)
        self.settings: Settings = load_settings(made.home, None, [*NO_DEADLINES, *settings])
        self.clock = ManualClock(NOW_MS)
        self.log = wiring.build_log(self.settings, self.clock)
        self.codec = wiring.build_codec(self.settings)
        self._collector = wiring.build_collector(self.settings, self.log, self.codec, self.clock)
        self.take(before())
        self.replica = wiring.build_replica(self.settings, self.log, clock=self.clock)
        self.replica.restore()
        self.replica.catch_up()
        self.served, self.features = Kept(), Kept()
        self.service = wiring.build_feed_service(
            self.settings, self.replica, self.served, features_logger=self.features, clock=self.clock
        )

    def take(self, events: Iterable[AnyEvent]) -> None:
        receipt = self._collector.submit(list(events))
        assert receipt.n_refused == 0, [result.error for result in receipt]

    def page(self, viewer: int, request: str, then: Callable[[], Sequence[AnyEvent]] = lambda: ()) -> list[str]:
        """Serve a page, log it, and fold on; ``then`` says what happens between the page and its logging."""

        async def make() -> list[str]:
            page = await self.service.home(FeedRequest(viewer_id=str(viewer), request_id=request, limit=5))
            await self.service.drain()
            return [post.post_id for post in page.posts]

        self.replica.catch_up()
        posts = asyncio.run(make())
        assert posts
        self.take(then())
        self.take([*self.served.take_all(), *self.features.take_all()])
        self.clock.set_ms(self.clock.now_ms() + MINUTE_MS)
        self.look(viewer, request, posts)
        self.replica.catch_up()
        return posts

    def look(self, viewer: int, request: str, posts: Sequence[str]) -> None:
        self.take(looks(viewer, request, posts, self.clock.now_ms()))

    def serve_three(self) -> None:
        """Serve two viewers three pages; much happens before the first is logged."""
        self.page(20, "r1", self.later)
        self.page(21, "r2")
        self.page(20, "r3")

    def later(self) -> list[AnyEvent]:
        return later(self.clock.now_ms())

    def logged(self) -> SampleSet:
        return self._read("samples")

    def candidates(self) -> LoggedCandidates:
        return self._read("candidates")

    def replayed(self) -> SampleSet:
        """Return the samples of the same pages as the offline replay encodes them."""
        hasher = IdHasher()
        join = wiring.build_slate_join(self.settings, hasher, window_ms=24 * HOUR_MS, takes_all=True)
        hear_log(self.settings, self.log, join, in_silence)
        slates = join.join(NOW_MS)  # nothing from before the first page
        return samples_as_of(self.settings, self.log, hasher, slates, behind_ms=0, on_progress=lambda _done, _all: None)

    def rest(self) -> None:
        """Let ten minutes pass: all that was seen is old enough to be learned from."""
        self.clock.set_ms(self.clock.now_ms() + 10 * MINUTE_MS)
        self.take([a_post_created("rest", 14, at_ms=self.clock.now_ms(), event_id="rest")])

    def samples(self, hours: float | None = None, *, replays: bool = False) -> SampleSet:
        """Return what a training would learn from; ``steps`` are what one was told meanwhile."""
        self.steps: list[str] = []

        def telling(what: str) -> Any:
            self.steps.append(what)
            return in_silence(what)

        return home_samples(self.settings, telling, hours=hours, replays=replays)

    def _read(self, what: str) -> Any:
        Warehouse(self.settings.warehouse_dir, self.codec).export(self.log)
        reader = wiring.build_logged_samples(self.settings, IdHasher(), window_ms=24 * HOUR_MS)
        try:
            return getattr(reader, what)()
        finally:
            reader.close()

    def close(self) -> None:
        self.replica.close()
        self.log.close()


@pytest.fixture
def make_live_home(tmp_path: Path) -> Iterator[Callable[..., LiveHome]]:
    """Return a function that makes a live home, with the given settings beside those of a patient one."""
    made: list[LiveHome] = []

    def make_one(*settings: tuple[str, str]) -> LiveHome:
        made.append(LiveHome(tmp_path / str(len(made)), *settings))
        return made[-1]

    yield make_one
    for home in made:
        home.close()
