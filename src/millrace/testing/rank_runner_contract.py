"""What every `RankRunner` must do; subclass `RankRunnerContract`, give it a ``runner`` fixture, and pytest runs it.

``runner`` serves the ranker that `exported_ranker` wrote, whose folder is the fixture ``ranker_folder``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from millrace.base.actions import ActionSpace
from millrace.base.errors import SchemaError
from millrace.inference.numpy_runner import NumpyRunner
from millrace.inference.runner import EncodedViewers, Float32Array, RankRunner, Viewers, joined
from millrace.models.config import RankerConfig, TableConfig, TrunkConfig

N_HISTORY = 12


def small_config() -> RankerConfig:
    """Return a ranker of two layers that is small, and still has every part."""
    trunk = TrunkConfig(d=32, n_layers=2, n_heads=4, max_history=24, tables=TableConfig(width=8), social_width=6)
    return RankerConfig(trunk=trunk, actions=ActionSpace().names, n_dense=9)


def some_viewers(config: RankerConfig, n_viewers: int, n_history: int = N_HISTORY, seed: int = 0) -> Viewers:
    """Return viewers with nothing masked."""
    rng = np.random.default_rng(seed)
    return Viewers(
        rng.standard_normal((n_viewers, config.profile_width)).astype(np.float32),
        rng.standard_normal((n_viewers, n_history, config.history_width)).astype(np.float32),
        np.ones((n_viewers, n_history + 1), dtype=np.bool_),
    )


def some_candidates(config: RankerConfig, n_viewers: int, n: int = 7, seed: int = 1) -> Float32Array:
    """Return candidates, projected already."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n_viewers, n, config.scored_width)).astype(np.float32)


def padded(viewers: Viewers, n_more: int) -> Viewers:
    """Return viewers with padding in front of their histories: noise, which a mask has to keep out."""
    n = len(viewers.profile)
    noise = np.full((n, n_more, viewers.history.shape[2]), 3.0, dtype=np.float32)
    mask = np.concatenate([viewers.mask[:, :1], np.zeros((n, n_more), dtype=np.bool_), viewers.mask[:, 1:]], axis=1)
    return Viewers(viewers.profile, np.concatenate([noise, viewers.history], axis=1), mask)


class RankRunnerContract:
    """Behaviour shared by all runners.

    ``tolerance`` is how near the reference scores have to be, ``encoding_tolerance`` keys and values. A score has to be
    as near as ``own_tolerance`` to itself in other company, ``padding_tolerance`` where sums have other lengths.
    """

    tolerance = 1e-5
    encoding_tolerance = 1e-5
    own_tolerance = 1e-6
    padding_tolerance = 1e-5

    @pytest.fixture
    def reference(self, ranker_folder: Path) -> NumpyRunner:
        """Return the reference for the same ranker."""
        return NumpyRunner.open(ranker_folder)

    def test_it_agrees_with_the_reference(self, runner: RankRunner, reference: NumpyRunner) -> None:
        """Three viewers, one of them with a short history."""
        viewers = some_viewers(runner.config, 3)
        viewers.mask[1, 1:8] = False
        candidates = some_candidates(runner.config, 3)
        scores = runner.score(candidates, runner.encode(viewers))
        expected = reference.score(candidates, reference.encode(viewers))
        assert scores.dtype == np.float32
        assert scores.shape == (3, 7, len(runner.config.actions))
        np.testing.assert_allclose(scores, expected, rtol=0, atol=self.tolerance)

    def test_encodings_are_the_references(self, runner: RankRunner, reference: NumpyRunner) -> None:
        """Where there are tokens: what padding becomes is nobody's business."""
        viewers = some_viewers(runner.config, 2)
        encoded, expected = runner.encode(viewers), reference.encode(viewers)
        np.testing.assert_allclose(encoded.keys, expected.keys, rtol=0, atol=self.encoding_tolerance)
        np.testing.assert_allclose(encoded.values, expected.values, rtol=0, atol=self.encoding_tolerance)
        np.testing.assert_array_equal(encoded.mask, expected.mask)

    def test_a_score_depends_on_its_candidate_alone(self, runner: RankRunner) -> None:
        """Permuted, alone, in a crowd."""
        encoded = runner.encode(some_viewers(runner.config, 1))
        candidates = some_candidates(runner.config, 1, 9)
        scores = runner.score(candidates, encoded)
        order = np.random.default_rng(3).permutation(9)
        np.testing.assert_allclose(
            runner.score(candidates[:, order], encoded), scores[:, order], rtol=0, atol=self.own_tolerance
        )
        np.testing.assert_allclose(
            runner.score(candidates[:, 4:5], encoded), scores[:, 4:5], rtol=0, atol=self.own_tolerance
        )
        crowd = np.concatenate([100.0 * some_candidates(runner.config, 1, 60, seed=5), candidates], axis=1)
        np.testing.assert_allclose(runner.score(crowd, encoded)[:, 60:], scores, rtol=0, atol=self.own_tolerance)

    def test_hundreds_of_candidates_do_not_change_one(self, runner: RankRunner) -> None:
        """As many as a page ranks, in another order, and the same viewer beside others."""
        one = some_viewers(runner.config, 1)
        three = Viewers(*(np.concatenate([part, part, part]) for part in one))
        candidates = some_candidates(runner.config, 1, 300)
        encoded = runner.encode(one)
        scores = runner.score(candidates, encoded)
        order = np.random.default_rng(3).permutation(300)[:201]
        some = runner.score(candidates[:, order], encoded)
        np.testing.assert_allclose(some, scores[:, order], rtol=0, atol=self.own_tolerance)
        crowd = runner.score(np.concatenate([-candidates, candidates, 9.0 * candidates]), runner.encode(three))
        np.testing.assert_allclose(crowd[1:2], scores, rtol=0, atol=self.own_tolerance)

    def test_padding_in_front_changes_nothing(self, runner: RankRunner) -> None:
        """Places are anchored at the newest event."""
        viewers, candidates = some_viewers(runner.config, 2), some_candidates(runner.config, 2)
        scores = runner.score(candidates, runner.encode(viewers))
        more = runner.score(candidates, runner.encode(padded(viewers, 5)))
        np.testing.assert_allclose(more, scores, rtol=0, atol=self.padding_tolerance)

    def test_another_viewer_in_the_batch_changes_nothing(self, runner: RankRunner) -> None:
        """Encoded together or alone, scored together or alone, beside extreme batch-mates."""
        mine, other = some_viewers(runner.config, 1), some_viewers(runner.config, 1, seed=8)
        other = Viewers(30.0 * other.profile, 30.0 * other.history, other.mask)
        both = Viewers(*(np.concatenate(pair) for pair in zip(mine, other, strict=True)))
        candidates = some_candidates(runner.config, 1)
        alone = runner.score(candidates, runner.encode(mine))
        encoded = runner.encode(both)
        together = runner.score(np.concatenate([candidates, 50.0 * candidates]), encoded)
        np.testing.assert_allclose(together[:1], alone, rtol=0, atol=self.own_tolerance)
        np.testing.assert_allclose(runner.score(candidates, encoded.take(0)), alone, rtol=0, atol=self.own_tolerance)

    def test_encodings_of_other_lengths_can_be_joined(self, runner: RankRunner) -> None:
        """A batch of viewers who were encoded one by one."""
        short, long = some_viewers(runner.config, 1, 3), some_viewers(runner.config, 1, 10, seed=4)
        candidates = some_candidates(runner.config, 2)
        apart = [runner.encode(viewers) for viewers in (short, long)]
        scores = runner.score(candidates, joined(apart))
        np.testing.assert_allclose(
            scores[:1], runner.score(candidates[:1], apart[0]), rtol=0, atol=self.padding_tolerance
        )
        np.testing.assert_allclose(
            scores[1:], runner.score(candidates[1:], apart[1]), rtol=0, atol=self.padding_tolerance
        )

    def test_no_candidates_and_no_history_are_fine(self, runner: RankRunner, reference: NumpyRunner) -> None:
        """A new viewer; a page without candidates."""
        viewers = some_viewers(runner.config, 2, 0)
        encoded = runner.encode(viewers)
        assert runner.score(some_candidates(runner.config, 2, 0), encoded).shape == (2, 0, len(runner.config.actions))
        candidates = some_candidates(runner.config, 2)
        expected = reference.score(candidates, reference.encode(viewers))
        np.testing.assert_allclose(runner.score(candidates, encoded), expected, rtol=0, atol=self.tolerance)

    def test_arrays_that_may_not_be_written_to_are_fine(self, runner: RankRunner) -> None:
        """As they come off the wire."""
        viewers, candidates = some_viewers(runner.config, 1), some_candidates(runner.config, 1)
        expected = runner.score(candidates, runner.encode(viewers))
        for array in (*viewers, candidates):
            array.setflags(write=False)
        encoded = runner.encode(viewers)
        for array in encoded:
            array.setflags(write=False)
        np.testing.assert_allclose(runner.score(candidates, encoded), expected, rtol=0, atol=self.own_tolerance)

    @pytest.mark.parametrize("part", ["profile", "history", "mask"])
    def test_viewers_of_a_wrong_shape_are_refused_by_name(self, runner: RankRunner, part: str) -> None:
        """One column too few."""
        viewers = some_viewers(runner.config, 2)
        wrong = viewers._replace(**{part: getattr(viewers, part)[..., :-1]})
        with pytest.raises(SchemaError, match=part):
            runner.encode(wrong)

    def test_candidates_of_a_wrong_shape_are_refused_by_name(self, runner: RankRunner) -> None:
        """Too narrow; for another number of viewers."""
        encoded = runner.encode(some_viewers(runner.config, 2))
        for wrong in (some_candidates(runner.config, 2)[..., :-1], some_candidates(runner.config, 3)):
            with pytest.raises(SchemaError, match="candidates"):
                runner.score(wrong, encoded)

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    def test_what_is_not_finite_is_refused_by_name(self, runner: RankRunner, bad: float) -> None:
        """In a candidate, a history, a profile."""
        viewers, candidates = some_viewers(runner.config, 1), some_candidates(runner.config, 1)
        encoded = runner.encode(viewers)
        candidates[0, 3, 2] = bad
        with pytest.raises(SchemaError, match="candidates: a number is not finite"):
            runner.score(candidates, encoded)
        viewers.history[0, 2, 2] = bad
        with pytest.raises(SchemaError, match="history: a number is not finite"):
            runner.encode(viewers)

    def test_too_long_a_history_and_a_masked_profile_are_refused(self, runner: RankRunner) -> None:
        """The model has places for so many tokens, and every viewer has a profile."""
        with pytest.raises(SchemaError, match="more tokens than the 24"):
            runner.encode(some_viewers(runner.config, 1, 25))
        viewers = some_viewers(runner.config, 1)
        viewers.mask[0, 0] = False
        with pytest.raises(SchemaError, match="the profile is masked"):
            runner.encode(viewers)

    def test_a_taken_viewer_is_of_its_own(self, runner: RankRunner) -> None:
        """What a cache keeps does not keep the batch alive, and tells its size."""
        encoded = runner.encode(some_viewers(runner.config, 3))
        one = encoded.take(1)
        assert isinstance(one, EncodedViewers)
        assert one.keys.base is None
        assert one.nbytes * 3 == encoded.nbytes
