"""`SampleSet`: what models learn from, as columns on disk: viewers as they were, candidates as they were seen, labels.

A folder of ``.npy`` files, one a column, mapped when read, so that a set may be larger than memory. Slates stand in the
order of their cuts; a slate's rows lie side by side. Texts are kept once a post (and revision) in a table of their own.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from millrace.base.errors import SchemaError, StoreError
from millrace.base.ids import Int64Array
from millrace.content.ngrams import UInt16Array
from millrace.features.encoding.buckets import UInt8Array

Float32Array = npt.NDArray[np.float32]
UInt64Array = npt.NDArray[np.uint64]

_META: Final = "samples.json"
SET_VERSION: Final = 1


class SampleMeta(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the columns mean.

    Attributes
    ----------
    version
        Of the layout.
    schema
        Hash of the inputs' meaning.
    actions
        Names of the label columns.
    dense
        Names of the dense fields.
    from_ms, until_ms
        The span in which the slates began.
    source
        Where they are from, for people.
    """

    version: int
    schema: str
    actions: tuple[str, ...]
    dense: tuple[str, ...]
    from_ms: int
    until_ms: int
    source: str = ""


@dataclass(frozen=True, slots=True)
class SampleSet:
    """Samples; S slates, n rows, H history tokens in all, P posts.

    Attributes
    ----------
    starts
        Shape (S + 1,): rows of slate ``s`` are ``starts[s]:starts[s + 1]``.
    viewers, now_ms, newest_ms, requests
        Shape (S,), int64: whose page, when, the time of the newest action known then, the request (0 where none).
    history_starts
        Shape (S + 1,): the history tokens of slate ``s``.
    history_posts, history_authors, history_actions, history_dense, history_surfaces
        Shape (H, ...): see `millrace.features.encoding.history.HistoryTokens`.
    languages, bios, profile_dense
        Shape (S, ...): see `millrace.features.encoding.viewers.ViewerInputs`.
    post_ids, author_ids, row_languages, dense
        Shape (n, ...): see `millrace.features.encoding.candidates.CandidateInputs`.
    positions
        Shape (n,), int16: the place on the page, -1 where not known.
    labels
        Shape (n, n_actions), float32: 0 or 1, seconds for the continuous head.
    weights
        Shape (n,), float32: how much a row counts (one over the rate at which such rows are kept).
    baseline
        Shape (n, n_actions), float32: what the counters-based ranker predicted for it.
    text_posts
        Shape (P,), int64, ascending.
    text_tokens
        Shape (P, 64), uint16.
    text_vectors
        Shape (P, 64), int8: what semantic ids are codes of.
    """

    meta: SampleMeta
    starts: Int64Array
    viewers: Int64Array
    now_ms: Int64Array
    newest_ms: Int64Array
    requests: Int64Array
    history_starts: Int64Array
    history_posts: Int64Array
    history_authors: Int64Array
    history_actions: UInt64Array
    history_dense: UInt8Array
    history_surfaces: UInt8Array
    languages: UInt8Array
    bios: UInt16Array
    profile_dense: UInt8Array
    post_ids: Int64Array
    author_ids: Int64Array
    row_languages: UInt8Array
    dense: UInt8Array
    positions: npt.NDArray[np.int16]
    labels: Float32Array
    weights: Float32Array
    baseline: Float32Array
    text_posts: Int64Array
    text_tokens: UInt16Array
    text_vectors: npt.NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.viewers)

    @property
    def n_rows(self) -> int:
        """How many candidates in all."""
        return len(self.post_ids)

    @property
    def slate_of(self) -> Int64Array:
        """The slate of each row, shape (n,)."""
        return np.repeat(np.arange(len(self)), np.diff(self.starts))

    def rows_of(self, slates: Int64Array) -> Int64Array:
        """Return the rows of some slates, in their order."""
        return ranges(self.starts[slates], self.starts[slates + 1])

    def texts_of(self, post_ids: Int64Array) -> npt.NDArray[np.intp]:
        """Return the rows of posts in the table of texts, shape as given; -1 where there is none."""
        if not len(self.text_posts):
            return np.full(post_ids.shape, -1, dtype=np.intp)
        at = np.minimum(np.searchsorted(self.text_posts, post_ids), len(self.text_posts) - 1)
        return np.where(self.text_posts[at] == post_ids, at, -1)

    def take(self, slates: Int64Array) -> SampleSet:
        """Return some slates, with their rows and histories; the table of texts is shared."""
        rows, tokens = self.rows_of(slates), ranges(self.history_starts[slates], self.history_starts[slates + 1])
        taken: dict[str, Any] = {}
        for name, kind in _KIND_BY_COLUMN.items():
            column = getattr(self, name)
            if kind == "slate":
                taken[name] = column[slates]
            elif kind == "row":
                taken[name] = column[rows]
            elif kind == "token":
                taken[name] = column[tokens]
            elif kind == "text":
                taken[name] = column
        taken["starts"] = starts_of(np.diff(self.starts)[slates])
        taken["history_starts"] = starts_of(np.diff(self.history_starts)[slates])
        return SampleSet(meta=self.meta, **taken)

    def joined(self, other: SampleSet) -> SampleSet:
        """Return the slates of both, the other's behind; of a post that both know the text, this set's counts.

        Raises
        ------
        SchemaError
            If the other's inputs or labels mean something else.
        """
        if (other.meta.schema, other.meta.actions) != (self.meta.schema, self.meta.actions):
            raise SchemaError(
                "samples",
                value=other.meta.schema,
                problem=f"are of other features or actions than {self.meta.schema}",
                remedy="make both anew from the log",
            )
        joined: dict[str, Any] = {}
        is_more = self.texts_of(other.text_posts) < 0
        order = np.argsort(np.concatenate([self.text_posts, other.text_posts[is_more]]), kind="stable")
        for name, kind in _KIND_BY_COLUMN.items():
            mine, theirs = getattr(self, name), getattr(other, name)
            joined[name] = np.concatenate([mine, theirs[is_more] if kind == "text" else theirs])
            if kind == "text":
                joined[name] = joined[name][order]
        for name in ("starts", "history_starts"):
            lengths = [np.diff(getattr(samples, name)) for samples in (self, other)]
            joined[name] = starts_of(np.concatenate(lengths))
        meta = msgspec.structs.replace(
            self.meta,
            from_ms=min(self.meta.from_ms, other.meta.from_ms),
            until_ms=max(self.meta.until_ms, other.meta.until_ms),
        )
        return SampleSet(meta=meta, **joined)

    def between(self, from_ms: int, until_ms: int) -> SampleSet:
        """Return the slates that began within a span."""
        return self.take(np.flatnonzero((self.now_ms >= from_ms) & (self.now_ms < until_ms)))

    def save(self, folder: Path) -> None:
        """Write the set into a folder, whole or not at all; what was there is replaced."""
        fresh = folder.with_name(f".{folder.name}.new")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        for name, array in self._arrays():
            np.save(fresh / f"{name}.npy", array)
        (fresh / _META).write_bytes(msgspec.json.format(msgspec.json.encode(self.meta)))
        shutil.rmtree(folder, ignore_errors=True)
        fresh.replace(folder)

    @classmethod
    def load(cls, folder: Path, *, schema: str | None = None) -> SampleSet:
        """Return the set of a folder, its columns mapped.

        Parameters
        ----------
        folder
            Written by `save`.
        schema
            The hash that the reader expects; None takes any.

        Raises
        ------
        StoreError
            If there is no set, or it is damaged.
        SchemaError
            If its inputs mean something else than the reader's.
        """
        try:
            meta = msgspec.json.decode((folder / _META).read_bytes(), type=SampleMeta)
            columns = {
                field.name: np.load(folder / f"{field.name}.npy", mmap_mode="r")
                for field in fields(cls)
                if field.name != "meta"
            }
        except (OSError, ValueError, EOFError, msgspec.DecodeError) as error:
            raise StoreError(
                "samples", value=str(folder), problem=f"cannot be read ({error})", remedy="make them anew"
            ) from error
        if schema is not None and meta.schema != schema:
            raise SchemaError(
                "samples",
                value=meta.schema,
                problem=f"were made of other features than this version's {schema}",
                remedy="make them anew from the log",
            )
        return cls(meta=meta, **columns)

    def _arrays(self) -> Iterator[tuple[str, npt.NDArray[Any]]]:
        for field in fields(self):
            if field.name != "meta":
                yield field.name, getattr(self, field.name)


_KIND_BY_COLUMN: Final[Mapping[str, str]] = {
    **dict.fromkeys(("viewers", "now_ms", "newest_ms", "requests", "languages", "bios", "profile_dense"), "slate"),
    **dict.fromkeys(
        (
            "post_ids",
            "author_ids",
            "row_languages",
            "dense",
            "positions",
            "labels",
            "weights",
            "baseline",
        ),
        "row",
    ),
    **dict.fromkeys(
        ("history_posts", "history_authors", "history_actions", "history_dense", "history_surfaces"), "token"
    ),
    **dict.fromkeys(("text_posts", "text_tokens", "text_vectors"), "text"),
}


def ranges(starts: Int64Array, ends: Int64Array) -> Int64Array:
    """Return ``starts[0], ..., ends[0] - 1, starts[1], ...``, shape (n,), int64."""
    lengths = ends - starts
    firsts = np.cumsum(lengths) - lengths
    rows: Int64Array = np.arange(int(lengths.sum())) + np.repeat(starts - firsts, lengths)
    return rows


def starts_of(lengths: Int64Array) -> Int64Array:
    """Return where stretches of given lengths begin, and the end of the last, shape (n + 1,), int64."""
    starts = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=starts[1:])
    return starts
