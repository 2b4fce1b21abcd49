"""The batch join: what pages were made from, as it was logged, with what came of them.

DuckDB reads the warehouse (the log's Parquet export): `FeaturesLogged` in the order of the pages' log positions, the
viewers' looks and actions, and the posts' own events. Labels are joined by `SlateJoin`, the one definition that there
is. Features are not computed here: a sample holds the bytes that the model read.

Texts are not among what is logged with a page: they would make it three times as large. They come from the posts'
events before the page's log position, folded by the index that serves them (`TextIndex`), so that an edit after a page
changes no sample of it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from millrace.base.errors import SchemaError, StoreError
from millrace.base.ids import NO_ID, IdHasher, IdKind
from millrace.content.config import ContentConfig
from millrace.content.text_index import TextIndex
from millrace.events.codec import EventCodec
from millrace.events.envelope import MAX_TIME_MS
from millrace.events.feature_events import CandidatesLogged, FeaturesLogged, InputsLogged
from millrace.events.feed_events import Engagement, Impression, Served
from millrace.features.encoding.candidates import schema_hash
from millrace.features.encoding.logged import CUT, SERVED, LoggedInputs, LoggedRows, read_inputs
from millrace.flywheel.logged_texts import CONTENT, NO_END, LoggedTexts, events_of, places
from millrace.flywheel.maturity import mature_until_ms
from millrace.flywheel.metrics import IntArray
from millrace.flywheel.sample_builder import SampleBuilder
from millrace.flywheel.sample_set import Float32Array, SampleSet
from millrace.flywheel.slate_join import HOUR_MS, SlateJoin
from millrace.flywheel.slates import Slates
from millrace.flywheel.warehouse import Warehouse

if TYPE_CHECKING:
    import duckdb

_FEEDBACK: Final = (Served, Impression, Engagement)
_MARGIN_MS: Final = 25 * HOUR_MS
"""What is heard from before the wanted hours: looks that a slate goes on from, and how long actions take."""
_BY_STATE: Final = (
    "least(coalesce(CAST(payload ->> '$.state_offset[0]' AS BIGINT), log_offset), log_offset), log_offset"
)
"""The order of the log positions that pages were made at."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LoggedCandidates:
    """Candidates of sampled requests, for whoever learns from a teacher; n rows.

    Attributes
    ----------
    samples
        Requests as slates. Weights are one over the probability with which a row of the request was kept.
    teacher
        Shape (n, n_actions), float32: what whoever ranked predicted; NaN for what a pre-ranker cut.
    scores
        Shape (n,), float32: what the feed sorted by in the end; NaN likewise.
    has_labels
        Shape (n,), bool: the post was seen, so that its labels say something; all others are zeros.
    is_served, is_cut
        Shape (n,), bool: on the page; cut by a pre-ranker.
    """

    samples: SampleSet
    teacher: Float32Array
    scores: Float32Array
    has_labels: npt.NDArray[np.bool_]
    is_served: npt.NDArray[np.bool_]
    is_cut: npt.NDArray[np.bool_]

    def before(self, until_ms: int) -> LoggedCandidates | None:
        """Return those of requests before a moment; None if there are none."""
        return self.taken(np.flatnonzero(self.samples.now_ms < until_ms))

    def taken(self, slates: IntArray) -> LoggedCandidates | None:
        """Return those of some requests; None if there are none."""
        if not len(slates):
            return None
        rows = self.samples.rows_of(slates)
        return LoggedCandidates(
            samples=self.samples.take(slates),
            teacher=self.teacher[rows],
            scores=self.scores[rows],
            has_labels=self.has_labels[rows],
            is_served=self.is_served[rows],
            is_cut=self.is_cut[rows],
        )


class LoggedSamples:
    """Reads a warehouse as samples.

    Parameters
    ----------
    warehouse, codec
        The events.
    hasher
        Shared with ``join``.
    join
        Labels; it has heard nothing yet.
    content
        Sizes of the home's text index: what had left it, a model did not read.
    source
        Where the samples are from, for people.
    hours
        Slates of the newest hours are all that is wanted: what was seen long before is not held in memory. None: all.
    until
        Position of the log that is taken for its end, whatever was exported since; None: where the export ends.

    Attributes
    ----------
    from_ms
        Where these hours begin; 0 for all.
    """

    def __init__(
        self,
        warehouse: Warehouse,
        codec: EventCodec,
        hasher: IdHasher,
        join: SlateJoin,
        content: ContentConfig | None = None,
        source: str = "",
        hours: float | None = None,
        until: int | None = None,
    ) -> None:
        self._codec = codec
        self._until = NO_END if until is None else until
        self._hasher = hasher
        self._content = content or ContentConfig()
        self._source = source
        self._schema = schema_hash(codec.actions)
        self._connection = warehouse.connect()
        join.hear_times(*_times(self._connection, codec, self._until))
        self._last_ms = join.last_ms
        self.from_ms = 0 if hours is None else max(self._last_ms + 1 - int(hours * HOUR_MS), 0)
        span = (max(self.from_ms - _MARGIN_MS, 0), MAX_TIME_MS + 1)
        for found in events_of(self._connection, self._codec, _FEEDBACK, span=span, until=self._until):
            join.hear_untimed(found.offset, found.time_ms, found.event)
        for offset, time_ms, viewer_id, request_id in _logged(self._connection, self._codec, span, self._until):
            viewer, request = hasher.one(IdKind.USER, viewer_id), hasher.one(IdKind.REQUEST, request_id)
            join.hear_logged(offset, time_ms, viewer, request)
        self._join = join
        self._slates = join.join()
        keys = zip(self._slates.viewers.tolist(), self._slates.requests.tolist(), strict=True)
        self._slate_of = {key: slate for slate, key in enumerate(keys) if key[1] != NO_ID}

    @property
    def slates(self) -> Slates:
        """All slates of the warehouse, logged with features or not."""
        return self._slates

    @property
    def last_ms(self) -> int:
        """The time that the log had reached."""
        return self._last_ms

    @property
    def mature_until_ms(self) -> int:
        """The moment before which a slate's last look must have begun for its labels to count."""
        return mature_until_ms(self._slates, self._last_ms)

    def samples(self, from_ms: int = 0, until_ms: int = MAX_TIME_MS) -> SampleSet:
        """Return the pages that were made within a span and seen, with labels.

        A row is a post that was seen. Pages of another schema are left out, and told as a warning.

        Raises
        ------
        StoreError
            If there are none.
        """
        found, numbers = self.of_slates(np.arange(len(self._slates)), from_ms, until_ms)
        if not len(numbers):
            raise _nothing("pages with features that were seen")
        return found

    def of_slates(
        self, wanted: npt.NDArray[np.int64], from_ms: int = 0, until_ms: int = MAX_TIME_MS
    ) -> tuple[SampleSet, npt.NDArray[np.int64]]:
        """Return samples of those of some slates whose features were logged, in their order, and which they are.

        A row is a post that was seen and is among the logged ones: of what a client says of others nothing is known.
        A page counts once, as it was logged first.

        Parameters
        ----------
        wanted
            Numbers in `slates`.
        from_ms, until_ms
            When their pages were made.
        """
        if not len(wanted):  # what was logged is large: nothing of it is opened
            return SampleBuilder(self._codec.actions, self._source).finished(), wanted
        slates = self._slates
        is_wanted = np.zeros(len(slates), dtype=np.bool_)
        is_wanted[wanted] = True
        numbers: list[int] = []
        builder = SampleBuilder(self._codec.actions, self._source)
        texts = self._texts()
        for page in self._pages(FeaturesLogged, from_ms, until_ms):
            if page.slate < 0 or not is_wanted[page.slate]:
                continue
            if page.offset != self._join.first_logged(page.inputs.viewer.viewer_id, page.request):
                continue
            seen = np.arange(slates.starts[page.slate], slates.starts[page.slate + 1])
            rows = places(page.inputs.rows.post_ids, slates.post_ids[seen])
            seen, rows = seen[rows >= 0], rows[rows >= 0]
            if not len(rows):
                continue
            found = page.inputs.rows.take(rows)
            texts.read(builder, page.cut, found.inputs.post_ids, page.inputs.viewer.history.post_ids)
            builder.add(
                page.inputs.viewer,
                page.now_ms,
                found.inputs,
                slates.labels[seen],
                found.predictions if found.baseline is None else found.baseline,
                slates.positions[seen],
                request=page.request,
            )
            is_wanted[page.slate] = False
            numbers.append(page.slate)
        found_numbers = np.array(numbers, dtype=np.int64)
        order = np.argsort(found_numbers, kind="stable")
        return builder.finished().take(order), found_numbers[order]

    def candidates(
        self, from_ms: int = 0, until_ms: int = MAX_TIME_MS, *, ended_before_ms: int = MAX_TIME_MS + 1
    ) -> LoggedCandidates:
        """Return the candidates of sampled requests within a span, seen or not, with what was predicted for them.

        Parameters
        ----------
        from_ms, until_ms
            When their pages were made.
        ended_before_ms
            When the last look at their pages began: of what was looked at later, some labels are still to come.

        Raises
        ------
        StoreError
            If there are none.
        """
        slates = self._slates
        builder = SampleBuilder(self._codec.actions, self._source)
        texts = self._texts()
        rows: list[LoggedRows] = []
        has_labels: list[npt.NDArray[np.bool_]] = []
        for page in self._pages(CandidatesLogged, from_ms, until_ms):
            if page.slate >= 0 and slates.ended_ms[page.slate] >= ended_before_ms:
                continue
            found = page.inputs.rows
            labels = np.zeros((len(found), len(self._codec.actions)), dtype=np.float32)
            positions = np.full(len(found), -1, dtype=np.int64)
            is_seen = np.zeros(len(found), dtype=np.bool_)
            if page.slate >= 0:
                seen = np.arange(slates.starts[page.slate], slates.starts[page.slate + 1])
                at = places(slates.post_ids[seen], found.post_ids)
                is_seen = at >= 0
                labels[is_seen] = slates.labels[seen[at[is_seen]]]
                positions[is_seen] = slates.positions[seen[at[is_seen]]]
            texts.read(builder, page.cut, found.inputs.post_ids, page.inputs.viewer.history.post_ids)
            baseline = found.predictions if found.baseline is None else found.baseline
            weights = (1.0 / found.propensities).astype(np.float32)
            builder.add(
                page.inputs.viewer,
                page.now_ms,
                found.inputs,
                labels,
                baseline,
                positions,
                request=page.request,
                weights=weights,
            )
            rows.append(found)
            has_labels.append(is_seen)
        if not len(builder):
            raise _nothing("sampled requests with candidates")
        samples = builder.finished()
        stages = np.concatenate([found.stages for found in rows])
        return LoggedCandidates(
            samples=samples,
            teacher=np.concatenate([found.predictions for found in rows]),
            scores=np.concatenate([found.scores for found in rows]),
            has_labels=np.concatenate(has_labels),
            is_served=stages == SERVED,
            is_cut=stages == CUT,
        )

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _texts(self) -> LoggedTexts:
        events = events_of(self._connection, self._codec, CONTENT, until=self._until)
        return LoggedTexts(TextIndex(self._content, self._hasher), events)

    def _pages(self, kind: type[InputsLogged], from_ms: int, until_ms: int) -> Iterator[_Page]:
        """Yield what was logged in the order of the log positions that pages were made at; ties as slates have them."""
        waiting: list[_Page] = []
        n_others = 0
        found = events_of(self._connection, self._codec, (kind,), _BY_STATE, (from_ms, until_ms), self._until)
        for offset, time_ms, _, event in found:
            payload = event.payload
            cut = min(payload.state_offset[0], offset) if payload.state_offset else offset
            request = self._hasher.one(IdKind.REQUEST, payload.request_id)
            viewer = self._hasher.one(IdKind.USER, payload.viewer_id)
            try:
                inputs = read_inputs(payload, viewer, self._schema)
            except SchemaError:
                n_others += 1
                continue
            if waiting and waiting[0].cut != cut:
                yield from sorted(waiting, key=lambda page: (page.slate, page.offset))
                waiting = []
            # Whose request it was is not for clients to say: what others name it for is another slate.
            slate = self._slate_of.get((viewer, request), -1)
            waiting.append(_Page(offset, cut, time_ms, request, slate, inputs))
        yield from sorted(waiting, key=lambda page: (page.slate, page.offset))
        if n_others:
            logger.warning("%d logged requests are left out: of other features than this version's", n_others)


@dataclass(frozen=True, slots=True)
class _Page:
    """One event of features, read; ``slate`` is -1 where nothing of it was seen."""

    offset: int
    cut: int
    now_ms: int
    request: int
    slate: int
    inputs: LoggedInputs


def _logged(
    connection: duckdb.DuckDBPyConnection, codec: EventCodec, span: tuple[int, int], until: int
) -> list[tuple[int, int, str, str]]:
    """Return of which pages features were logged, in log order: offset, effective time, viewer and request."""
    topic = codec.registry.by_name(FeaturesLogged.__name__).topic
    found: list[tuple[int, int, str, str]] = (
        connection.cursor()
        .execute(
            "SELECT log_offset, least(event_time_ms, appended_ms) AS time_ms, payload ->> '$.viewer_id', "  # noqa: S608 - our own names
            f"payload ->> '$.request_id' FROM events WHERE topic = '{topic}' AND type = '{FeaturesLogged.__name__}' "
            "AND time_ms BETWEEN ? AND ? AND log_offset < ? ORDER BY log_offset",
            (span[0], span[1] - 1, until),
        )
        .fetchall()
    )
    return found


def _times(connection: duckdb.DuckDBPyConnection, codec: EventCodec, until: int) -> tuple[IntArray, IntArray]:
    """Return the offsets and effective times of all records before a position that stores are folded from, in order."""
    unfolded = ", ".join(f"'{topic}'" for topic in sorted(codec.registry.unfolded_topics))
    columns = (
        connection.cursor()
        .execute(
            "SELECT log_offset, least(event_time_ms, appended_ms) AS time_ms FROM events "  # noqa: S608 - our own names
            f"WHERE topic NOT IN ({unfolded}) AND log_offset < ? ORDER BY log_offset",
            (until,),
        )
        .fetchnumpy()
    )
    return columns["log_offset"], columns["time_ms"]


def _nothing(what: str) -> StoreError:
    return StoreError(
        "samples",
        problem=f"the warehouse holds no {what} within the span",
        remedy="export the log (millrace warehouse export), check [home] logs_features, or give a longer span",
    )
