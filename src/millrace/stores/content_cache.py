"""`ContentCache`: what a process keeps of the posts and users that it has read from a content store far away.

Every entry says up to which log position it is true. Later events on it are known to this process, which has folded
them (`millrace.stores.content_overlay`): they are laid over it, so no entry is ever stale, and none has to be
invalidated. The overlay therefore keeps events for a while longer than it would have to; an entry from before that
while is refused and read anew. One that is in use is renewed before.

An erasure refuses every entry from before it: names of the erased user may stand in others' posts.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Final, Generic, TypeVar

import msgspec
import numpy as np

from millrace.base.clock import Clock
from millrace.base.errors import StoreError
from millrace.stores.cache import Accept, CacheCounts, Load, MultiLevelCache
from millrace.stores.content import PostContent, UserContent
from millrace.stores.content_database import DELETED, ContentReads, decode_post, read_users
from millrace.stores.key_value import KeyValueStore
from millrace.stores.memory_level import MemoryLevel
from millrace.stores.shared_level import SharedLevel

if TYPE_CHECKING:
    from millrace.stores.content_overlay import ContentOverlay

ContentT = TypeVar("ContentT", bound=PostContent | UserContent)

_OBJECT_BYTES: Final = 700
"""What a post or user takes beside its texts: the object, and a head for each of its texts."""
_CHAR_BYTES: Final = 2
"""What a character takes, in most scripts at most."""

_MEMORY_S: Final = 3_600.0

FORMAT: Final = 1
"""Of the entries of the shared level; raised with every change of `Kept` or of what it holds."""

logger = logging.getLogger(__name__)


class Kept(msgspec.Struct, Generic[ContentT], frozen=True, array_like=True):
    """What the database said of a post or user.

    Attributes
    ----------
    at
        It is as of this log position: every event before it is in, no other.
    content
        None for what is deleted or was never heard of.
    is_known
        Whether it was heard of.
    """

    at: int
    content: ContentT | None
    is_known: bool


class KeptContents(ABC, Generic[ContentT]):
    """Posts or users, read through process memory and, where there is one, a shared level.

    Parameters
    ----------
    memory
        The first level.
    shared
        Where the second level is; None: there is none. Closed with this.
    clock
        Gives real time.
    keep_s
        As of `ContentCache`.
    prefix
        Begins every key of the shared level.

    Attributes
    ----------
    n_unread
        How many could neither be read nor were at hand: they were left out of an answer.
    """

    kind: ClassVar[bytes]

    def __init__(
        self,
        memory: MemoryLevel[Kept[ContentT]],
        shared: KeyValueStore | None,
        clock: Clock,
        keep_s: float,
        prefix: bytes = b"",
    ) -> None:
        level = None if shared is None else SharedLevel(shared, _encode, self._decode, clock, prefix)
        # Nothing is of use for longer than two turns of the overlay. In memory it may be renewed; and while the
        # server is away the overlay does not turn, and what is in memory is all that there is.
        self._cache = MultiLevelCache(
            memory, level, size=_size, ttl_s=_MEMORY_S, negative_ttl_s=_MEMORY_S, shared_ttl_s=2 * keep_s
        )
        self._last_erasure = -1
        self.n_unread = 0

    @property
    def counts(self) -> CacheCounts:
        """What the cache has done so far."""
        return self._cache.counts

    def get_many(
        self, database: ContentReads, overlay: ContentOverlay, ids: Sequence[int], stop: int
    ) -> list[ContentT | None]:
        """Return contents as of log offset ``stop``, in the order of their inside ids."""
        keys, load, accept = self._asked(database, overlay, ids, stop)
        try:
            kept: Sequence[Kept[ContentT] | None] = self._cache.get_many(keys, load, accept)
        except StoreError as error:
            kept = self._at_hand(keys, accept, str(error))
        return self._answers(overlay, ids, keys, kept, stop)

    async def get_many_async(
        self, database: ContentReads, overlay: ContentOverlay, ids: Sequence[int], stop: int, timeout_s: float
    ) -> list[ContentT | None]:
        """Return the same without holding up the event loop; what does not come in time is left out."""
        keys, load, accept = self._asked(database, overlay, ids, stop)
        try:
            asking = self._cache.get_many_async(keys, load, accept)
            kept: Sequence[Kept[ContentT] | None] = await asyncio.wait_for(asking, timeout_s)
        except TimeoutError:
            kept = self._at_hand(keys, accept, "the content server does not answer in time")
        except StoreError as error:
            kept = self._at_hand(keys, accept, str(error))
        return self._answers(overlay, ids, keys, kept, stop)

    def clear(self) -> None:
        """Forget what this process's memory holds."""
        self._cache.clear_memory()

    def close(self) -> None:
        """Close the shared level."""
        self._cache.close()

    @staticmethod
    @abstractmethod
    def _decode(data: bytes) -> Kept[ContentT]: ...

    @staticmethod
    @abstractmethod
    def _read(database: ContentReads, ids: Sequence[int], stop: int) -> tuple[int, Mapping[int, ContentT | None]]: ...

    @staticmethod
    @abstractmethod
    def _now(overlay: ContentOverlay, key: int, kept: Kept[ContentT], stop: int) -> ContentT | None: ...

    def _asked(
        self, database: ContentReads, overlay: ContentOverlay, ids: Sequence[int], stop: int
    ) -> tuple[list[bytes], Load[Kept[ContentT]], Accept[Kept[ContentT]]]:
        """Return the keys, how they are loaded, and which entries a read at ``stop`` may use."""
        if overlay.last_erasure > self._last_erasure:  # refused below; and the texts must not stay either
            self._last_erasure = overlay.last_erasure
            self._cache.clear_memory()
        first = max(overlay.base, overlay.last_erasure + 1)  # of now, for whichever thread asks

        def load(keys: Sequence[bytes]) -> list[Kept[ContentT]]:
            ids = [int.from_bytes(key[1:], "big", signed=True) for key in keys]
            start, found = self._read(database, ids, stop)
            # Rows from ``stop`` on were left out, so it is no newer than that.
            return [Kept(min(start, stop), found.get(value), is_known=value in found) for value in ids]

        keys = [self.kind + value.to_bytes(8, "big", signed=True) for value in ids]
        return keys, load, lambda kept: first <= kept.at <= stop

    def _answers(
        self,
        overlay: ContentOverlay,
        ids: Sequence[int],
        keys: Sequence[bytes],
        kept: Sequence[Kept[ContentT] | None],
        stop: int,
    ) -> list[ContentT | None]:
        """Lay what happened since over what was read, and keep that where the other is about to be too old."""
        unread: Kept[ContentT] = Kept(overlay.base, None, is_known=False)
        answers: list[ContentT | None] = []
        for value, key, entry in zip(ids, keys, kept, strict=True):
            now = self._now(overlay, value, entry or unread, stop)
            if entry is not None and now is not None and entry.at < overlay.middle:
                self._cache.put_in_memory(key, Kept(stop, now, is_known=True))
            answers.append(now)
        return answers

    def _at_hand(
        self, keys: Sequence[bytes], accept: Accept[Kept[ContentT]], problem: str
    ) -> list[Kept[ContentT] | None]:
        """Return what memory has, where the database does not answer: a shorter page is better than none."""
        in_memory = self._cache.in_memory(keys)
        kept = [entry if isinstance(entry, Kept) and accept(entry) else None for entry in in_memory]
        if self.n_unread == 0:
            logger.warning("texts and names that are not at hand are left out: %s", problem)
        self.n_unread += kept.count(None)
        return kept


class KeptPosts(KeptContents[PostContent]):
    """Posts."""

    kind = b"p"

    @staticmethod
    def _decode(data: bytes) -> Kept[PostContent]:
        return _decode_post(data)

    @staticmethod
    def _read(database: ContentReads, ids: Sequence[int], stop: int) -> tuple[int, dict[int, PostContent | None]]:
        start, rows = database.posts(ids, stop)
        return start, {key: DELETED if data is None else decode_post(data) for key, data in rows.items()}

    @staticmethod
    def _now(overlay: ContentOverlay, key: int, kept: Kept[PostContent], stop: int) -> PostContent | None:
        return overlay.post(key, kept.content, kept.at, stop, is_known=kept.is_known)


class KeptUsers(KeptContents[UserContent]):
    """Users."""

    kind = b"u"

    @staticmethod
    def _decode(data: bytes) -> Kept[UserContent]:
        return _decode_user(data)

    @staticmethod
    def _read(database: ContentReads, ids: Sequence[int], stop: int) -> tuple[int, dict[int, UserContent]]:
        return read_users(database, ids, stop)

    @staticmethod
    def _now(overlay: ContentOverlay, key: int, kept: Kept[UserContent], stop: int) -> UserContent | None:
        return overlay.user(key, kept.content, kept.at, stop)


class ContentCache:
    """What a process keeps of posts and of users.

    Parameters
    ----------
    max_bytes
        Of process memory, for posts; users have an eighth as much beside it.
    shared
        Opens the second level, once for posts and once for users; None: there is none.
    clock
        Gives real time.
    keep_s
        So long at least an entry may be used after it was read or renewed.
    prefix
        Begins every key of the shared level.

    Attributes
    ----------
    posts, users
        The caches.
    """

    def __init__(
        self,
        max_bytes: int,
        clock: Clock,
        *,
        keep_s: float,
        shared: Callable[[], KeyValueStore] | None = None,
        prefix: bytes = b"",
    ) -> None:
        # They spread ends of lives, which decide nothing that is shown.
        rngs = [np.random.default_rng(seed) for seed in range(2)]
        posts: MemoryLevel[Kept[PostContent]] = MemoryLevel(max_bytes, clock, rngs[0])
        users: MemoryLevel[Kept[UserContent]] = MemoryLevel(max_bytes // 8, clock, rngs[1])
        self.posts = KeptPosts(posts, shared and shared(), clock, keep_s, prefix)
        self.users = KeptUsers(users, shared and shared(), clock, keep_s, prefix)
        self._clock = clock
        self._keep_s = keep_s
        self._released_s = clock.monotonic_s()

    def may_release(self) -> bool:
        """Whether the overlay may let go of older events: once every ``keep_s``, as long as entries need them."""
        now_s = self._clock.monotonic_s()
        if now_s - self._released_s < self._keep_s:
            return False
        self._released_s = now_s
        return True

    def clear(self) -> None:
        """Forget what this process's memory holds."""
        self.posts.clear()
        self.users.clear()

    def close(self) -> None:
        """Close the shared levels."""
        self.posts.close()
        self.users.close()


_encode = msgspec.msgpack.Encoder().encode
_decode_post = msgspec.msgpack.Decoder(Kept[PostContent]).decode
_decode_user = msgspec.msgpack.Decoder(Kept[UserContent]).decode


def _size(kept: Kept[ContentT]) -> int:
    content = kept.content
    if content is None:
        return 0
    n_chars = len(content.text) if isinstance(content, PostContent) else len(content.name) + len(content.bio)
    return _OBJECT_BYTES + _CHAR_BYTES * n_chars
