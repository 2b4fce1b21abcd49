"""What those did who prove a post: so that the page can say "liked by" and mean it."""

from __future__ import annotations

import numpy as np

from millrace.base.actions import SOCIAL_PROOF
from millrace.features.columns import MAX_PROOFS, N_PROOFS, POST_ID, PROOF_ACTIONS, PROOF_IDS
from millrace.pipeline.batch import CandidateBatch
from millrace.pipeline.query import Query
from millrace.pipeline.stages import HydratedValues, Hydrator
from millrace.stores.engagement_index import EngagementIndex


class ProofActionsHydrator(Hydrator):
    """Looks up the newest public action of each proving user on each post of the page (late)."""

    name = "proof_actions"
    reads = (POST_ID, N_PROOFS, PROOF_IDS)
    writes = (PROOF_ACTIONS,)

    def __init__(self, index: EngagementIndex) -> None:
        self._index = index
        self._public = [int(action) for action in SOCIAL_PROOF]

    def hydrate(self, query: Query, batch: CandidateBatch) -> HydratedValues:
        """Return the actions; rows without proof cost nothing."""
        actions = np.full((batch.n, MAX_PROOFS), -1, dtype=np.int16)
        proofs = batch[PROOF_IDS]
        n_proofs = batch[N_PROOFS]
        for row in np.flatnonzero(n_proofs).tolist():
            engagers = self._index.engagers(int(batch[POST_ID][row]))
            is_public = np.isin(engagers.actions, self._public)
            for place, user_id in enumerate(proofs[row].tolist()):
                found = np.flatnonzero(is_public & (engagers.user_ids == user_id))
                if user_id and len(found):
                    actions[row, place] = engagers.actions[found[-1]]
        return {PROOF_ACTIONS: actions}
