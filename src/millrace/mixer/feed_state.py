"""`FeedState`: the stores of `millrace.stores.state.State`, and the folds of higher rooms that the feed reads."""

from __future__ import annotations

from collections.abc import Sequence

from millrace.base.actions import ActionSpace
from millrace.base.ids import IdHasher
from millrace.content.config import ContentConfig
from millrace.content.profile_texts import ProfileTexts
from millrace.content.text_index import TextIndex
from millrace.inference.near_line_store import NearLineStore
from millrace.stores.config import StoresConfig
from millrace.stores.fold import Fold
from millrace.stores.state import State


class FeedState(State):
    """Everything of one process that is folded from the log, empty at first.

    Parameters
    ----------
    config
        Sizes and times of the stores.
    hasher
        Ids to inside ids, shared by all stores.
    actions
        The known actions, business actions included.
    content
        Sizes of what is derived from content.
    """

    def __init__(
        self,
        config: StoresConfig,
        hasher: IdHasher | None = None,
        actions: ActionSpace | None = None,
        content: ContentConfig | None = None,
    ) -> None:
        super().__init__(config, hasher, actions)
        self.texts = TextIndex(content or ContentConfig(), self.hasher)
        self.profile_texts = ProfileTexts(self.hasher)
        self.near_line = NearLineStore(len(actions or ActionSpace()))

    def folds(self) -> Sequence[Fold]:
        """Return every store, in the order of application."""
        return (*super().folds(), self.texts, self.profile_texts, self.near_line)
