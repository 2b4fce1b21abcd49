"""`SampleStore`: reads what the streaming join has committed as samples: the newest revision of each.

The same samples as the batch join's (`millrace.flywheel.logged_samples`), row for row and features bit for bit, without
reading the log: labels and pages come from the join's own files, which outlive it. Texts, of which a page has hundreds,
are not stored again: they come from the posts' events in the warehouse as of each page, as for the batch join.

Slates stand in the order of the log positions that their pages were made at, rows as the page had them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Final

import numpy as np

from millrace.base.errors import NoSamplesError, SchemaError
from millrace.base.ids import IdHasher, Int64Array
from millrace.content.config import ContentConfig
from millrace.content.text_index import TextIndex
from millrace.events.codec import EventCodec
from millrace.events.envelope import MAX_TIME_MS
from millrace.events.feature_events import FeaturesLogged
from millrace.features.encoding.candidates import schema_hash
from millrace.features.encoding.logged import LoggedInputs, read_inputs
from millrace.flywheel.join_checkpoint import JoinCheckpoints
from millrace.flywheel.join_rows import JoinedRows
from millrace.flywheel.learning_round import Keep
from millrace.flywheel.logged_texts import CONTENT, LoggedTexts, events_of, places
from millrace.flywheel.sample_builder import SampleBuilder
from millrace.flywheel.sample_files import HOUR_MS, LABELS, PAGES, SampleFiles
from millrace.flywheel.sample_set import SampleSet
from millrace.flywheel.sample_tables import LoggedPages, concatenated, joined_rows, newest
from millrace.flywheel.warehouse import Warehouse
from millrace.stream.log import total

if TYPE_CHECKING:
    import pyarrow as pa

_NOWHERE: Final = 2**63 - 1
_NOTHING: Final = "the join has let out no samples of pages within the span"

logger = logging.getLogger(__name__)


class SampleStore:
    """Samples of the streaming join.

    Parameters
    ----------
    files
        Of the join.
    warehouse
        The posts' events.
    codec, hasher
        As everywhere.
    content
        Sizes of the home's text index: what had left it, a model did not read.
    source
        Where the samples are from, for people.
    bring_up
        Brings the warehouse up to the log; called where pages are newer than what it holds.
    """

    def __init__(
        self,
        files: SampleFiles,
        warehouse: Warehouse,
        codec: EventCodec,
        hasher: IdHasher,
        content: ContentConfig | None = None,
        source: str = "",
        bring_up: Callable[[], object] = lambda: None,
    ) -> None:
        self._files = files
        self._checkpoints = JoinCheckpoints(files.state_folder)
        self._warehouse = warehouse
        self._codec = codec
        self._hasher = hasher
        self._content = content or ContentConfig()
        self._source = source
        self._bring_up = bring_up
        self._schema = schema_hash(codec.actions)
        # Texts as of the newest page read so far: who reads hour by hour does not fold them from the beginning.
        self._index = TextIndex(self._content, hasher)
        self._texts_to = 0

    @property
    def watermark_ms(self) -> int:
        """Event time that the join had reached at its newest commit; 0 before the first."""
        head = self._checkpoints.newest_head()
        return 0 if head is None else head.watermark_ms

    def rows(self, from_ms: int = 0, until_ms: int = MAX_TIME_MS) -> JoinedRows:
        """Return the newest revisions of samples of pages made within a span, in the order of pages and their rows."""
        parts: list[JoinedRows] = []
        epochs: list[Int64Array] = []
        n_actions = len(self._codec.actions)
        for table in self._tables(LABELS, from_ms, until_ms):
            rows = joined_rows(table, self._codec.actions.names)
            is_wanted = (rows.page_ms >= from_ms) & (rows.page_ms < until_ms)
            parts.append(rows if is_wanted.all() else rows.take(np.flatnonzero(is_wanted)))
            epochs.append(table["epoch"].to_numpy()[is_wanted])
        found = concatenated(parts, n_actions)
        if not parts:
            return found
        found = found.take(np.flatnonzero(newest(found, np.concatenate(epochs))))
        return found.take(np.lexsort((found.page_rows, found.page_offsets)))

    def n_pages(self, from_ms: int = 0, until_ms: int = MAX_TIME_MS) -> int:
        """Return how many pages were made within a span and seen; those of another schema are among them."""
        return len(np.unique(self.rows(from_ms, until_ms).page_offsets))

    def samples(self, from_ms: int = 0, until_ms: int = MAX_TIME_MS, keep: Keep | None = None) -> SampleSet:
        """Return the pages that were made within a span and seen, with labels.

        A sample's weight is one over the rate at which such samples are kept. Pages of another schema are left out,
        and told as a warning. What a page looked like is read of those alone that ``keep`` chooses by their times.

        Raises
        ------
        NoSamplesError
            If there are none.
        """
        rows = self.rows(from_ms, until_ms)
        if keep is not None:
            offsets, first = np.unique(rows.page_offsets, return_index=True)
            rows = rows.take(np.flatnonzero(np.isin(rows.page_offsets, offsets[keep(rows.page_ms[first])])))
        pages = self._pages(from_ms, until_ms, np.unique(rows.page_offsets))
        builder = SampleBuilder(self._codec.actions, self._source)
        if len(pages):
            with self._texts(pages.cuts[0], pages.cuts[-1]) as texts:
                self._build(builder, rows, pages, texts)
        if not len(builder):
            raise NoSamplesError(
                "samples", problem=_NOTHING, remedy="see `millrace flywheel join --json`, or give a longer span"
            )
        return builder.finished()

    def _build(self, builder: SampleBuilder, rows: JoinedRows, pages: LoggedPages, texts: LoggedTexts) -> None:
        starts = np.searchsorted(rows.page_offsets, pages.offsets, side="left")
        stops = np.searchsorted(rows.page_offsets, pages.offsets, side="right")
        n_others = 0
        for number in range(len(pages)):
            try:
                inputs = self._inputs(pages, number)
            except SchemaError:
                n_others += 1
                continue
            mine = rows.take(np.arange(starts[number], stops[number]))
            at = places(inputs.rows.post_ids, mine.posts)
            if (at < 0).any():  # taken out of the page since: an erasure
                mine, at = mine.take(np.flatnonzero(at >= 0)), at[at >= 0]
            if not len(at):
                continue
            found = inputs.rows.take(at)
            texts.read(builder, pages.cuts[number], found.inputs.post_ids, inputs.viewer.history.post_ids)
            builder.add(
                inputs.viewer,
                pages.times_ms[number],
                found.inputs,
                mine.labels,
                found.predictions if found.baseline is None else found.baseline,
                mine.positions,
                request=pages.requests[number],
                weights=(1.0 / mine.rates).astype(np.float32),
            )
        texts.advance(pages.cuts[-1])
        if n_others:
            logger.warning("%d logged pages are left out: of other features than this version's", n_others)

    def _tables(self, kind: str, from_ms: int, until_ms: int) -> Iterator[pa.Table]:
        head = self._checkpoints.newest_head()
        if head is None:
            return iter(())
        hours = (max(from_ms, 0) // HOUR_MS, -(-min(until_ms, MAX_TIME_MS) // HOUR_MS))
        return self._files.read(kind, up_to=head.epoch, hours=hours)

    def _pages(self, from_ms: int, until_ms: int, wanted: Int64Array) -> LoggedPages:
        """Return wanted pages by offset, each once, in the order of their cuts."""
        found = LoggedPages()
        for table in self._tables(PAGES, from_ms, until_ms):
            is_wanted = np.isin(table["log_offset"].to_numpy(), wanted)
            if not is_wanted.any():
                continue
            part = LoggedPages.of_table(table.filter(is_wanted))
            for name in LoggedPages.__slots__:
                getattr(found, name).extend(getattr(part, name))
        offsets, first = np.unique(np.array(found.offsets, dtype=np.int64), return_index=True)
        cuts = np.array(found.cuts, dtype=np.int64)[first]
        return found.take(first[np.lexsort((offsets, cuts))].tolist())

    def _inputs(self, pages: LoggedPages, number: int) -> LoggedInputs:
        payload = FeaturesLogged(
            request_id="-",
            viewer_id="-",
            pipeline="-",
            schema=pages.schemas[number],
            arrays=pages.arrays[number],
        )
        return read_inputs(payload, pages.viewers[number], self._schema)

    @contextmanager
    def _texts(self, first_cut: int, last_cut: int) -> Iterator[LoggedTexts]:
        """Give the texts for pages between two cuts, which come in their order; the block reads on to the last."""
        exported = self._warehouse.position()
        if exported is None or total(exported) < last_cut:
            self._bring_up()
        start = self._texts_to
        if first_cut < start:  # they are known as of later
            self._index, start = TextIndex(self._content, self._hasher), 0
        self._texts_to = _NOWHERE
        with closing(self._warehouse.connect()) as connection:
            yield LoggedTexts(self._index, events_of(connection, self._codec, CONTENT, until=last_cut, since=start))
        self._texts_to = last_cut
