"""Embedding tables: mapped from disk, and mapped whole before the first request."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from millrace.inference.tables import EmbeddingTables
from millrace.testing.memory_maps import mapping_of

ROWS, WIDTH = 16_384, 64


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_are_mapped_whole_once_they_were_touched(tmp_path: Path) -> None:
    mapped = []
    for name in ("tokens", "posts", "authors", "languages", "sids"):
        np.save(tmp_path / f"{name}.npy", np.ones((ROWS, WIDTH), dtype=np.float32))
        mapped.append(np.asarray(np.load(tmp_path / f"{name}.npy", mmap_mode="r")))
    tables = EmbeddingTables(*mapped)
    whole_kb = ROWS * WIDTH * 4 // 1024
    assert all(int(mapping_of(table)["Rss"].split()[0]) < whole_kb for table in mapped)
    tables.touch()
    assert all(int(mapping_of(table)["Rss"].split()[0]) >= whole_kb for table in mapped)
