"""Bad values of `millrace train`: told by name and remedy before anything heavy is imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from millrace.app.commands.train_options import SIZES, VECTORS, known_size, known_vectors
from millrace.app.home_vectors import VectorName, wanted_vectors
from millrace.models.config import PRESETS

RUN = """
import sys
from millrace.app import cli

code = cli.run(sys.argv[1:])
heavy = {"torch", "pandas", "millrace.app.training", "millrace.app.training_all"} & set(sys.modules)
assert not heavy, heavy
sys.exit(code)
"""


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--size", "huge"], "--size 'huge': not known; use one of nano, small, large"),
        (["ranker", "--size", "huge"], "--size 'huge': not known; use one of nano, small, large"),
        (["--without", "foo"], "--without 'foo': not what models read; use some of semantic-ids, social"),
        (["ranker", "--heads", "lick"], "--heads 'lick': not an action; use some of like, "),
    ],
)
def test_a_bad_value_is_told_before_anything_heavy_is_imported(tmp_path: Path, options: list[str], said: str) -> None:
    command = [sys.executable, "-c", RUN, "train", *options, "--home", str(tmp_path)]
    (tmp_path / "millrace.toml").touch()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert said in " ".join(done.stderr.split())


def test_what_is_known_is_what_training_knows() -> None:
    assert set(SIZES) == set(PRESETS)
    assert all(known_size(size) == size for size in SIZES)
    names = known_vectors(", ".join(VECTORS))
    assert names == "semantic-ids, social"
    assert wanted_vectors(VECTORS) == ()
    assert set(VECTORS) == set(VectorName.__args__)  # type: ignore[attr-defined]
