"""The world told as events: from columns to payloads. What it does not write here stays hidden truth."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from millrace.base.actions import Action
from millrace.events.content_events import LabelChanged, Media, PostAnnotated, PostCreated, PostDeleted, PostEdited
from millrace.events.envelope import AnyEvent, Context, Event, Payload
from millrace.events.feed_events import Engagement, Impression
from millrace.events.user_events import BlockChanged, FollowChanged, MuteChanged, ProfileUpdated, Search
from millrace.simulator.draws import Draws, Int64Array, Purpose
from millrace.simulator.mechanisms.situation import WORLD_ACTIONS
from millrace.simulator.people import People
from millrace.simulator.posts import IMAGE, KIND_NAMES, NEVER, QUOTE, REPLY, REPOST, VIDEO, PostTable
from millrace.simulator.vocabulary import TOPICS, Texts

SOURCE: Final = "demo-world"
PRODUCER: Final = "demo-world"
PRODUCER_VERSION: Final = "1"

Told = tuple[int, Payload]
"""An event's time and payload, before it has an id."""

_FEED: Final = Context(surface="home")
_ACTION_NAMES: Final = tuple(action.label for action in WORLD_ACTIONS)
_ACTION_BY_KIND: Final = {REPLY: "reply", REPOST: "repost", QUOTE: "quote"}
_N_NAMED_TOPICS: Final = 2


class Narrator:
    """Puts what happens into payloads.

    Parameters
    ----------
    tag
        Distinguishes this telling's posts and events from those of other worlds and times; people's ids are
        without it, so that the same people are met again.
    states_topics
        Whether topics are told to the system.
    """

    def __init__(
        self,
        tag: str,
        draws: Draws,
        people: People,
        posts: PostTable,
        vocabulary: Texts,
        *,
        states_topics: bool = False,
    ) -> None:
        self._tag = tag
        self._people = people
        self._posts = posts
        self._vocabulary = vocabulary
        self._user_ids = [f"u{i}" for i in range(people.n_users)]
        self._name_keys = draws.bits(Purpose.NAME, np.arange(people.n_users)).tolist()
        self._states_topics = states_topics
        self.n_events = 0

    def stamp(self, told: list[Told]) -> Iterator[AnyEvent]:
        """Yield events with ids in order of telling."""
        for time_ms, payload in told:
            self.n_events += 1
            yield Event(
                event_id=f"w-{self._tag}-{self.n_events}", event_time_ms=time_ms, source=SOURCE, payload=payload
            )

    def user_id(self, user: int) -> str:
        """Return a person's outside id."""
        return self._user_ids[user]

    def post_id(self, row: int) -> str:
        """Return a post's outside id."""
        return f"p-{self._tag}-{int(self._posts['key'][row]):016x}"

    def profiles(self, users: Int64Array, times_ms: Int64Array) -> Iterator[Told]:
        """Tell who joined."""
        people, vocabulary = self._people, self._vocabulary
        top = people.top_topics()[users].tolist()
        for user, time_ms, topics in zip(users.tolist(), times_ms.tolist(), top, strict=True):
            language, second, key = int(people.language[user]), int(people.second_language[user]), self._name_keys[user]
            yield (
                time_ms,
                ProfileUpdated(
                    user_id=self._user_ids[user],
                    name=vocabulary.name(language, key),
                    bio=vocabulary.bio(language, topics[0], topics[1], key),
                    interests=tuple(TOPICS[t] for t in topics[:_N_NAMED_TOPICS]) if self._states_topics else None,
                    languages=tuple(vocabulary.languages[code] for code in (language, second) if code >= 0),
                    is_verified=bool(people.is_verified[user]),
                    settings={"sensitive_media": "show"} if people.shows_sensitive[user] else None,
                ),
            )

    def keyword_mutes(self, users: Int64Array, topics: Int64Array, times_ms: Int64Array) -> Iterator[Told]:
        """Tell who muted a word."""
        for user, topic, time_ms in zip(users.tolist(), topics.tolist(), times_ms.tolist(), strict=True):
            word = self._vocabulary.thing(int(self._people.language[user]), topic, self._name_keys[user])
            yield time_ms, MuteChanged(muter_id=self._user_ids[user], keyword=word)

    def follows(
        self, followers: Int64Array, followees: Int64Array, times_ms: Int64Array, *, is_following: bool
    ) -> Iterator[Told]:
        """Tell who follows, or no longer follows, whom."""
        ids = self._user_ids
        for follower, followee, time_ms in zip(followers.tolist(), followees.tolist(), times_ms.tolist(), strict=True):
            yield (
                time_ms,
                FollowChanged(follower_id=ids[follower], followee_id=ids[followee], is_following=is_following),
            )

    def posts(self, rows: Int64Array) -> Iterator[Told]:
        """Tell of posts, of what the world's own annotator says about them, and of their labels."""
        posts, vocabulary = self._posts, self._vocabulary
        for row in rows.tolist():
            created_ms, kind = int(posts["created_ms"][row]), int(posts["kind"][row])
            language, topic = int(posts["language"][row]), int(posts["topic"][row])
            parent = int(posts["parent"][row])
            post_id = self.post_id(row)
            is_spam = bool(posts["is_spam"][row])
            yield (
                created_ms,
                PostCreated(
                    post_id=post_id,
                    author_id=self._user_ids[int(posts["author"][row])],
                    kind=KIND_NAMES[kind],
                    text=self._text(row, kind, language, topic, is_spam=is_spam),
                    media=self._media(row, language, topic),
                    parent_id=self.post_id(parent) if parent >= 0 else None,
                    parent_author_id=self._user_ids[int(posts["author"][parent])] if parent >= 0 else None,
                    conversation_id=self.post_id(int(posts["root"][row])) if kind == REPLY else None,
                    is_sensitive=bool(posts["is_sensitive"][row]),
                    link=f"https://example.org/read/{row}" if posts["has_link"][row] else "",
                ),
            )
            yield (
                created_ms + 400,
                PostAnnotated(
                    post_id=post_id,
                    producer=PRODUCER,
                    producer_version=PRODUCER_VERSION,
                    language=vocabulary.languages[language],
                    topics=None if not self._states_topics else () if is_spam else (TOPICS[topic],),
                ),
            )
            if is_spam or posts["is_sensitive"][row]:
                label = "spam" if is_spam else "nsfw"
                yield created_ms + 90_000, LabelChanged(label=label, post_id=post_id, reason="demo world")

    def account_labels(self, users: Int64Array, times_ms: Int64Array) -> Iterator[Told]:
        """Tell which accounts were labelled as spam."""
        for user, time_ms in zip(users.tolist(), times_ms.tolist(), strict=True):
            yield time_ms, LabelChanged(label="spam", user_id=self._user_ids[user], reason="demo world")

    def fates(self, rows: Int64Array) -> Iterator[Told]:
        """Tell what later becomes of posts: corrections and deletions, with times of their own."""
        posts = self._posts
        for row in rows[(posts["edited_ms"][rows] != NEVER) & ~posts["is_spam"][rows]].tolist():
            language = int(posts["language"][row])
            text = self._text(row, int(posts["kind"][row]), language, int(posts["topic"][row]), is_spam=False)
            edited = self._vocabulary.edited(language, text)
            yield int(posts["edited_ms"][row]), PostEdited(post_id=self.post_id(row), text=edited)
        for row in rows[posts["deleted_ms"][rows] != NEVER].tolist():
            yield int(posts["deleted_ms"][row]), PostDeleted(post_id=self.post_id(row), reason="by its author")

    def impressions(
        self,
        viewers: Int64Array,
        rows: Int64Array,
        times_ms: Int64Array,
        dwell_ms: Int64Array,
        positions: Int64Array,
        request_ids: Sequence[str | None] | None = None,
    ) -> Iterator[Told]:
        """Tell what was seen, and of which request it was."""
        durations = self._posts["duration_ms"][rows].tolist()
        requests = request_ids or [None] * len(viewers)
        columns = (viewers, rows, times_ms, dwell_ms, positions)
        for viewer, row, time_ms, dwell, position, duration, request in zip(
            *(column.tolist() for column in columns), durations, requests, strict=True
        ):
            yield (
                time_ms,
                Impression(
                    viewer_id=self._user_ids[viewer],
                    post_id=self.post_id(row),
                    dwell_ms=dwell,
                    duration_ms=duration,
                    position=position,
                    request_id=request,
                    context=_FEED,
                ),
            )

    def actions(
        self,
        viewers: Int64Array,
        rows: Int64Array,
        columns: Int64Array,
        times_ms: Int64Array,
        request_ids: Sequence[str | None] | None = None,
    ) -> Iterator[Told]:
        """Tell what was done; actions that change who sees whom change that too."""
        ids, authors = self._user_ids, self._posts["author"][rows].tolist()
        requests = request_ids or [None] * len(viewers)
        for viewer, row, column, time_ms, author, request in zip(
            viewers.tolist(), rows.tolist(), columns.tolist(), times_ms.tolist(), authors, requests, strict=True
        ):
            viewer_id = ids[viewer]
            yield (
                time_ms,
                Engagement(
                    viewer_id=viewer_id,
                    post_id=self.post_id(row),
                    action=_ACTION_NAMES[column],
                    request_id=request,
                    context=_FEED,
                ),
            )
            action = WORLD_ACTIONS[column]
            if action is Action.FOLLOW_AUTHOR:
                yield time_ms, FollowChanged(follower_id=viewer_id, followee_id=ids[author])
            elif action is Action.MUTE_AUTHOR:
                yield time_ms, MuteChanged(muter_id=viewer_id, muted_id=ids[author])
            elif action is Action.BLOCK_AUTHOR:
                yield time_ms, BlockChanged(blocker_id=viewer_id, blocked_id=ids[author])

    def responses(self, rows: Int64Array) -> Iterator[Told]:
        """Tell the engagements that replies, reposts and quotes are."""
        posts = self._posts
        for row in rows.tolist():
            yield (
                int(posts["created_ms"][row]),
                Engagement(
                    viewer_id=self._user_ids[int(posts["author"][row])],
                    post_id=self.post_id(int(posts["parent"][row])),
                    action=_ACTION_BY_KIND[int(posts["kind"][row])],
                    context=_FEED,
                ),
            )

    def searches(self, users: Int64Array, keys: Int64Array, times_ms: Int64Array) -> Iterator[Told]:
        """Tell who searched for something they care about."""
        top = self._people.top_topics()[users, 0].tolist() if len(users) else []
        for user, topic, key, time_ms in zip(users.tolist(), top, keys.tolist(), times_ms.tolist(), strict=True):
            query = self._vocabulary.thing(int(self._people.language[user]), topic, key)
            yield time_ms, Search(user_id=self._user_ids[user], query=query, n_results=key % 40)

    def _text(self, row: int, kind: int, language: int, topic: int, *, is_spam: bool) -> str:
        key = int(self._posts["key"][row])
        if is_spam:
            return self._vocabulary.spam(language, key)
        if kind == REPLY:
            return self._vocabulary.reply(language, topic, key)
        if kind == QUOTE:
            return self._vocabulary.quote(language, key)
        if kind == REPOST:
            return ""
        return self._vocabulary.post(language, topic, key, int(self._posts["story"][row]))

    def _media(self, row: int, language: int, topic: int) -> tuple[Media, ...]:
        media = int(self._posts["media"][row])
        if media == VIDEO:
            return (Media(kind="video", duration_ms=int(self._posts["duration_ms"][row])),)
        if media == IMAGE:
            return (
                Media(kind="image", alt_text=self._vocabulary.thing(language, topic, int(self._posts["key"][row]))),
            )
        return ()


def telling_tag(seed: int, now_ms: int) -> str:
    """Return a short text that differs between seeds and between times."""
    return hashlib.blake2b(f"{seed}/{now_ms}".encode(), digest_size=4).hexdigest()
