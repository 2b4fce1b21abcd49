"""The viewers that ``reddit-posts`` does not have: made by seed, following communities, looking and acting."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from millrace.base.ids import Int64Array
from millrace.events.envelope import Payload
from millrace.events.feed_events import Engagement, Impression
from millrace.events.importers.options import ImportOptions
from millrace.events.importers.reddit_communities import language_of, topic_of
from millrace.events.user_events import FollowChanged, ProfileUpdated

_N_INTERESTS: Final = (2, 5)
_FOLLOWS_MEDIAN: Final = 16.0
_MIN_FOLLOWS: Final = 8
_OF_INTEREST_WEIGHT: Final = 8.0
_N_FRIENDS: Final = 6
_STRANGER_FRAC: Final = 0.15
_POSITIVE_RATES: Final = (("click", 0.45), ("like", 0.55), ("repost", 0.07), ("share", 0.05), ("bookmark", 0.06))
_NOT_INTERESTED_RATE: Final = 0.012
_CROWD: Final = 40


class ViewerCrowd:
    """Viewers of the communities of one data set.

    Parameters
    ----------
    communities
        Their names, in the order in which the data set shows them first.
    options
        Seed and number of viewers.
    """

    def __init__(self, communities: tuple[str, ...], options: ImportOptions) -> None:
        self._n_viewers = options.n_viewers
        rng = np.random.default_rng((options.seed, 1))
        topics = sorted({topic_of(c) for c in communities})
        topic_code = np.array([topics.index(topic_of(c)) for c in communities])
        # A few communities are known to everybody: weights fall with a shuffled rank.
        fame = (1.0 + rng.permutation(len(communities))) ** -0.5
        self._communities = communities
        self._interests: list[tuple[str, ...]] = []
        self._follows: list[Int64Array] = []
        for _ in range(self._n_viewers):
            n_interests = min(int(rng.integers(*_N_INTERESTS)), len(topics))
            own = rng.choice(len(topics), n_interests, replace=False)
            self._interests.append(tuple(topics[code] for code in own))
            weight = fame * np.where(np.isin(topic_code, own), _OF_INTEREST_WEIGHT, 1.0)
            wanted = int(_FOLLOWS_MEDIAN * np.exp(0.5 * rng.standard_normal()))
            n_follows = min(max(wanted, _MIN_FOLLOWS), len(communities))
            self._follows.append(rng.choice(len(communities), n_follows, replace=False, p=weight / weight.sum()))
        self._friends = self._draw_friends(rng)
        self._members: dict[str, Int64Array] = {}
        for code, community in enumerate(communities):
            members = [v for v in range(self._n_viewers) if code in self._follows[v]]
            self._members[community] = np.array(members, dtype=np.int64)

    def founding(self) -> Iterator[tuple[str, Payload]]:
        """Yield ``(key, payload)`` for the viewers' profiles and follows."""
        for viewer in range(self._n_viewers):
            user_id = viewer_id(viewer)
            followed = [self._communities[code] for code in self._follows[viewer]]
            languages = dict.fromkeys(["en", *(language_of(community) for community in followed)])
            profile = ProfileUpdated(
                user_id=user_id,
                name=f"Reader {viewer}",
                bio=f"Reads about {', '.join(self._interests[viewer])} (composite: a viewer made by seed).",
                interests=self._interests[viewer],
                languages=tuple(languages),
            )
            yield user_id, profile
            for community in followed:
                yield (
                    f"{user_id}>r/{community}",
                    FollowChanged(follower_id=user_id, followee_id=f"r/{community}"),
                )
            for friend in self._friends[viewer].tolist():
                follow = FollowChanged(follower_id=user_id, followee_id=viewer_id(friend))
                yield f"{user_id}>{viewer_id(friend)}", follow

    def reactions(
        self,
        post_id: str,
        community: str,
        n_ups: int,
        n_downs: int,
        time_ms: int,
        haste_ms: int,
        rng: np.random.Generator,
    ) -> Iterator[tuple[int, Payload]]:
        """Yield ``(time_ms, payload)`` of those who look at a post and of what they do.

        More look at what was voted up more (the logarithm of the votes), and more of them like it where the
        share of votes up was higher.

        Parameters
        ----------
        haste_ms
            Mean delay between post and look.
        """
        if not self._n_viewers:
            return
        heat = np.log10(1.0 + n_ups)
        members = self._members[community]
        # Where few follow, few look: otherwise a lone follower would have seen everything.
        n_members = rng.poisson((0.25 + heat) * (1.0 - _STRANGER_FRAC) * min(1.0, len(members) / _CROWD))
        n_strangers = rng.poisson((0.25 + heat) * _STRANGER_FRAC)
        lookers = rng.integers(0, self._n_viewers, n_strangers)
        if len(members):
            lookers = np.concatenate([members[rng.integers(0, len(members), n_members)], lookers])
        approval = (n_ups + 2.0) / (n_ups + n_downs + 4.0)
        for viewer in dict.fromkeys(lookers.tolist()):
            at_ms = time_ms + 1 + int(rng.exponential(haste_ms))
            draws = rng.random(len(_POSITIVE_RATES) + 1)
            user_id, post = viewer_id(viewer), f"t3_{post_id}"
            actions = [name for (name, rate), u in zip(_POSITIVE_RATES, draws, strict=False) if u < rate * approval]
            if draws[-1] < _NOT_INTERESTED_RATE:
                actions = ["not_interested"]
            dwell_ms = int(1000 * np.exp(0.9 + 0.6 * len(actions) + 0.8 * rng.standard_normal()))
            yield at_ms, Impression(viewer_id=user_id, post_id=post, dwell_ms=min(dwell_ms, 600_000))
            for action in actions:
                yield at_ms, Engagement(viewer_id=user_id, post_id=post, action=action)

    def _draw_friends(self, rng: np.random.Generator) -> list[Int64Array]:
        """A few other viewers who follow some of the same communities: without them nobody has social proof."""
        n = self._n_viewers
        if n < 2:
            return [np.empty(0, dtype=np.int64) for _ in range(n)]
        follows = np.zeros((n, len(self._communities)), dtype=np.float32)
        for viewer, codes in enumerate(self._follows):
            follows[viewer, codes] = 1.0
        friends = []
        for viewer in range(n):
            others = np.unique(rng.integers(0, n, 4 * _N_FRIENDS))
            others = others[others != viewer]
            shared = follows[others] @ follows[viewer]
            friends.append(np.sort(others[np.argsort(-shared, kind="stable")[:_N_FRIENDS]]))
        return friends


def viewer_id(viewer: int) -> str:
    """Return a made viewer's id."""
    return f"reader-{viewer}"
