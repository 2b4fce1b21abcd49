"""Histories as tokens: one a post, newest last, and nothing in them that the time of a request could change."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.base.actions import Action
from millrace.base.surfaces import Surface
from millrace.features.encoding.buckets import minute_buckets, second_buckets
from millrace.features.encoding.history import group_reference, history_tokens
from millrace.stores.histories import History

MINUTE_MS = 60_000


def a_history(*entries: tuple[int, int, int, int, int, int]) -> History:
    """Return a history of (post, author, action, time, dwell, surface) entries, oldest first."""
    posts, authors, actions, times_ms, dwell_ms, surfaces = np.array(entries, dtype=np.int64).reshape(-1, 6).T
    return History(
        posts, authors, actions.astype(np.int16), times_ms, dwell_ms.astype(np.int32), surfaces.astype(np.uint8)
    )


def test_a_post_is_one_token_where_its_newest_action_stands() -> None:
    tokens = history_tokens(
        a_history(
            (1, 10, Action.LIKE, 0, 0, 0),
            (2, 20, Action.DWELL, MINUTE_MS, 9_000, 0),
            (1, 10, Action.REPLY, 4 * MINUTE_MS, 0, 0),
        )
    )
    assert tokens.post_ids.tolist() == [2, 1]
    assert tokens.author_ids.tolist() == [20, 10]
    assert tokens.actions.tolist() == [1 << Action.DWELL, 1 << Action.LIKE | 1 << Action.REPLY]
    gap, dwell = minute_buckets(np.array([3 * MINUTE_MS]))[0], second_buckets(np.array([9_000]))[0]
    assert tokens.dense.tolist() == [[dwell, gap, gap], [0, 0, 0]]
    assert tokens.newest_ms == 4 * MINUTE_MS


def test_a_later_request_reads_the_same_tokens_and_an_empty_history_has_none() -> None:
    assert history_tokens(a_history()).n == 0
    assert history_tokens(a_history()).newest_ms == 0


def test_a_tokens_surface_is_that_of_the_newest_action_that_tells_one() -> None:
    tokens = history_tokens(
        a_history(
            (1, 10, Action.LIKE, 0, 0, Surface.SEARCH),
            (1, 10, Action.REPLY, 1, 0, Surface.HOME),
            (1, 10, Action.BOOKMARK, 2, 0, Surface.UNKNOWN),
            (1, 10, Action.DWELL_TIME, 3, 4_000, Surface.PROFILE),
            (2, 20, Action.LIKE, 4, 0, Surface.UNKNOWN),
            (2, 20, Action.NOT_DWELLED, 5, 900, Surface.FOLLOWING),
            (3, 30, Action.LIKE, 6, 0, Surface.UNKNOWN),
        )
    )
    assert tokens.post_ids.tolist() == [1, 2, 3]
    assert tokens.surfaces.dtype == np.uint8
    assert tokens.surfaces.tolist() == [Surface.HOME, Surface.FOLLOWING, Surface.UNKNOWN]
    assert tokens.newest(2).surfaces.tolist() == [Surface.FOLLOWING, Surface.UNKNOWN]


ENTRIES = st.tuples(
    st.integers(1, 6),
    st.integers(0, 3),
    st.integers(0, 22),
    st.integers(0, 10**7),
    st.integers(0, 60_000),
    st.integers(0, 7),
)


@given(st.lists(ENTRIES, max_size=30), st.integers(1, 5))
@settings(deadline=None, max_examples=60)
def test_the_kernel_agrees_with_the_reference(
    entries: list[tuple[int, int, int, int, int, int]], max_tokens: int
) -> None:
    entries.sort(key=lambda entry: entry[3])
    history = a_history(*entries)
    tokens = history_tokens(history, max_tokens)
    expected = group_reference(history, max_tokens)
    assert tokens.post_ids.tolist() == [token[0] for token in expected]
    assert tokens.author_ids.tolist() == [token[1] for token in expected]
    assert tokens.actions.tolist() == [token[2] for token in expected]
    dwell = second_buckets(np.array([token[4] for token in expected]))
    assert tokens.dense[:, 0].tolist() == dwell.tolist()
    assert tokens.surfaces.tolist() == [token[5] for token in expected]
