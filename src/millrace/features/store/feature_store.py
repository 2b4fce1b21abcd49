"""`FeatureStore`: post and user features of one process, read from the stores that it folds.

There is no copy of anything: a value is what the folded stores say at the log offset at which they stand. So streaming
and batch are one: a replica that follows the log, and one that folds it anew from the beginning, stand at the same
offset with the same bytes and give the same features; a point in time is an offset (`millrace.app.feature_sheets`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from millrace.base.actions import ActionSpace
from millrace.content.semantic_ids import N_LEVELS
from millrace.content.text_index import TextIndex
from millrace.features.store.post_features import PostFeatures
from millrace.features.store.user_features import UserFeatures
from millrace.stores.engagement_config import EngagementConfig

if TYPE_CHECKING:
    from millrace.features.encoding.vector_inputs import CodesOf
    from millrace.stores.state import State


class FeatureStore:
    """The read side.

    Parameters
    ----------
    state, texts
        The stores of one process.
    config, actions
        What the stores were made with.
    codes_of, n_levels
        Semantic ids of posts, where codebooks serve.

    Attributes
    ----------
    posts, users
        The readers; their ``table`` declares what there is.
    """

    def __init__(
        self,
        state: State,
        texts: TextIndex,
        config: EngagementConfig,
        actions: ActionSpace | None = None,
        codes_of: CodesOf | None = None,
        n_levels: int = N_LEVELS,
    ) -> None:
        actions = actions or ActionSpace()
        self.posts = PostFeatures(state, texts, config, actions, codes_of, n_levels)
        self.users = UserFeatures(state, config, actions)
