"""Hot reload: what is refused, why, and when it is tried again; the old models go on."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest

from millrace.inference.live_models import LONGEST_RETRY_S
from millrace.testing.live_house import LiveHouse


def spoil(house: LiveHouse, text: str) -> str:
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
    house: LiveHouse, promote: Callable[[LiveHouse], str], reason: str, caplog: pytest.LogCaptureFixture
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


def test_a_refusal_that_cannot_be_written_down_stops_nothing(
    house: LiveHouse, caplog: pytest.LogCaptureFixture
) -> None:
    house.promote("good")
    house.promote("bad")
    (house.registry.root / ".lock").unlink()
    (house.registry.root / ".lock").mkdir()  # as for a server that may not write there
    house.live.poll()
    assert "the refusal could not be written to the models' history" in caplog.text
    assert "not finite" in house.live.status()["default"].problem


def test_a_refused_one_is_tried_again_when_it_is_promoted_again(house: LiveHouse) -> None:
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
    house: LiveHouse, caplog: pytest.LogCaptureFixture
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


def test_only_the_lane_that_was_refused_is_tried_again(house: LiveHouse) -> None:
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


def test_another_reason_is_told_and_a_change_of_the_pointer_ends_the_rest(house: LiveHouse) -> None:
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


def test_a_rollback_during_the_load_ends_it(house: LiveHouse) -> None:
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
    house: LiveHouse, damage: bytes | None, caplog: pytest.LogCaptureFixture
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
