"""The folder of compiled kernels is named after the sources."""

import os
from pathlib import Path

import pytest

from millrace.base.kernels import cache_folder, source_stamp


def a_package(folder: Path) -> Path:
    (folder / "kernel.py").write_text("from somewhere import njit\n")
    (folder / "plain.py").write_text("x = 1\n")
    return folder


@pytest.mark.parametrize("kernel", ["from somewhere import njit\n", "from somewhere import kernel\n\n@kernel\n"])
def test_the_stamp_changes_with_any_file_of_kernels_and_with_no_other(tmp_path: Path, kernel: str) -> None:
    package = a_package(tmp_path)
    (package / "kernel.py").write_text(kernel)
    before = source_stamp(package)
    (package / "plain.py").write_text("x = 2\n")
    assert source_stamp(package) == before
    (package / "kernel.py").write_text(f"{kernel}# edited\n")
    assert source_stamp(package) != before


def test_folders_of_old_sources_are_removed_after_a_day(tmp_path: Path) -> None:
    package = a_package(tmp_path)
    recent, old = (package / "__pycache__" / name for name in ("kernels-recent", "kernels-old"))
    for folder in (recent, old):
        folder.mkdir(parents=True)
    os.utime(old, (0, 0))
    folder = cache_folder(package)
    assert folder.is_dir()
    assert recent.is_dir()
    assert not old.exists()
