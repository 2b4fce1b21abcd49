"""What has been done to a post, to its author's posts, under its topic: the evidence for rates."""

from __future__ import annotations

import numpy as np

from millrace.features.columns import (
    AUTHOR_COUNTS,
    AUTHOR_ID,
    CONTENT_ID,
    OBSERVED_COUNTS,
    POST_COUNTS,
    TOPIC_COUNTS,
    TOPICS,
)
from millrace.pipeline.batch import CandidateBatch
from millrace.pipeline.query import Query
from millrace.pipeline.stages import HydratedValues, Hydrator
from millrace.stores.counters import Counters


class CountsHydrator(Hydrator):
    """Reads counters of post, author and strongest topic, and totals known from elsewhere.

    A repost's are those of the reposted post, which is what would be acted on; its author is the reposter.
    Of several half-lives the last configured one is read: the longest memory.
    """

    name = "counts"
    reads = (CONTENT_ID, AUTHOR_ID, TOPICS)
    writes = (POST_COUNTS, AUTHOR_COUNTS, TOPIC_COUNTS, OBSERVED_COUNTS)

    def __init__(self, counters: Counters) -> None:
        self._counters = counters

    def hydrate(self, query: Query, batch: CandidateBatch) -> HydratedValues:
        """Return the counts; authors and topics are read once each, however many candidates they have."""
        counters, now_ms = self._counters, query.now_ms
        authors, author_of = np.unique(batch[AUTHOR_ID], return_inverse=True)
        topics, topic_of = np.unique(batch[TOPICS][:, 0], return_inverse=True)
        return {
            POST_COUNTS: counters.post_counts(batch[CONTENT_ID], now_ms)[:, -1],
            AUTHOR_COUNTS: counters.author_counts(authors, now_ms)[:, -1].take(author_of, axis=0),
            TOPIC_COUNTS: counters.topic_counts(topics, now_ms)[:, -1].take(topic_of, axis=0),
            OBSERVED_COUNTS: counters.observed_counts(batch[CONTENT_ID]),
        }
