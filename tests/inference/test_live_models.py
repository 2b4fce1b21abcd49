"""Hot reload: what serves, what is refused, what is drained; never a request without its models."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from millrace.base.clock import SystemClock
from millrace.base.errors import NotReadyError
from millrace.inference.live_models import LONGEST_RETRY_S, Artefacts, LiveModels
from millrace.inference.model_events import ModelEvent
from millrace.registry.manifest import Description, Kind
from millrace.registry.registry import Registry
from millrace.testing.told_clock import ToldClock

PATIENCE_S = 20.0


class Bundle:
    """Stands for loaded models: knows its texts, and whether it was closed."""

    def __init__(self, artefacts: Artefacts) -> None:
        self.texts = {kind: (artefact.path / "net").read_text() for kind, artefact in artefacts.items()}
        self.n_warmed = self.n_closed = 0

    @property
    def text(self) -> str:
        return self.texts["ranker"]


class House:
    """A registry, and the live models that follow it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = ToldClock(now_ms=77)
        self.registry = Registry(folder / "models")
        self.loaded: list[Bundle] = []
        self.events: list[ModelEvent] = []
        self.on_event: Callable[[ModelEvent], None] = lambda _event: None
        self.on_warm: Callable[[Bundle], None] = lambda _bundle: None
        self.live = LiveModels(
            self.registry,
            self.load,
            check=self.check,
            warm=self.warm,
            close=self.close,
            observe=self.observe,
            clock=self.clock,
        )

    def load(self, artefacts: Artefacts) -> Bundle:
        bundle = Bundle(artefacts)
        if bundle.text == "no memory":
            raise MemoryError("no room")
        self.loaded.append(bundle)
        return bundle

    def check(self, artefacts: Artefacts) -> str | None:
        foreign = [kind for kind, artefact in artefacts.items() if artefact.manifest.feature_schema_hash != "ours"]
        return f"{foreign[0]} reads other features" if foreign else None

    def warm(self, bundle: Bundle) -> None:
        bundle.n_warmed += 1
        self.on_warm(bundle)
        if bundle.text == "bad":
            raise ValueError("scores are not finite")

    def close(self, bundle: Bundle) -> None:
        bundle.n_closed += 1

    def observe(self, event: ModelEvent) -> None:
        self.events.append(event)
        self.on_event(event)

    def publish(self, text: str, *, kind: Kind = "ranker", schema: str = "ours") -> str:
        trained = self.folder / "trained"
        trained.mkdir(exist_ok=True)
        (trained / "net").write_text(text)
        said = Description(kind=kind, feature_schema_hash=schema, from_ms=0, until_ms=1)
        return self.registry.publish(trained, said, now_ms=0).version

    def promote(self, text: str, lane: str = "default", **more: Any) -> str:
        version = self.publish(text, **more)
        self.registry.promote({more.get("kind", "ranker"): version}, lane, now_ms=0)
        return version

    def serves(self, lane: str = "default") -> str:
        with self.live.lease(lane) as bundle:
            assert bundle.n_warmed == 1
            assert bundle.n_closed == 0
            return bundle.text

    def told(self) -> list[tuple[str, str]]:
        return [(event.what, event.lane) for event in self.events]


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path)
    yield house
    house.live.close()
    assert all(bundle.n_closed == 1 for bundle in house.loaded)  # each, and once


def test_what_is_promoted_serves_after_the_next_look_and_the_old_one_is_closed(house: House) -> None:
    assert not house.live.poll()
    with pytest.raises(NotReadyError, match="none serve; promote some"):
        house.serves()
    for text in ("old", "new"):
        version = house.promote(text)
        assert house.live.poll()
        assert house.serves() == text
        assert house.live.versions() == {"ranker": version}
    assert [bundle.n_closed for bundle in house.loaded] == [1, 0]
    assert house.told() == [("swapped", "default"), ("swapped", "default"), ("closed", "")]
    assert not house.live.poll()


def test_a_request_keeps_what_it_began_with_and_it_is_closed_with_the_last_of_them(house: House) -> None:
    house.promote("old")
    house.live.poll()
    with house.live.lease() as first:
        with house.live.lease() as second:
            house.promote("new")
            house.live.poll()
            assert house.serves() == "new"
            assert (first.text, second.text, first.n_closed) == ("old", "old", 0)
        assert first.n_closed == 0
    assert first.n_closed == 1


def test_a_request_that_fails_gives_its_lease_back(house: House) -> None:
    house.promote("old")
    house.live.poll()
    lease = house.live.lease()
    bundle = lease.__enter__()
    assert house.live.status()["default"].n_leases == 1
    assert not lease.__exit__(RuntimeError, RuntimeError("page"), None)
    assert house.live.status()["default"].n_leases == 0
    house.promote("new")
    house.live.poll()
    assert bundle.n_closed == 1


def spoil(house: House, text: str) -> str:
    version = house.publish(text)
    house.registry.promote({"ranker": version}, now_ms=0)
    path = house.registry.folder("ranker", version) / "net"
    path.unlink()
    path.write_text(text[::-1])
    return version


@pytest.mark.parametrize(
    ("promote", "reason"),
    [
        (lambda house: spoil(house, "damaged"), "'net': does not fit its sum"),
        (lambda house: house.promote("foreign", schema="theirs"), "ranker reads other features"),
        (lambda house: house.promote("no memory"), "MemoryError: no room"),
        (lambda house: house.promote("bad"), "ValueError: scores are not finite"),
    ],
)
def test_a_bad_artefact_is_refused_with_its_reason_and_the_old_one_goes_on(
    house: House, promote: Callable[[House], str], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    good = house.promote("good")
    house.live.poll()
    house.events.clear()
    bad = promote(house)
    with caplog.at_level(logging.ERROR):
        assert house.live.poll()
        assert not house.live.poll()  # refused once, not at every look
    assert house.serves() == "good"
    status = house.live.status()["default"]
    assert (status.versions, status.wanted) == ({"ranker": good}, {"ranker": bad})
    assert reason in status.problem
    assert [event.what for event in house.events if event.lane] == ["refused"]
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "the old ones go on" in caplog.text
    refusal = house.registry.history()[-1]
    assert (refusal.what, refusal.serial, refusal.at_ms, refusal.versions) == ("refused", 2, 77, {"ranker": bad})
    assert refusal.note == status.problem
    assert house.live.versions() == {"ranker": good}


def test_a_refusal_that_cannot_be_written_down_stops_nothing(house: House, caplog: pytest.LogCaptureFixture) -> None:
    house.promote("good")
    house.promote("bad")
    (house.registry.root / ".lock").unlink()
    (house.registry.root / ".lock").mkdir()  # as for a server that may not write there
    house.live.poll()
    assert "the refusal could not be written to the models' history" in caplog.text
    assert "not finite" in house.live.status()["default"].problem


def test_a_refused_one_is_tried_again_when_it_is_promoted_again(house: House) -> None:
    house.promote("good")
    house.live.poll()
    version = spoil(house, "mended")
    house.live.poll()
    assert house.serves() == "good"
    (house.registry.folder("ranker", version) / "net").write_text("mended")
    assert not house.live.poll()
    house.registry.promote({"ranker": version}, now_ms=0)
    house.live.poll()
    assert house.serves() == "mended"
    assert house.live.status()["default"].problem == ""


def test_a_refused_one_is_tried_again_after_a_while_twice_as_long_each_time(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    house.promote("good")
    house.live.poll()
    version = spoil(house, "mended")
    house.live.poll()
    house.events.clear()
    n_changes = len(house.registry.history())
    for n_refused, rest_s in enumerate((5.0, 10.0, 20.0, 40.0), 1):
        status = house.live.status()["default"]
        assert (status.n_refused, status.retry_in_s) == (n_refused, rest_s)
        house.clock.s += rest_s - 0.1
        assert not house.live.poll()
        assert house.live.status()["default"].n_refused == n_refused
        house.clock.s += 0.1
        assert not house.live.poll()  # the pointer is as it was
    assert house.told() == [("retried", "default")] * 4
    assert len(house.registry.history()) == n_changes  # the same reason is not written down again
    assert caplog.text.count("the old ones go on") == 1
    (house.registry.folder("ranker", version) / "net").write_text("mended")
    house.clock.s += LONGEST_RETRY_S
    house.live.poll()
    assert house.serves() == "mended"
    assert house.told()[4:] == [("swapped", "default"), ("closed", "")]
    status = house.live.status()["default"]
    assert (status.problem, status.n_refused, status.retry_in_s) == ("", 0, 0.0)


def test_only_the_lane_that_was_refused_is_tried_again(house: House) -> None:
    house.promote("good")
    house.promote("bad", "arm")
    house.promote("fine", "other")
    house.live.poll()
    loaded = [bundle.text for bundle in house.loaded]
    assert sorted(loaded) == ["bad", "fine", "good"]
    house.clock.s += 5.0
    house.live.poll()
    assert [bundle.text for bundle in house.loaded] == [*loaded, "bad"]
    assert {lane: status.n_refused for lane, status in house.live.status().items()} == {
        "default": 0,
        "arm": 2,
        "other": 0,
    }


def test_another_reason_is_told_and_a_change_of_the_pointer_ends_the_rest(house: House) -> None:
    house.promote("good")
    house.live.poll()
    version = spoil(house, "bad")
    house.live.poll()
    (house.registry.folder("ranker", version) / "net").write_text("bad")  # whole again, and still no good
    house.clock.s += 5.0
    house.live.poll()
    assert house.told()[-1] == ("refused", "default")
    assert "not finite" in house.registry.history()[-1].note
    assert house.live.status()["default"].retry_in_s == 10.0
    house.promote("new")
    assert house.live.poll()
    assert house.serves() == "new"
    house.promote("bad")
    house.live.poll()
    assert house.live.status()["default"].retry_in_s == 5.0


def test_a_rollback_during_the_load_ends_it(house: House) -> None:
    good = house.promote("good")
    house.live.poll()
    house.promote("slow")
    house.on_warm = lambda _bundle: house.registry.rollback(now_ms=0) and None
    house.live.poll()
    house.on_warm = lambda _bundle: None
    assert [(bundle.text, bundle.n_closed) for bundle in house.loaded] == [("good", 0), ("slow", 1)]
    assert house.live.poll()
    assert house.live.versions() == {"ranker": good}
    assert len(house.loaded) == 2


@pytest.mark.parametrize("damage", [b"{", b"", None])
def test_a_damaged_or_lost_pointer_changes_nothing(
    house: House, damage: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    house.promote("good")
    house.live.poll()
    pointer = house.registry.root / "live.json"
    data = pointer.read_bytes()
    pointer.unlink()
    if damage is not None:
        pointer.write_bytes(damage)
    for _ in range(3):
        assert not house.live.poll()
    assert house.serves() == "good"
    assert "pointer to the live models" in house.live.status()["default"].problem
    assert len(caplog.records) == 1  # said once
    assert house.told()[-1] == ("refused", "")
    pointer.write_bytes(data)
    house.live.poll()
    assert house.live.status()["default"].problem == ""
    assert len(house.loaded) == 1


def test_lanes_serve_side_by_side_and_share_what_is_the_same(house: House) -> None:
    version = house.promote("everybody's")
    house.promote("arm's", "arm")
    house.registry.promote({"ranker": version}, "twin", now_ms=0)
    house.live.poll()
    assert [house.serves(lane) for lane in ("default", "arm", "twin", "unknown")] == [
        "everybody's",
        "arm's",
        "everybody's",
        "everybody's",
    ]
    assert len(house.loaded) == 2
    house.promote("light", kind="pre_ranker")
    house.live.poll()
    with house.live.lease("arm") as bundle:
        assert bundle.texts == {"ranker": "arm's", "pre_ranker": "light"}
    house.registry.drop_lane("arm", now_ms=0)
    house.live.poll()
    assert house.serves("arm") == "everybody's"
    assert set(house.live.status()) == {"default", "twin"}


def test_a_sandbox_that_becomes_the_default_is_not_loaded_twice(house: House) -> None:
    house.promote("old")
    version = house.promote("tried", "sandbox")
    house.live.poll()
    house.registry.promote({"ranker": version}, now_ms=0)
    house.registry.drop_lane("sandbox", now_ms=0)
    house.live.poll()
    assert house.serves() == "tried"
    assert [(bundle.text, bundle.n_closed) for bundle in house.loaded] == [("old", 1), ("tried", 0)]


def test_a_bad_sandbox_is_served_as_the_default_and_harms_nobody(house: House) -> None:
    house.promote("good")
    for lane in ("a", "b"):
        house.promote("bad", lane)
    house.live.poll()
    assert {house.serves(lane) for lane in ("default", "a", "b")} == {"good"}
    assert [bundle.text for bundle in house.loaded] == ["good", "bad"]  # tried once for both
    assert {lane: bool(status.problem) for lane, status in house.live.status().items()} == {
        "default": False,
        "a": True,
        "b": True,
    }


def test_taking_every_kind_out_serves_nothing(house: House) -> None:
    house.promote("good")
    house.live.poll()
    house.registry.promote({"ranker": None}, now_ms=0)
    house.live.poll()
    with pytest.raises(NotReadyError):
        house.serves()
    assert house.loaded[0].n_closed == 1


def test_an_observer_or_a_close_that_fails_stops_nothing(house: House, caplog: pytest.LogCaptureFixture) -> None:
    def fail(_event: object) -> None:
        raise RuntimeError("metrics are down")

    house.on_event = fail
    for text in ("old", "new"):
        house.promote(text)
        house.live.poll()
    assert house.serves() == "new"
    assert "the observer of the models failed" in caplog.text


def test_the_thread_swaps_within_its_time_and_ends_with_close(house: House) -> None:
    swapped = threading.Event()
    swapped_s: list[float] = []
    clock = SystemClock()

    def note(event: ModelEvent) -> None:
        if event.what == "swapped":
            swapped_s.append(clock.monotonic_s())
            swapped.set()

    house.on_event = note
    house.promote("old")
    house.live.start()
    assert swapped.wait(PATIENCE_S)
    swapped.clear()
    version = house.publish("new")
    house.registry.promote({"ranker": version}, now_ms=0)
    promoted_s = clock.monotonic_s()
    assert swapped.wait(PATIENCE_S)
    assert swapped_s[-1] - promoted_s < 1.2
    assert house.serves() == "new"
    house.live.close()
    assert [bundle.n_closed for bundle in house.loaded] == [1, 1]
    with pytest.raises(NotReadyError):
        house.serves()
    assert not house.live.poll()
    assert not any(thread.name == "live-models" for thread in threading.enumerate())


def test_what_is_promoted_during_a_load_does_not_wait_for_the_next_look(house: House) -> None:
    newest = house.publish("newest")
    swapped = threading.Semaphore(0)
    house.on_event = lambda event: swapped.release() if event.what == "swapped" else None

    def promote_once(bundle: Bundle) -> None:
        if bundle.text == "new":
            house.registry.promote({"ranker": newest}, now_ms=0)

    house.on_warm = promote_once
    house.promote("new")
    house.live.start(interval_s=3_600.0)
    for _ in range(2):
        assert swapped.acquire(timeout=PATIENCE_S)
    assert house.serves() == "newest"


def test_sixty_four_requests_at_once_lose_nothing_to_twenty_swaps(house: House) -> None:
    texts = [f"w{i}" for i in range(20)]
    versions = [house.publish(text) for text in texts]
    swapped = threading.Semaphore(0)
    house.on_event = lambda event: swapped.release() if event.what == "swapped" else None
    house.registry.promote({"ranker": versions[0]}, now_ms=0)
    house.live.start(0.01)
    assert swapped.acquire(timeout=PATIENCE_S)
    is_over = threading.Event()
    failures: list[str] = []
    n_pages = [0] * 64
    seen: list[set[str]] = [set() for _ in range(64)]

    def serve(i: int) -> None:
        try:
            while not is_over.is_set():
                with house.live.lease() as bundle:
                    is_over.wait(0.002)  # a page's work
                    if bundle.n_closed or not bundle.n_warmed:
                        failures.append(f"{bundle.text} was closed in use, or not warm")
                    seen[i].add(bundle.text)
                n_pages[i] += 1
        except (AssertionError, NotReadyError) as error:
            failures.append(repr(error))

    threads = [threading.Thread(target=serve, args=(i,)) for i in range(64)]
    for thread in threads:
        thread.start()
    for version in versions[1:]:
        house.registry.promote({"ranker": version}, now_ms=0)
        assert swapped.acquire(timeout=PATIENCE_S)
    is_over.set()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert failures == []
    assert min(n_pages) > 0
    assert len(set.union(*seen)) > 1
    assert house.serves() == texts[-1]
    house.live.close()
    assert [bundle.text for bundle in house.loaded] == texts
