"""Post features: the forward index. What a post is, what was done to it and to its author's posts, lately and ever."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from millrace.base.actions import ActionSpace
from millrace.base.ids import Int64Array
from millrace.content.semantic_ids import MISSING, N_LEVELS
from millrace.content.text_index import TextIndex
from millrace.features.columns import MAX_TOPICS
from millrace.features.store.counting import FLOAT, PRIOR_IMPRESSIONS, RATED, decayed, rates, span, windowed
from millrace.features.store.feature import Feature, FeatureRows, FeatureTable
from millrace.features.store.post_kernels import (
    AUTHOR_ID,
    CONTENT_ID,
    CREATED_MS,
    N_ID_COLUMNS,
    POST_ROW,
    CountSources,
    FactSources,
    Places,
    write_posts,
    write_rates,
)
from millrace.stores.decayed_rows import Float32Array
from millrace.stores.engagement_config import EngagementConfig

if TYPE_CHECKING:
    from millrace.features.encoding.vector_inputs import CodesOf
    from millrace.stores.state import State

_ID: Final = np.dtype(np.int64)
_CODE: Final = np.dtype(np.int32)

SCALARS: Final = (
    ("age_h", "request", "posts", "hours since it was published; of a repost, since what it carries was"),
    ("share_age_h", "request", "posts", "hours since it came to be itself: of a repost, since it was reposted"),
    ("is_reply", "event", "posts", "1: a reply"),
    ("is_repost", "event", "posts", "1: a repost"),
    ("is_quote", "event", "posts", "1: a quote"),
    ("has_video", "event", "posts", "1: a video is attached"),
    ("has_image", "event", "texts", "1: an image is attached"),
    ("has_audio", "event", "texts", "1: an audio is attached"),
    ("has_link", "event", "texts", "1: it has a link"),
    ("duration_s", "event", "posts", "seconds of its longest video or audio"),
    ("is_sensitive", "event", "posts", "1: marked as sensitive"),
    ("is_deleted", "event", "posts", "1: deleted within the retention"),
    ("n_topics", "event", "posts", "how many topics are known of it"),
    ("text_hash_tokens", "event", "texts", "how many words and word pairs its text has, at most 64"),
    ("author_followers", "event", "follow_graph", "how many follow its author"),
    ("author_following", "event", "follow_graph", "how many its author follows"),
    ("author_age_d", "request", "profiles", "days since its author was first heard of"),
    ("author_is_verified", "event", "profiles", "1: its author's account is verified"),
)
"""Name, freshness, store, meaning; a float32 each."""

IDS: Final = (
    ("author_id", _ID, (), "posts", "inside id of who published it; of a repost, the reposter"),
    ("content_id", _ID, (), "posts", "what a viewer would see: the reposted post, else the post itself"),
    ("created_ms", _ID, (), "posts", "when it was published, epoch milliseconds"),
    ("language", _CODE, (), "posts", "language code; 0 unknown"),
    ("topics", _CODE, (MAX_TOPICS,), "posts", "topic codes, strongest first; 0 none"),
)


def post_table(config: EngagementConfig, actions: ActionSpace, n_levels: int = N_LEVELS) -> FeatureTable:
    """Return the declarations; ``n_levels``: of semantic ids."""
    features = [
        *windowed("post", "what was done to the content", config.windows_ms, actions),
        *decayed("post", "what was done to the content", config.post_half_lives_ms, actions),
        *windowed("author", "what was done to its author's posts", config.windows_ms, actions),
        *decayed("author", "what was done to its author's posts", config.author_half_lives_ms, actions),
        *(rates("post", basis) for basis in _bases(config)),
    ]
    for name, freshness, source, doc in SCALARS:
        features.append(Feature(name, FLOAT, (), source, freshness, doc))  # type: ignore[arg-type]
    features.extend(Feature(name, dtype, shape, source, "event", doc) for name, dtype, shape, source, doc in IDS)
    doc = "semantic id by the codebooks that serve, coarsest level first; -1 none"
    features.append(Feature("semantic_id", np.dtype(np.int16), (n_levels,), "texts", "event", doc))
    return FeatureTable(tuple(features))


def _bases(config: EngagementConfig) -> tuple[str, ...]:
    """Return the counters that rates are made of: the middle window, and the longest memory."""
    windows = (span(config.windows_ms[len(config.windows_ms) // 2]),) if config.windows_ms else ()
    last = config.post_half_lives_ms[-1]
    return (*windows, f"decayed_{span(last)}" if last else "total")


class PostFeatures:
    """Reads post features from the stores of one process.

    Parameters
    ----------
    state, texts
        The stores, at whatever log offset they stand: what they hold is the point in time of the answer.
    config, actions
        What the stores were made with.
    codes_of, n_levels
        Semantic ids, where codebooks serve; None: every post has -1 at each level.
    """

    def __init__(
        self,
        state: State,
        texts: TextIndex,
        config: EngagementConfig,
        actions: ActionSpace,
        codes_of: CodesOf | None = None,
        n_levels: int = N_LEVELS,
    ) -> None:
        self._state = state
        self._texts = texts
        self._codes_of = codes_of
        self.table = post_table(config, actions, n_levels)
        self._n_levels = n_levels
        n_columns, n_post_half_lives = len(actions) + 1, len(config.post_half_lives_ms)
        width = len(config.windows_ms) * n_columns
        place = self.table.place
        self._places = Places(
            scalars=place(SCALARS[0][0]).start,
            width=width,
            n_columns=n_columns,
            rates=np.array(
                [(place(f"post_rates_{of}").start, place(f"post_counts_{of}").start) for of in _bases(config)],
                dtype=np.int64,
            ),
            rated=np.array([int(action) for action in RATED], dtype=np.int64),
        )
        self._author_windows = width + n_post_half_lives * n_columns

    def read(self, post_ids: Int64Array, now_ms: int) -> FeatureRows:
        """Return the features of posts as of ``now_ms``; never from events beyond the stores' log offset.

        Parameters
        ----------
        post_ids
            Shape (n,), int64.
        now_ms
            The moment as of which ages are told and counters fade.
        """
        state, engagements, n = self._state, self._state.engagements, len(post_ids)
        post_ids = np.array(post_ids, dtype=np.int64)
        dense = np.empty((n, self.table.n_dense), dtype=np.float32)
        ids = np.empty((n, N_ID_COLUMNS), dtype=np.int64)
        codes = np.empty((n, 1 + MAX_TOPICS), dtype=np.int32)
        facts = FactSources(state.posts.kernel, self._texts.by_row(), state.follow_graph.kernel, state.profiles.kernel)
        counts = CountSources(
            engagements.windows.sums("posts"), engagements.windows.sums("authors"), *engagements.counters.tables()
        )
        write_posts(dense, self._places, facts, counts, post_ids, now_ms, PRIOR_IMPRESSIONS, ids, codes)
        authors, content, created_ms = (
            np.ascontiguousarray(ids[:, place]) for place in (AUTHOR_ID, CONTENT_ID, CREATED_MS)
        )
        if engagements.windows.is_stale(now_ms):
            self._take_back(dense, content, authors, now_ms)
        columns: dict[str, npt.NDArray[np.generic]] = {
            "author_id": authors,
            "content_id": content,
            "created_ms": created_ms,
            "language": codes[:, 0],
            "topics": codes[:, 1:],
            "semantic_id": np.full((n, self._n_levels), MISSING, dtype=np.int16)
            if self._codes_of is None
            else self._codes_of(content),
        }
        return FeatureRows(self.table, post_ids, ids[:, POST_ROW] >= 0, dense, columns)

    def _take_back(self, dense: Float32Array, posts: Int64Array, authors: Int64Array, now_ms: int) -> None:
        """Write windows anew for a reader who is far ahead of them: while events flow nobody is."""
        windows, places = self._state.engagements.windows, self._places
        n = len(posts)
        at = self._author_windows
        dense[:, : places.width] = windows.read("posts", posts, now_ms).reshape(n, -1)
        dense[:, at : at + places.width] = windows.read("authors", authors, now_ms).reshape(n, -1)
        for rates_at, counts_at in places.rates.tolist():
            write_rates(dense, rates_at, counts_at, places.n_columns, places.rated, PRIOR_IMPRESSIONS)
