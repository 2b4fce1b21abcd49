"""A share of MIND, which is large enough to judge by and takes half the time."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

ONE_OF = 2


@pytest.fixture(scope="session")
def mind_share(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a smaller data set: all news, and every second row of what people were shown."""
    folder = data_folder / "mind-subset"
    if not folder.is_dir():
        pytest.skip("MILLRACE_DATA holds no mind-subset")
    share = tmp_path_factory.mktemp("mind")
    (share / "news.tsv.gz").symlink_to(folder.resolve() / "news.tsv.gz")
    with gzip.open(folder / "behaviors.tsv.gz", "rb") as rows:
        (share / "behaviors.tsv").write_bytes(b"".join(list(rows)[::ONE_OF]))
    return share
