"""What retrievers find: shares of true chances, exactly."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from millrace.base.actions import Action
from millrace.simulator.judge.recall import BAYES, Corpus, RetrieverRecall, chance_of_any, judge_recall
from millrace.simulator.mechanisms.law import load_law
from millrace.simulator.mechanisms.situation import COLUMN, N_FRIENDLY, WORLD_ACTIONS, Response


def a_corpus(chance: list[float], cold: list[bool], **scores: list[float]) -> Corpus:
    return Corpus(np.array(chance), np.array(cold), {name: np.array(values) for name, values in scores.items()})


def by_name(found: tuple[RetrieverRecall, ...]) -> dict[str, RetrieverRecall]:
    return {row.retriever: row for row in found}


def test_recall_is_the_share_of_all_chances_that_lie_among_the_best() -> None:
    corpora = [
        a_corpus([0.5, 0.3, 0.2], [False, True, True], towers=[1.0, 3.0, 2.0], ids=[3.0, 1.0, 2.0]),
        a_corpus([0.4, 0.6, 0.0], [True, False, False], towers=[2.0, 1.0, 0.0], ids=[-np.inf, 1.0, 0.0]),
    ]
    found = by_name(judge_recall(corpora, cutoffs=(1,)))
    assert list(found) == ["towers", "ids", BAYES]
    towers, ids, bayes = found.values()
    assert towers.recall.value == pytest.approx((0.3 + 0.4) / 2.0)
    assert bayes.recall.value == pytest.approx((0.5 + 0.6) / 2.0)
    assert towers.of_bayes.value == pytest.approx(0.7 / 1.1)
    assert towers.cold.value == pytest.approx((0.3 + 0.4) / 0.9)  # cold posts 1 and 2 of the one, 0 of the other
    assert ids.recall.value == pytest.approx((0.5 + 0.6) / 2.0)
    assert ids.first_over.value == pytest.approx(0.7 / 1.1)
    assert ids.cold.value == 0.0
    assert np.isnan(ids.cold_first_over.value)  # of nothing nobody finds more
    assert bayes.recall.n == 2


def test_what_a_retriever_does_not_know_it_does_not_find() -> None:
    corpus = a_corpus([0.5, 0.5], [False, False], towers=[1.0, -np.inf])
    (towers, bayes) = judge_recall([corpus], cutoffs=(2,))
    assert towers.recall.value == 0.5
    assert bayes.recall.value == 1.0


def test_nobody_finds_nothing() -> None:
    (bayes,) = judge_recall([], cutoffs=(1,))
    assert np.isnan(bayes.recall.value)


def test_the_chance_of_any_is_that_of_two_moods() -> None:
    law = msgspec.structs.replace(load_law("gate"), engaged_frac=0.25, engaged_ratio=2.0)
    probs = np.zeros((1, len(WORLD_ACTIONS)))
    probs[0, [COLUMN[Action.LIKE], COLUMN[Action.REPLY], COLUMN[Action.CLICK]]] = 0.36, 0.09, 0.5
    probs[0, N_FRIENDLY] = 0.1
    response = Response(np.zeros(1), probs, np.array([0.1]), np.zeros(1))
    # Given that nothing annoys: 0.4 and 0.1; a quarter of the looks has 0.8 and 0.2, the others 0.8 / 3 and 0.2 / 3.
    high, low = 1.0 - 0.2 * 0.8, 1.0 - (1.0 - 0.8 / 3) * (1.0 - 0.2 / 3)
    assert chance_of_any(law, response)[0] == pytest.approx(0.9 * (0.25 * high + 0.75 * low))
