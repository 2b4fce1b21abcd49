"""`EngagementModel`: the engagement store in plain dictionaries, as slow and as clear as can be.

Tests hold `millrace.stores.engagements` against it. It knows nothing of rows, arenas, forward decay or heaps: counters
are sums computed at one fixed base in float64, rings are lists cut to their newest.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from millrace.base.actions import DERIVED, SOCIAL_PROOF, Action, ActionSpace
from millrace.base.ids import IdKind, hash_id
from millrace.base.surfaces import surface_code
from millrace.events.content_events import CountsObserved, PostAnnotated, PostCreated, PostDeleted
from millrace.events.envelope import AnyEvent
from millrace.events.feed_events import Engagement, Impression
from millrace.events.user_events import UserErased
from millrace.stores.codes import fold_name
from millrace.stores.engagement_config import EngagementConfig
from millrace.testing.builders import NOW_MS

Entry = tuple[int, int, int, int, int, int]
"""Of a history: post, author, action, time, dwell, surface."""


Credit = tuple[int, tuple[str, ...]]
"""What a post's counts go to: its author (0: not known) and its topics."""


@dataclass
class _Post:
    author: int = 0
    topics: tuple[str, ...] = ()
    last_ms: int = 0
    is_deleted: bool = False
    engagers: list[tuple[int, int, int]] = field(default_factory=list)
    observed: dict[int, int] = field(default_factory=dict)
    counts: dict[tuple[int, int], float] = field(default_factory=dict)
    heat: float = 0.0

    @property
    def credit(self) -> Credit:
        return self.author, self.topics


@dataclass
class _View:
    first_ms: int
    credit: Credit
    longest_ms: int = -1
    is_complete: bool = False


class EngagementModel:
    """The naive model of one engagement store.

    Parameters
    ----------
    config
        As the store's.
    actions
        As the store's.
    """

    def __init__(self, config: EngagementConfig, actions: ActionSpace | None = None) -> None:
        self.config = config
        self.actions = actions or ActionSpace()
        self.posts: dict[int, _Post] = {}
        self.marks: dict[tuple[int, int, int], tuple[int, bool, Credit]] = {}
        self.views: dict[tuple[int, int], _View] = {}
        self.author_counts: dict[int, dict[tuple[int, int], float]] = {}
        self.topic_counts: dict[str, dict[tuple[int, int], float]] = {}
        self.histories: dict[int, list[Entry]] = {}
        self.engaged: dict[int, list[tuple[int, int, int]]] = {}

    def apply(self, event: AnyEvent, appended_ms: int | None = None) -> None:
        """Apply one event."""
        payload = event.payload
        at_ms = event.event_time_ms if appended_ms is None else min(event.event_time_ms, appended_ms)
        if isinstance(payload, UserErased):
            self._erase(hash_id(IdKind.USER, payload.user_id), at_ms)
            return
        handled = PostCreated, PostAnnotated, Engagement, Impression, CountsObserved, PostDeleted
        if not isinstance(payload, handled) or (isinstance(payload, PostAnnotated) and payload.topics is None):
            return
        post_id = hash_id(IdKind.POST, payload.post_id)
        post = self.posts.setdefault(post_id, _Post())
        post.last_ms = max(post.last_ms, at_ms)
        if post.is_deleted:
            return
        if isinstance(payload, PostCreated):
            post.author = post.author or hash_id(IdKind.USER, payload.author_id)
        elif isinstance(payload, PostAnnotated):
            post.topics = tuple(dict.fromkeys(fold_name(name) for name in payload.topics or ()))[:3]
        elif isinstance(payload, CountsObserved):
            names = [*self.actions.names, "impression"]
            post.observed.update({names.index(name): total for name, total in payload.counts.items()})
        elif isinstance(payload, PostDeleted):
            self._delete(post)
        elif isinstance(payload, Engagement):
            user_id = hash_id(IdKind.USER, payload.viewer_id)
            action, surface = self.actions.code(payload.action), surface_code(payload.context.surface)
            self._engage(post_id, user_id, at_ms, action, surface, is_undo=payload.is_undo)
        else:
            user_id = hash_id(IdKind.USER, payload.viewer_id)
            surface = surface_code(payload.context.surface)
            self._impress(post_id, user_id, at_ms, payload.dwell_ms, payload.duration_ms, surface)

    def expire(self, watermark_ms: int) -> None:
        """Forget everything that the retention has left behind."""
        before_ms = watermark_ms - self.config.retention_ms
        self.posts = {post_id: post for post_id, post in self.posts.items() if post.last_ms >= before_ms}
        self.marks = {key: mark for key, mark in self.marks.items() if mark[0] >= before_ms}
        self.views = {key: view for key, view in self.views.items() if view.first_ms >= before_ms}

    def decayed(
        self, counts: dict[tuple[int, int], float], half_lives_ms: tuple[int, ...], now_ms: int
    ) -> list[list[float]]:
        """Return counters as (half-lives, columns), decayed to ``now_ms``."""
        n_columns = len(self.actions) + 1
        return [
            [counts.get((h, column), 0.0) / _growth(now_ms, half_life_ms) for column in range(n_columns)]
            for h, half_life_ms in enumerate(half_lives_ms)
        ]

    def popular(self, now_ms: int) -> dict[int, float]:
        """Return all posts with heat, decayed to ``now_ms``."""
        growth = _growth(now_ms, self.config.heat_half_life_ms)
        return {post_id: post.heat / growth for post_id, post in self.posts.items() if post.heat > 1e-6}

    def affinity(self, viewer_id: int, author_id: int, now_ms: int) -> float:
        """Return the decayed weight of a viewer's positive actions on an author's posts."""
        total = 0.0
        for _, author, action, at_ms, *_ in self.histories.get(viewer_id, []):
            if author == author_id:
                weight = self.config.heat_weights.get(self.actions.names[action], 0.0)
                total += weight * 2.0 ** (-max(now_ms - at_ms, 0) / self.config.affinity_half_life_ms)
        return total

    def second_degree(
        self, seeds: list[int], *, since_ms: int, max_per_seed: int, exclude_user: int
    ) -> list[tuple[int, int, list[int]]]:
        """Return (post, number of proofs, newest three proofs), best first."""
        proofs: dict[int, dict[int, int]] = {}
        for seed in dict.fromkeys(seeds):
            if seed == exclude_user:
                continue
            fitting = [e for e in reversed(self.engaged.get(seed, [])) if e[1] in SOCIAL_PROOF and e[2] >= since_ms]
            for post_id, _, at_ms in fitting[:max_per_seed]:
                proofs.setdefault(post_id, {}).setdefault(seed, at_ms)
        rows = []
        for post_id, by_seed in proofs.items():
            post = self.posts.get(post_id)
            if post is None or post.is_deleted or post.author == exclude_user:
                continue
            newest = sorted(by_seed, key=lambda seed: (-by_seed[seed], seed))[:3]
            rows.append((len(by_seed), max(by_seed.values()), post_id, newest))
        rows.sort(key=lambda row: (-row[0], -row[1], row[2]))
        return [(post_id, n, newest) for n, _, post_id, newest in rows]

    def _engage(self, post_id: int, user_id: int, at_ms: int, action: int, surface: int, *, is_undo: bool) -> None:
        key = user_id, post_id, action
        credit = self.posts[post_id].credit
        marked_ms, holds, given_to = self.marks.get(key, (-1, False, credit))
        if is_undo:
            if holds and at_ms >= marked_ms:
                self._count(post_id, action, -1.0, marked_ms, given_to)
                self._drop(post_id, user_id, action)
                self.marks[key] = at_ms, False, credit
            elif not holds:
                self.marks[key] = max(at_ms, marked_ms), False, credit
            return
        if holds or at_ms <= marked_ms:
            return
        self.marks[key] = at_ms, True, credit
        self._count(post_id, action, 1.0, at_ms)
        self._remember(post_id, user_id, action, at_ms, 0, surface)
        if self.actions.names[action] in self.config.indexed_actions:
            engagers = self.posts[post_id].engagers
            engagers.append((user_id, action, at_ms))
            del engagers[: -self.config.max_engagers]
            engaged = self.engaged.setdefault(user_id, [])
            engaged.append((post_id, action, at_ms))
            del engaged[: -self.config.max_engaged]

    def _impress(self, post_id: int, user_id: int, at_ms: int, dwell_ms: int, duration_ms: int, surface: int) -> None:
        thresholds = self.config.dwell
        view = self.views.get((user_id, post_id))
        before: set[int] = set()
        if view is None:
            view = self.views[user_id, post_id] = _View(first_ms=at_ms, credit=self.posts[post_id].credit)
            self._count(post_id, len(self.actions), 1.0, at_ms)
        else:
            before = self._family(view)
        old_ms = max(view.longest_ms, 0)
        new_ms = max(old_ms, min(dwell_ms, thresholds.max_ms))
        is_new = view.longest_ms < 0
        view.longest_ms = new_ms
        view.is_complete = view.is_complete or 0 < duration_ms <= dwell_ms
        after = self._family(view)
        if not is_new and new_ms == old_ms and after == before:
            return
        if new_ms > old_ms:
            self._count(post_id, Action.DWELL_TIME, (new_ms - old_ms) / 1000, at_ms)
        for action in after - before:
            self._count(post_id, action, 1.0, at_ms)
        for action in before - after:
            self._count(post_id, action, -1.0, view.first_ms, view.credit)
        if not is_new:
            self._forget(post_id, user_id, _strongest(before))
        self._remember(post_id, user_id, _strongest(after), at_ms, new_ms, surface)

    def _family(self, view: _View) -> set[int]:
        found: set[int] = set()
        if view.longest_ms < self.config.dwell.short_ms:
            found.add(Action.NOT_DWELLED)
        if view.longest_ms > self.config.dwell.valid_ms:
            found.add(Action.DWELL)
        if view.is_complete:
            found.add(Action.COMPLETE)
        return found

    def _count(self, post_id: int, column: int, amount: float, at_ms: int, credit: Credit | None = None) -> None:
        post = self.posts[post_id]
        author, topics = credit or post.credit
        _add(post.counts, self.config.post_half_lives_ms, column, amount, at_ms)
        if author:
            counts = self.author_counts.setdefault(author, {})
            _add(counts, self.config.author_half_lives_ms, column, amount, at_ms)
        for topic in topics:
            _add(self.topic_counts.setdefault(topic, {}), self.config.topic_half_lives_ms, column, amount, at_ms)
        names = [*self.actions.names, "impression"]
        weight = self.config.heat_weights.get(names[column], 0.0)
        post.heat = max(post.heat + weight * amount * _growth(at_ms, self.config.heat_half_life_ms), 0.0)

    def _remember(self, post_id: int, user_id: int, action: int, at_ms: int, dwell_ms: int, surface: int) -> None:
        history = self.histories.setdefault(user_id, [])
        if len(history) == self.config.max_history:
            older = history[: len(history) // 2]
            glances = [place for place, entry in enumerate(older) if entry[2] in DERIVED]
            del history[glances[0] if glances else 0]
        history.append((post_id, self.posts[post_id].author, int(action), at_ms, dwell_ms, surface))

    def _forget(self, post_id: int, user_id: int, action: int) -> None:
        history = self.histories.get(user_id, [])
        for place in range(len(history) - 1, -1, -1):
            if history[place][0] == post_id and history[place][2] == action:
                del history[place]
                return

    def _drop(self, post_id: int, user_id: int, action: int) -> None:
        self._forget(post_id, user_id, action)
        post = self.posts[post_id]
        post.engagers = [e for e in post.engagers if e[:2] != (user_id, action)]
        self.engaged[user_id] = [e for e in self.engaged.get(user_id, []) if e[:2] != (post_id, action)]

    def _delete(self, post: _Post) -> None:
        post.is_deleted = True
        post.topics, post.engagers, post.observed, post.counts, post.heat = (), [], {}, {}, 0.0

    def _erase(self, user_id: int, at_ms: int) -> None:
        for post in self.posts.values():
            if post.author == user_id:
                self._delete(post)
                post.author = 0
                post.last_ms = max(post.last_ms, at_ms)
            post.engagers = [e for e in post.engagers if e[0] != user_id]
        for user, history in self.histories.items():
            self.histories[user] = [(p, 0 if a == user_id else a, x, t, d, s) for p, a, x, t, d, s in history]
        self.histories.pop(user_id, None)
        self.engaged.pop(user_id, None)
        self.author_counts.pop(user_id, None)


def _strongest(family: set[int]) -> int:
    for action in (Action.COMPLETE, Action.DWELL, Action.NOT_DWELLED):
        if action in family:
            return action
    return Action.DWELL_TIME


def _growth(at_ms: int, half_life_ms: int) -> float:
    return 2.0 ** ((at_ms - NOW_MS) / half_life_ms) if half_life_ms else 1.0


def _add(
    counts: dict[tuple[int, int], float], half_lives_ms: tuple[int, ...], column: int, amount: float, at_ms: int
) -> None:
    for h, half_life_ms in enumerate(half_lives_ms):
        value = counts.get((h, int(column)), 0.0) + amount * _growth(at_ms, half_life_ms)
        counts[h, int(column)] = max(value, 0.0)
