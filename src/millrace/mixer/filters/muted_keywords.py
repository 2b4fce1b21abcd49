"""Posts with words that the viewer does not want to read."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from millrace.base.keywords import find_keywords
from millrace.features.attachments import POSTS
from millrace.features.columns import PARENT_ID, POST_ID
from millrace.features.query_fields import KEYWORDS
from millrace.pipeline.batch import CandidateBatch
from millrace.pipeline.column import BoolArray
from millrace.pipeline.query import Query
from millrace.pipeline.stages import Filter, OnError
from millrace.stores.content import PostContent


class MutedKeywordFilter(Filter):
    """Drops posts of the page in which a keyword stands that the viewer mutes (late).

    Looked at are the text and the descriptions of media, of the post and of what it reposts, quotes or replies to.
    """

    name = "muted_keyword"
    reads = (POST_ID, PARENT_ID, KEYWORDS, POSTS)
    on_error = OnError.DROP_ALL

    def is_enabled(self, query: Query) -> bool:
        """Only for viewers who mute keywords."""
        return len(query[KEYWORDS]) > 0

    def keep(self, query: Query, batch: CandidateBatch) -> BoolArray:
        """Return which posts are free of the viewer's muted keywords."""
        contents = batch.attached(POSTS)
        texts: list[str] = []
        rows: list[int] = []
        for row, ids in enumerate(zip(batch[POST_ID].tolist(), batch[PARENT_ID].tolist(), strict=True)):
            for content in map(contents.get, ids):
                if content is not None:
                    found = list(_texts_of(content))
                    texts += found
                    rows += [row] * len(found)
        keep = np.ones(batch.n, dtype=np.bool_)
        keep[np.array(rows, dtype=np.intp)[find_keywords(texts, query[KEYWORDS]) >= 0]] = False
        return keep

    def explain(self, query: Query, batch: CandidateBatch, row: int) -> str:
        """Say whose text it is; which keyword is known by its hash alone."""
        own = batch.attached(POSTS).get(int(batch[POST_ID][row]))
        if own is not None and (find_keywords(list(_texts_of(own)), query[KEYWORDS]) >= 0).any():
            return "its text has a keyword that the viewer mutes"
        return "the post that it carries has a keyword that the viewer mutes"


def _texts_of(content: PostContent) -> Iterator[str]:
    yield content.text
    for media in content.media:
        if media.alt_text:
            yield media.alt_text
