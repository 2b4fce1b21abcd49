"""Hot reload: what serves and what is drained, lane by lane; never a request without its models."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import pytest

from millrace.base.clock import SystemClock
from millrace.base.errors import NotReadyError
from millrace.inference.model_events import ModelEvent
from millrace.testing.live_house import Bundle, LiveHouse

PATIENCE_S = 20.0


def test_what_is_promoted_serves_after_the_next_look_and_the_old_one_is_closed(house: LiveHouse) -> None:
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


def test_a_request_keeps_what_it_began_with_and_it_is_closed_with_the_last_of_them(house: LiveHouse) -> None:
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


def test_a_request_that_fails_gives_its_lease_back(house: LiveHouse) -> None:
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


def test_lanes_serve_side_by_side_and_share_what_is_the_same(house: LiveHouse) -> None:
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


def test_a_sandbox_that_becomes_the_default_is_not_loaded_twice(house: LiveHouse) -> None:
    house.promote("old")
    version = house.promote("tried", "sandbox")
    house.live.poll()
    house.registry.promote({"ranker": version}, now_ms=0)
    house.registry.drop_lane("sandbox", now_ms=0)
    house.live.poll()
    assert house.serves() == "tried"
    assert [(bundle.text, bundle.n_closed) for bundle in house.loaded] == [("old", 1), ("tried", 0)]


def test_a_bad_sandbox_is_served_as_the_default_and_harms_nobody(house: LiveHouse) -> None:
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


def test_taking_every_kind_out_serves_nothing(house: LiveHouse) -> None:
    house.promote("good")
    house.live.poll()
    house.registry.promote({"ranker": None}, now_ms=0)
    house.live.poll()
    with pytest.raises(NotReadyError):
        house.serves()
    assert house.loaded[0].n_closed == 1


def test_an_observer_or_a_close_that_fails_stops_nothing(house: LiveHouse, caplog: pytest.LogCaptureFixture) -> None:
    def fail(_event: object) -> None:
        raise RuntimeError("metrics are down")

    house.on_event = fail
    for text in ("old", "new"):
        house.promote(text)
        house.live.poll()
    assert house.serves() == "new"
    assert "the observer of the models failed" in caplog.text


def test_the_thread_swaps_within_its_time_and_ends_with_close(house: LiveHouse) -> None:
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


@pytest.mark.skipif(sys.platform != "linux", reason="threads have priorities of their own on Linux alone")
@pytest.mark.parametrize("gives_way", [True, False])
def test_loading_gives_way_to_pages_where_that_is_wanted(tmp_path: Path, gives_way: bool) -> None:
    before = os.getpriority(os.PRIO_PROCESS, 0)
    house, swapped = LiveHouse(tmp_path, gives_way=gives_way), threading.Event()
    found: list[int] = []
    house.on_warm = lambda _bundle: found.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
    house.on_event = lambda _event: swapped.set()
    house.promote("new")
    house.live.start()
    assert swapped.wait(PATIENCE_S)
    house.live.close()
    assert found == [19 if gives_way else before]
    assert os.getpriority(os.PRIO_PROCESS, threading.main_thread().native_id or 0) == before


def test_what_is_promoted_during_a_load_does_not_wait_for_the_next_look(house: LiveHouse) -> None:
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


def test_sixty_four_requests_at_once_lose_nothing_to_twenty_swaps(house: LiveHouse) -> None:
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
