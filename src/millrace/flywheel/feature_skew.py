"""Skew: what models read when a page was made, against what the same definitions give when the log is replayed.

Every value is compared bit for bit: the viewer's history, profile and bytes, and each row's ids, language and bytes.
What a component would have written that gave nothing when the page was made is not compared, and is told.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from millrace.base.actions import ActionSpace
from millrace.features.encoding.candidates import CandidateInputs, dense_fields
from millrace.features.encoding.viewers import PROFILE_DENSE, ViewerInputs

MAX_EXAMPLES: Final = 20

_HISTORY_DENSE: Final = ("dwell", "gap", "age")


class SkewExample(msgspec.Struct, frozen=True, kw_only=True):
    """One value that differs.

    Attributes
    ----------
    request_id, feature
        Where, and which.
    row
        Place on the logged page; -1 for the viewer's features.
    logged, replayed
        The values; of a viewer's sequence the first place that differs, ``"length n"`` where the lengths do.
    """

    request_id: str
    feature: str
    row: int
    logged: str
    replayed: str


class SkewReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was compared, and what differed.

    Attributes
    ----------
    n_pages, n_rows, n_values
        Pages, posts on them, and values of both viewers and posts.
    n_differing
        Values that differ.
    differing
        By feature.
    n_rows_missing
        Posts of a page that the replayed state did not have; all their values count as differing.
    n_pages_left_out
        Pages of another schema, from before the oldest position that a replay can begin at, or whose `Served` event
        is not in the log.
    n_incomplete
        Pages made without some component's answer (it failed, was late or skipped), whose features are not compared.
    not_run
        By such a component: on how many pages.
    examples
        The first few values that differ.
    """

    n_pages: int
    n_rows: int
    n_values: int
    n_differing: int
    differing: dict[str, int]
    n_rows_missing: int
    n_pages_left_out: int
    n_incomplete: int
    not_run: dict[str, int]
    examples: tuple[SkewExample, ...]


class SkewCount:
    """Compares pages.

    Parameters
    ----------
    actions
        The known actions: names of the dense fields.
    """

    def __init__(self, actions: ActionSpace) -> None:
        self._dense = dense_fields(actions)
        self._differing: dict[str, int] = {}
        self._examples: list[SkewExample] = []
        self._request_id = ""
        self._not_run: dict[str, int] = {}
        self._n_pages = self._n_rows = self._n_values = self._n_missing = self._n_incomplete = 0

    @property
    def n_rows(self) -> int:
        """How many rows have been compared."""
        return self._n_rows

    def note_incomplete(self, components: Iterable[str]) -> None:
        """Note that a page was made without the answers of some components, and is not compared in full."""
        self._n_incomplete += 1
        for name in components:
            self._not_run[name] = self._not_run.get(name, 0) + 1

    def compare_viewer(self, request_id: str, logged: ViewerInputs, replayed: ViewerInputs) -> None:
        """Compare what a page's models read of its viewer; call it first for each page."""
        self._request_id = request_id
        self._n_pages += 1
        mine, other = logged.history, replayed.history
        for name in ("post_ids", "author_ids", "actions", "surfaces"):
            self._sequence(f"history:{name}", getattr(mine, name), getattr(other, name))
        for place, name in enumerate(_HISTORY_DENSE):
            self._sequence(f"history:{name}", mine.dense[:, place], other.dense[:, place])
        self._sequence("history:newest_ms", np.array([mine.newest_ms]), np.array([other.newest_ms]))
        self._sequence("viewer:languages", logged.languages, replayed.languages)
        self._sequence("viewer:bio", logged.bio, replayed.bio)
        for place, name in enumerate(PROFILE_DENSE):
            at = slice(place, place + 1)
            self._sequence(f"viewer:{name}", logged.dense[at], replayed.dense[at])

    def compare_rows(
        self,
        logged: CandidateInputs,
        replayed: CandidateInputs,
        places: npt.NDArray[np.integer[Any]],
        missed: frozenset[str] = frozenset(),
    ) -> None:
        """Compare a page's rows.

        Parameters
        ----------
        logged
            All rows of the page.
        replayed
            As they are now, in any order.
        places
            Shape (n,): where each logged row is among the replayed ones, -1 where it is not.
        missed
            Dense fields that are not compared.
        """
        self._n_rows += logged.n
        is_here = places >= 0
        at = places[is_here]
        self._n_missing += int((~is_here).sum())
        rows = np.flatnonzero(is_here)
        for name in ("post_ids", "author_ids", "languages"):
            self._columns((f"row:{name}",), getattr(logged, name)[:, None], getattr(replayed, name)[:, None], rows, at)
        dense, mine, other = self._dense, logged.dense, replayed.dense
        if missed:
            asked = [place for place, name in enumerate(self._dense) if name not in missed]
            dense, mine, other = tuple(self._dense[place] for place in asked), mine[:, asked], other[:, asked]
        self._columns(dense, mine, other, rows, at)
        n_missing = logged.n - len(rows)
        for name in ("row:post_ids", "row:author_ids", "row:languages", *dense) if n_missing else ():
            self._differing[name] = self._differing.get(name, 0) + n_missing

    def report(self, n_left_out: int = 0) -> SkewReport:
        """Return what was found."""
        return SkewReport(
            n_pages=self._n_pages,
            n_rows=self._n_rows,
            n_values=self._n_values,
            n_differing=sum(self._differing.values()),
            differing=dict(sorted(self._differing.items(), key=lambda item: (-item[1], item[0]))),
            n_rows_missing=self._n_missing,
            n_pages_left_out=n_left_out,
            n_incomplete=self._n_incomplete,
            not_run=dict(sorted(self._not_run.items(), key=lambda item: (-item[1], item[0]))),
            examples=tuple(self._examples),
        )

    def _sequence(self, name: str, logged: npt.NDArray[Any], replayed: npt.NDArray[Any]) -> None:
        self._n_values += len(logged)
        if len(logged) != len(replayed):
            self._tell(name, -1, f"length {len(logged)}", f"length {len(replayed)}", max(len(logged), len(replayed)))
            return
        differs = np.flatnonzero(logged != replayed)
        if len(differs):
            self._tell(name, -1, str(logged[differs[0]]), str(replayed[differs[0]]), len(differs))

    def _columns(
        self,
        names: tuple[str, ...],
        logged: npt.NDArray[Any],
        replayed: npt.NDArray[Any],
        rows: npt.NDArray[np.intp],
        at: npt.NDArray[Any],
    ) -> None:
        self._n_values += logged.size
        differs = logged[rows] != replayed[at]
        if not differs.any():
            return
        for column in np.flatnonzero(differs.any(axis=0)).tolist():
            first = int(np.flatnonzero(differs[:, column])[0])
            values = str(logged[rows[first], column]), str(replayed[at[first], column])
            self._tell(names[column], int(rows[first]), *values, int(differs[:, column].sum()))

    def _tell(self, name: str, row: int, logged: str, replayed: str, n: int) -> None:
        self._differing[name] = self._differing.get(name, 0) + n
        if len(self._examples) < MAX_EXAMPLES:
            self._examples.append(
                SkewExample(request_id=self._request_id, feature=name, row=row, logged=logged, replayed=replayed)
            )
