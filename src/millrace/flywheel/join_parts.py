"""What both forms of the streaming join are given, and what they give out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from millrace.base.actions import DERIVED, Action, ActionSpace
from millrace.base.errors import ConfigError
from millrace.base.ids import Int64Array
from millrace.flywheel.join_columns import JoinColumns
from millrace.flywheel.join_config import JoinConfig
from millrace.flywheel.join_rows import JoinedRows
from millrace.flywheel.join_rules import BUCKET_ENDS_MS, GRAIN_MS, MAX_ACTIONS, longest_window_ms
from millrace.flywheel.join_stats import JoinStats
from millrace.stores.engagement_config import DwellThresholds

OUT: Final = np.dtype(
    [
        ("request", "i8"),
        ("viewer", "i8"),
        ("post", "i8"),
        ("page_offset", "i8"),
        ("page_ms", "i8"),
        ("labels", "i8"),
        ("dwell_ms", "i8"),
        ("position", "i8"),
        ("looked_ms", "i8"),
        ("rate", "f8"),
        ("page_row", "i4"),
        ("revision", "i4"),
    ]
)
"""A row as the forms of the join give it; ``labels`` are bits in `Action` order."""


@dataclass(frozen=True, slots=True)
class JoinShape:
    """What the join knows of the home besides its settings.

    Attributes
    ----------
    n_actions
        Columns of labels.
    windows_ms
        Shape (n_actions,), int64: windows as configured.
    thresholds
        `DwellThresholds.as_array`.
    slack_ms
        How much earlier than its record a look may have begun: added to every age.
    derived
        Bits of the actions that follow from looks alone.
    """

    n_actions: int
    windows_ms: Int64Array
    thresholds: Int64Array
    slack_ms: int
    derived: int

    @classmethod
    def of(cls, actions: ActionSpace, dwell: DwellThresholds, config: JoinConfig) -> JoinShape:
        """Return the shape for some actions and thresholds.

        Raises
        ------
        ConfigError
            If settings do not fit together, or there are more actions than bits.
        """
        config.check(actions)
        if len(actions) > MAX_ACTIONS:
            raise ConfigError(
                "[events] business_actions",
                value=len(actions),
                problem=f"more than {MAX_ACTIONS} actions, the built-in ones included, cannot be joined",
                remedy="declare fewer business actions",
            )
        return cls(
            n_actions=len(actions),
            windows_ms=config.windows_of(actions),
            thresholds=dwell.as_array(),
            slack_ms=max(dwell.max_ms, GRAIN_MS),
            derived=sum(1 << int(action) for action in DERIVED),
        )

    @property
    def max_dwell_ms(self) -> int:
        """Longer dwells count as this."""
        return int(self.thresholds[2])

    def longest_ms(self, delays: Int64Array, config: JoinConfig) -> int:
        """Return how long a row waits now."""
        return int(
            longest_window_ms(
                self.windows_ms,
                delays,
                BUCKET_ENDS_MS,
                config.delay_quantile,
                config.min_delays,
                config.min_window_ms,
                config.max_window_ms,
            )
        )


class JoinForm(Protocol):
    """What `millrace.flywheel.join.StreamJoin` is made over."""

    def hear(self, columns: JoinColumns) -> None:
        """Take in the next records."""

    def drain(self) -> npt.NDArray[Any]:
        """Return the rows that are out since the last call, shape (n,), `OUT`."""

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Return all of it as arrays."""

    def restore(self, state: dict[str, npt.NDArray[Any]]) -> None:
        """Take over what `state` returned."""

    def stats(self, names: tuple[str, ...]) -> JoinStats:
        """Return counts, and how things stand; names of the actions in order."""


def rows_of(out: npt.NDArray[Any], n_actions: int) -> JoinedRows:
    """Return `OUT` rows as columns with labels as numbers."""
    words = np.ascontiguousarray(out["labels"], dtype="<i8").view(np.uint8).reshape(-1, 8)
    labels = np.unpackbits(words, axis=1, bitorder="little")[:, :n_actions].astype(np.float32)
    labels[:, Action.DWELL_TIME] = out["dwell_ms"] / 1000
    return JoinedRows(
        requests=out["request"].copy(),
        viewers=out["viewer"].copy(),
        posts=out["post"].copy(),
        page_offsets=out["page_offset"].copy(),
        page_rows=out["page_row"].copy(),
        positions=out["position"].copy(),
        revisions=out["revision"].copy(),
        labels=labels,
        page_ms=out["page_ms"].copy(),
        looked_ms=out["looked_ms"].copy(),
        rates=out["rate"].astype(np.float32),
    )
