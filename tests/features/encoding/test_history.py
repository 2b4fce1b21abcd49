"""Histories as tokens: one a post, newest last, and nothing in them that the time of a request could change."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.base.actions import Action
from millrace.features.encoding.buckets import minute_buckets, second_buckets
from millrace.features.encoding.history import group_reference, history_tokens
from millrace.stores.histories import History

MINUTE_MS = 60_000


def a_history(*entries: tuple[int, int, int, int, int]) -> History:
    """Return a history of (post, author, action, time, dwell) entries, oldest first."""
    columns = np.array(entries, dtype=np.int64).reshape(-1, 5).T
    posts, authors, actions, times_ms, dwell_ms = columns
    return History(posts, authors, actions.astype(np.int16), times_ms, dwell_ms.astype(np.int32))


def test_a_post_is_one_token_where_its_newest_action_stands() -> None:
    tokens = history_tokens(
        a_history(
            (1, 10, Action.LIKE, 0, 0),
            (2, 20, Action.DWELL, MINUTE_MS, 9_000),
            (1, 10, Action.REPLY, 4 * MINUTE_MS, 0),
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


ENTRIES = st.tuples(
    st.integers(1, 6), st.integers(0, 3), st.integers(0, 22), st.integers(0, 10**7), st.integers(0, 60_000)
)


@given(st.lists(ENTRIES, max_size=30), st.integers(1, 5))
@settings(deadline=None, max_examples=60)
def test_the_kernel_agrees_with_the_reference(entries: list[tuple[int, int, int, int, int]], max_tokens: int) -> None:
    entries.sort(key=lambda entry: entry[3])
    history = a_history(*entries)
    tokens = history_tokens(history, max_tokens)
    expected = group_reference(history, max_tokens)
    assert tokens.post_ids.tolist() == [token[0] for token in expected]
    assert tokens.author_ids.tolist() == [token[1] for token in expected]
    assert tokens.actions.tolist() == [token[2] for token in expected]
    dwell = second_buckets(np.array([token[4] for token in expected]))
    assert tokens.dense[:, 0].tolist() == dwell.tolist()
