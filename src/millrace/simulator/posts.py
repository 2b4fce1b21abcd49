"""`PostTable`: every post of the world as growing columns, with what is hidden about it; and how originals arise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from millrace.simulator.config import DAY_MS, HOUR_MS, WorldConfig
from millrace.simulator.draws import Draws, Float64Array, Int64Array, Purpose
from millrace.simulator.people import People, choose_by_row, hour_curve
from millrace.simulator.topics import Stories

ORIGINAL: Final = 0
REPLY: Final = 1
REPOST: Final = 2
QUOTE: Final = 3
KIND_NAMES: Final = ("original", "reply", "repost", "quote")

NO_MEDIA: Final = 0
IMAGE: Final = 1
VIDEO: Final = 2

NEVER: Final = np.iinfo(np.int64).max

_DTYPES: Final[dict[str, Any]] = {
    "key": np.uint64,  # identity of the post for draws: the same in twin worlds
    "author": np.int64,
    "created_ms": np.int64,
    "kind": np.int8,
    "parent": np.int64,  # row replied to, reposted or quoted; -1 for originals
    "root": np.int64,  # row that began the conversation; its own for originals
    "topic": np.int8,
    "language": np.int8,
    "quality": np.float32,
    "attraction": np.float32,  # heavy-tailed pull on strangers
    "media": np.int8,
    "duration_ms": np.int64,
    "has_link": np.bool_,
    "is_sensitive": np.bool_,
    "is_spam": np.bool_,
    "edited_ms": np.int64,
    "deleted_ms": np.int64,
    "n_likes": np.int32,
    "story": np.int32,
}
_FILL: Final[dict[str, Any]] = {"parent": -1, "root": -1, "edited_ms": NEVER, "deleted_ms": NEVER, "story": -1}
_STORY_PULL: Final = 1.5

Columns = dict[str, npt.NDArray[Any]]


class PostTable:
    """Posts by row, in order of creation up to one slice; columns as listed in the source."""

    def __init__(self, capacity: int = 1024) -> None:
        self.n_posts = 0
        self._columns: Columns = {
            name: np.full(capacity, _FILL.get(name, 0), dtype=dtype) for name, dtype in _DTYPES.items()
        }

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        """Return a writable view of one column, shape (n_posts,)."""
        return self._columns[name][: self.n_posts]

    @property
    def names(self) -> tuple[str, ...]:
        """The columns' names."""
        return tuple(self._columns)

    def load(self, columns: Mapping[str, npt.NDArray[Any]]) -> None:
        """Become a table of these columns; rows keep their numbers."""
        self.n_posts = len(columns["key"])
        self._columns = {name: np.array(columns[name], dtype=dtype) for name, dtype in _DTYPES.items()}

    def append(self, columns: Columns) -> Int64Array:
        """Add posts, absent columns filled; return their rows, shape (n,).

        A root of -1 becomes the post itself.
        """
        n = len(columns["author"])
        rows = np.arange(self.n_posts, self.n_posts + n)
        if self.n_posts + n > len(self._columns["key"]):
            self._grow(max(2 * len(self._columns["key"]), self.n_posts + n))
        self.n_posts += n
        for name, values in columns.items():
            self._columns[name][rows] = values
        root = self._columns["root"]
        root[rows] = np.where(root[rows] < 0, rows, root[rows])
        return rows

    def _grow(self, capacity: int) -> None:
        for name, old in self._columns.items():
            new = np.full(capacity, _FILL.get(name, 0), dtype=old.dtype)
            new[: len(old)] = old
            self._columns[name] = new


def draw_originals(
    config: WorldConfig,
    draws: Draws,
    people: People,
    n_written: Int64Array,
    start_ms: int,
    stop_ms: int,
    *,
    effort: Float64Array | None = None,
    trend: Float64Array | None = None,
    stories: Stories | None = None,
) -> Columns:
    """Return the original posts of one slice in order of time; ``n_written`` (per person) is brought forward.

    Each person writes at their own rate, bent by their local hour of the day. The post's identity is its
    author and how many that author wrote before, so that twin worlds agree on it.

    Parameters
    ----------
    effort
        How much each person writes relative to their rate, shape (n_users,); 0 for who has not joined yet.
    trend
        How much is written about each topic relative to its share, shape (n_topics,).
    stories
        What may be written about.
    """
    middle = np.full(people.n_users, (start_ms + stop_ms) // 2)
    mean = people.originals_per_day * hour_curve(middle + people.utc_offset_ms) * ((stop_ms - start_ms) / DAY_MS)
    if effort is not None:
        mean = mean * effort
    count = draws.poisson(mean, Purpose.N_POSTS, np.arange(people.n_users), start_ms)
    author = np.repeat(np.arange(people.n_users), count)
    nth = n_written[author] + _running_number(count)
    n_written += count
    key = draws.bits(Purpose.POST_KEY, author, nth) if len(author) else np.empty(0, dtype=np.uint64)
    created = start_ms + (draws.uniform(Purpose.POST_TIME, key) * (stop_ms - start_ms)).astype(np.int64)
    second = people.second_language[author]
    in_second = (second >= 0) & (draws.uniform(Purpose.POST_LANGUAGE, key) < 0.15)
    kind_of_media = draws.uniform(Purpose.POST_MEDIA, key, 0)
    media = np.where(kind_of_media < config.video_frac, VIDEO, NO_MEDIA)
    media[(kind_of_media >= config.video_frac) & (kind_of_media < config.video_frac + config.image_frac)] = IMAGE
    fate = draws.uniform(Purpose.POST_FATE, key, 0)
    delay = draws.uniform(Purpose.POST_FATE, key, 1)
    is_edited = fate < config.edited_frac
    is_deleted = ~is_edited & (fate < config.edited_frac + config.deleted_frac)
    is_spam = people.is_spammer[author]
    leaning = people.interests[author] if trend is None else people.interests[author] * trend
    topic = choose_by_row(leaning, draws.uniform(Purpose.POST_TOPIC, key))
    columns: Columns = {
        "key": key,
        "author": author,
        "created_ms": created,
        "topic": topic,
        "story": _stories(draws, stories, key, topic, is_spam, (start_ms + stop_ms) // 2),
        "language": np.where(in_second, second, people.language[author]),
        "quality": _quality(draws, people, author, key),
        "attraction": _attraction(draws, people, author, key),
        "media": np.where(is_spam, NO_MEDIA, media),
        "duration_ms": np.where(media == VIDEO, _durations(draws, key), 0) * ~is_spam,
        "has_link": (media == NO_MEDIA) & (draws.uniform(Purpose.POST_MEDIA, key, 1) < config.link_frac),
        "is_sensitive": draws.uniform(Purpose.POST_FLAGS, key) < config.sensitive_frac,
        "is_spam": is_spam,
        "edited_ms": np.where(is_edited, created + (delay * HOUR_MS).astype(np.int64) + 60_000, NEVER),
        "deleted_ms": np.where(is_deleted, created + (delay * 8 * HOUR_MS).astype(np.int64) + 300_000, NEVER),
    }
    order = np.argsort(created, kind="stable")
    return {name: values[order] for name, values in columns.items()}


def _stories(
    draws: Draws,
    stories: Stories | None,
    key: npt.NDArray[np.uint64],
    topic: Int64Array,
    is_spam: npt.NDArray[np.bool_],
    time_ms: int,
) -> Int64Array:
    """Return the story each post is about, shape (n,); -1 for none. The hotter a story, the more is written of it."""
    if stories is None or not len(key):
        return np.full(len(key), -1, dtype=np.int64)
    story = stories.hottest(time_ms)[topic]
    heat = _STORY_PULL * stories.heat(story, time_ms)
    takes_part = (draws.uniform(Purpose.STORY_POST, key) < heat / (1.0 + heat)) & ~is_spam
    return np.where(takes_part, story, -1)


def _running_number(count: Int64Array) -> Int64Array:
    """Return 0, 1, ... within each run of ``count`` rows, shape (count.sum(),)."""
    ends = np.cumsum(count)
    return np.arange(int(ends[-1]) if len(ends) else 0) - np.repeat(ends - count, count)


def _quality(draws: Draws, people: People, author: Int64Array, key: npt.NDArray[np.uint64]) -> Float64Array:
    return 0.6 * people.quality[author] + 0.4 * draws.symmetric(Purpose.POST_QUALITY, key)


def _attraction(draws: Draws, people: People, author: Int64Array, key: npt.NDArray[np.uint64]) -> Float64Array:
    """Pareto with tail 1.2, times the author's pull: few posts get most of the attention."""
    luck = (1.0 - draws.uniform(Purpose.POST_ATTRACTION, key)) ** (-1 / 1.2)
    pull = np.sqrt(people.charisma[author]) * people.quality[author]
    return np.minimum(luck, 2_000.0) * pull


def _durations(draws: Draws, key: npt.NDArray[np.uint64]) -> Int64Array:
    """Log-normal around 35 s, 5 s to 10 min, whole seconds."""
    seconds = np.exp(np.log(35.0) + 0.8 * draws.normal(Purpose.POST_DURATION, key))
    durations: Int64Array = np.clip(seconds, 5, 600).astype(np.int64) * 1000
    return durations
