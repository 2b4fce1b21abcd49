"""Batches of the towers: viewers with what they liked, and the posts that it is told apart from.

The columns of a batch are the posts that its slates show, whatever became of them, and posts drawn evenly from the
live catalogue. Each positive is a row. What of a row is no negative is masked: the post itself, other posts that the
viewer liked on the page, posts of the viewer's history, and posts that were not there at the time.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from millrace.base.ids import NO_ID, Int64Array
from millrace.features.encoding.buckets import SCALE
from millrace.features.encoding.hashing import id_rows
from millrace.features.encoding.vector_inputs import text_floats
from millrace.flywheel.catalogue import BoolArray, Catalogue
from millrace.flywheel.ranker_batches import RankerBatch, assembled, ranker_batch
from millrace.flywheel.sample_set import SampleSet, ranges
from millrace.flywheel.sample_vectors import SampleVectors
from millrace.models.retrieval_config import RetrievalConfig
from millrace.models.tables import Tables


class PostBatch(NamedTuple):
    """Posts as tensors; m of them.

    Attributes
    ----------
    tokens, posts, authors, sids, languages, text_vectors, traits
        Shape (m, ...): rows of tables, and floats.
    """

    tokens: Tensor
    posts: Tensor
    authors: Tensor
    sids: Tensor
    languages: Tensor
    text_vectors: Tensor
    traits: Tensor

    def to(self, device: str) -> PostBatch:
        """Return the batch on a device."""
        return self if device == "cpu" else PostBatch(*(tensor.to(device) for tensor in self))


class RetrievalBatch(NamedTuple):
    """A step's viewers, posts and positives.

    Attributes
    ----------
    viewers
        B slates; of their candidates nothing is read here.
    posts
        m posts.
    slate_of, targets
        Shape (n,), int64: of each positive its slate in the batch and its post's column.
    log_q
        Shape (m,): log of how often a batch is expected to hold the post.
    is_masked
        Shape (n, m), bool: no negative of this row.
    is_beside
        Shape (n, m), bool: was on the row's own page, and the viewer left it.
    weights
        Shape (n,): a viewer's positives on one page weigh 1 together.
    """

    viewers: RankerBatch
    posts: PostBatch
    slate_of: Tensor
    targets: Tensor
    log_q: Tensor
    is_masked: Tensor
    is_beside: Tensor
    weights: Tensor

    def to(self, device: str) -> RetrievalBatch:
        """Return the batch on a device."""
        if device == "cpu":
            return self
        return RetrievalBatch(self.viewers.to(device), self.posts.to(device), *(t.to(device) for t in self[2:]))


class BatchMaker:
    """Makes batches of one sample set.

    Parameters
    ----------
    samples, catalogue
        Where from.
    is_positive
        Shape (n_rows,): which rows are positives.
    config
        The towers'.
    vectors
        Of the samples.
    n_random
        Posts of a batch that are drawn evenly from the live catalogue.
    max_age_ms
        How old a live post may be.
    no_author_frac
        Share of a batch's posts whose author is left out, so that their texts must do.
    n_ahead
        So many positives of a viewer are told at once: those of the page, then those of their next pages.
    ahead_of
        Slates whose positives may be told; None: all.
    """

    def __init__(
        self,
        samples: SampleSet,
        catalogue: Catalogue,
        is_positive: BoolArray,
        config: RetrievalConfig,
        vectors: SampleVectors,
        *,
        n_random: int,
        max_age_ms: int,
        no_author_frac: float = 0.0,
        n_ahead: int = 0,
        ahead_of: Int64Array | None = None,
    ) -> None:
        self._samples = samples
        self._catalogue = catalogue
        self._is_positive = is_positive
        self._config = config
        self._vectors = vectors
        self._n_random = n_random
        self._max_age_ms = max_age_ms
        self._no_author_frac = no_author_frac
        self._row_in_catalogue = catalogue.find(np.asarray(samples.post_ids))
        self._times_ms = np.sort(np.asarray(samples.now_ms))
        self._n_ahead = n_ahead
        self._ahead = self._positives_by_viewer(np.arange(len(samples)) if ahead_of is None else ahead_of)

    def make(self, slates: Int64Array, max_history: Int64Array, rng: np.random.Generator) -> RetrievalBatch:
        """Return a batch of some slates, each of which has a positive.

        Parameters
        ----------
        slates
            Shape (B,).
        max_history
            Shape (B,): how many of the newest tokens of each history are read.
        rng
            Draws the random posts.
        """
        samples, catalogue = self._samples, self._catalogue
        rows = samples.rows_of(slates)
        slate_of_row = np.repeat(np.arange(len(slates)), np.diff(samples.starts)[slates])
        at = self._row_in_catalogue[rows]
        is_positive = self._is_positive[rows] & (at >= 0)
        now_ms = np.asarray(samples.now_ms)[slates]
        middle_ms = np.array([int(np.median(now_ms))])
        live = np.flatnonzero(catalogue.is_live(np.arange(len(catalogue)), middle_ms, self._max_age_ms)[0])
        drawn = live[rng.integers(0, len(live), self._n_random)] if len(live) else live
        later_of, later = self._ahead_of(slates)
        columns = np.unique(np.concatenate([at[at >= 0], later, drawn]))
        of_page = slate_of_row[is_positive], np.searchsorted(columns, at[is_positive])
        slate_of, targets = (
            np.concatenate(both) for both in zip(of_page, (later_of, np.searchsorted(columns, later)), strict=True)
        )

        # What a viewer did something to is no negative of theirs, whatever else the page shows of it.
        acted = np.zeros((len(slates), len(columns)), dtype=np.bool_)
        acted[slate_of, targets] = True
        starts, ends = samples.history_starts[slates], samples.history_starts[slates + 1]
        known = catalogue.find(np.asarray(samples.history_posts)[ranges(starts, ends)])
        slate_of_known = np.repeat(np.arange(len(slates)), ends - starts)
        place = np.minimum(np.searchsorted(columns, known), len(columns) - 1)
        is_here = columns[place] == known
        acted[slate_of_known[is_here], place[is_here]] = True
        beside = np.zeros_like(acted)
        beside[slate_of_row[at >= 0], np.searchsorted(columns, at[at >= 0])] = True
        beside &= ~acted
        acted |= ~catalogue.is_live(columns, now_ms, self._max_age_ms)

        has_author = rng.random(len(columns)) >= self._no_author_frac
        n_positives = np.bincount(slate_of, minlength=len(slates))
        return RetrievalBatch(
            viewers=ranker_batch(samples, slates, self._config.inputs, max_history, self._vectors),
            posts=post_batch(samples, catalogue, columns, self._config, self._vectors, has_author),
            slate_of=torch.from_numpy(slate_of),
            targets=torch.from_numpy(targets),
            log_q=torch.from_numpy(self._log_q(columns, len(slates), len(live))),
            is_masked=torch.from_numpy(acted[slate_of]),
            is_beside=torch.from_numpy(beside[slate_of]),
            weights=torch.from_numpy((1.0 / n_positives[slate_of]).astype(np.float32)),
        )

    def _positives_by_viewer(self, slates: Int64Array) -> tuple[Int64Array, Int64Array, Int64Array]:
        """Return viewers, times and catalogue rows of all positives of some slates, ordered by viewer, then time."""
        samples = self._samples
        rows = samples.rows_of(slates)
        rows = rows[self._is_positive[rows] & (self._row_in_catalogue[rows] >= 0)]
        slate_of = np.searchsorted(samples.starts, rows, side="right") - 1
        viewers, times = np.asarray(samples.viewers)[slate_of], np.asarray(samples.now_ms)[slate_of]
        order = np.lexsort((times, viewers))
        return viewers[order], times[order], self._row_in_catalogue[rows][order].astype(np.int64)

    def _ahead_of(self, slates: Int64Array) -> tuple[Int64Array, Int64Array]:
        """Return what viewers want on their next pages: places of the slates in the batch, and catalogue rows."""
        viewers, times, posts = self._ahead
        if not self._n_ahead or not len(viewers):
            return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
        of_slate, found = [], []
        for place, slate in enumerate(slates.tolist()):
            viewer, now_ms = self._samples.viewers[slate], self._samples.now_ms[slate]
            first, end = np.searchsorted(viewers, viewer), np.searchsorted(viewers, viewer, side="right")
            first += np.searchsorted(times[first:end], now_ms, side="right")
            some = np.unique(posts[first : min(first + self._n_ahead, end)])
            of_slate.append(np.full(len(some), place, dtype=np.int64))
            found.append(some)
        return np.concatenate(of_slate), np.concatenate(found)

    def _log_q(self, columns: npt.NDArray[np.intp], n_slates: int, n_live: int) -> npt.NDArray[np.float32]:
        """Return the log of how often posts are expected in a batch: on its pages, and among the random ones."""
        catalogue, times_ms = self._catalogue, self._times_ms
        created_ms = catalogue.created_ms[columns]
        # Pages of the time in which the post was live: batches are made of pages of about one time.
        n_pages = np.searchsorted(times_ms, created_ms + self._max_age_ms) - np.searchsorted(times_ms, created_ms)
        shown = catalogue.n_shown[columns] / np.maximum(n_pages, 1) * n_slates
        expected = shown + self._n_random / max(n_live, 1)
        log_q: npt.NDArray[np.float32] = np.log(np.maximum(expected, 1e-9)).astype(np.float32)
        return log_q


def post_batch(
    samples: SampleSet,
    catalogue: Catalogue,
    rows: npt.NDArray[np.integer],
    config: RetrievalConfig,
    vectors: SampleVectors,
    has_author: BoolArray | None = None,
) -> PostBatch:
    """Return some posts of a catalogue as tensors.

    Parameters
    ----------
    samples, catalogue
        Where from.
    rows
        Which, shape (m,).
    config
        The towers'.
    vectors
        Of the samples.
    has_author
        Shape (m,): whose author is told; None: everybody's.
    """
    tables, posts, texts = config.trunk.tables, catalogue.posts.take(rows), catalogue.texts[rows]
    authors = posts.author_ids if has_author is None else np.where(has_author, posts.author_ids, NO_ID)
    has_text = texts >= 0
    text_vectors = np.zeros((len(texts), config.trunk.text_width), dtype=np.float32)
    if config.trunk.text_width:
        text_vectors[has_text] = text_floats(samples.text_vectors[texts[has_text]])
    sids = np.where(has_text[:, None], vectors.semantic_ids(texts), 0)
    arrays: tuple[npt.NDArray[Any], ...] = (
        posts.tokens.astype(np.int64),
        id_rows(posts.post_ids, tables.n_post_rows).astype(np.int64),
        id_rows(authors, tables.n_author_rows).astype(np.int64),
        sids,
        posts.languages.astype(np.int64),
        text_vectors,
        posts.traits * np.float32(SCALE),
    )
    return PostBatch(*(torch.from_numpy(np.ascontiguousarray(array)) for array in arrays))


def assembled_posts(batch: PostBatch, tables: Tables) -> Tensor:
    """Return posts' floats as `millrace.models.retrieval.PostTower` reads them, shape (m, post_width)."""
    parts = (
        tables.content(batch.tokens),
        tables.post(batch.posts),
        tables.author(batch.authors),
        tables.semantic(batch.sids),
        tables.languages(batch.languages),
        batch.text_vectors,
        batch.traits,
    )
    return torch.cat(parts, dim=-1)


def assembled_viewers(batch: RankerBatch, tables: Tables) -> tuple[Tensor, Tensor, Tensor]:
    """Return profile, history and mask as `LearnedRetrieval.encode_viewers` reads them."""
    profile, history, mask, _ = assembled(batch, tables)
    return profile, history, mask
