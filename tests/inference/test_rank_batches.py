"""Jobs of other shapes, run together: answers are those of single runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.inference.kept_viewers import KeptViewers, viewers_key
from millrace.inference.onnx_runner import OnnxRunner
from millrace.inference.rank_batches import RankAnswer, RankBatches, RankJob, groups
from millrace.inference.runner import EncodedViewers, Float32Array, RankRunner, Room, Viewers, joined
from millrace.testing.rank_runner_contract import some_candidates, some_viewers


class Counted:
    """A runner that counts its runs."""

    def __init__(self, runner: RankRunner) -> None:
        self.config = runner.config
        self._runner = runner
        self.encoded: list[int] = []
        self.scored: list[tuple[int, ...]] = []

    def encode(self, viewers: Viewers) -> EncodedViewers:
        self.encoded.append(len(viewers.profile))
        return self._runner.encode(viewers)

    def score(self, candidates: Float32Array, encoded: EncodedViewers) -> Float32Array:
        self.scored.append(candidates.shape[:2])
        return self._runner.score(candidates, encoded)

    def close(self) -> None:
        self._runner.close()


@pytest.fixture(scope="module")
def runner(ranker_folder: Path) -> OnnxRunner:
    return OnnxRunner.open(ranker_folder)


def predictions(answers: list[RankAnswer]) -> list[Float32Array]:
    found = [answer.predictions for answer in answers]
    return [scores for scores in found if scores is not None]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 3), st.integers(0, 24), st.integers(0, 40)), min_size=1, max_size=8))
def test_a_batch_of_any_shapes_answers_as_single_runs_do(runner: OnnxRunner, sizes: list[tuple[int, int, int]]) -> None:
    """Viewers, tokens, candidates of each."""
    config = runner.config
    jobs, expected = [], []
    for seed, (n_viewers, n_history, n) in enumerate(sizes):
        viewers = some_viewers(config, n_viewers, n_history, seed)
        viewers.mask[0, 1 : 1 + n_history // 3] = False
        candidates = some_candidates(config, n_viewers, n, seed + 100)
        jobs.append(RankJob(viewers=viewers, candidates=candidates))
        expected.append(runner.score(candidates, runner.encode(viewers)))
    for found, wanted in zip(predictions(RankBatches(runner, KeptViewers()).run(jobs)), expected, strict=True):
        assert found.shape == wanted.shape
        np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-6)


def test_encodings_come_back_without_padding(runner: OnnxRunner) -> None:
    many = [some_viewers(runner.config, 2, n, seed=n) for n in (9, 0, 12)]
    answers = RankBatches(runner, KeptViewers()).run([RankJob(viewers=viewers) for viewers in many])
    for answer, viewers in zip(answers, many, strict=True):
        wanted = runner.encode(viewers)
        assert answer.encoded is not None
        for found, array in zip(answer.encoded, wanted, strict=True):
            assert found.shape == array.shape
            assert found.flags.c_contiguous
            np.testing.assert_allclose(found, array, rtol=0, atol=1e-5)
        np.testing.assert_array_equal(answer.encoded.mask, wanted.mask)


def test_all_kinds_of_jobs_in_one_batch_take_one_run_each_way(runner: OnnxRunner) -> None:
    counted = Counted(runner)
    a, b = some_viewers(runner.config, 1), some_viewers(runner.config, 1, seed=4)
    candidates = some_candidates(runner.config, 1)
    encoded = runner.encode(a)
    jobs = [
        RankJob(viewers=a, candidates=candidates),
        RankJob(encoded=encoded, candidates=candidates),
        RankJob(viewers=b),
    ]
    first, second, third = RankBatches(counted, KeptViewers()).run(jobs)
    assert counted.encoded == [2]
    assert counted.scored == [(2, 7)]
    assert first.predictions is not None
    assert second.predictions is not None
    np.testing.assert_allclose(first.predictions, second.predictions, rtol=0, atol=1e-6)
    assert first.encoded is None
    assert third.predictions is None
    assert third.encoded is not None


def test_the_same_viewers_are_encoded_once_and_kept(runner: OnnxRunner) -> None:
    counted, kept = Counted(runner), KeptViewers()
    viewers = some_viewers(runner.config, 1)
    key = viewers_key(viewers)
    job = RankJob(viewers=viewers, candidates=some_candidates(runner.config, 1), key=key)
    a, b = predictions(RankBatches(counted, kept).run([job, job]))
    np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)
    assert counted.encoded == [1]
    found = kept.get(key)
    assert found is not None
    np.testing.assert_array_equal(found.keys, runner.encode(viewers).keys)


def test_a_batch_stays_within_its_rows(runner: OnnxRunner) -> None:
    counted = Counted(runner)
    viewers, candidates = some_viewers(runner.config, 1), some_candidates(runner.config, 1, 10)
    jobs = [RankJob(viewers=viewers, candidates=candidates)] * 5
    answers = predictions(RankBatches(counted, KeptViewers(), max_rows=25).run(jobs))
    assert counted.scored == [(2, 10), (2, 10), (1, 10)]
    assert len(answers) == 5


@pytest.mark.parametrize(
    ("lengths", "wanted"),
    [
        ([], []),
        ([5], [[0]]),
        ([500, 500, 500], [[0, 1, 2]]),
        ([3, 500, 4], [[0, 2], [1]]),
        ([0, 10, 12], [[0, 1, 2]]),
        ([490, 500, 10], [[2], [0, 1]]),
        ([20_000, 20_000], [[0], [1]]),
    ],
)
def test_none_runs_together_with_much_padding(lengths: list[int], wanted: list[list[int]]) -> None:
    assert groups(lengths, [1] * len(lengths), 16_384) == wanted


@given(st.lists(st.tuples(st.integers(0, 600), st.integers(1, 4)), max_size=40))
def test_groups_hold_everybody_once_and_waste_little(sizes: list[tuple[int, int]]) -> None:
    lengths, widths = [n for n, _ in sizes], [w for _, w in sizes]
    found = groups(lengths, widths, 4_096)
    assert sorted(at for group in found for at in group) == list(range(len(sizes)))
    for group in found:
        padded = sum(widths[at] for at in group) * max(lengths[at] for at in group)
        own = sum(widths[at] * lengths[at] for at in group)
        assert len(group) == 1 or (padded <= 4_096 and padded <= own + max(own // 4, 32))


def test_a_room_gives_the_same_memory_again_and_more_when_it_is_too_small() -> None:
    room = Room()
    first = room.array("keys", (2, 3))
    assert np.shares_memory(first, room.array("keys", (5,)))
    assert not np.shares_memory(first, room.array("values", (2, 3)))
    assert room.array("keys", (4, 3)).shape == (4, 3)


def test_joined_encodings_are_the_same_in_a_room_that_was_used_before(runner: OnnxRunner) -> None:
    apart = [runner.encode(some_viewers(runner.config, 1, n, seed=n)) for n in (3, 9, 5)]
    room = Room()
    joined(apart[:2], room).keys.fill(7.0)
    for mine, theirs in zip(joined(apart, room), joined(apart), strict=True):
        np.testing.assert_array_equal(mine, theirs)
