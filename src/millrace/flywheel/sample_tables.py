"""What sample files hold, as Arrow tables: labels, a row a (request, post, revision), and pages, a row a logged page.

Features stand beside the labels, not among them. A page is written as it was logged, once, by the epoch that heard it;
its labels come later, and some of them again (corrections). With features in every row a correction of one label would
write kilobytes, and rows would have to hold them from the page to the end of the window.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from millrace.base.ids import Int64Array
from millrace.flywheel.join_rows import JoinedRows

if TYPE_CHECKING:
    import pyarrow as pa

BoolArray = npt.NDArray[np.bool_]

LABEL: Final = "label_"
"""Before an action's name: its column. A column that an older file lacks is all zeros."""

_COLUMNS: Final = {
    "requests": "request",
    "viewers": "viewer",
    "posts": "post",
    "page_offsets": "page_offset",
    "page_rows": "page_row",
    "positions": "position",
    "revisions": "revision",
    "page_ms": "page_ms",
    "looked_ms": "looked_ms",
    "rates": "rate",
}


@dataclass(slots=True)
class LoggedPages:
    """Pages as they were logged (`FeaturesLogged`), n of them, column by column.

    Attributes
    ----------
    offsets, times_ms, cuts
        Log offset and effective time of the event; the log position that the page was made at.
    requests, viewers
        Inside ids.
    schemas, shares
        What the arrays mean; the probability with which requests are logged like this.
    arrays
        `millrace.events.packed`, as it was logged.
    """

    offsets: list[int] = field(default_factory=list)
    times_ms: list[int] = field(default_factory=list)
    cuts: list[int] = field(default_factory=list)
    requests: list[int] = field(default_factory=list)
    viewers: list[int] = field(default_factory=list)
    schemas: list[str] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)
    arrays: list[bytes] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.offsets)

    @property
    def n_bytes(self) -> int:
        """Bytes of all arrays."""
        return sum(map(len, self.arrays))

    def table(self) -> pa.Table:
        """Return the pages as a table."""
        import pyarrow as pa

        return pa.table(
            {
                "log_offset": pa.array(self.offsets, pa.int64()),
                "time_ms": pa.array(self.times_ms, pa.int64()),
                "cut": pa.array(self.cuts, pa.int64()),
                "request": pa.array(self.requests, pa.int64()),
                "viewer": pa.array(self.viewers, pa.int64()),
                "schema": pa.array(self.schemas, pa.string()),
                "share": pa.array(self.shares, pa.float32()),
                "arrays": pa.array(self.arrays, pa.large_binary()),
            }
        )

    @classmethod
    def of_table(cls, table: pa.Table) -> LoggedPages:
        """Return what `table` made."""
        names = ("log_offset", "time_ms", "cut", "request", "viewer", "schema", "share", "arrays")
        columns: list[list[Any]] = [table[name].to_pylist() for name in names]
        return cls(*columns)

    def take(self, wanted: Any) -> LoggedPages:
        """Return some of the pages; ``wanted`` is their numbers."""
        return LoggedPages(*([getattr(self, name)[i] for i in wanted] for name in self.__slots__))


def label_table(rows: JoinedRows, actions: tuple[str, ...], epoch: int) -> pa.Table:
    """Return joined rows as a table."""
    import pyarrow as pa

    columns: dict[str, Any] = {name: getattr(rows, field) for field, name in _COLUMNS.items()}
    columns["epoch"] = np.full(len(rows), epoch, dtype=np.int64)
    by_action = np.ascontiguousarray(rows.labels.T)
    columns |= {LABEL + action: by_action[number] for number, action in enumerate(actions)}
    return pa.table(columns)


def joined_rows(table: pa.Table, actions: tuple[str, ...]) -> JoinedRows:
    """Return the rows of `label_table`'s tables."""
    columns = {field: table[name].to_numpy() for field, name in _COLUMNS.items()}
    labels = np.zeros((table.num_rows, len(actions)), dtype=np.float32)
    known = set(table.column_names)
    for number, action in enumerate(actions):
        if LABEL + action in known:
            labels[:, number] = table[LABEL + action].to_numpy()
    return JoinedRows(labels=labels, **columns)


def concatenated(parts: list[JoinedRows], n_actions: int) -> JoinedRows:
    """Return the rows of all parts, one after the other."""
    if not parts:
        return no_rows(n_actions)
    return JoinedRows(
        **{name: np.concatenate([getattr(part, name) for part in parts]) for name in JoinedRows.__slots__}
    )


def no_rows(n_actions: int) -> JoinedRows:
    """Return nothing."""
    ids = np.zeros(0, dtype=np.int64)
    small, rates = np.zeros(0, dtype=np.int32), np.zeros(0, dtype=np.float32)
    labels = np.zeros((0, n_actions), dtype=np.float32)
    return JoinedRows(ids, ids, ids, ids, small, ids, small, labels, ids, ids, rates)


def newest(rows: JoinedRows, epochs: Int64Array) -> BoolArray:
    """Return which rows hold: of each viewer's (request, post) the newest revision of the latest epoch, shape (n,).

    The epoch counts first: where the log had to be heard anew, revisions begin anew, too.
    """
    order = np.lexsort((rows.revisions, epochs, rows.posts, rows.requests, rows.viewers))
    holds = np.zeros(len(rows), dtype=np.bool_)
    if len(rows):
        keys = np.stack([rows.viewers[order], rows.requests[order], rows.posts[order]])
        is_last = np.append((keys[:, 1:] != keys[:, :-1]).any(axis=0), True)
        holds[order[is_last]] = True
    return holds
