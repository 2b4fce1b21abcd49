from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from millrace.base.errors import CheckpointError
from millrace.stores.checkpoint import ALIGNMENT, Checkpoints

ARRAYS = {
    "posts": {
        "ids": np.arange(5000, dtype=np.int64),
        "heat": np.linspace(0, 1, 700, dtype=np.float32).reshape(7, 100),
        "empty": np.zeros((0, 3), dtype=np.int32),
        "flags": np.array([True, False, True]),
    },
    "mostly_zero": {"rows": np.zeros(1 << 20, dtype=np.int64)},
}


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    return Checkpoints(tmp_path / "checkpoints", "layout-1", n_kept=2)


def newest_good(checkpoints: Checkpoints):  # type: ignore[no-untyped-def]
    for path in reversed(checkpoints.paths()):
        try:
            return checkpoints.load(path)
        except CheckpointError:
            continue
    return None


def test_gives_back_every_array_and_the_position(checkpoints: Checkpoints) -> None:
    found = checkpoints.load(checkpoints.write(ARRAYS, (42,), 7))
    assert (found.position, found.created_at_ms) == ((42,), 7)
    for store, arrays in ARRAYS.items():
        loaded = found.of(store)
        assert loaded.keys() == arrays.keys()
        for name, array in arrays.items():
            assert loaded[name].dtype == array.dtype
            np.testing.assert_array_equal(loaded[name], array)


def test_arrays_lie_on_page_boundaries_and_holes_take_no_disk(checkpoints: Checkpoints) -> None:
    path = checkpoints.write(ARRAYS, (1,), 0)
    manifest = msgspec.json.decode((path / "manifest.json").read_bytes())
    assert all(entry["offset"] % ALIGNMENT == 0 for entry in manifest["arrays"].values())
    stat = (path / "arrays.bin").stat()
    assert stat.st_blocks * 512 < stat.st_size / 10


def test_arrays_may_be_changed_and_the_file_is_not(checkpoints: Checkpoints) -> None:
    path = checkpoints.write(ARRAYS, (1,), 0)
    checkpoints.load(path).of("posts")["ids"][:] = -1
    np.testing.assert_array_equal(checkpoints.load(path).of("posts")["ids"], ARRAYS["posts"]["ids"])


def test_keeps_the_newest_ones(checkpoints: Checkpoints) -> None:
    for position in (1, 20, 300):
        checkpoints.write(ARRAYS, (position,), 0)
    assert [path.name for path in checkpoints.paths()] == ["ck-0000000000000020", "ck-0000000000000300"]
    assert checkpoints.oldest_position() == (20,)
    assert checkpoints.newest_position() == (300,)


def flip_a_byte(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda p: flip_a_byte(p / "arrays.bin", 100), "damaged array posts/ids"),
        (lambda p: (p / "arrays.bin").write_bytes((p / "arrays.bin").read_bytes()[:5000]), "cut short"),
        (lambda p: (p / "arrays.bin").unlink(), "cannot be read"),
        (lambda p: (p / "manifest.json").write_bytes(b"{"), "damaged manifest"),
        (lambda p: (p / "manifest.json").unlink(), "no readable manifest"),
        (
            lambda p: (p / "manifest.json").write_text(
                (p / "manifest.json").read_text().replace("layout-1", "layout-2")
            ),
            "does not fit its own sum",
        ),
    ],
)
def test_a_damaged_one_is_refused_and_the_one_before_is_there(checkpoints, damage, said: str) -> None:  # type: ignore[no-untyped-def]
    checkpoints.write(ARRAYS, (1,), 0)
    path = checkpoints.write(ARRAYS, (2,), 0)
    damage(path)
    with pytest.raises(CheckpointError, match=said):
        checkpoints.load(path)
    found = newest_good(checkpoints)
    assert found is not None
    assert found.position == (1,)
    assert [bool(status.problem) for status in checkpoints.inspect()] == [True, False]


def test_one_of_other_settings_is_refused(checkpoints: Checkpoints) -> None:
    path = checkpoints.write(ARRAYS, (1,), 0)
    with pytest.raises(CheckpointError, match="other settings"):
        Checkpoints(checkpoints.folder, "layout-2").load(path)


def test_one_ahead_of_the_log_is_refused(checkpoints: Checkpoints) -> None:
    path = checkpoints.write(ARRAYS, (10,), 0)
    with pytest.raises(CheckpointError, match="the log ends at"):
        checkpoints.load(path, end=(9,))


def test_what_a_killed_writer_left_is_no_checkpoint_and_is_cleared_away(checkpoints: Checkpoints) -> None:
    checkpoints.write(ARRAYS, (1,), 0)
    leftover = checkpoints.folder / "tmp-ck-0000000000000002-123"
    leftover.mkdir()
    (leftover / "arrays.bin").write_bytes(b"x")
    assert len(checkpoints.paths()) == 1
    checkpoints.write(ARRAYS, (3,), 0)
    assert not leftover.exists()


def test_writing_again_at_one_position_replaces(checkpoints: Checkpoints) -> None:
    path = checkpoints.write(ARRAYS, (1,), 0)
    flip_a_byte(path / "arrays.bin", 0)
    assert checkpoints.load(checkpoints.write(ARRAYS, (1,), 9)).created_at_ms == 9


def test_a_failed_write_says_so_and_leaves_the_older_ones(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    with pytest.raises(CheckpointError, match="cannot be written"):
        Checkpoints(blocked / "checkpoints", "f").write(ARRAYS, (1,), 0)


def test_drops_those_before_an_erasure(checkpoints: Checkpoints) -> None:
    checkpoints.write(ARRAYS, (1,), 0)
    checkpoints.write(ARRAYS, (5,), 0)
    assert checkpoints.drop_before((5,)) == 1
    assert [path.name for path in checkpoints.paths()] == ["ck-0000000000000005"]


def test_fewer_than_two_kept_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="keep at least 2"):
        Checkpoints(tmp_path, "f", n_kept=1)


def test_one_written_before_actions_were_appended_fits_but_no_other(tmp_path: Path) -> None:
    path = Checkpoints(tmp_path, "f", actions=("like", "purchase")).write(ARRAYS, (1,), 0)
    assert Checkpoints(tmp_path, "f", actions=("like", "purchase", "gift")).load(path).position == (1,)
    for actions in (("like",), ("like", "gift", "purchase"), ()):
        with pytest.raises(CheckpointError, match="business actions"):
            Checkpoints(tmp_path, "f", actions=actions).load(path)
