"""A file that is replaced: whole or as it was."""

from pathlib import Path

import pytest

from millrace.base.atomic_file import replacing


def test_a_block_that_ends_replaces_the_file(tmp_path: Path) -> None:
    (tmp_path / "wheel").write_bytes(b"old")
    with replacing(tmp_path / "wheel") as file:
        file.write(b"new")
        assert (tmp_path / "wheel").read_bytes() == b"old"
    assert (tmp_path / "wheel").read_bytes() == b"new"


def test_a_block_that_fails_leaves_the_file_as_it_was_and_nothing_beside_it(tmp_path: Path) -> None:
    (tmp_path / "wheel").write_bytes(b"old")
    with pytest.raises(TypeError), replacing(tmp_path / "wheel") as file:
        file.writelines([b"half", None])  # type: ignore[list-item]
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("wheel", b"old")]
