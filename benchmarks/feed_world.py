"""A large world for benchmarks of whole pages: 100k users, 1M posts of 48 hours, follows, likes, several languages.

Made by rule from a seed, in bulk; how people behave in it means nothing. What matters is its shape: skewed popularity,
interests that show in follows, words and likes, and a few thousand active viewers who follow many and like often.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from millrace.events.content_events import PostAnnotated, PostCreated
from millrace.events.envelope import AnyEvent, Event, Payload
from millrace.events.feed_events import Engagement, Impression
from millrace.events.user_events import FollowChanged, ProfileUpdated

N_TOPICS = 48
SPAN_MS = 46 * 3_600_000
_LANGUAGES = ("en", "en", "en", "en", "es", "ja", "de", "zh")
_ACTIONS = ("like", "like", "like", "reply", "repost", "bookmark", "click", "share")
_FILLER = "the a of to and in is that for on with as at by from it this be are was not but have you all"
_PARTS = "ka mi ro te su na li po ve do ran tel mar gis bon fen hul jor wex qui"
_COMMON, _SYLLABLES = _FILLER.split(), _PARTS.split()


@dataclass(frozen=True)
class Sizes:
    """How large the world is."""

    n_users: int = 100_000
    n_posts: int = 1_000_000
    n_active: int = 5_000
    n_follows_active: int = 250
    n_follows: int = 10
    n_engagements: int = 1_000_000


def viewers(sizes: Sizes) -> list[str]:
    """Return the ids of the active viewers: who asks for pages."""
    return [f"u{number}" for number in range(sizes.n_active)]


def events(sizes: Sizes, now_ms: int, seed: int = 1) -> Iterator[AnyEvent]:
    """Yield everything that happened, people and follows first, then posts and what was done to them, in time order."""
    rng = np.random.default_rng(seed)
    topic_of = rng.integers(N_TOPICS, size=sizes.n_users)
    start_ms = now_ms - SPAN_MS
    for number, payload in enumerate(_people(sizes, rng, topic_of)):
        yield Event(event_id=f"w{number}", event_time_ms=start_ms - 1_000, source="bench", payload=payload)
    yield from _life(sizes, rng, topic_of, start_ms)


def more(sizes: Sizes, first: int, n: int, now_ms: int) -> list[dict[str, object]]:
    """Return further events as the API takes them: what goes on while pages are asked for."""
    rng = np.random.default_rng(first + 7)
    made: list[dict[str, object]] = []
    for number in range(first, first + n):
        user, other = (f"u{int(u)}" for u in rng.integers(sizes.n_users, size=2))
        post = f"p{int(rng.integers(sizes.n_posts))}"
        payload: dict[str, object]
        if number % 4 == 0:
            topic = int(rng.integers(N_TOPICS))
            payload = {"type": "PostCreated", "post_id": f"m{number}", "author_id": other, "text": text(rng, topic)}
        elif number % 4 == 1:
            payload = {"type": "Engagement", "viewer_id": user, "post_id": post, "action": "like"}
        else:
            payload = {"type": "Impression", "viewer_id": user, "post_id": post, "dwell_ms": 4_000}
        made.append({"event_id": f"m{number}", "event_time_ms": now_ms, "source": "bench", "payload": payload})
    return made


def text(rng: np.random.Generator, topic: int) -> str:
    """Return some words about a topic."""
    about = rng.integers(60, size=7).tolist()
    filler = rng.integers(len(_COMMON), size=7).tolist()
    return " ".join(f"{_COMMON[f]} {_word(topic, a)}" for f, a in zip(filler, about, strict=True))


def _word(topic: int, number: int) -> str:
    n = len(_SYLLABLES)
    return _SYLLABLES[topic % n] + _SYLLABLES[number % n] + _SYLLABLES[(topic * 7 + number // n) % n]


def _people(sizes: Sizes, rng: np.random.Generator, topic_of: np.ndarray) -> Iterator[Payload]:
    by_topic = [np.flatnonzero(topic_of == topic) for topic in range(N_TOPICS)]
    for user in range(sizes.n_users):
        language = _LANGUAGES[user % len(_LANGUAGES)]
        yield ProfileUpdated(user_id=f"u{user}", name=f"User {user}", languages=tuple({language, "en"}))
    for user in range(sizes.n_users):
        n = sizes.n_follows_active if user < sizes.n_active else sizes.n_follows
        like_minded = by_topic[int(topic_of[user])]
        n_near = n // 2
        near = like_minded[(len(like_minded) * rng.random(n_near) ** 2).astype(np.int64)]
        far = (sizes.n_users * rng.random(n - n_near) ** 2).astype(np.int64)
        for other in np.unique(np.concatenate((near, far))).tolist():
            if other != user:
                yield FollowChanged(follower_id=f"u{user}", followee_id=f"u{other}")


def _life(sizes: Sizes, rng: np.random.Generator, topic_of: np.ndarray, start_ms: int) -> Iterator[AnyEvent]:
    authors = rng.permutation(np.arange(sizes.n_posts) % sizes.n_users)
    per_post = sizes.n_engagements / sizes.n_posts
    due = 0.0
    number = 0
    for post, author in enumerate(authors.tolist()):
        at_ms = start_ms + post * SPAN_MS // sizes.n_posts
        topic = int(topic_of[author]) if post % 4 else post % N_TOPICS
        language = _LANGUAGES[author % len(_LANGUAGES)]
        payloads: list[Payload] = [
            PostCreated(post_id=f"p{post}", author_id=f"u{author}", text=text(rng, topic)),
            PostAnnotated(post_id=f"p{post}", producer="bench", language=language, topics=(f"topic-{topic}",)),
        ]
        due += per_post
        while due >= 1.0:
            due -= 1.0
            # A third of all that is done, the active viewers do; popularity among the newest 50,000 is skewed.
            busy = rng.random() < 1 / 3
            user = int(rng.integers(sizes.n_active if busy else sizes.n_users))
            target = post - int(min(post, 50_000) * rng.random() ** 3)
            payloads.append(Impression(viewer_id=f"u{user}", post_id=f"p{target}", dwell_ms=int(rng.integers(12_000))))
            action = _ACTIONS[int(rng.integers(len(_ACTIONS)))]
            payloads.append(Engagement(viewer_id=f"u{user}", post_id=f"p{target}", action=action))
        for payload in payloads:
            yield Event(event_id=f"l{number}", event_time_ms=at_ms, source="bench", payload=payload)
            number += 1


def now_ms() -> int:
    """Return the time of day: the world ends now."""
    return time.time_ns() // 1_000_000
