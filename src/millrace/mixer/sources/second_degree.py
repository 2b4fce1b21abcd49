"""Posts that the accounts the viewer follows engaged with."""

from __future__ import annotations

import numpy as np

from millrace.base.ids import Int64Array
from millrace.base.params import Param
from millrace.features.columns import N_PROOFS, POST_ID, PROOF_IDS, RETRIEVAL_SCORE
from millrace.features.query_fields import BLOCKED, BLOCKED_BY, FOLLOWING, MUTED
from millrace.mixer.sources.facts import accounts
from millrace.pipeline.batch import CandidateBatch
from millrace.pipeline.membership import is_member
from millrace.pipeline.query import Query
from millrace.pipeline.stages import Source
from millrace.stores.engagement_index import EngagementIndex, SecondDegree

MAX_POSTS = Param("second_degree.max_posts", 400, 0, 5_000, "most posts that followed accounts engaged with")
MAX_PER_SEED = Param("second_degree.max_per_seed", 30, 1, 1_000, "most engagements read per followed account")
WINDOW_H = Param("second_degree.window_h", 48.0, 0.1, 720.0, "how old an engagement may be, hours")


class SecondDegreeSource(Source):
    """Takes posts that followed accounts liked, replied to, reposted, quoted or shared, with who did.

    Those whom the viewer blocks or mutes, or who block the viewer, prove nothing: the page would name them.
    """

    name = "second_degree"
    reads = (FOLLOWING, BLOCKED, BLOCKED_BY, MUTED)
    writes = (N_PROOFS, PROOF_IDS, RETRIEVAL_SCORE)
    params = (MAX_PER_SEED, WINDOW_H)
    cap = MAX_POSTS

    def __init__(self, index: EngagementIndex) -> None:
        self._index = index

    def retrieve(self, query: Query) -> CandidateBatch:
        """Return posts, those with the most proof first."""
        found = self._found(query, query.params.get_int(MAX_POSTS))
        return CandidateBatch(
            {
                POST_ID: found.post_ids,
                N_PROOFS: found.n_proofs,
                PROOF_IDS: found.proof_user_ids,
                RETRIEVAL_SCORE: found.n_proofs.astype(np.float32),
            }
        )

    def explain(self, query: Query, key: int) -> str:
        """Say how many of those whom the viewer follows engaged with it."""
        followed = accounts(len(self._seeds(query)))
        everything = self._found(query, 1 << 20)
        place = np.flatnonzero(everything.post_ids == key)
        if len(place):
            n, cap = int(everything.n_proofs[place[0]]), query.params.get_int(MAX_POSTS)
            told = f"{n} of the {followed} that you follow engaged with it"
            return f"{told}: place {place[0] + 1:,}, beyond the cap of {cap}"
        window_h = query.params.get_float(WINDOW_H)
        return f"none of the {followed} that you follow engaged with it within {window_h:g} hours, or it is gone"

    def _seeds(self, query: Query) -> Int64Array:
        """Return the followed accounts that the page may name."""
        unwanted = np.concatenate([query[BLOCKED], query[BLOCKED_BY], query[MUTED]])
        return query[FOLLOWING][~is_member(query[FOLLOWING], unwanted)]

    def _found(self, query: Query, max_posts: int) -> SecondDegree:
        params = query.params
        return self._index.second_degree(
            self._seeds(query),
            since_ms=query.now_ms - int(params.get_float(WINDOW_H) * 3_600_000),
            max_per_seed=params.get_int(MAX_PER_SEED),
            exclude_user=query.viewer_id,
            max_posts=max_posts,
        )
