"""`World`: people who join, follow, write, look and respond, slice by slice; told as events, with the truth kept here.

A slice of virtual time goes like this, whoever serves the pages: `World.open_slice` tells what comes of itself (people
join and follow, posts are written); `World.visitors` says who comes; for every page that they are shown,
`Encounters.look` says what comes of it and `World.absorb` remembers and tells it; `World.close_slice` tells the answers
that were written meanwhile. All sessions of a slice see the world as it was when the slice began. The world's own
history is made in the same way over a feed that is simple and stated (`millrace.simulator.visits`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from millrace.base.actions import Action
from millrace.events.envelope import AnyEvent
from millrace.simulator.config import DAY_MS, HOUR_MS, WorldConfig
from millrace.simulator.draws import Draws, Float64Array, Int64Array, Purpose
from millrace.simulator.encounters import Encounters, Looks, Slates, sums
from millrace.simulator.follows import Follows, make_schedule
from millrace.simulator.graph import make_graph
from millrace.simulator.mechanisms import make_mechanism
from millrace.simulator.mechanisms.law import Mechanism
from millrace.simulator.mechanisms.situation import COLUMN
from millrace.simulator.memory import Arrays, Memory
from millrace.simulator.narrator import Narrator, Told, telling_tag
from millrace.simulator.people import N_TOPICS, BoolArray, make_people
from millrace.simulator.posts import PostTable, draw_originals
from millrace.simulator.real_texts import RealTexts
from millrace.simulator.responses import RESPONSE_KINDS, ResponseQueue
from millrace.simulator.topics import interest_now, make_stories, topic_trend
from millrace.simulator.visits import Sessions, Shelf, draw_sessions, draw_visits
from millrace.simulator.vocabulary import Texts, Vocabulary

_SEARCH_FRAC: Final = 0.03
_KEYWORD_MUTE_FRAC: Final = 0.02
_HORIZON_DAYS: Final = 60
_USUAL_MOOD: Final = 0.03
_BORED_FACTOR: Final = 1.5
_UNFOLLOW_FRAC: Final = 0.002
_REACTIONS: Final = (Action.LIKE, Action.REPLY, Action.REPOST, Action.QUOTE)


class World:
    """A world and its hidden truth: people, graph, posts, laws, and what they remember.

    Parameters
    ----------
    config
        Its shape.
    now_ms
        The moment at which its history ends and a feed may take over.
    mechanism
        The law of behaviour; None for the one that the config names.
    texts
        Where the words come from; None for the vocabularies.

    Attributes
    ----------
    to_come
        After the history: what was told of times after it, such as deletions.
    """

    def __init__(
        self, config: WorldConfig, now_ms: int, mechanism: Mechanism | None = None, texts: Texts | None = None
    ) -> None:
        self.config = config
        self.now_ms = now_ms
        self.draws = Draws(config.seed)
        self.vocabulary = texts or make_texts(config)
        self.people = make_people(config, self.draws)
        graph = make_graph(config, self.draws, self.people)
        self.posts = PostTable()
        self.slice_ms = config.shape().slice_ms
        n_slices = -(-(config.history_ms + config.founding_ms) // self.slice_ms)
        self.begin_ms = now_ms - n_slices * self.slice_ms
        self.history_ms = now_ms - config.history_ms
        self.joined_ms = self._draw_joined()
        self.stories = make_stories(config, self.draws, self.history_ms, now_ms + _HORIZON_DAYS * DAY_MS)
        self.memory = Memory(self.people.n_users)
        self.follows = Follows(self.people.n_users)
        self.mechanism = mechanism or make_mechanism(config.mechanism, self.people, self.draws)
        self.encounters = Encounters(self.draws, self.people, self.posts, self.stories, self.mechanism, self.memory)
        self.estranged = np.empty(0, dtype=np.int64)
        self._n_written = np.zeros(self.people.n_users, dtype=np.int64)
        self._responses = ResponseQueue(self.draws, self.people, self.posts)
        self.narrator = Narrator(
            telling_tag(config.seed, now_ms),
            self.draws,
            self.people,
            self.posts,
            self.vocabulary,
            states_topics=config.states_topics,
        )
        self.to_come: list[AnyEvent] = []
        self._schedule = make_schedule(config, self.draws, graph, self.joined_ms, self.history_ms)

    def history(self) -> Iterator[AnyEvent]:
        """Yield everything that happens, ordered by time, ending just before ``now_ms``. To be called once."""
        held: list[Told] = []
        for start_ms in range(self.begin_ms, self.now_ms, self.slice_ms):
            stop_ms = start_ms + self.slice_ms
            held.extend(self._history_slice(start_ms, stop_ms))
            held.sort(key=_time_of)  # stable: what is told first comes first among equal times
            n_ready = _first_at(held, min(stop_ms, self.now_ms))
            yield from self.narrator.stamp(held[:n_ready])
            held = held[n_ready:]
        self.to_come = list(self.narrator.stamp(held))

    def _history_slice(self, start_ms: int, stop_ms: int) -> Iterator[Told]:
        yield from self.open_slice(start_ms, stop_ms)
        if stop_ms <= self.history_ms:
            return
        slates, sessions = self.visit(self.visitors(start_ms, stop_ms), start_ms)
        looks = self.encounters.look_without_rest(slates)  # nobody asks for the truth of the rest
        yield from self.absorb(looks)
        self.feel(sessions, looks, looks.slates.page)
        yield from self._told_searches(sessions)
        yield from self.close_slice(stop_ms)

    def open_slice(self, start_ms: int, stop_ms: int) -> Iterator[Told]:
        """Let what comes of itself happen, and tell it: people join and follow, posts are written."""
        narrator = self.narrator
        joins = np.flatnonzero((self.joined_ms >= start_ms) & (self.joined_ms < stop_ms))
        yield from narrator.profiles(joins, self.joined_ms[joins])
        yield from self._told_keyword_mutes(joins)
        follower, followee, times = self._schedule.follows.between(start_ms, stop_ms)
        yield from narrator.follows(follower, followee, times, is_following=True)
        self.follows.change(follower, followee, is_following=True)
        follower, followee, times = self._schedule.unfollows.between(start_ms, stop_ms)
        yield from narrator.follows(follower, followee, times, is_following=False)
        self.follows.change(follower, followee, is_following=False)
        spammers = joins[self.people.is_spammer[joins]]
        labelled_ms = np.maximum(self.history_ms, self.joined_ms[spammers]) + 4 * HOUR_MS
        yield from narrator.account_labels(spammers, labelled_ms)
        self.encounters.follow_keys = self.follows.keys
        if stop_ms <= self.history_ms:
            return
        self.encounters.interest = interest_now(self.config, self.draws, self.people, start_ms)
        self.memory.pass_time(stop_ms - start_ms)
        yield from self._told_originals(start_ms, stop_ms)

    def visitors(self, start_ms: int, stop_ms: int) -> Sessions:
        """Return who comes in a slice: who was pleased lately comes sooner, who was bored stays away."""
        pull = np.exp(self.config.mood_pull * (self.memory.mood - _USUAL_MOOD)) * (self.joined_ms <= start_ms)
        return draw_sessions(
            self.draws, self.people, np.minimum(pull, 3.0), self.memory.away_until_ms, start_ms, stop_ms
        )

    def visit(self, sessions: Sessions, start_ms: int) -> tuple[Slates, Sessions]:
        """Return the pages that visitors come across without any feed of ours, and the sessions that saw any."""
        shelf = Shelf(self.posts, start_ms, self.people.n_users, len(self.vocabulary.languages))
        visits = draw_visits(
            self.draws, self.people, self.follows.graph(), self.posts, shelf, self.memory, self.estranged, sessions
        )
        with_any, page = np.unique(visits.session, return_inverse=True)
        seen = Sessions(sessions.viewer[with_any], sessions.started_ms[with_any])
        slates = Slates(
            viewer=visits.viewer,
            row=visits.row,
            page=page,
            position=visits.position,
            began_ms=visits.started_ms,
            occasion_key=occasion_key(seen.started_ms, 0),
        )
        return slates, seen

    def absorb(self, looks: Looks, request_ids: Sequence[str | None] | None = None) -> Iterator[Told]:
        """Remember what came of pages, and tell it.

        Parameters
        ----------
        request_ids
            Per page, the id of the request that served it.
        """
        examined = np.flatnonzero(looks.is_examined)
        viewer, row = looks.slates.viewer[examined], looks.slates.row[examined]
        author, topic = looks.situation.author[examined], looks.situation.topic[examined]
        requests = None if request_ids is None else [request_ids[page] for page in looks.slates.page[examined].tolist()]
        left_ms, dwell_ms = looks.left_ms[examined], looks.dwell_ms[examined]
        yield from self.narrator.impressions(viewer, row, left_ms, dwell_ms, looks.slates.position[examined], requests)
        memory, did = self.memory, looks.did[examined].copy()
        memory.meet(viewer, row)
        memory.looked(viewer, author, topic)
        liked = did[:, COLUMN[Action.LIKE]]
        memory.liked(viewer[liked], row[liked], self.posts.n_posts)
        np.add.at(self.posts["n_likes"], row[liked], 1)
        for action in _REACTIONS:
            np.add.at(memory.reactions, author[did[:, COLUMN[action]]], 1.0)
        for action, kind in RESPONSE_KINDS.items():
            column = COLUMN[action]
            who = np.flatnonzero(did[:, column])
            did[who, column] = False  # told when the response is written
            self._responses.add(action, kind, viewer[who], row[who], left_ms[who])
        who, column_of = np.nonzero(did)
        early = self.draws.uniform(Purpose.ACTION_DELAY, viewer[who], looks.situation.key[examined][who], column_of, 1)
        before_ms = (early * np.minimum(dwell_ms[who], 5_000)).astype(np.int64)
        some = None if requests is None else [requests[i] for i in who.tolist()]
        yield from self.narrator.actions(viewer[who], row[who], column_of, left_ms[who] - before_ms, some)
        self._change_relations(viewer, author, did)
        yield from self._told_unfollows(looks, examined)

    def feel(self, sessions: Sessions, looks: Looks, session_of_item: Int64Array) -> Float64Array:
        """Let sessions change moods; return the satisfaction per look of each session, shape (n_sessions,).

        Who was bored leaves for longer.
        """
        n = len(sessions.viewer)
        satisfaction = self.encounters.realised(looks).satisfaction
        n_looks = sums(session_of_item, looks.is_examined.astype(np.float64), n)
        return self.felt(sessions, sums(session_of_item, satisfaction, n), n_looks)

    def felt(self, sessions: Sessions, total: Float64Array, n_looks: Float64Array) -> Float64Array:
        """Let sessions change moods by their summed satisfaction and number of looks, shape (n_sessions,) each."""
        viewer = sessions.viewer
        per_look = total / np.maximum(n_looks, 1.0)
        self.memory.feel(viewer, per_look)
        bored = (per_look < self.people.tolerance[viewer]) | (n_looks == 0)
        usual_ms = DAY_MS / self.people.sessions_per_day[viewer]
        u = self.draws.uniform(Purpose.AWAY, viewer, sessions.started_ms) if len(viewer) else np.empty(0)
        away_ms = np.where(bored, -np.log1p(-u) * _BORED_FACTOR * usual_ms, 0.0) * min(self.config.mood_pull, 1.0)
        self.memory.away_until_ms[viewer] = sessions.started_ms + away_ms.astype(np.int64)
        return per_look

    def close_slice(self, stop_ms: int) -> Iterator[Told]:
        """Tell of replies, reposts and quotes that are written before the slice ends; the others wait."""
        rows = self.posts.append(self._responses.due(stop_ms))
        np.add.at(self.memory.written, self.posts["author"][rows], 0.25)
        yield from self.narrator.posts(rows)
        yield from self.narrator.responses(rows)

    def arrays(self) -> dict[str, Arrays]:
        """Return all that has come about, to be written down between two slices."""
        posts = {name: self.posts[name] for name in self.posts.names}
        own = {
            "follows": self.follows.keys,
            "estranged": self.estranged,
            "n_written": self._n_written,
            "n_events": np.array([self.narrator.n_events]),
        }
        return {"posts": posts, "memory": self.memory.arrays(), "responses": self._responses.arrays(), "world": own}

    def load(self, arrays: Mapping[str, Mapping[str, npt.NDArray[Any]]]) -> None:
        """Take over what `arrays` gave; the world must be of the same config and ``now_ms``."""
        self.posts.load(arrays["posts"])
        self.memory.load(arrays["memory"])
        self._responses.load(arrays["responses"])
        own = arrays["world"]
        self.follows.keys = own["follows"].copy()
        self.estranged = own["estranged"].copy()
        self._n_written = own["n_written"].copy()
        self.narrator.n_events = int(own["n_events"][0])

    def _told_originals(self, start_ms: int, stop_ms: int) -> Iterator[Told]:
        effort = self.memory.effort(self.config.creator_pull) * (self.joined_ms <= start_ms)
        originals = draw_originals(
            self.config,
            self.draws,
            self.people,
            self._n_written,
            start_ms,
            stop_ms,
            effort=effort,
            trend=topic_trend(self.draws, start_ms),
            stories=self.stories,
        )
        rows = self.posts.append(originals)
        np.add.at(self.memory.written, originals["author"], 1.0)
        yield from self.narrator.posts(rows)
        yield from self.narrator.fates(rows)

    def _change_relations(self, viewer: Int64Array, author: Int64Array, did: BoolArray) -> None:
        """Follow whom one decided to follow, and part from whom one blocked or muted."""
        n = self.people.n_users
        followed = did[:, COLUMN[Action.FOLLOW_AUTHOR]]
        self.follows.change(viewer[followed], author[followed], is_following=True)
        blocked, muted = did[:, COLUMN[Action.BLOCK_AUTHOR]], did[:, COLUMN[Action.MUTE_AUTHOR]]
        apart = blocked | muted
        if apart.any():
            pairs = [viewer[apart] * n + author[apart], author[blocked] * n + viewer[blocked]]
            self.estranged = np.union1d(self.estranged, np.concatenate(pairs))

    def _told_unfollows(self, looks: Looks, examined: Int64Array) -> Iterator[Told]:
        """Tell who had enough of somebody they follow."""
        situation, liking = looks.situation, looks.response.liking
        viewer, key = looks.slates.viewer[examined], situation.key[examined]
        u = self.draws.uniform(Purpose.UNFOLLOW_BORED, viewer, key) if len(examined) else np.empty(0)
        bored = examined[situation.is_followed[examined] & (u < _UNFOLLOW_FRAC * (1.0 - liking[examined]))]
        follower, followee = looks.slates.viewer[bored], situation.author[bored]
        self.follows.change(follower, followee, is_following=False)
        yield from self.narrator.follows(follower, followee, looks.left_ms[bored], is_following=False)

    def _told_searches(self, sessions: Sessions) -> Iterator[Told]:
        viewer, started = sessions.viewer, sessions.started_ms
        bits = self.draws.bits(Purpose.SEARCH, viewer, started) if len(viewer) else np.empty(0, dtype=np.uint64)
        who = np.flatnonzero(bits % np.uint64(10_000) < np.uint64(int(_SEARCH_FRAC * 10_000)))
        yield from self.narrator.searches(viewer[who], (bits[who] >> np.uint64(2)).astype(np.int64), started[who])

    def _told_keyword_mutes(self, users: Int64Array) -> Iterator[Told]:
        u = self.draws.uniform(Purpose.KEYWORD_MUTE, users, 0) if len(users) else np.empty(0)
        who = users[u < _KEYWORD_MUTE_FRAC]
        topic = (self.draws.uniform(Purpose.KEYWORD_MUTE, who, 1) * N_TOPICS).astype(np.int64)
        foreign = self.people.interests[who, topic] == 0
        yield from self.narrator.keyword_mutes(who[foreign], topic[foreign], self.joined_ms[who[foreign]] + 60_000)

    def _draw_joined(self) -> Int64Array:
        """Founders join in the first third of the founding; the others one after the other once the history is over."""
        n_founders = self.config.shape().n_users
        u = self.draws.uniform(Purpose.JOINED, np.arange(self.people.n_users))
        joined = self.begin_ms + (u * (self.history_ms - self.begin_ms) / 3).astype(np.int64)
        n_late = self.people.n_users - n_founders
        if n_late:
            per_day = self.config.joins_per_day_frac * n_founders
            joined[n_founders:] = self.now_ms + ((np.arange(n_late) + u[n_founders:]) / per_day * DAY_MS).astype(
                np.int64
            )
        return joined


def make_texts(config: WorldConfig) -> Texts:
    """Return where a world's words come from."""
    languages = tuple(config.language_shares)
    return RealTexts(languages, Path(config.posts_path)) if config.posts_path else Vocabulary(languages)


def occasion_key(started_ms: Int64Array, page_no: Int64Array | int) -> Int64Array:
    """Return what the draws of a page hang on, shape (n,): the session's start and the number of the page."""
    return started_ms * 64 + page_no


def simulate_history(config: WorldConfig, now_ms: int) -> Iterator[AnyEvent]:
    """Yield the events of a world's history, ordered by time, the newest just before ``now_ms``.

    The same configuration and ``now_ms`` give the same events, byte for byte. Memory: the world's columns (about
    100 bytes a post, 8 bytes a meeting of viewer and post) and the events of one slice.

    Examples
    --------
    >>> events = list(simulate_history(WorldConfig(size="tiny", n_users=20), now_ms=1_800_000_000_000))
    >>> all(a.event_time_ms <= b.event_time_ms < 1_800_000_000_000 for a, b in zip(events, events[1:]))
    True
    """
    return World(config, now_ms).history()


def _time_of(told: Told) -> int:
    return told[0]


def _first_at(told: list[Told], time_ms: int) -> int:
    """Return how many are told before ``time_ms``."""
    low, high = 0, len(told)
    while low < high:
        middle = (low + high) // 2
        if told[middle][0] < time_ms:
            low = middle + 1
        else:
            high = middle
    return low
