"""`StreamJoin`: what was served (with its features) and what people did meet in event time, record by record.

A *row* is a post of a page (`FeaturesLogged`) that was looked at (`Impression` naming the page's request, by the
page's viewer). It waits until the watermark passes the end of its window after the look, and goes out with the labels
that there are: revision 0. What comes later (a label, an undo, a longer look, the page itself) lets out a newer
revision at once. The newest revisions of a log are the rows of the batch join (`millrace.flywheel.slate_join`,
`logged_samples`) over the same log: the rules of what belongs together are the same and depend on event times, never
on the order of the log, so that records may come late, twice, or in another order.

* **Watermark**: the older of the newest times of the two streams, features and labels, less ``out_of_order_ms``. All
  other records, `ClockTick` among them, carry both forward, so an idle stream holds nobody up. Times of client events
  count once ``n_witnesses`` events have reached them; a few from the future drag nothing along.
* **Rows go out at records**: each record of the log lets out what it makes due, so what goes out, in which order and
  at which revision, is a function of the log alone; `let_out` only hands over. Whoever hears the same records again
  after a crash sees the same revisions again.
* **Page**: that of the request *and viewer*; logged twice, the first counts. A look further than ``late_ms`` from its
  page is no look at the page (it still shows where actions belong).
* **Actions** belong to the look of their request within ``late_ms``, else to the viewer's latest look at the post that
  began before, within ``late_ms``. The last word of each action holds; at one millisecond, taking back is the last.
* **Negative sampling**: a row in which nothing was done (no label, or ``not_dwelled`` alone) is kept with
  ``negative_rate`` by a hash of its key, and says so in ``rates``. A row that was ever found otherwise since its
  window's end is kept always, at rate 1: one that turns positive late goes out then, whether it was kept before or
  not, and one that is taken back late stays. Each row's rate is the probability, over the hash, that its newest
  revision is out, given what happened: weights of 1 / rate are unbiased for every sum over rows.
* **Bounds**: rows are forgotten ``late_ms`` after the look (or page); beyond the counts of the config the oldest go
  first. A row dropped for room goes out as it is and is never let out anew, so bounds lose corrections, not samples.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from millrace.base.actions import ActionSpace
from millrace.base.errors import SchemaError
from millrace.base.ids import IdHasher, IdKind, Int64Array
from millrace.events.envelope import AnyEvent
from millrace.events.feature_events import POSTS, FeaturesLogged
from millrace.events.feed_events import Engagement, Impression
from millrace.events.packed import unpack_arrays
from millrace.flywheel.join_columns import JoinBuffer, JoinColumns
from millrace.flywheel.join_compiled import CompiledJoin
from millrace.flywheel.join_config import JoinConfig
from millrace.flywheel.join_parts import JoinForm, JoinShape, rows_of
from millrace.flywheel.join_rows import JoinedRows
from millrace.flywheel.join_stats import JoinStats
from millrace.stores.engagement_config import DwellThresholds

_BATCH: Final = 4_096
"""Records gathered before they are joined at once."""


class StreamJoin:
    """Hears a log in its order and lets out rows as they fall due.

    Parameters
    ----------
    hasher
        Outside ids to inside ids.
    actions
        The known actions, at most 63.
    dwell
        Where the dwell family begins.
    config
        Windows, bounds, sampling.
    form
        What joins: compiled, or the plain form that it equals.

    Raises
    ------
    ConfigError
        If the settings do not fit together.
    """

    def __init__(
        self,
        hasher: IdHasher,
        actions: ActionSpace,
        dwell: DwellThresholds | None = None,
        config: JoinConfig | None = None,
        form: Callable[[JoinShape, JoinConfig], JoinForm] = CompiledJoin,
    ) -> None:
        self._hasher = hasher
        self._actions = actions
        config = config or JoinConfig()
        self._form = form(JoinShape.of(actions, dwell or DwellThresholds(), config), config)
        self._buffer = JoinBuffer()

    def hear(self, offset: int, time_ms: int, event: AnyEvent) -> None:
        """Take in one record of the log; ``time_ms`` is its effective time, min(event_time_ms, appended_ms)."""
        hear_event(self._buffer, self._hasher, self._actions, offset, time_ms, event)
        if len(self._buffer) >= _BATCH:
            self._flush()

    def hear_columns(self, columns: JoinColumns) -> None:
        """Take in the next records of the log at once."""
        self._flush()
        self._form.hear(columns)

    def let_out(self) -> JoinedRows:
        """Return what has fallen due since the last call, in the order in which it did."""
        self._flush()
        return rows_of(self._form.drain(), len(self._actions))

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Return everything held as arrays: equal bytes for equal logs. What was not yet handed over is in it."""
        self._flush()
        return self._form.state()

    def restore(self, state: dict[str, npt.NDArray[Any]]) -> None:
        """Go on from what `state` returned, under the same settings.

        Raises
        ------
        StoreError
            If it was made under others.
        """
        self._buffer = JoinBuffer()
        self._form.restore(state)

    def stats(self) -> JoinStats:
        """Return what operators watch."""
        self._flush()
        return self._form.stats(self._actions.names)

    def _flush(self) -> None:
        if len(self._buffer):
            self._form.hear(self._buffer.take())


def hear_event(
    buffer: JoinBuffer, hasher: IdHasher, actions: ActionSpace, offset: int, time_ms: int, event: AnyEvent
) -> None:
    """Add one record to a buffer: hashed, and of a page its posts alone."""
    payload, one = event.payload, hasher.one
    if isinstance(payload, Impression):
        buffer.look(
            offset,
            time_ms,
            one(IdKind.USER, payload.viewer_id),
            one(IdKind.REQUEST, payload.request_id or ""),
            one(IdKind.POST, payload.post_id),
            payload.dwell_ms,
            -1 if payload.position is None else payload.position,
            is_complete=0 < payload.duration_ms <= payload.dwell_ms,
        )
    elif isinstance(payload, Engagement):
        buffer.deed(
            offset,
            time_ms,
            one(IdKind.USER, payload.viewer_id),
            one(IdKind.REQUEST, payload.request_id or ""),
            one(IdKind.POST, payload.post_id),
            actions.code(payload.action),
            is_undo=payload.is_undo,
        )
    elif isinstance(payload, FeaturesLogged):
        viewer, request = one(IdKind.USER, payload.viewer_id), one(IdKind.REQUEST, payload.request_id)
        buffer.page(offset, time_ms, viewer, request, posts_of(payload))
    else:
        buffer.other(offset, time_ms)


def posts_of(payload: FeaturesLogged) -> Int64Array:
    """Return the posts whose features were logged, in the order of their rows; none where the arrays are damaged."""
    try:
        return np.asarray(unpack_arrays(payload.arrays)[POSTS], dtype=np.int64)
    except (SchemaError, KeyError):
        return np.empty(0, dtype=np.int64)
