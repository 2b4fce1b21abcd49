"""Social bonus and author decay; steps add or multiply and keep the amount."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.features.columns import AUTHOR_FACTOR, AUTHOR_ID, IS_IN_NETWORK, N_PROOFS, POST_ID, SCORE, SOCIAL_BONUS
from millrace.mixer.value_model.author_decay import (
    DECAY,
    FLOOR,
    AuthorDecay,
    places_by_author,
    places_by_author_reference,
)
from millrace.mixer.value_model.social import FOLLOWED_BONUS, PROOF_BONUS, SocialBonus
from millrace.testing.pipeline_builders import a_batch, a_query, ranked


def test_social_bonuses_are_added() -> None:
    batch = a_batch({IS_IN_NETWORK: [True, True, False, False], N_PROOFS: [0, 3, 1, 0], SCORE: [0.5, 0.5, 0.5, 0.5]})
    query = a_query(params={FOLLOWED_BONUS: 1.0, PROOF_BONUS: 0.25})
    after = ranked(SocialBonus(), query, batch)
    assert after[SOCIAL_BONUS].tolist() == [1.0, 1.25, 0.25, 0.0]
    assert after[SCORE].tolist() == [1.5, 1.75, 0.75, 0.5]
    assert SocialBonus().is_enabled(query)
    assert not SocialBonus().is_enabled(a_query())


def test_an_authors_further_posts_count_for_less_down_to_a_floor() -> None:
    batch = a_batch({AUTHOR_ID: [1, 1, 2, 1, 1, 1], SCORE: [0.5, 0.9, 0.9, 0.7, 0.6, 0.1]})
    after = ranked(AuthorDecay(), a_query(), batch)
    assert after[AUTHOR_FACTOR].tolist() == [0.34375, 1.0, 1.0, 0.625, 0.4375, 0.296875]
    assert after[SCORE][1:4].tolist() == pytest.approx([0.9, 0.9, 0.7 * 0.625])


def test_author_decay_can_be_told_otherwise() -> None:
    batch = a_batch({AUTHOR_ID: [1, 1, 1], SCORE: [3.0, 2.0, 1.0]})
    none = ranked(AuthorDecay(), a_query(params={DECAY: 0.0, FLOOR: 0.0}), batch)
    assert none[SCORE].tolist() == [3.0, 0.0, 0.0]
    for param in (DECAY, FLOOR):
        assert not AuthorDecay().is_enabled(a_query(params={param: 1.0}))


def test_equal_scores_of_an_author_go_by_id() -> None:
    batch = a_batch({POST_ID: [9, 7, 8], AUTHOR_ID: [1, 1, 1], SCORE: [0.5, 0.5, 0.5]})
    assert ranked(AuthorDecay(), a_query(), batch)[AUTHOR_FACTOR].tolist() == [0.4375, 1.0, 0.625]


scores = st.one_of(st.sampled_from([0.0, 0.5, 1.0]), st.floats(width=32))


@given(st.lists(st.tuples(st.sampled_from([-(2**63), -1, 0, 1, 2, 2**63 - 1]), scores), max_size=40), st.randoms())
@settings(max_examples=200, deadline=None)
def test_places_are_those_of_the_reference(posts: list[tuple[int, float]], random: object) -> None:
    ids = list(range(len(posts)))
    random.shuffle(ids)  # type: ignore[attr-defined]
    authors = np.array([author for author, _ in posts], dtype=np.int64)
    values = np.array([score for _, score in posts], dtype=np.float32)
    found = places_by_author(authors, values, np.array(ids, dtype=np.int64))
    assert found.tolist() == places_by_author_reference(authors, values, np.array(ids, dtype=np.int64)).tolist()
