"""`PostEvents`: events about posts as the columns of numbers that the post store's kernel applies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from millrace.base.errors import StoreError
from millrace.base.ids import IdHasher, IdKind
from millrace.events.content_events import Media, PostAnnotated, PostCreated, PostDeleted, PostEdited
from millrace.events.envelope import Payload
from millrace.events.user_events import UserErased
from millrace.stores.codes import MAX_TOPICS, CodeTables
from millrace.stores.fold import EventBatch
from millrace.stores.post_kernels import (
    ANNOTATE,
    CREATE,
    DELETE,
    EDIT,
    ERASE,
    HAS_VIDEO,
    IS_SENSITIVE,
    N_FACTS,
    N_IDS,
    ORIGINAL,
    QUOTE,
    REPLY,
    REPOST,
    SETS_LANGUAGE,
    SETS_MEDIA,
    SETS_SENSITIVE,
    SETS_TOPICS,
    PostChanges,
)

KIND_CODES: Final = {"original": ORIGINAL, "reply": REPLY, "repost": REPOST, "quote": QUOTE}
"""Codes of `PostColumns.kind`."""

_MAX_INT32: Final = 2**31 - 1
_N_WORDS: Final = 4 + N_IDS + N_FACTS
_NOTHING: Final = (0,) * (1 + N_IDS + N_FACTS)


class PostEvents:
    """Takes out of events what the post store keeps.

    Parameters
    ----------
    hasher
        Ids to inside ids.
    codes
        Names to codes.
    """

    def __init__(self, hasher: IdHasher, codes: CodeTables) -> None:
        self._hasher = hasher
        self._codes = codes

    def changes_of(self, batch: EventBatch, rows: Sequence[int]) -> PostChanges:
        """Return the events in these rows of a batch as changes, in the same order."""
        appended_ms = batch.appended_ms[rows].tolist()
        words: list[int] = []
        for row, bound_ms in zip(rows, appended_ms, strict=True):
            event = batch.events[row]
            words += self._change_of(event.payload, min(event.event_time_ms, bound_ms), bound_ms)
        table = np.array(words, dtype=np.int64).reshape(len(rows), _N_WORDS)
        return PostChanges(
            change=table[:, 0].astype(np.int8),
            key=table[:, 1].copy(),
            at_ms=table[:, 2].copy(),
            sets=table[:, 3].astype(np.int8),
            ids=table[:, 4 : 4 + N_IDS].copy(),
            facts=table[:, 4 + N_IDS :].astype(np.int32),
        )

    def _change_of(self, payload: Payload, at_ms: int, appended_ms: int) -> tuple[int, ...]:
        """Return one event as words: change, key, time, what it sets, then ids and facts as in `PostChanges`."""
        if isinstance(payload, PostCreated):
            return self._creation_of(payload, at_ms, appended_ms)
        one = self._hasher.one
        if isinstance(payload, PostAnnotated):
            sets, language = 0, 0
            topics: tuple[int, ...] = (0,) * MAX_TOPICS
            if payload.language is not None:
                sets |= SETS_LANGUAGE
                language = self._codes.languages.code(payload.language)
            if payload.topics is not None:
                sets |= SETS_TOPICS
                topics = self._codes.strongest_topics(payload.topics)
            return (ANNOTATE, one(IdKind.POST, payload.post_id), at_ms, sets, 0, 0, 0, 0, 0, 0, language, *topics)
        if isinstance(payload, PostEdited):
            sets, flags, duration_ms = 0, 0, 0
            if payload.is_sensitive is not None:
                sets |= SETS_SENSITIVE
                flags |= IS_SENSITIVE if payload.is_sensitive else 0
            if payload.media is not None:
                sets |= SETS_MEDIA
                flags |= HAS_VIDEO if _has_video(payload.media) else 0
                duration_ms = _duration_ms(payload.media)
            return (EDIT, one(IdKind.POST, payload.post_id), at_ms, sets, 0, 0, 0, 0, flags, duration_ms, 0, 0, 0, 0)
        if isinstance(payload, PostDeleted):
            return (DELETE, one(IdKind.POST, payload.post_id), at_ms, *_NOTHING)
        if isinstance(payload, UserErased):
            return (ERASE, one(IdKind.USER, payload.user_id), at_ms, *_NOTHING)
        raise StoreError("event", value=payload, problem="not one that posts handle", remedy="report it: a defect")

    def _creation_of(self, payload: PostCreated, at_ms: int, appended_ms: int) -> tuple[int, ...]:
        one = self._hasher.one
        post_id = one(IdKind.POST, payload.post_id)
        flags = KIND_CODES[payload.kind]
        if payload.is_sensitive:
            flags |= IS_SENSITIVE
        if payload.media and _has_video(payload.media):
            flags |= HAS_VIDEO
        return (
            CREATE,
            post_id,
            at_ms if payload.created_at_ms is None else min(payload.created_at_ms, appended_ms),
            0,
            one(IdKind.USER, payload.author_id),
            one(IdKind.POST, payload.parent_id or ""),
            one(IdKind.USER, payload.parent_author_id or ""),
            one(IdKind.POST, payload.conversation_id or "") or post_id,
            flags,
            _duration_ms(payload.media) if payload.media else 0,
            0,
            0,
            0,
            0,
        )


def _has_video(media: Sequence[Media]) -> bool:
    return any(item.kind == "video" for item in media)


def _duration_ms(media: Sequence[Media]) -> int:
    return min(max((item.duration_ms for item in media if item.kind != "image"), default=0), _MAX_INT32)
