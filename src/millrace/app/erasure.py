"""Forgetting a user everywhere: what the keeper does after a `UserErased` event, step by step.

State and content forget in the moment in which the event is folded. What is left are copies: records in the log,
rows in the warehouse, dead letters, older checkpoints, and what is claimed for the user and kept of pages. They are
removed in bounded steps, each of which may be repeated: how far an erasure has come is kept in the content store, so
a killed keeper goes on where it was.

The `UserErased` record itself goes last, after a further checkpoint: until then a process that is still folding
an older state needs it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator
from typing import Any, Final

import msgspec
import numpy as np

from millrace.app.warehouse_wiring import Erases
from millrace.base.errors import SchemaError
from millrace.events.codec import EventCodec
from millrace.events.feature_events import CandidatesLogged, FeaturesLogged
from millrace.events.feed_events import Served
from millrace.events.sample_events import SamplesJoined
from millrace.events.subjects import ABOUT_POSTS, SubjectRule
from millrace.stores.content_store import ContentStore, PendingErasure
from millrace.stream.log import Log, Position, RecordBatch, total

EraseSamples = Callable[[str, Collection[str], int], int]

_OF_INPUTS: Final = (FeaturesLogged, CandidatesLogged, SamplesJoined)
"""What names others by inside ids, within arrays."""

logger = logging.getLogger(__name__)


class Eraser:
    """Finishes the erasures that the content store has noted.

    Parameters
    ----------
    log, warehouse
        What to clean; of the warehouse the raw events first, then what is made of them.
    content
        Knows which users, and how far each erasure has come.
    codec
        Decodes the log's records.
    renew_checkpoints
        Writes a checkpoint of the state as it is now, removes all older ones, returns its position.
    forget_pages
        Removes a user's claims and floor, all kept pages, and traces of the user's; given an outside id.
    records_per_step
        Log records looked at in one step.
    erase_samples
        Removes a user from the join's samples: outside ids of user and posts, log offset of the erasure.
    """

    def __init__(
        self,
        log: Log,
        content: ContentStore,
        warehouse: Erases,
        codec: EventCodec,
        renew_checkpoints: Callable[[], Position],
        forget_pages: Callable[[str], None],
        *,
        records_per_step: int = 20_000,
        erase_samples: EraseSamples = lambda _user, _posts, _before: 0,
    ) -> None:
        self._log = log
        self._content = content
        self._warehouse = warehouse
        self._codec = codec
        self._renew_checkpoints = renew_checkpoints
        self._forget_pages = forget_pages
        self._records_per_step = records_per_step
        self._erase_samples = erase_samples
        self._rules: dict[int, SubjectRule] = {}
        self._topics_about_posts = {codec.registry.by_name(kind.__name__).topic for kind in ABOUT_POSTS}
        self._topics_of_inputs = {codec.registry.by_name(t.__name__).topic for t in _OF_INPUTS}

    def step(self) -> bool:
        """Do a bounded piece of work; return whether there was any."""
        waiting = [erasure for erasure in self._content.pending_erasures() if not erasure.is_purged]
        if not waiting:
            return False
        start = max(min(erasure.scanned_to for erasure in waiting), total(self._log.begin()))
        last = max(erasure.at for erasure in waiting)
        if start < last:
            self._scan(waiting, start)
            return True
        for erasure in waiting:
            rule = self._rule(erasure)
            n_rows = self._warehouse.erase(erasure.user, rule.posts, before=erasure.at)
            n_rows += self._erase_samples(erasure.user, rule.posts, erasure.at)
            logger.info("erasure at log offset %d: %d warehouse rows removed or rewritten", erasure.at, n_rows)
            self._forget_pages(erasure.user)
        self._clean_dead_letters({erasure.user for erasure in waiting})
        self._content.note_purged(waiting, self._renew_checkpoints())
        return True

    def finish(self, checkpointed: Position | None = None) -> None:
        """Remove the last traces of users who were purged.

        These are pages that were being served at the moment of the erasure, and were claimed, kept and logged after
        it, and the `UserErased` records themselves, which a process that lags behind still needs.

        Parameters
        ----------
        checkpointed
            Only users purged before this newest checkpoint: by then every process has folded the record. None:
            all, because no process can lag behind any more.
        """
        pending = self._content.pending_erasures()
        done = [
            erasure
            for erasure in pending
            if erasure.is_purged and (checkpointed is None or erasure.purged_at < total(checkpointed))
        ]
        if not done:
            return
        self._purge_late_pages([(self._rule(erasure), erasure.at) for erasure in done])
        for erasure in done:
            self._warehouse.erase(erasure.user, self._rule(erasure).posts, before=erasure.at)
            self._erase_samples(erasure.user, self._rule(erasure).posts, erasure.at)
            self._forget_pages(erasure.user)
        self._log.purge(np.array([erasure.at for erasure in done], dtype=np.int64))
        self._content.forget_erasures(done)
        for erasure in done:
            self._rules.pop(erasure.at, None)

    def oldest_needed(self) -> int | None:
        """Return the log offset that must not be trimmed yet, None if any may."""
        return min((erasure.at for erasure in self._content.pending_erasures()), default=None)

    def _scan(self, waiting: list[PendingErasure], start: int) -> None:
        consumer = self._log.subscribe("keeper", start=(start,))
        try:
            records = consumer.poll(self._records_per_step)
        finally:
            consumer.close()
        rows = list(self._rows_about(records, waiting))
        # Learnt before purged: after a kill in between, the log no longer tells whose posts these were.
        self._content.note_posts({erasure.at: self._rule(erasure).posts for erasure in waiting})
        n_purged = self._log.purge(records.offsets[rows]) if rows else 0
        if n_purged:
            logger.info("erasure: %d log records purged up to offset %d", n_purged, total(records.end))
        self._content.note_scanned(waiting, total(records.end))

    def _purge_late_pages(self, rules: list[tuple[SubjectRule, int]]) -> None:
        topics = {self._codec.registry.by_name(Served.__name__).topic, *self._topics_of_inputs}
        start = max(min(at for _, at in rules), total(self._log.begin()))
        consumer = self._log.subscribe("keeper", topics=topics, start=(start,))
        try:
            while len(records := consumer.poll(self._records_per_step)):
                rows = [row for row, data in enumerate(records.data) if data and self._shows_any(data, rules)]
                if rows:
                    self._log.purge(records.offsets[rows])
        finally:
            consumer.close()

    def _shows_any(self, data: bytes, rules: list[tuple[SubjectRule, int]]) -> bool:
        try:
            payload = self._codec.decode(data).payload
        except SchemaError:
            return False
        return any(rule.shows_posts(payload) or rule.is_of_before(payload, at) for rule, at in rules)

    def _rows_about(self, records: RecordBatch, waiting: list[PendingErasure]) -> Iterator[int]:
        rules = [(erasure, self._rule(erasure), erasure.user.encode()) for erasure in waiting]
        is_about_posts = [name in self._topics_about_posts for name in records.topic_names]
        is_of_inputs = [name in self._topics_of_inputs for name in records.topic_names]
        topics = records.topics.tolist()
        offsets = records.offsets.tolist()
        for row, data in enumerate(records.data):
            event = None
            for erasure, rule, needle in rules:
                # MessagePack keeps text as it is, so most records can be passed over undecoded. What models saw names
                # others by inside ids, within packed arrays.
                is_opened = is_of_inputs[topics[row]] or (rule.posts and is_about_posts[topics[row]])
                if offsets[row] >= erasure.at or not (is_opened or needle in data):
                    continue
                try:
                    event = event or self._codec.decode(data)
                except SchemaError:
                    break
                payload = event.payload
                # A page served to somebody else is gone with the names on it; somebody else's post stays.
                is_other_page = rule.mentions(payload) and not hasattr(payload, "parent_author_id")
                if rule.is_about(payload) or is_other_page:
                    yield row
                    break

    def _clean_dead_letters(self, users: set[str]) -> None:
        ids = [letter.letter_id for letter in self._log.dead_letters() if _names_any(letter.data, users)]
        if ids:
            self._log.remove_dead_letters(ids)

    def _rule(self, erasure: PendingErasure) -> SubjectRule:
        return self._rules.setdefault(erasure.at, SubjectRule((erasure.user,), erasure.posts))


def _names_any(data: bytes, users: set[str]) -> bool:
    """Whether a refused message holds one of these ids, as far as it can be read at all."""
    for decode in (msgspec.json.decode, msgspec.msgpack.decode):
        try:
            found: Any = decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue
        return not users.isdisjoint(_texts(found))
    return any(f'"{user}"'.encode() in data for user in users)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield str(key)
            yield from _texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)
    else:
        yield str(value)
