"""What `PostFeatures.read` gives, by the stores' own methods: slow, plain, and what the kernels are held against."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from millrace.base.ids import Int64Array
from millrace.content.semantic_ids import MISSING
from millrace.content.text_index import TextIndex
from millrace.content.text_kernels import HAS_AUDIO, HAS_IMAGE, HAS_LINK
from millrace.features.store.counting import PRIOR_IMPRESSIONS, RATED
from millrace.features.store.feature import FeatureRows, FeatureTable
from millrace.stores.decayed_rows import Float32Array
from millrace.stores.post_kernels import QUOTE, REPLY, REPOST

if TYPE_CHECKING:
    from millrace.stores.state import State

_DAY_MS: Final = 86_400_000.0


def read_posts_reference(
    table: FeatureTable, state: State, texts: TextIndex, post_ids: Int64Array, now_ms: int
) -> FeatureRows:
    """Return the features of posts as of ``now_ms`` where no codebooks serve: semantic ids are missing.

    Parameters
    ----------
    table
        The declarations: `post_features.post_table`.
    state, texts
        The stores.
    post_ids
        Shape (n,), int64.
    now_ms
        The moment as of which ages are told and counters fade.
    """
    rows = state.posts.find(post_ids)
    found = state.posts.gather(rows)
    is_known, is_repost, authors = rows >= 0, found.kind == REPOST, found.author_id
    content_ids = np.where(is_repost, found.parent_id, post_ids)
    carried_ms = state.posts.gather(state.posts.find(content_ids)).created_ms
    created_ms = np.where(is_repost, carried_ms, found.created_ms)
    text_rows, index = texts.rows(content_ids), texts.by_row()
    traits = np.where(text_rows >= 0, index.traits.take(text_rows), 0)
    n_tokens = np.count_nonzero(index.tokens.take(text_rows, axis=0), axis=1)
    since_ms = state.profiles.created_ms(authors)
    scalars = (
        np.where(created_ms > 0, np.maximum(now_ms - created_ms, 0) / 3_600_000.0, 0.0),
        np.where(is_known, np.maximum(now_ms - found.created_ms, 0) / 3_600_000.0, 0.0),
        is_known & (found.kind == REPLY),
        is_repost,
        is_known & (found.kind == QUOTE),
        found.has_video,
        traits & HAS_IMAGE != 0,
        traits & HAS_AUDIO != 0,
        traits & HAS_LINK != 0,
        found.duration_ms / 1_000.0,
        found.is_sensitive,
        state.posts.is_deleted(post_ids),
        (found.topics > 0).sum(axis=1),
        np.where(text_rows >= 0, n_tokens, 0),
        state.follow_graph.n_followers(authors),
        state.follow_graph.n_following(authors),
        np.where(since_ms > 0, np.maximum(now_ms - since_ms, 0) / _DAY_MS, 0.0),
        state.profiles.is_verified(authors),
    )
    parts = [*_counts(state, content_ids, authors, now_ms)]
    dense = np.concatenate([part.reshape(len(post_ids), -1) for part in parts], axis=1)
    rated = [int(action) for action in RATED]
    for feature in table:
        if feature.name.startswith("post_rates_"):
            counts = dense[:, table.place(feature.name.replace("rates", "counts"))]
            per = np.float32(1.0) / (counts[:, -1] + np.float32(PRIOR_IMPRESSIONS))
            dense = np.concatenate([dense, counts[:, rated] * per[:, None]], axis=1)
    told = np.stack([np.asarray(values, dtype=np.float32) for values in scalars], axis=1)
    columns = {
        "author_id": authors,
        "content_id": content_ids,
        "created_ms": found.created_ms,
        "language": found.language,
        "topics": found.topics,
        "semantic_id": np.full((len(post_ids), table.feature("semantic_id").width), MISSING, dtype=np.int16),
    }
    return FeatureRows(table, post_ids, is_known, np.concatenate([dense, told], axis=1), dict(columns))


def _counts(state: State, posts: Int64Array, authors: Int64Array, now_ms: int) -> tuple[Float32Array, ...]:
    windows, counters = state.engagements.windows, state.engagements.counters
    return (
        windows.read("posts", posts, now_ms),
        counters.post_counts(posts, now_ms),
        windows.read("authors", authors, now_ms),
        counters.author_counts(authors, now_ms),
    )
