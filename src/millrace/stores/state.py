"""`State`: every store that is folded from the log, in the order in which events reach them.

This is the one list of what an event may change. All stores of a process share one `IdHasher`: an id that one of
them has hashed costs the others a dictionary look-up.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from millrace.base.actions import ActionSpace
from millrace.base.ids import IdHasher
from millrace.stores.codes import CodeTables
from millrace.stores.config import StoresConfig
from millrace.stores.editorial import EditorialStore
from millrace.stores.engagements import EngagementStore
from millrace.stores.fold import Fold
from millrace.stores.follow_graph import FollowGraph
from millrace.stores.labels import LabelStore
from millrace.stores.post_store import PostStore
from millrace.stores.profiles import ProfileStore
from millrace.stores.relations import RelationStore
from millrace.stores.seen import SeenStore
from millrace.stores.watermark import Watermark

STATE_VERSION: Final = 7
"""Raised whenever a fold begins to make something else of the same events: older checkpoints are then refused, and
the state is folded anew."""


class State:
    """All stores of one process, empty at first.

    Parameters
    ----------
    config
        Sizes and times.
    hasher
        Ids to inside ids, shared by all stores.
    actions
        The known actions, business actions included.
    """

    def __init__(
        self, config: StoresConfig, hasher: IdHasher | None = None, actions: ActionSpace | None = None
    ) -> None:
        self.hasher = hasher or IdHasher()
        self.watermark = Watermark()
        self.codes = CodeTables(config)
        self.posts = PostStore(config, self.hasher, self.codes)
        self.follow_graph = FollowGraph(self.hasher)
        self.relations = RelationStore(self.hasher)
        self.engagements = EngagementStore(config.engagements, self.hasher, self.codes, actions)
        self.seen = SeenStore(config.seen, self.hasher)
        self.profiles = ProfileStore(self.hasher, self.codes)
        self.labels = LabelStore(self.hasher, self.codes, retention_ms=2 * config.post_retention_ms)
        self.editorial = EditorialStore(self.hasher, retention_ms=2 * config.post_retention_ms)

    def folds(self) -> Sequence[Fold]:
        """Return every store, in the order of application: code tables first, for the others read them."""
        return (
            self.codes,
            self.posts,
            self.follow_graph,
            self.relations,
            self.engagements,
            self.seen,
            self.profiles,
            self.labels,
            self.editorial,
        )
