"""`millrace flywheel skew`: replay a home's log to the moment of each page, and compare with what was logged."""

from __future__ import annotations

import bisect
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from millrace.app import wiring
from millrace.app.as_of import Visit, visit_as_of
from millrace.app.sampling import to_sample
from millrace.app.served_facts import ServedFacts, ServedFactsReader, missed_features
from millrace.app.settings import Settings
from millrace.base.errors import SchemaError, StoreError
from millrace.base.ids import IdHasher, IdKind, Int64Array
from millrace.base.progress import moving
from millrace.events.feature_events import CandidatesLogged, FeaturesLogged, InputsLogged
from millrace.events.feed_events import Served
from millrace.features.columns import HAS_POST, POST_ID
from millrace.features.encoding.candidates import schema_hash
from millrace.features.encoding.encoders import Encoders
from millrace.features.encoding.logged import read_inputs
from millrace.flywheel.feature_skew import SkewCount, SkewReport
from millrace.flywheel.slates import Slates
from millrace.pipeline.query import Query

if TYPE_CHECKING:
    from millrace.app.evaluation import ShowProgress
    from millrace.mixer.feed_state import FeedState
    from millrace.stream.log import Log, RecordBatch

_POLL: Final = 512


class _Page(NamedTuple):
    """Where a page's features are in the log, at which position its state stood, and how it was made."""

    cut: int
    offset: int
    n_rows: int
    served: ServedFacts


def home_skew(
    settings: Settings, show_progress: ShowProgress, *, max_rows: int | None = None, until: int | None = None
) -> SkewReport:
    """Return how a home's logged features differ from what the log gives when it is replayed; works beside a server.

    Features of pages (`FeaturesLogged`) and of sampled requests' candidates (`CandidatesLogged`) are compared alike.
    They are encoded anew with the params that the page's `Served` event has, and what a component would have written
    that gave nothing then is left out.

    Parameters
    ----------
    settings
        The home.
    show_progress
        Tells the person waiting.
    max_rows
        The newest pages that have together about so many rows; None: all.
    until
        Position of the log that is taken for its end.

    Raises
    ------
    StoreError
        If no features are logged, or the log was trimmed and no checkpoint stands before the first page.
    """
    log = wiring.build_log(settings)
    try:
        reader = _LoggedPages(settings, log)
        with show_progress("reading what was logged (pages)") as step:
            pages, n_left_out = reader.index(until)
            step.advance(len(pages))
        if not pages:
            raise StoreError(
                "logged features",
                problem="there are none of this version's schema, with their Served events, in the log",
                remedy="serve pages with [home] logs_features = true",
            )
        pages = sorted(_newest(pages, max_rows))
        hasher, counts = IdHasher(), SkewCount(wiring.build_actions(settings))
        with show_progress("replaying the log (records)") as step:

            def replayer_of(state: FeedState) -> Visit:
                return _Replayer(settings, state, pages, reader, counts, hasher).visit

            visit_as_of(settings, log, hasher, _slates(pages), replayer_of, behind_ms=0, on_progress=moving(step))
        reader.close()
        return counts.report(n_left_out)
    finally:
        log.close()


class _LoggedPages:
    """Reads features from a log, page by page, in any order."""

    def __init__(self, settings: Settings, log: Log) -> None:
        self._codec = wiring.build_codec(settings)
        self._schema = schema_hash(wiring.build_actions(settings))
        kinds = (FeaturesLogged, CandidatesLogged, Served)
        topics = {self._codec.registry.by_name(kind.__name__).topic for kind in kinds}
        self._facts = ServedFactsReader(wiring.declared_params(settings))
        self._log = log
        self._consumer = log.subscribe("skew", topics=topics, start=log.begin())
        self._batch: RecordBatch | None = None

    def index(self, until: int | None) -> tuple[list[_Page], int]:
        """Return where pages are, in log order, and how many are left out: of another schema, or not told as served."""
        found: list[tuple[int, int, int, tuple[str, str]]] = []
        served: dict[tuple[str, str], ServedFacts] = {}
        n_others = 0
        while len(batch := self._consumer.poll(_POLL, before=None if until is None else (until,))):
            for offset, data in zip(batch.offsets.tolist(), batch.data, strict=True):
                if not data:
                    continue  # purged
                payload = self._codec.decode(data).payload
                if isinstance(payload, Served):
                    served[payload.viewer_id, payload.request_id] = self._facts.facts(payload)
                if not isinstance(payload, InputsLogged):
                    continue
                if payload.schema != self._schema or not payload.state_offset:
                    n_others += 1
                    continue
                try:
                    n_rows = len(read_inputs(payload, 0, self._schema).rows)
                except SchemaError:
                    n_others += 1
                    continue
                cut, key = min(payload.state_offset[0], offset), (payload.viewer_id, payload.request_id)
                found.append((cut, offset, n_rows, key))
        # Which of the two is written first is nobody's rule: they are put together at the end.
        pages = [_Page(cut, offset, n, served[key]) for cut, offset, n, key in found if key in served]
        return pages, n_others + len(found) - len(pages)

    def read(self, offset: int) -> tuple[InputsLogged, int]:
        """Return the features at an offset, and the time of their request."""
        batch = self._batch
        if batch is None or not len(batch) or not batch.offsets[0] <= offset <= batch.offsets[-1]:
            self._consumer.seek((offset,))
            batch = self._batch = self._consumer.poll(_POLL)
        place = bisect.bisect_left(batch.offsets.tolist(), offset)
        event = self._codec.decode(batch.data[place])
        payload = event.payload
        assert isinstance(payload, InputsLogged)
        return payload, event.event_time_ms

    @property
    def schema(self) -> str:
        """The hash of this version's features."""
        return self._schema

    def close(self) -> None:
        """Release the consumer."""
        self._consumer.close()


class _Replayer:
    """Encodes pages anew over a state that moves on, and compares."""

    def __init__(
        self,
        settings: Settings,
        state: FeedState,
        pages: list[_Page],
        reader: _LoggedPages,
        counts: SkewCount,
        hasher: IdHasher,
    ) -> None:
        self._pages, self._reader, self._counts, self._hasher = pages, reader, counts, hasher
        self._pipeline = wiring.build_home_pipeline(settings, state, revise=to_sample)
        self._stages = wiring.build_home_pipeline(settings, state).stages  # as they serve
        self._actions = wiring.build_actions(settings)
        self._encoders = Encoders.of(state, state.texts, state.profile_texts)

    async def visit(self, number: int) -> None:
        """Replay one page."""
        page = self._pages[number]
        missed: frozenset[str] | None = frozenset()
        if page.served.not_run:
            missed = missed_features(self._stages, page.served.not_run, self._actions)
            if missed is None or missed:
                self._counts.note_incomplete(f"{stage} {name}" for stage, name in page.served.not_run)
        if missed is None:
            return
        payload, now_ms = self._reader.read(page.offset)
        viewer_id = self._hasher.one(IdKind.USER, payload.viewer_id)
        logged = read_inputs(payload, viewer_id, self._reader.schema)
        viewer = self._encoders.viewers.encode(viewer_id)
        self._counts.compare_viewer(payload.request_id, logged.viewer, viewer)
        query = Query(
            request_id=f"skew-{page.offset}",
            viewer_id=viewer_id,
            now_ms=now_ms,
            limit=max(page.n_rows, 1),
            params=page.served.params,
            state_offset=(page.cut,),
            is_dry_run=True,
        )
        batch = await self._pipeline.score(query, logged.rows.post_ids)
        batch = batch.compact(batch[HAS_POST])
        found = self._encoders.candidates.encode(batch, now_ms, viewer.history.newest_ms)
        self._counts.compare_rows(logged.rows.inputs, found, _places(batch[POST_ID], logged.rows.post_ids), missed)


def _newest(pages: list[_Page], max_rows: int | None) -> list[_Page]:
    """Return the newest pages that have together at least ``max_rows`` rows, if there are so many."""
    if max_rows is None:
        return pages
    n_rows = np.cumsum([page.n_rows for page in pages[::-1]])
    return pages[max(len(pages) - int(np.searchsorted(n_rows, max_rows)) - 1, 0) :]


def _slates(pages: list[_Page]) -> Slates:
    """Return pages as slates without rows: what a replay needs is where to stop."""
    n = len(pages)
    zeros, none = np.zeros(n, dtype=np.int64), np.zeros(0, dtype=np.int64)
    return Slates(
        starts=np.zeros(n + 1, dtype=np.int64),
        viewers=zeros,
        began_ms=zeros,
        ended_ms=zeros,
        cuts=np.array([page.cut for page in pages], dtype=np.int64),
        requests=zeros,
        post_ids=none,
        labels=np.zeros((0, 1), dtype=np.float32),
        served_scores=np.zeros(0, dtype=np.float32),
        positions=none,
        delays_ms=none,
        n_unplaced=0,
        n_unmatched=0,
        n_open=0,
    )


def _places(among: Int64Array, wanted: Int64Array) -> Int64Array:
    """Return where each wanted id is, -1 where it is not."""
    if not len(among):
        return np.full(len(wanted), -1, dtype=np.int64)
    order = np.argsort(among, kind="stable")
    at = np.minimum(np.searchsorted(among, wanted, sorter=order), len(among) - 1)
    return np.where(among[order[at]] == wanted, order[at], -1)
