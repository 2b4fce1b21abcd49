"""Posts that the accounts the viewer follows engaged with."""

from __future__ import annotations

from millrace.base.params import Param
from millrace.features.columns import N_PROOFS, POST_ID, PROOF_IDS
from millrace.features.query_fields import FOLLOWING
from millrace.pipeline.batch import CandidateBatch
from millrace.pipeline.query import Query
from millrace.pipeline.stages import Source
from millrace.stores.engagement_index import EngagementIndex

MAX_POSTS = Param("second_degree.max_posts", 500, 0, 5_000, "most posts that followed accounts engaged with")
MAX_PER_SEED = Param("second_degree.max_per_seed", 30, 1, 1_000, "most engagements read per followed account")
WINDOW_H = Param("second_degree.window_h", 48.0, 0.1, 720.0, "how old an engagement may be, hours")


class SecondDegreeSource(Source):
    """Takes posts that followed accounts liked, replied to, reposted, quoted or shared, with who did."""

    name = "second_degree"
    reads = (FOLLOWING,)
    writes = (N_PROOFS, PROOF_IDS)
    params = (MAX_PER_SEED, WINDOW_H)
    cap = MAX_POSTS

    def __init__(self, index: EngagementIndex) -> None:
        self._index = index

    def retrieve(self, query: Query) -> CandidateBatch:
        """Return posts, those with the most proof first."""
        params = query.params
        found = self._index.second_degree(
            query[FOLLOWING],
            since_ms=query.now_ms - int(params.get_float(WINDOW_H) * 3_600_000),
            max_per_seed=params.get_int(MAX_PER_SEED),
            exclude_user=query.viewer_id,
            max_posts=params.get_int(MAX_POSTS),
        )
        return CandidateBatch({POST_ID: found.post_ids, N_PROOFS: found.n_proofs, PROOF_IDS: found.proof_user_ids})
