"""What has been done to a post, to its author's posts, under its topic: the evidence for rates."""

from __future__ import annotations

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
        """Return the counts."""
        counters = self._counters
        of_posts, of_authors, of_topics = counters.longest_counts(
            batch[CONTENT_ID], batch[AUTHOR_ID], batch[TOPICS][:, 0], query.now_ms
        )
        return {
            POST_COUNTS: of_posts,
            AUTHOR_COUNTS: of_authors,
            TOPIC_COUNTS: of_topics,
            OBSERVED_COUNTS: counters.observed_counts(batch[CONTENT_ID]),
        }
