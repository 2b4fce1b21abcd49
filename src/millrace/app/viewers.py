"""Who there is to look at: the most active viewers, with names."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from millrace.mixer.feed_state import FeedState
    from millrace.stores.replica import Replica


class ActiveViewer(msgspec.Struct, frozen=True, kw_only=True):
    """A viewer with something to see.

    Attributes
    ----------
    user_id, name
        Outside id, and the name if a profile gave one.
    n_actions
        Actions kept in the viewer's history.
    n_following
        Accounts the viewer follows.
    """

    user_id: str
    name: str
    n_actions: int
    n_following: int


def active_viewers(replica: Replica[FeedState], n: int) -> list[ActiveViewer]:
    """Return the viewers with the longest histories; where nobody acted yet, known users in order of appearance.

    Call it where the state stands still: within `Replica.read`, or where nothing folds.
    """
    state = replica.state
    ids = state.engagements.histories.most_active(n)
    if not len(ids):
        ids = state.profiles.user_ids[:n]
    if not len(ids) or replica.content is None:
        return []
    users = replica.content.users(ids, replica.position)
    n_actions = state.engagements.histories.n_actions(ids).tolist()
    n_following = state.follow_graph.n_following(ids).tolist()
    return [
        ActiveViewer(user_id=user.user_id, name=user.name, n_actions=actions, n_following=following)
        for user, actions, following in zip(users, n_actions, n_following, strict=True)
        if user is not None
    ]
