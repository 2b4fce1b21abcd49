"""The world's law of behaviour as simulators are usually written: in plain Python, viewer by viewer, post by post.

`PerUserLoop` is the baseline of `bench_world.py`: the same distributions as `millrace.simulator.encounters` from the
same numbers, written to be quick for what it is. It stops at the first post that is not looked at, what is fixed about
a post is put together beforehand (rates with the post's arousal, the actions possible with it), memory is dicts and
deques. It draws from `HashedDraws` (the world's own counter-based draws: it then does exactly what the engine does)
or from `FreeDraws` (``random.Random``, the quickest there is: timed).
"""

# ruff: noqa: ARG002 - what draws freely needs no keys

from __future__ import annotations

import math
import random
from collections import defaultdict, deque
from typing import Any, Final, Protocol

import numpy as np

from millrace.base.actions import Action
from millrace.simulator.acts import MAX_DWELL_S, MIN_DWELL_S, engaged_shifts
from millrace.simulator.config import HOUR_MS
from millrace.simulator.draws import Draws, Purpose
from millrace.simulator.mechanisms.law import rates
from millrace.simulator.mechanisms.situation import COLUMN, DISLIKES, N_FRIENDLY, WORLD_ACTIONS
from millrace.simulator.memory import N_LIKERS, N_RECENT
from millrace.simulator.posts import IMAGE, QUOTE, REPLY, VIDEO
from millrace.simulator.world import World

_AROUSAL: Final = 99
_LIKE: Final = COLUMN[Action.LIKE]
_FOLLOW: Final = COLUMN[Action.FOLLOW_AUTHOR]
_STORY_RISE_MS: Final = HOUR_MS // 2

Look = tuple[int, list[int], int]
"""Row, columns of the actions done, dwell in milliseconds."""

LookDraws = tuple[float, float, list[float], float]


class LoopDraws(Protocol):
    """What a loop asks of randomness."""

    def page(self, viewer: int, occasion_key: int) -> float:
        """How far somebody scrolls: a uniform."""

    def taste(self, viewer: int, author: int) -> float:
        """A lasting standard normal of two people."""

    def noise(self, viewer: int, row: int) -> float:
        """A lasting standard normal of a viewer and a post."""

    def look(self, viewer: int, row: int, occasion: int) -> LookDraws:
        """Uniforms for being annoyed, for being engaged, and for each friendly action; a normal for dwelling."""


class FreeDraws:
    """Draws from ``random.Random``; what lasts is kept in a dict."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._tastes: dict[tuple[int, int], float] = {}
        self._noises: dict[tuple[int, int], float] = {}

    def page(self, viewer: int, occasion_key: int) -> float:
        return self._random.random()

    def taste(self, viewer: int, author: int) -> float:
        known = self._tastes.get((viewer, author))
        if known is None:
            known = self._tastes[viewer, author] = self._random.gauss(0.0, 1.0)
        return known

    def noise(self, viewer: int, row: int) -> float:
        known = self._noises.get((viewer, row))
        if known is None:
            known = self._noises[viewer, row] = self._random.gauss(0.0, 1.0)
        return known

    def look(self, viewer: int, row: int, occasion: int) -> LookDraws:
        draw = self._random.random
        return draw(), draw(), [draw() for _ in range(N_FRIENDLY)], self._random.gauss(0.0, 1.0)


class HashedDraws:
    """The world's own draws, one at a time: slow, and the same as the engine's."""

    def __init__(self, draws: Draws, keys: np.ndarray) -> None:
        self._draws = draws
        self._keys = keys
        self._codes = np.array([int(action) for action in WORLD_ACTIONS[:N_FRIENDLY]])

    def page(self, viewer: int, occasion_key: int) -> float:
        return float(self._draws.uniform(Purpose.EXAMINE, viewer, occasion_key)[0])

    def taste(self, viewer: int, author: int) -> float:
        return float(self._draws.normal(Purpose.AUTHOR_TASTE, viewer, author)[0])

    def noise(self, viewer: int, row: int) -> float:
        return float(self._draws.normal(Purpose.NOISE, viewer, self._keys[row])[0])

    def look(self, viewer: int, row: int, occasion: int) -> LookDraws:
        draws, key = self._draws, self._keys[row]
        return (
            float(draws.uniform(Purpose.ANNOYED, viewer, key, occasion)[0]),
            float(draws.uniform(Purpose.ENGAGED, viewer, key, occasion)[0]),
            draws.uniform(Purpose.ACTION, viewer, key, occasion, self._codes).tolist(),
            float(draws.normal(Purpose.DWELL, viewer, key, occasion)[0]),
        )


class PerUserLoop:
    """A world's people before slates, one after the other.

    Parameters
    ----------
    world
        Whose numbers, and whose memory to begin with, are copied.
    draws
        All randomness.
    """

    def __init__(self, world: World, draws: LoopDraws) -> None:
        self.law = world.mechanism.law
        self.draws = draws
        people, memory, n = world.people, world.memory, world.people.n_users
        self._language, self._second = people.language.tolist(), people.second_language.tolist()
        self._propensity, self._silent = people.propensity.tolist(), people.is_silent.tolist()
        self._patience, self._interest = people.patience.tolist(), world.encounters.interest.tolist()
        self._dislikes = rates(self.law, DISLIKES)
        self._own = [own.tolist() for own in getattr(world.mechanism, "_own", [])]
        self._groups = [(g.own_interest, g.own_quality) for g in self.law.groups.values()]
        self._posts = _posts_of(world)
        stories = world.stories
        self._stories = list(
            zip(stories.broke_ms.tolist(), stories.size.tolist(), stories.half_life_ms.tolist(), strict=True)
        )
        self._follows: list[set[int]] = [set() for _ in range(n)]
        for key in world.encounters.follow_keys.tolist():
            self._follows[key // n].add(key % n)
        self._topic_looks = memory.topic_looks.tolist()
        self._recent = [_recent_of(memory.recent_authors[v], int(memory.recent_at[v])) for v in range(n)]
        self._author_looks: list[defaultdict[int, int]] = [defaultdict(int) for _ in range(n)]
        for counts, recent in zip(self._author_looks, self._recent, strict=True):
            for author in recent:
                counts[author] += 1
        self._met: list[defaultdict[int, int]] = [defaultdict(int) for _ in range(n)]
        for key in memory.meetings.tolist():
            self._met[key >> 32][key & 0xFFFFFFFF] += 1
        self._likers: list[deque[int]] = [deque(maxlen=N_LIKERS) for _ in range(world.posts.n_posts)]
        for row in range(min(len(self._likers), len(memory.n_likers))):
            count = int(memory.n_likers[row])
            slots = [slot % N_LIKERS for slot in range(max(0, count - N_LIKERS), count)]
            self._likers[row].extend(int(memory.likers[row, slot]) for slot in slots)
        self._likes: list[tuple[int, int]] = []

    def round_is_over(self) -> None:
        """Let everybody's likes of a round be known; within it all see the world as it was."""
        for viewer, row in self._likes:
            self._likers[row].append(viewer)
        self._likes = []

    def look(  # noqa: C901 - in one piece: a call for every part would cost more than the part
        self, viewer: int, rows: list[int], began_ms: int, occasion_key: int
    ) -> list[Look]:
        """Return what one viewer does with one page, and remember it."""
        law, draws = self.law, self.draws
        affinity_law, dwell_law, is_cloglog = law.affinity, law.dwell, law.link == "cloglog"
        interests, follows, met = self._interest[viewer], self._follows[viewer], self._met[viewer]
        author_looks, topic_looks = self._author_looks[viewer], self._topic_looks[viewer]
        language, second = self._language[viewer], self._second[viewer]
        propensity, silent = self._propensity[viewer], law.silent_factor if self._silent[viewer] else 1.0
        engaged_frac, engaged_ratio = law.engaged_frac, law.engaged_ratio
        shift_high, shift_low = engaged_shifts(law)
        u_page, patience = draws.page(viewer, occasion_key), self._patience[viewer]
        above_authors: list[int] = []
        above_topics: list[int] = []
        looks: list[Look] = []
        contrast = 0.0
        for position, row in enumerate(rows):
            if u_page >= math.exp(-position / patience):
                break  # nobody looks further down than where they stopped
            author, topic, post_language, quality, created_ms, story, media, duration_ms, spam, facets, actions = (
                self._posts[row]
            )
            is_followed = author in follows
            proofs = 0
            for liker in self._likers[row]:
                if liker in follows:
                    proofs += 1
            common = (
                affinity_law.author_taste * draws.taste(viewer, author)
                + affinity_law.proof * math.log1p(proofs)
                + affinity_law.fresh
                * 2.0 ** (-max(began_ms - created_ms, 0) / (affinity_law.fresh_half_life_h * HOUR_MS))
            )
            if is_followed:
                common += affinity_law.followed
            if story >= 0:
                common += affinity_law.story * min(self._heat(story, began_ms), 1.0)
            if post_language not in (language, second):
                common -= affinity_law.foreign
            if spam:
                common -= affinity_law.spam
            if affinity_law.noise:
                common += affinity_law.noise * draws.noise(viewer, row)
            n_author = author_looks.get(author, 0) + above_authors.count(author)
            n_topic = topic_looks[topic] + above_topics.count(topic)
            tired = (
                affinity_law.author_fatigue * min(n_author, 6.0)
                + affinity_law.topic_fatigue * n_topic / (n_topic + 10.0)
                + affinity_law.contrast * contrast
            )
            if facets:
                pairs = [
                    (
                        (1 - own_interest) * interests[topic] + own_interest * own[viewer][topic],
                        (1 - own_quality) * quality + own_quality * facet,
                    )
                    for (own_interest, own_quality), own, facet in zip(self._groups, self._own, facets, strict=True)
                ]
            else:
                pairs = [(interests[topic], quality)]
            alone_sum, likings = 0.0, []
            for interest, good in pairs:
                affinity = (
                    affinity_law.interest * interest**affinity_law.interest_power
                    + affinity_law.quality * good**affinity_law.quality_power
                    + common
                )
                x = law.steepness * (affinity - law.midpoint)
                y = law.steepness * (affinity - tired - law.midpoint)
                if is_cloglog:
                    alone_sum -= math.expm1(-math.exp(min(x, 30.0)))
                    likings.append(-math.expm1(-math.exp(min(y, 30.0))))
                else:
                    alone_sum += 1.0 / (1.0 + math.exp(-x))
                    likings.append(1.0 / (1.0 + math.exp(-y)))
            liking = sum(likings) / len(likings)
            contrast = alone_sum / len(likings) - 0.5
            occasion = met.get(row, 0)
            u_annoyed, u_engaged, us, z = draws.look(viewer, row, occasion)
            reluctance = 1.0 - liking
            if spam:
                reluctance *= law.spam_factor
            if is_followed:
                reluctance *= law.followed_dislike_factor
            dislikes = [reluctance * rate for rate in self._dislikes]
            annoyed = sum(dislikes)
            if annoyed > 0.5:
                dislikes = [p * 0.5 / annoyed for p in dislikes]
                annoyed = 0.5
            did: list[int] = []
            is_engaged = u_engaged < engaged_frac
            if u_annoyed < annoyed:
                passed, column = 0.0, N_FRIENDLY - 1
                for p in dislikes:
                    passed += p
                    column += 1
                    if u_annoyed < passed:
                        break
                did.append(column)
            else:
                for column, rate, group, power, is_roused in actions:
                    if column == _FOLLOW and is_followed:
                        continue
                    p = likings[group] * rate if power == 1.0 else likings[group] ** power * rate
                    p *= propensity
                    if is_roused:
                        p *= silent
                    p = min(p, 0.95)
                    high = min(p * engaged_ratio, 1.0)
                    if not is_engaged:
                        high = (p - engaged_frac * high) / (1.0 - engaged_frac)
                    if us[column] < high:
                        did.append(column)
                        if column == _LIKE:
                            self._likes.append((viewer, row))
            base_s = dwell_law.base_s
            if media == VIDEO:
                base_s += dwell_law.video_frac * liking * duration_ms / 1000
            mu = math.log(base_s) + dwell_law.by_liking * liking + (shift_high if is_engaged else shift_low)
            seconds = math.exp(mu + dwell_law.sigma * z)
            looks.append((row, did, int(min(max(seconds, MIN_DWELL_S), MAX_DWELL_S) * 1000)))
            above_authors.append(author)
            above_topics.append(topic)
        recent = self._recent[viewer]
        for row, _, _ in looks:
            met[row] += 1
        for author, topic in zip(above_authors, above_topics, strict=True):
            if len(recent) == N_RECENT:
                author_looks[recent.popleft()] -= 1
            recent.append(author)
            author_looks[author] += 1
            topic_looks[topic] += 1.0
        return looks

    def _heat(self, story: int, time_ms: int) -> float:
        broke_ms, size, half_life_ms = self._stories[story]
        age = time_ms - broke_ms
        return size * min(age / _STORY_RISE_MS, 1.0) * 2.0 ** (-age / half_life_ms) if age >= 0 else 0.0


def _recent_of(ring: np.ndarray, count: int) -> deque[int]:
    return deque(int(ring[at % N_RECENT]) for at in range(max(0, count - N_RECENT), count))


def _posts_of(world: World) -> list[tuple[Any, ...]]:
    """Return all that is fixed about every post, put together as the loop wants it."""
    law, posts, draws = world.mechanism.law, world.posts, world.draws
    keys, n = posts["key"], posts.n_posts
    arousal = draws.normal(Purpose.FACET, keys, _AROUSAL).tolist()
    facets = [draws.uniform(Purpose.FACET, keys, g).tolist() for g in range(len(law.groups))]
    group_by_name = {name: g for g, group in enumerate(law.groups.values()) for name in group.actions}
    names = ("author", "topic", "language", "quality", "created_ms", "story", "media", "duration_ms", "is_spam")
    fixed = zip(*(posts[name].tolist() for name in names), strict=True)
    kinds, links = posts["kind"].tolist(), posts["has_link"].tolist()
    friendly = [
        (COLUMN[a], rate, group_by_name.get(a.label, 0), law.powers.get(a.label, 1.0), law.arousal.get(a.label))
        for a, rate in zip(WORLD_ACTIONS[:N_FRIENDLY], rates(law, WORLD_ACTIONS[:N_FRIENDLY]), strict=True)
    ]
    records = []
    for row, columns in zip(range(n), fixed, strict=True):
        impossible = _impossible(kinds[row], columns[6], has_link=links[row])
        actions = tuple(
            (c, rate * (1.0 if s is None else math.exp(s * arousal[row] - 0.5 * s * s)), group, power, s is not None)
            for c, rate, group, power, s in friendly
            if c not in impossible
        )
        records.append((*columns, tuple(facet[row] for facet in facets), actions))
    return records


def _impossible(kind: int, media: int, *, has_link: bool) -> set[int]:
    possible = {
        Action.PHOTO_EXPAND: media == IMAGE,
        Action.VIDEO_VIEW: media == VIDEO,
        Action.LINK_OPEN: has_link,
        Action.QUOTE_CLICK: kind == QUOTE,
        Action.REPOST: kind != REPLY,
    }
    return {COLUMN[action] for action, holds in possible.items() if not holds}
