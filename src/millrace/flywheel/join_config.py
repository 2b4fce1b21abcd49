"""`JoinConfig`: the settings of the streaming join (section ``[flywheel.join]``)."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
import numpy as np
from msgspec import Meta, Struct

from millrace.base.actions import ActionSpace
from millrace.base.errors import ConfigError
from millrace.base.ids import Int64Array

MINUTE_MS: Final = 60_000
HOUR_MS: Final = 60 * MINUTE_MS

WindowMs = Annotated[int, Meta(ge=1_000, le=7 * 24 * HOUR_MS)]


class JoinConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long the streaming join waits, what it lets out, and how much it holds.

    All of it shapes state: a checkpoint is restored under the settings that it was made under.
    """

    windows: Annotated[
        Literal["fixed", "dynamic"],
        Meta(
            description="fixed: as configured; dynamic: by how long each action was seen to take, "
            "as configured until that is known of any"
        ),
    ] = "fixed"
    window_ms: Annotated[
        WindowMs,
        Meta(description="how long after the look an action is waited for where action_windows_ms says nothing of it"),
    ] = 20 * MINUTE_MS
    action_windows_ms: Annotated[
        dict[str, WindowMs],
        Meta(description="windows of single actions by name; a sample goes out after the longest of all"),
    ] = msgspec.field(default_factory=dict)
    delay_quantile: Annotated[
        float, Meta(gt=0.0, lt=1.0, description="dynamic windows: the share of an action's delays that are waited for")
    ] = 0.95
    min_delays: Annotated[
        int, Meta(ge=1, description="dynamic windows: seen delays of an action before its window follows them")
    ] = 1_000
    min_window_ms: Annotated[WindowMs, Meta(description="dynamic windows: the shortest")] = MINUTE_MS
    max_window_ms: Annotated[WindowMs, Meta(description="dynamic windows: the longest")] = 2 * HOUR_MS
    late_ms: Annotated[
        WindowMs,
        Meta(
            description="how long after a look an action still belongs to it (a correction, once the sample is out), "
            "and how far from its page a look may lie; everything is forgotten after it"
        ),
    ] = 24 * HOUR_MS
    out_of_order_ms: Annotated[
        int, Meta(ge=0, le=24 * HOUR_MS, description="how far behind the newest event the watermark stays")
    ] = 30 * MINUTE_MS
    n_witnesses: Annotated[
        int,
        Meta(
            ge=1,
            le=64,
            description="how many client events must have reached a moment before time counts as having come that far",
        ),
    ] = 16
    negative_rate: Annotated[
        float, Meta(gt=0.0, le=1.0, description="the share kept of samples in which nothing was done; weights say so")
    ] = 1.0
    max_pages: Annotated[int, Meta(ge=1, description="pages held; beyond it the oldest are dropped and counted")] = (
        1 << 20
    )
    max_looks: Annotated[
        int,
        Meta(ge=1, description="looks held; beyond it the oldest go out as they are, and are dropped and counted"),
    ] = 1 << 22
    max_deeds: Annotated[int, Meta(ge=1, description="actions held; beyond it the oldest are dropped and counted")] = (
        1 << 22
    )
    max_looks_of_post: Annotated[
        int, Meta(ge=1, description="looks of one viewer at one post; more are refused and counted")
    ] = 256
    max_deeds_on_post: Annotated[
        int, Meta(ge=1, description="actions of one viewer on one post; more are refused and counted")
    ] = 1_024

    def check(self, actions: ActionSpace) -> None:
        """Raise `ConfigError` unless the windows are in order and of known actions."""
        unknown = sorted(set(self.action_windows_ms) - set(actions.names))
        if unknown:
            raise ConfigError(
                "[flywheel.join] action_windows_ms",
                value=unknown,
                problem="no such actions",
                remedy=f"use names among {', '.join(actions.names)}",
            )
        if self.min_window_ms > self.max_window_ms:
            raise ConfigError(
                "[flywheel.join] min_window_ms",
                value=self.min_window_ms,
                problem=f"longer than max_window_ms ({self.max_window_ms})",
                remedy="keep min_window_ms <= max_window_ms",
            )
        longest = max([self.window_ms, *self.action_windows_ms.values()])
        if self.windows == "dynamic":
            longest = max(longest, self.max_window_ms)
        if longest > self.late_ms:
            raise ConfigError(
                "[flywheel.join] late_ms",
                value=self.late_ms,
                problem=f"shorter than the longest window ({longest})",
                remedy="keep every window within late_ms",
            )

    def windows_of(self, actions: ActionSpace) -> Int64Array:
        """Return each action's own window in milliseconds, shape (n_actions,), int64."""
        return np.array([self.action_windows_ms.get(name, self.window_ms) for name in actions.names], dtype=np.int64)
