"""`NearLineLearner`: hears the log, learns from each look and action at once, and says what servers must know.

What it hears, in the order of the log: `FeaturesLogged` (what the ranker saw and predicted), `Impression` and
`Engagement`. A row is predicted when its page is heard, learned when it is seen, made good when an action comes, and
settled ``wait_s`` later: then it counts for calibration, for the gates, and for whoever watches (`Watcher`). Of an
action that often comes later than that, a reply say, settled rows know too little: its head is *slow*, which is
measured, and neither calibrated nor corrected. The same log gives the same weights.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from millrace.base.actions import CONTINUOUS, Action, ActionSpace
from millrace.base.errors import SchemaError
from millrace.base.ids import IdHasher, IdKind
from millrace.base.surfaces import surface_code
from millrace.events.envelope import AnyEvent, Payload
from millrace.events.feature_events import FeaturesLogged
from millrace.events.feed_events import Engagement, Impression
from millrace.events.near_line_events import NearLineUpdated
from millrace.events.user_events import UserErased
from millrace.features.encoding.candidates import schema_hash
from millrace.features.encoding.logged import read_inputs
from millrace.features.hashed_crosses import cross_slots
from millrace.flywheel.metrics import IntArray
from millrace.flywheel.near_line.config import NearLineConfig
from millrace.flywheel.near_line.delays import Delays
from millrace.flywheel.near_line.model_layer import ModelLayer
from millrace.flywheel.near_line.pages import Float32Array, Page, PageRing, a_page
from millrace.stores.dwell import IS_COMPLETE, IS_DWELL, IS_NOT_DWELLED, dwell_flags
from millrace.stores.engagement_config import DwellThresholds

MAX_MODELS: Final = 4
"""Rankers that are learned about at once; of more, the one that was served longest ago is forgotten."""

_EARLY_WAITS: Final = 4
_MIN_EARLY_MS: Final = 60_000
"""What came before its page waits for it so many ``wait_s`` of event time, a minute at least: much never has a page."""

HEARD: Final[tuple[type[Payload], ...]] = (FeaturesLogged, Impression, Engagement, UserErased)
"""The payload types that it needs."""


@dataclass(frozen=True, slots=True)
class SettledRows:
    """Rows of one ranker whose labels count as whole; k rows, those of a page together.

    Attributes
    ----------
    model
        The ranker's version.
    pages, viewers
        Shape (k,), int64.
    deep, counted
        Shape (k, n_heads), float32: what the ranker and the counters predicted; NaN where that is not known.
    labels
        Shape (k, n_heads), float32.
    is_slow
        Shape (n_heads,): heads whose actions often come when their row is settled; None: none is.
    """

    model: str
    pages: IntArray
    viewers: IntArray
    deep: Float32Array
    counted: Float32Array
    labels: Float32Array
    is_slow: npt.NDArray[np.bool_] | None = None


class Watcher(Protocol):
    """Whoever looks on."""

    def hear_page(self, page: Page) -> None:
        """Hear of a page that was served."""

    def hear_settled(self, rows: SettledRows) -> None:
        """Hear of rows whose labels count as whole."""


class NearLineLearner:
    """Learns about the rankers that are served.

    Parameters
    ----------
    config
        How.
    hasher
        Outside ids to inside ids.
    actions
        The known actions.
    dwell
        Where the dwell family begins.
    watchers
        Look on.
    pipeline
        Whose pages.
    """

    def __init__(
        self,
        config: NearLineConfig,
        hasher: IdHasher,
        actions: ActionSpace,
        dwell: DwellThresholds | None = None,
        watchers: tuple[Watcher, ...] = (),
        pipeline: str = "home",
    ) -> None:
        self._config = config
        self._hasher = hasher
        self._actions = actions
        self._dwell = dwell or DwellThresholds()
        self._thresholds = self._dwell.as_array()
        self._watchers = watchers
        self._pipeline = pipeline
        self._schema = schema_hash(actions)
        self._is_learned = np.ones(len(actions), dtype=np.bool_)
        self._is_learned[sorted(CONTINUOUS)] = False
        self._pages = PageRing(config.max_pages)
        self._layers: OrderedDict[str, ModelLayer] = OrderedDict()
        self._waiting: deque[tuple[int, Page]] = deque()
        self._early: deque[tuple[int, int, AnyEvent]] = deque(maxlen=1_024)  # by when they were heard
        self._delays = Delays(len(actions))
        self._n_pages = 0
        self.now_ms = 0
        self.n_rows = 0

    @property
    def layers(self) -> Mapping[str, ModelLayer]:
        """What is known by ranker version."""
        return self._layers

    @property
    def action_names(self) -> tuple[str, ...]:
        """Names of the heads, in order."""
        return self._actions.names

    def hear(self, time_ms: int, event: AnyEvent) -> None:
        """Take in one record of the log; ``time_ms`` is its effective time."""
        payload = event.payload
        if isinstance(payload, FeaturesLogged):
            self._hear_page(payload)
        elif isinstance(payload, Impression):
            self._hear_look(time_ms, event, payload)
        elif isinstance(payload, Engagement):
            self._hear_action(time_ms, event, payload)
        elif isinstance(payload, UserErased):
            self._forget(self._hasher.one(IdKind.USER, payload.user_id))
        self.advance(time_ms)

    def advance(self, now_ms: int) -> None:
        """Let event time come this far: settle what has waited long enough."""
        self.now_ms = max(self.now_ms, now_ms)
        due_ms = self.now_ms - round(self._config.wait_s * 1000)
        pages: list[Page] = []
        while self._waiting and self._waiting[0][0] <= due_ms:
            pages.append(self._waiting.popleft()[1])
        if pages:
            self._settle(pages)
        too_early_ms = self.now_ms - max(_EARLY_WAITS * round(self._config.wait_s * 1000), _MIN_EARLY_MS)
        while self._early and self._early[0][0] < too_early_ms:
            self._early.popleft()

    def updates(self) -> list[NearLineUpdated]:
        """Return what servers do not know yet, and take them to know it from now on.

        Where learning is switched off (and only guards look on) that is to forget what they know.
        """
        if not self._config.is_on:
            return [update for model, layer in self._layers.items() for update in layer.silence(model)]
        is_slow = self._delays.is_slow
        return [update for model, layer in self._layers.items() for update in layer.updates(model, is_slow)]

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return what it is kept as; looks and actions that are still to come to their pages are not."""
        names = np.frombuffer("\0".join(self._layers).encode(), dtype=np.uint8)
        found: dict[str, npt.NDArray[Any]] = {"models": names, "delays": self._delays.counts}
        for place, layer in enumerate(self._layers.values()):
            found.update({f"{place}.{name}": array for name, array in layer.arrays().items()})
        return found

    def load(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Take over what `arrays` gave.

        Raises
        ------
        KeyError, ValueError
            If it is of another version, or of other actions or sizes.
        """
        names = arrays["models"].tobytes().decode()
        layers: OrderedDict[str, ModelLayer] = OrderedDict()
        for place, model in enumerate(names.split("\0") if names else ()):
            layer = ModelLayer(self._config, self._is_learned)
            prefix = f"{place}."
            kept = {n.removeprefix(prefix): a for n, a in arrays.items() if n.startswith(prefix)}
            expected = {name: array.shape for name, array in layer.arrays().items()}
            if {name: array.shape for name, array in kept.items()} != expected:
                raise ValueError("of other sizes")
            layer.load(kept)
            layers[model] = layer
        if arrays["delays"].shape != self._delays.counts.shape:
            raise ValueError("of other actions")
        self._layers = layers
        self._delays.counts[:] = arrays["delays"]

    def _hear_page(self, payload: FeaturesLogged) -> None:
        model = payload.models.get("ranker", "")
        if not model or payload.pipeline != self._pipeline:
            return
        viewer = self._hasher.one(IdKind.USER, payload.viewer_id)
        request = self._hasher.one(IdKind.REQUEST, payload.request_id)
        if self._pages.knows(viewer, request):
            return
        try:
            logged = read_inputs(payload, viewer, self._schema)
        except SchemaError:
            return
        rows = logged.rows
        if rows.baseline is None or rows.predictions.shape[1] != len(self._actions):
            return  # counters predicted: the ranker was late, or failed
        slots = cross_slots(
            viewer, rows.inputs.post_ids, rows.inputs.author_ids, surface_code(payload.surface), self._config.n_slots
        )
        page = a_page(self._n_pages, model, request, logged, slots)
        self._n_pages += 1
        self._pages.add(page)
        self._layer(model).predict(page)
        for watcher in self._watchers:
            watcher.hear_page(page)
        self._hear_early(page)

    def _hear_look(self, time_ms: int, event: AnyEvent, payload: Impression) -> None:
        found = self._find(payload.viewer_id, payload.request_id, payload.post_id)
        if found is None:
            self._early.append((max(self.now_ms, time_ms), time_ms, event))
            return
        page, row = found
        page.dwell_ms[row] = max(int(page.dwell_ms[row]), min(payload.dwell_ms, self._dwell.max_ms))
        longest = int(page.dwell_ms[row])
        flags = dwell_flags(longest, payload.dwell_ms, payload.duration_ms, self._thresholds)
        before = page.labels[row].copy()
        page.labels[row, Action.DWELL] = bool(flags & IS_DWELL)
        page.labels[row, Action.NOT_DWELLED] = bool(flags & IS_NOT_DWELLED)
        page.labels[row, Action.COMPLETE] = max(before[Action.COMPLETE], bool(flags & IS_COMPLETE))
        page.labels[row, Action.DWELL_TIME] = longest / 1000
        layer = self._layers.get(page.model)
        if not page.is_seen[row]:
            page.is_seen[row] = True
            self.n_rows += 1
            self._waiting.append((time_ms, page))
            if layer is not None:
                layer.learn(page, row, time_ms)
        elif layer is not None:
            layer.correct(page, row, page.labels[row] - before, time_ms)

    def _hear_action(self, time_ms: int, event: AnyEvent, payload: Engagement) -> None:
        found = self._find(payload.viewer_id, payload.request_id, payload.post_id)
        if found is None:
            self._early.append((max(self.now_ms, time_ms), time_ms, event))
            return
        page, row = found
        action = self._actions.code(payload.action)
        change = np.zeros(len(self._actions), dtype=np.float32)
        change[action] = (0.0 if payload.is_undo else 1.0) - page.labels[row, action]
        page.labels[row] += change
        if page.is_settled[row] and change[action] > 0:
            self._delays.late(action)
        layer = self._layers.get(page.model)
        if page.is_seen[row] and change.any() and layer is not None:
            layer.correct(page, row, change, time_ms)

    def _forget(self, viewer: int) -> None:
        """Let go of all that is held of a viewer: pages, rows that wait to be settled, events without a page yet."""
        self._pages.forget(viewer)
        self._waiting = deque(waiting for waiting in self._waiting if waiting[1].viewer != viewer)
        early = (heard for heard in self._early if self._hasher.one(IdKind.USER, heard[2].payload.viewer_id) != viewer)
        self._early = deque(early, maxlen=self._early.maxlen)

    def _find(self, viewer: str, request: str | None, post: str) -> tuple[Page, int] | None:
        one = self._hasher.one
        return self._pages.find(
            one(IdKind.USER, viewer), one(IdKind.REQUEST, request) if request else 0, one(IdKind.POST, post)
        )

    def _hear_early(self, page: Page) -> None:
        """Hear once more what came before its page: servers log a page a moment after it has left."""
        if not self._early:
            return
        kept, self._early = self._early, deque(maxlen=self._early.maxlen)
        for heard_ms, time_ms, event in kept:
            payload = event.payload
            is_its = (
                payload.request_id is not None
                and self._hasher.one(IdKind.REQUEST, payload.request_id) == page.request
                and self._hasher.one(IdKind.USER, payload.viewer_id) == page.viewer
            )
            if is_its:
                self.hear(time_ms, event)
            else:
                self._early.append((heard_ms, time_ms, event))

    def _settle(self, waiting: list[Page]) -> None:
        by_model: dict[str, dict[int, Page]] = {}
        for page in waiting:
            by_model.setdefault(page.model, {})[page.number] = page
        for model, pages in by_model.items():
            pairs = [
                (page, row)
                for page in pages.values()
                for row in np.flatnonzero(page.is_seen & ~page.is_settled).tolist()
            ]
            if not pairs:
                continue
            for page, row in pairs:
                page.is_settled[row] = True
            numbers = np.array([page.number for page, _ in pairs], dtype=np.int64)
            rows = np.array([row for _, row in pairs], dtype=np.int64)
            labels = np.stack([page.labels[row] for page, row in pairs])
            self._delays.in_time(labels)
            layer = self._layers.get(model)
            if layer is not None:
                layer.settle(numbers, [page for page, _ in pairs], rows)
            settled = SettledRows(
                model=model,
                pages=numbers,
                viewers=np.array([page.viewer for page, _ in pairs], dtype=np.int64),
                deep=np.stack([page.deep[row] for page, row in pairs]),
                counted=np.stack([_counted(page, row) for page, row in pairs]),
                labels=labels,
                is_slow=self._delays.is_slow,
            )
            for watcher in self._watchers:
                watcher.hear_settled(settled)

    def _layer(self, model: str) -> ModelLayer:
        layer = self._layers.get(model)
        if layer is None:
            layer = self._layers[model] = ModelLayer(self._config, self._is_learned)
        self._layers.move_to_end(model)
        while len(self._layers) > MAX_MODELS:
            self._layers.popitem(last=False)
        return layer


def _counted(page: Page, row: int) -> Float32Array:
    return np.full_like(page.deep[row], np.nan) if page.counted is None else page.counted[row]
