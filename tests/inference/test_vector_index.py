import copy
import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.base.errors import ConfigError, SchemaError
from millrace.inference.vector_index import Eligibility
from millrace.inference.vector_index_choice import build_index
from millrace.inference.vector_index_exact import ExactIndex
from millrace.inference.vector_index_ivf import IvfConfig, IvfIndex
from millrace.testing.vector_index_contract import (
    EAST,
    FAN,
    N_DIMS,
    MakeIndex,
    VectorIndexContract,
    fill,
    found,
    ids_of,
    random_vectors,
)


class TestExactIndex(VectorIndexContract):
    @pytest.fixture
    def make_index(self) -> MakeIndex:
        def make(vectors):
            index = ExactIndex(N_DIMS, "tower-1")
            fill(index, vectors)
            return index

        return make


@functools.cache
def trained_and_emptied(config: IvfConfig) -> IvfIndex:
    index = IvfIndex(N_DIMS, "tower-1", config)
    fill(index, random_vectors(config.train_at, seed=1))
    index.retrain()
    assert index.n_lists > 1
    index.remove(np.arange(1, config.train_at + 1))
    return index


class TestIvfIndex(VectorIndexContract):
    config = IvfConfig(train_at=100, reach=4.0)

    @pytest.fixture
    def make_index(self) -> MakeIndex:
        """Lists are learnt from random vectors, which then leave; the contract's few posts lie in many lists."""

        def make(vectors):
            index = copy.deepcopy(trained_and_emptied(self.config))
            fill(index, vectors)
            return index

        return make


class TestIvfPqIndex(TestIvfIndex):
    config = IvfConfig(train_at=10_000, reach=4.0, code_size=4, n_rescored_per_k=10)


@st.composite
def eligibilities(draw) -> Eligibility:
    some = st.lists(st.integers(-3, 320), max_size=200).map(lambda ids: np.array(sorted(ids), dtype=np.int64))
    return Eligibility(
        not_before_ms=draw(st.sampled_from([0, 10_000, 29_000, 50_000])),
        languages=np.array(draw(st.lists(st.integers(0, 4), max_size=3)), dtype=np.int32),
        is_unknown_language_allowed=draw(st.booleans()),
        excluded_authors=draw(some),
        excluded_posts=draw(some),
    )


@settings(max_examples=40, deadline=None)
@given(eligibility=eligibilities(), k=st.sampled_from([1, 10, 100, 400]))
def test_the_kernel_finds_what_numpy_finds(eligibility, k):
    index = ExactIndex(N_DIMS, "tower-1")
    fill(index, random_vectors(300), languages=[i % 6 for i in range(300)])
    ids, scores = index.search(EAST, k, eligibility)
    expected_ids, expected_scores = index.search_reference(EAST, k, eligibility)
    assert ids.tolist() == expected_ids.tolist()
    assert scores == pytest.approx(expected_scores, abs=1e-6)


@pytest.mark.parametrize("config", [IvfConfig(), IvfConfig(code_size=4)])
def test_before_there_are_lists_every_answer_is_exact(config):
    index, exact = IvfIndex(N_DIMS, "t", config), ExactIndex(N_DIMS, "t")
    for one in (index, exact):
        fill(one, random_vectors(300))
    assert (index.n_lists, index.is_retraining_due) == (1, False)
    assert found(index, EAST, 50) == found(exact, EAST, 50)


def an_ivf(n: int, **settings) -> tuple[IvfIndex, ExactIndex]:
    index = IvfIndex(N_DIMS, "t", IvfConfig(**{"train_at": 1_000, **settings}))
    exact = ExactIndex(N_DIMS, "t")
    for one in (index, exact):
        fill(one, random_vectors(n), languages=[i % 6 for i in range(n)])
    return index, exact


def recall(index: IvfIndex, exact: ExactIndex, k: int, eligibility: Eligibility) -> float:
    queries = random_vectors(40, seed=9)
    return float(
        np.mean([len({*found(index, q, k, eligibility)} & {*found(exact, q, k, eligibility)}) / k for q in queries])
    )


@pytest.mark.parametrize(("code_size", "n_rescored_per_k", "lowest"), [(0, 4, 0.97), (4, 8, 0.95)])
def test_lists_find_most_of_what_is_to_be_found_with_a_filter_too(code_size, n_rescored_per_k, lowest):
    index, exact = an_ivf(12_000, reach=3.0, code_size=code_size, n_rescored_per_k=n_rescored_per_k)
    index.retrain()
    assert index.n_lists == 164
    for eligibility in (Eligibility(), Eligibility(not_before_ms=900_000, languages=np.array([2], dtype=np.int32))):
        assert recall(index, exact, 20, eligibility) >= lowest


def test_a_strict_filter_gets_all_that_is_eligible():
    index, exact = an_ivf(3_000, reach=0.0)
    index.retrain()
    few = Eligibility(excluded_posts=np.array([i for i in range(1, 3_001) if i % 300], dtype=np.int64))
    assert found(index, EAST, 20, few) == found(exact, EAST, 20, few)
    assert sorted(found(index, EAST, 20, few)) == list(range(300, 3_001, 300))


def test_lists_are_learnt_aside_and_nothing_is_missing_meanwhile():
    index, _ = an_ivf(2_000)
    assert index.is_retraining_due
    index.tend(100)
    index._retraining.wait()
    index.tend(100)  # a hundred of 2,000 are carried over
    assert index.n_lists == 1
    index.remove(ids_of(1, 2_000))
    fill(index, EAST[None], post_ids=[5_000])
    while index.n_lists == 1:
        assert found(index, EAST, 1) == [5_000]
        index.tend(100)
    assert index.n_lists == 51
    assert (index.n, found(index, EAST, 1)) == (1_999, [5_000])
    assert sorted(found(index, EAST, 3_000)) == [*range(2, 2_000), 5_000]
    assert not index.is_retraining_due


def test_lists_that_have_become_unbalanced_are_learnt_anew():
    index, _ = an_ivf(2_000)
    index.retrain()
    fill(index, np.repeat(FAN[:1], 1_500, axis=0), post_ids=np.arange(10_000, 11_500))
    assert index.imbalance > 5
    assert index.is_retraining_due


def test_a_training_that_fails_is_told(monkeypatch):
    def broken(*_args, **_kwargs):
        raise MemoryError("no room")

    monkeypatch.setattr("millrace.inference.vector_index_retraining.trained", broken)
    index, _ = an_ivf(1_000)
    with pytest.raises(MemoryError, match="no room"):
        index.retrain()


def test_equal_posts_give_equal_answers_whatever_the_portions():
    vectors = random_vectors(2_000)
    answers = []
    for portion in (2_000, 7):
        index = IvfIndex(N_DIMS, "t", IvfConfig(train_at=1_000, reach=1.0))
        fill(index, vectors[:1_000])
        index.retrain()
        for start in range(1_000, 2_000, portion):
            part = vectors[start : start + portion]
            fill(index, part, post_ids=np.arange(start + 1, start + 1 + len(part)))
        answers.append([part.tolist() for part in index.search(EAST, 50)])
    assert answers[0] == answers[1]


def test_rows_that_were_let_go_are_used_again():
    index, _ = an_ivf(2_000)
    index.retrain()
    before = index.n_bytes
    for generation in range(1, 6):
        index.remove(np.arange(1, 2_001) + 10_000 * (generation - 1))
        fill(index, random_vectors(2_000, seed=generation), post_ids=np.arange(1, 2_001) + 10_000 * generation)
    assert (index.n, index.n_bytes <= 2 * before) == (2_000, True)


def test_the_index_is_chosen_by_how_many_posts_are_expected():
    chosen = [build_index(n, 64, "tower-9") for n in (1_000, 200_000, 200_001, 4_000_001)]
    assert [type(index) for index in chosen] == [ExactIndex, ExactIndex, IvfIndex, IvfIndex]
    assert [index.config.code_size for index in chosen[2:]] == [0, 16]
    assert {index.tower_version for index in chosen} == {"tower-9"}


def test_what_cannot_be_is_named():
    with pytest.raises(ConfigError, match="code_size 5: does not divide 8"):
        IvfIndex(N_DIMS, "t", IvfConfig(code_size=5))
    with pytest.raises(SchemaError, match="eligibility excluded_posts: not ascending"):
        Eligibility(excluded_posts=ids_of(2, 1))
    with pytest.raises(SchemaError, match="eligibility languages -1"):
        Eligibility(languages=np.array([-1], dtype=np.int32))
