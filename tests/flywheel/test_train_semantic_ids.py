"""Learning semantic ids: planted clusters, every code used, and a report with a small exact answer."""

import math
from pathlib import Path

import msgspec
import numpy as np
import pytest

from millrace.base.errors import SourceDataError
from millrace.content.semantic_ids import Codebooks, SemanticIdSettings
from millrace.flywheel.train_semantic_ids import (
    LEVELS_NAME,
    REPORT_NAME,
    SemanticIdConfig,
    SemanticIdReport,
    quality,
    train_semantic_ids,
)
from millrace.flywheel.training_log import LOG_NAME

CONFIG = SemanticIdConfig(n_levels=3, n_codes=8, held_out_frac=0.2, seed=5)


def planted(n: int, seed: int = 0, noise: float = 0.25) -> tuple[np.ndarray, np.ndarray]:
    """Vectors around 8 directions at right angles, and which direction each is of."""
    rng = np.random.default_rng(seed)
    cluster = rng.integers(8, size=n)
    return np.eye(16)[cluster] + noise * rng.normal(size=(n, 16)) / 4, cluster


def test_posts_of_one_cluster_share_their_first_code(tmp_path: Path) -> None:
    vectors, cluster = planted(800)
    train_semantic_ids(vectors, CONFIG, folder=tmp_path)
    first = Codebooks.load(tmp_path).encode(vectors)[:, 0]
    assert len({(c, f) for c, f in zip(cluster.tolist(), first.tolist(), strict=True)}) == 8
    assert len(set(first.tolist())) == 8


def test_every_level_takes_error_away_and_uses_its_codes(tmp_path: Path) -> None:
    vectors, _ = planted(800, noise=1.0)
    report = train_semantic_ids(vectors, CONFIG, folder=tmp_path)
    for part in (report.learned, report.held_out):
        errors = [level.relative_mse for level in part.levels]
        assert errors == sorted(errors, reverse=True)
        assert part.relative_mse == errors[-1] < 0.5 * 1.0
        assert all(6 < level.perplexity <= 8 for level in part.levels)
    assert (report.learned.n_posts, report.held_out.n_posts) == (640, 160)
    assert [level.n_dead_codes for level in report.learned.levels] == [0, 0, 0]
    assert msgspec.json.decode((tmp_path / REPORT_NAME).read_bytes(), type=SemanticIdReport) == report


def test_the_same_posts_give_the_same_bytes(tmp_path: Path) -> None:
    vectors, _ = planted(300, noise=1.0)
    for name in ("one", "other"):
        train_semantic_ids(vectors, CONFIG, folder=tmp_path / name)
    files = [(tmp_path / name / "semantic_ids.npz").read_bytes() for name in ("one", "other")]
    assert files[0] == files[1]


class KilledError(Exception):
    """The process ended here."""


def test_a_killed_run_goes_on_after_its_last_level_and_ends_with_the_same_bytes(tmp_path: Path) -> None:
    vectors, _ = planted(300, noise=1.0)

    def killed_at_2(done: int, _all: int) -> None:
        if done == 2:
            raise KilledError

    report = train_semantic_ids(vectors, CONFIG, folder=tmp_path / "whole")
    with pytest.raises(KilledError):
        train_semantic_ids(vectors, CONFIG, folder=tmp_path / "cut", on_progress=killed_at_2)
    assert (tmp_path / "cut" / LEVELS_NAME).exists()
    steps: list[int] = []
    train_semantic_ids(vectors, CONFIG, folder=tmp_path / "cut", on_progress=lambda done, _all: steps.append(done))
    assert steps == [3]
    for name in ("semantic_ids.npz", REPORT_NAME, LOG_NAME):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    assert not (tmp_path / "cut" / LEVELS_NAME).exists()
    lines = [msgspec.json.decode(line) for line in (tmp_path / "cut" / LOG_NAME).read_bytes().splitlines()]
    assert [(line["step"], line["n_dead_codes"]) for line in lines] == [(1, 0), (2, 0), (3, 0)]
    told = [level.relative_mse for level in report.learned.levels]
    assert [line["relative_mse"] for line in lines] == pytest.approx(told, rel=1e-4)


def test_levels_of_a_killed_run_on_other_posts_are_passed_over(tmp_path: Path) -> None:
    def killed(_done: int, _all: int) -> None:
        raise KilledError

    with pytest.raises(KilledError):
        train_semantic_ids(planted(300, seed=1, noise=1.0)[0], CONFIG, folder=tmp_path / "one", on_progress=killed)
    vectors, _ = planted(300, noise=1.0)
    for name in ("one", "other"):
        train_semantic_ids(vectors, CONFIG, folder=tmp_path / name)
    files = [(tmp_path / name / "semantic_ids.npz").read_bytes() for name in ("one", "other")]
    assert files[0] == files[1]


def test_codes_that_nobody_uses_are_brought_back(tmp_path: Path) -> None:
    # 500 equal posts and 15 others: k-means alone leaves codes on the crowd.
    rng = np.random.default_rng(1)
    vectors = np.concatenate([np.tile(np.eye(16)[0], (500, 1)), rng.normal(size=(15, 16))])
    config = SemanticIdConfig(n_levels=1, n_codes=16, held_out_frac=0.0)
    report = train_semantic_ids(vectors, config, folder=tmp_path)
    assert report.learned.levels[0].n_dead_codes == 0
    assert report.learned.relative_mse < 1e-9


def test_fewer_different_posts_than_codes_leave_codes_dead(tmp_path: Path) -> None:
    vectors = np.tile(np.eye(4), (10, 1))
    report = train_semantic_ids(vectors, SemanticIdConfig(n_levels=2, n_codes=6, held_out_frac=0.0), folder=tmp_path)
    assert report.learned.levels[0].n_dead_codes == 2
    assert report.learned.relative_mse < 1e-9
    assert report.learned.n_paths == 4


def test_too_few_posts_are_refused(tmp_path: Path) -> None:
    vectors = np.concatenate([np.eye(4), np.zeros((20, 4))])
    with pytest.raises(SourceDataError, match="content vectors 4: fewer than the 8 codes of a level"):
        train_semantic_ids(vectors, SemanticIdConfig(n_codes=8, held_out_frac=0.0), folder=tmp_path)
    assert not (tmp_path / "semantic_ids.npz").exists()


def test_the_report_of_a_small_case_is_exact() -> None:
    settings = SemanticIdSettings(n_levels=2, n_codes=4, n_dims=2)
    vectors = np.array([[[1, 0], [0, 1], [-1, 0], [9, 9]], [[0, 0], [-0.4, 0.8], [9, 9], [9, 9]]], dtype=np.float32)
    posts = np.array([[1, 0], [1, 0], [0.8, 0.6], [0, 1], [0, 0]])
    report = quality(Codebooks(settings, vectors), posts)
    assert (report.n_posts, report.n_missing, report.n_paths, report.largest_path) == (4, 1, 3, 2)
    assert report.unique_path_frac == 0.5
    first, second = report.levels
    # (0.8, 0.6) is 0.4 from (1, 0) in square, and of what is left (-0.2, 0.6), (-0.4, 0.8) leaves (0.2, -0.2).
    assert first.relative_mse == pytest.approx(0.4 / 4)
    assert second.relative_mse == report.relative_mse == pytest.approx(0.08 / 4)
    assert first.entropy_bits == pytest.approx(-(0.75 * math.log2(0.75) + 0.25 * math.log2(0.25)))
    assert first.perplexity == pytest.approx(2**first.entropy_bits)
    assert (first.n_dead_codes, second.n_dead_codes) == (2, 2)
    assert report.mean_cosine == pytest.approx((3 + (0.8 * 0.6 + 0.6 * 0.8)) / 4)
