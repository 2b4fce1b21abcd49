"""The durable join: whatever kills it, every sample is in the files and on the topic once, as the batch join has it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from msgspec import structs

from millrace.base.clock import ManualClock
from millrace.base.errors import CheckpointError
from millrace.events.envelope import Event
from millrace.flywheel.join_checkpoint import FORMAT_VERSION, JoinCheckpoint, JoinCheckpoints, JoinHead
from millrace.flywheel.join_config import HOUR_MS, JoinConfig
from millrace.flywheel.join_process import GROUP
from millrace.flywheel.sample_config import SampleConfig
from millrace.testing.builders import NOW_MS, a_features_logged, an_impression
from millrace.testing.join_house import JoinHouse, differences
from millrace.testing.join_traffic import Traffic, traffic


@pytest.fixture
def house(tmp_path: Path) -> JoinHouse:
    return JoinHouse(tmp_path)


def test_files_and_topic_hold_what_the_batch_join_says(house: JoinHouse) -> None:
    house.put(traffic(Traffic()))
    house.join_all()
    truth = house.truth()
    assert len(truth) > 300
    assert differences(house.in_files(), truth) == (0, 0, 0)
    on_topic, n_repeated = house.on_topic()
    assert differences(on_topic, truth) == (0, 0, 0)
    assert n_repeated == 0


class KilledError(BaseException):
    """Stands for SIGKILL: nothing between the point where it strikes and the top may catch it."""


POINTS = {"write file", "sync file", "name file", "commit", "committed", "publish"}


def test_dying_at_every_point_of_a_write_loses_and_doubles_nothing(tmp_path: Path) -> None:
    died_at: list[str] = []
    left = 0

    def die_at(point: str) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            died_at.append(point)
            raise KilledError

    house = JoinHouse(tmp_path, SampleConfig(epoch_records=150), at_point=die_at, duplicate_window=8)
    house.put(traffic(Traffic(n_pages=30)))
    n_lives = 0
    while True:
        # Each life gets a little further than the one before; every third dies while it begins.
        n_lives += 1
        left = 1 if n_lives % 3 == 0 else n_lives
        try:
            house.join_all()
        except KilledError:
            continue
        if left > 0:
            break
    assert set(died_at) == POINTS
    truth = house.truth()
    assert differences(house.in_files(), truth) == (0, 0, 0)
    on_topic, n_repeated = house.on_topic()
    assert differences(on_topic, truth) == (0, 0, 0)
    assert n_repeated > 0, "nothing was published twice: the readers' rule is not tested"


def an_evening(tmp_path: Path, clock: ManualClock) -> JoinHouse:
    """Return a house with one page, of which one post was looked at, and no record after that."""
    house = JoinHouse(tmp_path, SampleConfig(epoch_every_s=1e-9), clock=clock)  # every turn ends one, if it may
    house.put(
        [
            a_features_logged(1, [1, 2], request_id="r", at_ms=NOW_MS, event_id="p"),
            an_impression(1, 1, dwell_ms=0, request_id="r", at_ms=NOW_MS, event_id="i"),
        ]
    )
    return house


def test_what_falls_due_in_silence_is_written_and_the_watermark_goes_on(tmp_path: Path) -> None:
    house = an_evening(tmp_path, ManualClock(NOW_MS))
    process = house.process()
    process.turn()
    process.pass_time(HOUR_MS)
    assert not process.turn()
    assert len(house.in_files()) == 1
    assert process.epoch == 2
    process.pass_time(HOUR_MS)
    process.turn()
    assert process.epoch == 2, "nothing came of it"
    process.pass_time(8 * HOUR_MS)
    process.turn()
    assert house.store().watermark_ms == NOW_MS + 8 * HOUR_MS - JoinConfig().out_of_order_ms
    process.stop()
    house.close()


def test_what_fell_due_in_silence_is_written_by_one_that_is_told_to_end(tmp_path: Path) -> None:
    house = an_evening(tmp_path, ManualClock(NOW_MS))
    process = house.process()
    process.turn()
    process.pass_time(HOUR_MS)
    process.stop()
    assert len(house.in_files()) == 1
    house.close()


def test_it_is_behind_by_what_it_hears_and_not_by_its_own_samples(tmp_path: Path) -> None:
    house = JoinHouse(tmp_path, SampleConfig(epoch_records=150))
    house.put(traffic(Traffic(n_pages=20)))
    process = house.process()
    while process.turn():
        pass
    process.commit()
    assert len(house.on_topic()[0]) > 100
    assert process.lag_records() == 0
    process.turn()
    assert house.log.lag(GROUP) == 0
    house.put([an_impression(1, 1, event_id="late")])
    assert process.lag_records() == 1
    process.stop()
    house.close()


def test_pages_say_for_how_many_that_were_made_they_stand(tmp_path: Path) -> None:
    house = JoinHouse(tmp_path)
    page = a_features_logged(1, [1], event_id="p")
    quarter = structs.replace(page.payload, request_id="r2", share=0.25)
    house.put([page, Event(event_id="q", event_time_ms=NOW_MS, source="server", payload=quarter)])
    process = house.process()
    process.turn()
    process.commit()
    assert (process.counts["pages"], process.counts["pages_made_milli"]) == (2, 5_000)
    process.stop()
    house.close()


def test_files_of_an_epoch_that_was_not_committed_are_removed_and_never_read(tmp_path: Path) -> None:
    def die(point: str) -> None:
        if point == "commit":
            raise KilledError

    house = JoinHouse(tmp_path, at_point=die)
    house.put(traffic(Traffic(n_pages=20)))
    with pytest.raises(KilledError):
        house.join_all()
    assert list(house.files.folder.glob("pages/*/*/*.parquet"))
    assert len(house.store().rows()) == 0
    house.files.at_point = lambda _name: None
    house.process().close()
    assert not list(house.files.folder.glob("pages/*/*/*.parquet"))


def test_a_damaged_checkpoint_gives_way_to_the_one_before_it(house: JoinHouse) -> None:
    house.put(traffic(Traffic()))
    house.join_all()
    newest = JoinCheckpoints(house.files.state_folder).paths()[-1]
    newest.write_bytes(newest.read_bytes()[:-40])
    house.join_all()
    assert differences(house.in_files(), house.truth()) == (0, 0, 0)
    assert differences(house.on_topic()[0], house.truth()) == (0, 0, 0)


def test_other_settings_join_the_log_anew_and_what_they_say_holds(house: JoinHouse) -> None:
    house.put(traffic(Traffic(n_pages=20)))
    house.join_all()
    n_before = len(house.in_files())
    for path in JoinCheckpoints(house.files.state_folder).paths():
        path.unlink()
    house.join_all()
    assert len(house.in_files()) == n_before
    assert differences(house.in_files(), house.truth()) == (0, 0, 0)
    assert differences(house.on_topic()[0], house.truth()) == (0, 0, 0)


def test_a_checkpoint_of_another_log_is_refused(house: JoinHouse) -> None:
    house.put(traffic(Traffic(n_pages=5)))
    house.join_all()
    house.close()
    (house.folder / "log.db").unlink()
    other = JoinHouse(house.folder)
    with pytest.raises(CheckpointError, match="another log"):
        other.process()


def test_a_checkpoint_gives_back_what_it_was_given(tmp_path: Path) -> None:
    rows = np.zeros(3, dtype=[("key", "<i8"), ("flags", "u1"), ("pair", "<f4", (2,))])
    rows["key"], rows["pair"] = [1, -2, 3], [[0.5, 1.5]] * 3
    arrays = {"rows": rows, "none": np.zeros((0, 4), dtype=np.float32), "one": np.array(7, dtype=np.uint64)}
    head = JoinHead(
        format_version=FORMAT_VERSION,
        fingerprint="",
        log_id="log",
        position=(5,),
        epoch=3,
        watermark_ms=1,
        written_ms=2,
        actions=("like",),
        counts={"rows": 4},
    )
    JoinCheckpoints(tmp_path, "f").write(JoinCheckpoint(head, arrays))
    found = JoinCheckpoints(tmp_path, "f").load(log_id="log", end=(5,), actions=("like",))
    assert found is not None
    assert (found.head.epoch, found.head.position, found.head.counts) == (3, (5,), {"rows": 4})
    for name, array in arrays.items():
        assert found.arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(found.arrays[name], array)
    assert JoinCheckpoints(tmp_path, "other").load(log_id="log", end=(5,), actions=("like",)) is None
    with pytest.raises(CheckpointError, match="the log ends at"):
        JoinCheckpoints(tmp_path, "f").load(log_id="log", end=(4,), actions=("like",))
