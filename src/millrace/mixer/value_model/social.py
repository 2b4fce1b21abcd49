"""Social terms: what being followed, and being noticed by those one follows, adds to a post's score."""

from __future__ import annotations

from typing import Final

import numpy as np

from millrace.base.params import Param
from millrace.features.columns import IS_IN_NETWORK, N_PROOFS, SCORE, SOCIAL_BONUS
from millrace.mixer.value_model.steps import Bonus
from millrace.mixer.value_model.weights import Float32Array
from millrace.pipeline.batch import CandidateBatch
from millrace.pipeline.query import Query

FOLLOWED_BONUS: Final = Param(
    "social.followed_bonus", 0.0, 0.0, 1_000.0, "added to the score of posts by accounts the viewer follows"
)
PROOF_BONUS: Final = Param(
    "social.proof_bonus",
    0.0,
    0.0,
    1_000.0,
    "added to the score of posts that somebody the viewer follows publicly engaged with",
)


class SocialBonus(Bonus):
    """Adds to posts by followed accounts, and to posts that one of them liked, answered, reposted, quoted or shared."""

    name = "social"
    reads = (IS_IN_NETWORK, N_PROOFS, SCORE)
    writes = (SOCIAL_BONUS, SCORE)
    params = (FOLLOWED_BONUS, PROOF_BONUS)
    amount_column = SOCIAL_BONUS

    def is_enabled(self, query: Query) -> bool:
        """Only where one of the two is not 0."""
        params = query.params
        return params.get_float(FOLLOWED_BONUS) > 0 or params.get_float(PROOF_BONUS) > 0

    def amount(self, query: Query, batch: CandidateBatch) -> Float32Array:
        """Return the sum of the bonuses that a candidate has a right to."""
        none = np.float32(0.0)
        followed = np.where(batch[IS_IN_NETWORK], np.float32(query.params.get_float(FOLLOWED_BONUS)), none)
        return followed + np.where(batch[N_PROOFS] > 0, np.float32(query.params.get_float(PROOF_BONUS)), none)
