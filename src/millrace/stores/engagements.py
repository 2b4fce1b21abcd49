"""`EngagementStore`: the fold that turns actions and impressions into counters, popularity, index and histories.

One fold, because one decision feeds them all: does this event change anything? A viewer's action on a post counts
once, whatever the event ids, and an undo that arrives first cancels its do (`millrace.stores.marks`); dwell follows
from impressions (`millrace.stores.dwell`). Python takes the fields out of a batch's events, one compiled kernel
applies them in log order (`millrace.stores.engagement_kernels`). The parts read: `counters`, `index`, `histories`,
`tastes`.

Rules worth knowing:

* Counters of an author and of topics count what was done after the post's creation, and its annotation, were read. An
  undo takes back from those to whom its do was counted, whatever the post's topics are by now.
* Deleting a post frees its counters and its index at once; author and topic counters keep what they counted.
* A post to which nothing happened for ``retention_ms`` is forgotten, by the log's watermark, in slices. A mark goes in
  slices of its own: for up to a pass of them an undo may meet a post that was forgotten and is acted on anew.
* Erasing a user removes history, index entries, own posts and author counters; sums that others contributed to as well
  keep their numbers, which name nobody. Marks are hashes of pairs, cannot be listed by user, and run out.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from millrace.base.actions import ActionSpace
from millrace.base.errors import ConfigError
from millrace.base.ids import IdHasher, IdKind, Int64Array
from millrace.base.surfaces import surface_code
from millrace.events.content_events import CountsObserved, PostAnnotated, PostCreated, PostDeleted
from millrace.events.envelope import Payload
from millrace.events.feed_events import Engagement, Impression
from millrace.events.user_events import UserErased
from millrace.stores.codes import CodeTables
from millrace.stores.counters import Counters
from millrace.stores.credits import N_TOPICS, TOPIC_BITS, TOPIC_MASK
from millrace.stores.engagement_arrays import (
    AT_MS,
    IMPRESSION_MARK,
    KIND,
    N_OP_FIELDS,
    OP_ANNOTATE,
    OP_CREATE,
    OP_DELETE,
    OP_ENGAGE,
    OP_ERASE,
    OP_IMPRESS,
    OP_OBSERVE,
    USER,
    FoldSettings,
    X,
)
from millrace.stores.engagement_config import EngagementConfig
from millrace.stores.engagement_decisions import MAX_EFFECTS
from millrace.stores.engagement_index import EngagementIndex
from millrace.stores.engagement_kernels import fold_ops
from millrace.stores.engagement_state import EngagementState
from millrace.stores.engagement_upkeep import erase_user, expire_posts
from millrace.stores.fold import Arrays, EventBatch
from millrace.stores.histories import Histories
from millrace.stores.marks import N_SWEEP_SLICES
from millrace.stores.tastes import Tastes
from millrace.stores.window_kernels import N_FIELDS

_MAX_ACTIONS: Final = IMPRESSION_MARK
"""An action's code is kept in one byte."""

_PIECE: Final = 16_384
"""Operations whose effects are told to the windows at a time: bounds the room for them, and nothing else."""

_MAX_INT63: Final = (1 << 62) - 1


class EngagementStore:
    """Fold of everything that is done to posts.

    Parameters
    ----------
    config
        Bounds, half-lives, weights.
    hasher
        Ids to inside ids.
    codes
        Topic names to codes; applied before this fold.
    actions
        The known actions, business actions included.

    Attributes
    ----------
    counters, index, histories, tastes, windows
        The read side.
    """

    name = "engagements"
    handles: tuple[type[Payload], ...] = (
        PostCreated,
        PostAnnotated,
        Engagement,
        Impression,
        CountsObserved,
        PostDeleted,
        UserErased,
    )

    def __init__(
        self,
        config: EngagementConfig,
        hasher: IdHasher,
        codes: CodeTables,
        actions: ActionSpace | None = None,
    ) -> None:
        self._config = config
        self._hasher = hasher
        self._codes = codes
        self._actions = actions or ActionSpace()
        self._code_by_action = {name: code for code, name in enumerate(self._actions.names)}
        self._column_by_name = {**self._code_by_action, "impression": len(self._actions)}
        self._state = EngagementState(config, fold_settings(config, self._actions))
        self.counters = Counters(self._state)
        self.index = EngagementIndex(self._state)
        self.histories = Histories(self._state, config.affinity_half_life_ms)
        self.tastes = Tastes(self._state)
        self.windows = self._state.windows

    def apply(self, batch: EventBatch) -> None:
        """Apply the events it handles, in log order."""
        self.apply_operations(self.operations(batch))

    def apply_operations(self, ops: Int64Array) -> None:
        """Apply what `operations` made of events, in log order."""
        for start in range(0, len(ops), _PIECE):
            self._apply_piece(ops[start : start + _PIECE])

    def _apply_piece(self, ops: Int64Array) -> None:
        has_windows = bool(self.windows.windows_ms)
        told = np.empty((len(ops) * MAX_EFFECTS if has_windows else 0, N_FIELDS), dtype=np.int64)
        n_told = np.zeros(1, dtype=np.int64)
        n_counted = 0
        done = 0
        while done < len(ops):
            done = fold_ops(self._state.kernel, ops, done, told, n_told)
            if has_windows:
                self.windows.add(told[n_counted : int(n_told[0])])
                n_counted = int(n_told[0])
            if done == len(ops):
                break
            if ops[done, KIND] == OP_ERASE:
                self._erase(int(ops[done, USER]), int(ops[done, AT_MS]))
                done += 1
            else:
                self._state.make_room(_highest_topic(ops[done]) + 1)

    def _erase(self, user_id: int, at_ms: int) -> None:
        if self.windows.windows_ms:
            columns = self._state.post_columns
            self.windows.forget("posts", columns["post_id"][columns["author_id"] == user_id])
            for kind in ("authors", "users"):
                self.windows.forget(kind, np.array([user_id], dtype=np.int64))
        erase_user(self._state.kernel, user_id, at_ms)

    def tick(self, watermark_ms: int) -> None:
        """Forget, in slices, posts and marks that the retention has left behind."""
        before_ms = watermark_ms - self._config.retention_ms
        n_rows = -(-int(self._state.post_n[0]) // N_SWEEP_SLICES)
        expire_posts(self._state.kernel, before_ms, n_rows)
        self._state.marks.sweep(before_ms)

    def arrays(self) -> Arrays:
        """Return the whole state; the arrays are the live ones."""
        return self._state.arrays()

    def load(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Take over a state written by `arrays`."""
        self._state.load(arrays)

    def operations(self, batch: EventBatch) -> Int64Array:
        """Return the batch as operations, shape (n, 7), int64, in log order."""
        ops = array("q")
        add = ops.extend
        one = self._hasher.one
        post, user = IdKind.POST, IdKind.USER
        post_of, user_of = self._hasher.memory(post).get, self._hasher.memory(user).get
        events, appended_ms = batch.events, batch.appended_ms.tolist()
        for row in batch.rows_of(self.handles):
            event = events[row]
            payload = event.payload
            kind = type(payload)
            at_ms = min(event.event_time_ms, appended_ms[row])
            if kind is Impression:
                dwell_ms, duration_ms = min(payload.dwell_ms, _MAX_INT63), min(payload.duration_ms, _MAX_INT63)
                target = post_of(payload.post_id) or one(post, payload.post_id)
                viewer = user_of(payload.viewer_id) or one(user, payload.viewer_id)
                surface = surface_code(payload.context.surface)
                add((OP_IMPRESS, target, viewer, at_ms, dwell_ms, duration_ms, surface))
            elif kind is Engagement:
                action = self._code_by_action.get(payload.action)
                if action is not None:
                    target = post_of(payload.post_id) or one(post, payload.post_id)
                    viewer = user_of(payload.viewer_id) or one(user, payload.viewer_id)
                    surface = surface_code(payload.context.surface)
                    add((OP_ENGAGE, target, viewer, at_ms, action, payload.is_undo, surface))
            elif kind is PostCreated:
                add((OP_CREATE, one(post, payload.post_id), one(user, payload.author_id), at_ms, 0, 0, 0))
            elif kind is PostAnnotated:
                if payload.topics is not None:
                    packed = self._pack_topics(payload.topics)
                    add((OP_ANNOTATE, one(post, payload.post_id), 0, at_ms, packed, 0, 0))
            elif kind is CountsObserved:
                for name, total in payload.counts.items():
                    column = self._column_by_name.get(name)
                    if column is not None:
                        add((OP_OBSERVE, one(post, payload.post_id), 0, at_ms, column, min(total, _MAX_INT63), 0))
            elif kind is PostDeleted:
                add((OP_DELETE, one(post, payload.post_id), 0, at_ms, 0, 0, 0))
            else:
                add((OP_ERASE, 0, one(user, payload.user_id), at_ms, 0, 0, 0))
        return np.frombuffer(ops, dtype=np.int64).reshape(-1, N_OP_FIELDS)

    def _pack_topics(self, names: tuple[str, ...]) -> int:
        packed = 0
        for place, code in enumerate(self._codes.strongest_topics(names)):
            packed |= (code if code <= TOPIC_MASK else 0) << (place * TOPIC_BITS)
        return packed


def _highest_topic(op: Int64Array) -> int:
    if op[KIND] != OP_ANNOTATE:
        return 0
    return max((int(op[X]) >> (place * TOPIC_BITS)) & TOPIC_MASK for place in range(N_TOPICS))


def fold_settings(config: EngagementConfig, actions: ActionSpace) -> FoldSettings:
    """Return what kernels need of the configuration.

    Raises
    ------
    ConfigError
        Naming the setting that does not fit the known actions.
    """
    config.dwell.check()
    if list(config.windows_ms) != sorted(set(config.windows_ms)):
        raise ConfigError(
            "config key stores.engagements.windows_ms",
            value=config.windows_ms,
            problem="not in order, or not all different",
            remedy="give the shortest first, each once",
        )
    if len(actions) > _MAX_ACTIONS:
        raise ConfigError(
            "business actions", value=len(actions), problem=f"more than {_MAX_ACTIONS} actions", remedy="declare fewer"
        )
    n_columns = len(actions) + 1
    weights = np.zeros(n_columns, dtype=np.float64)
    for name, weight in config.heat_weights.items():
        weights[_known(actions, name, "heat_weights")] = weight
    is_indexed = np.zeros(n_columns, dtype=np.bool_)
    for name in config.indexed_actions:
        is_indexed[_known(actions, name, "indexed_actions")] = True
    with np.errstate(divide="ignore"):
        log2_heat = np.log2(weights)
    return FoldSettings(
        heat_rate_per_ms=np.array([1.0 / config.heat_half_life_ms]),
        log2_heat=log2_heat,
        is_indexed=is_indexed,
        dwell=config.dwell.as_array(),
        max_len=np.array([config.max_engagers, config.max_engaged, config.max_history], dtype=np.int64),
    )


def _known(actions: ActionSpace, name: str, setting: str) -> int:
    if name not in actions.names:
        raise ConfigError(
            f"config key stores.engagements.{setting}",
            value=name,
            problem="not a known action",
            remedy=f"use some of {', '.join(actions.names)}",
        )
    return actions.code(name)
