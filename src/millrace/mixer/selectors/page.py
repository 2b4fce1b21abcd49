"""The page: the best by page score, under rules that hold for the page as a whole."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from millrace.base.order import top_k
from millrace.base.params import Param
from millrace.features.columns import AUTHOR_ID, CONVERSATION_ID, HEAT, PAGE_SCORE, POST_ID, SCORE, TOPICS
from millrace.mixer.selectors.page_kernel import Rules, fill_page
from millrace.pipeline.batch import CandidateBatch
from millrace.pipeline.column import BoolArray, IntArray
from millrace.pipeline.query import Query
from millrace.pipeline.stages import Selector

MAX_PER_AUTHOR: Final = Param("page.max_per_author", 3, 1, 500, "most posts of one author on a page")
MAX_PER_TOPIC: Final = Param(
    "page.max_per_topic", 5, 1, 500, "most posts of one topic on a page; unknown ones do not count"
)
ONE_PER_CONVERSATION: Final = Param(
    "page.one_per_conversation", default=True, doc="of the posts of a conversation, only the best"
)
LONG_TAIL: Final = Param(
    "page.long_tail_frac", 0.1, 0.0, 0.5, "share of a page kept for posts outside the popular head; 0.1 to 0.2 is usual"
)
HEAD_SIZE: Final = Param("page.head_size", 100, 0, 100_000, "so many of the hottest candidates are the popular head")


class PageSelector(Selector):
    """Takes the best by page score: few of an author and of a topic, one of a conversation, some that are not popular.

    * An author (of a repost: the reposter) has at most ``page.max_per_author``, a topic (a post's first; 0, unknown,
      does not count) at most ``page.max_per_topic``, a conversation one.
    * Of n posts, ``page.long_tail_frac`` x n, rounded up, are kept for posts outside the popular head: it gets no more
      than the other places, so its lowest ranked ones make room. The head is the ``page.head_size`` hottest candidates
      (and those as hot as the last of them); a heat of 0 is never in it.
    * Where there are too few others, the head fills the page all the same: a reserve never makes a page short.

    Where no re-ranker had its turn (all page scores are 0), the score decides.
    """

    name = "page"
    reads = (PAGE_SCORE, SCORE, AUTHOR_ID, TOPICS, CONVERSATION_ID, HEAT)
    params = (MAX_PER_AUTHOR, MAX_PER_TOPIC, ONE_PER_CONVERSATION, LONG_TAIL, HEAD_SIZE)

    def select(self, query: Query, batch: CandidateBatch, n_wanted: int) -> IntArray:
        """Return rows best first.

        Only as many rows as needed are sorted and looked at: a few pages' worth, more if rules use them up.
        """
        params = query.params
        n_reserved = math.ceil(params.get_float(LONG_TAIL) * n_wanted - 1e-9)
        rules = Rules(
            n_wanted,
            params.get_int(MAX_PER_AUTHOR),
            params.get_int(MAX_PER_TOPIC),
            params.get_bool(ONE_PER_CONVERSATION),
            n_wanted - n_reserved,
        )
        scores = batch[PAGE_SCORE] if batch[PAGE_SCORE].any() else batch[SCORE]
        is_head = popular_head(batch, params.get_int(HEAD_SIZE))
        n_looked = 2 * n_wanted
        while True:
            order = top_k(scores, batch[POST_ID], n_looked)
            is_all = n_looked >= batch.n
            places = fill_page(
                batch[AUTHOR_ID][order],
                batch[TOPICS][order, 0],
                batch[CONVERSATION_ID][order],
                is_head[order],
                rules,
                is_all,
            )
            if is_all or len(places) == n_wanted:
                return order[places]
            n_looked *= 4


def popular_head(batch: CandidateBatch, head_size: int) -> BoolArray:
    """Return who is in the popular head, shape (n,)."""
    heat = batch[HEAT]
    hot = heat[heat > 0.0]
    coldest = np.float32(np.inf)
    if 0 < head_size < len(hot):
        coldest = np.partition(hot, len(hot) - head_size)[len(hot) - head_size]
    elif head_size > 0 and len(hot):
        coldest = hot.min()
    is_head: BoolArray = heat >= coldest
    return is_head
