"""Batches of the ranker: slates of a `SampleSet` as tensors, laid out as serving assembles them.

The layout is that of `millrace.models.config.RankerConfig.history_width` and its siblings. Each post of a batch has its
text read once, however often it occurs in histories and among candidates.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from millrace.base.ids import Int64Array
from millrace.features.encoding.buckets import SCALE
from millrace.features.encoding.hashing import id_rows
from millrace.features.encoding.vector_inputs import text_floats
from millrace.features.encoding.vector_sources import VectorSources
from millrace.flywheel.sample_set import SampleSet, ranges
from millrace.flywheel.sample_vectors import SampleVectors
from millrace.models.config import N_SURFACES, RankerConfig
from millrace.models.tables import Tables
from millrace.models.trunk import padding_mask

_N_SORTED: Final = 32
"""Batches' worth of slates that are sorted by length together."""


class RankerBatch(NamedTuple):
    """Slates; B of them, histories of at most H tokens, at most C candidates, U different posts.

    Attributes
    ----------
    tokens, text_vectors, sids
        Shape (U, 64), (U, text_width) and (U, n_levels): the texts, their vectors, and rows of their semantic ids.
    history_texts, history_posts, history_authors, history_rest, is_history
        Shape (B, H, ...), padding in front: rows of ``tokens``, hashed rows, what needs no table, which are tokens.
    languages, bios, profile_dense
        Shape (B, ...).
    texts, posts, authors, row_languages, dense
        Shape (B, C, ...): the candidates, padding behind.
    labels, weights, positions
        Shape (B, C, n_actions), (B, C) and (B, C); weights of padding are 0, places that nobody knows -1.
    viewer_social, author_social
        Shape (B, social_width) and (B, C, social_width): social vectors, zeros for who has none.
    history_media, media
        Shape (B, H, n_media) and (B, C, n_media): media vectors, the last number tells whether there is one.
    viewers, post_ids, history_ids
        Shape (B,), (B, C) and (B, H), int64: who and what they are, which no network reads; padding is 0.
    """

    tokens: Tensor
    text_vectors: Tensor
    sids: Tensor
    history_texts: Tensor
    history_posts: Tensor
    history_authors: Tensor
    history_rest: Tensor
    is_history: Tensor
    languages: Tensor
    bios: Tensor
    profile_dense: Tensor
    texts: Tensor
    posts: Tensor
    authors: Tensor
    row_languages: Tensor
    dense: Tensor
    labels: Tensor
    weights: Tensor
    positions: Tensor
    viewer_social: Tensor
    author_social: Tensor
    history_media: Tensor
    media: Tensor
    viewers: Tensor
    post_ids: Tensor
    history_ids: Tensor

    def to(self, device: str) -> RankerBatch:
        """Return the batch on a device."""
        return self if device == "cpu" else RankerBatch(*(tensor.to(device) for tensor in self))


def ranker_batch(
    samples: SampleSet,
    slates: Int64Array,
    config: RankerConfig,
    max_history: Int64Array | None = None,
    vectors: SampleVectors | None = None,
) -> RankerBatch:
    """Return some slates as a batch.

    Parameters
    ----------
    samples
        Where from.
    slates
        Which, shape (B,).
    config
        The ranker's.
    max_history
        Shape (B,): how much of each history is read, its newest tokens; None: as much as the ranker reads.
    vectors
        Of these samples; None for a ranker that reads none.

    Raises
    ------
    SchemaError
        If they are not of what the ranker reads.
    """
    vectors = vectors or SampleVectors(samples, VectorSources())
    vectors.check(config)
    tables, n_actions = config.trunk.tables, len(config.actions)
    ends = samples.history_starts[slates + 1]
    bound = config.trunk.max_history if max_history is None else np.minimum(max_history, config.trunk.max_history)
    lengths = np.minimum(ends - samples.history_starts[slates], bound)
    taken = ranges(ends - lengths, ends)
    width = max(int(lengths.max(initial=0)), 1)
    slate_of_token = np.repeat(np.arange(len(slates)), lengths)
    place = ranges(width - lengths, np.full(len(slates), width))

    rows = samples.rows_of(slates)
    counts = np.diff(samples.starts)[slates]
    n_wide = max(int(counts.max(initial=0)), 1)
    slate_of_row = np.repeat(np.arange(len(slates)), counts)
    column = ranges(np.zeros(len(slates), dtype=np.int64), counts)

    def history(values: npt.NDArray[Any], dtype: type) -> npt.NDArray[Any]:
        out = np.zeros((len(slates), width, *values.shape[1:]), dtype=dtype)
        out[slate_of_token, place] = values
        return out

    def candidates(values: npt.NDArray[Any], dtype: type) -> npt.NDArray[Any]:
        out = np.zeros((len(slates), n_wide, *values.shape[1:]), dtype=dtype)
        out[slate_of_row, column] = values
        return out

    # Text 0 is the empty one, of padding and of posts whose text nobody knows.
    texts = samples.texts_of(np.concatenate([samples.history_posts[taken], samples.post_ids[rows]]))
    unique, text_of = np.unique(np.concatenate([[-1], texts]), return_inverse=True)
    tokens = np.concatenate([np.zeros((1, samples.text_tokens.shape[1])), samples.text_tokens[unique[1:]]])
    text_vectors = np.zeros((len(unique), config.trunk.text_width), dtype=np.float32)
    if config.trunk.text_width:
        text_vectors[1:] = text_floats(samples.text_vectors[unique[1:]])
    of_history, of_rows = np.split(text_of[1:], [len(taken)])
    sids = vectors.semantic_ids(unique[1:])
    width_media, authors = config.trunk.media_width, samples.author_ids[rows]

    bits = samples.history_actions[taken, None] >> np.arange(n_actions, dtype=np.uint64) & np.uint64(1)
    surfaces = np.zeros((len(taken), N_SURFACES), dtype=np.float32)
    known = np.flatnonzero(samples.history_surfaces[taken])
    surfaces[known, samples.history_surfaces[taken[known]] % N_SURFACES] = 1.0
    rest = np.concatenate([bits, samples.history_dense[taken] * np.float32(SCALE), surfaces], axis=1)
    arrays = (
        tokens.astype(np.int64),
        text_vectors,
        np.concatenate([np.zeros((1, sids.shape[1]), dtype=np.int64), sids]),
        history(of_history, np.int64),
        history(id_rows(samples.history_posts[taken], tables.n_post_rows), np.int64),
        history(id_rows(samples.history_authors[taken], tables.n_author_rows), np.int64),
        history(rest, np.float32),
        history(np.ones(len(taken)), np.bool_),
        samples.languages[slates].astype(np.int64),
        samples.bios[slates].astype(np.int64),
        samples.profile_dense[slates] * np.float32(SCALE),
        candidates(of_rows, np.int64),
        candidates(id_rows(samples.post_ids[rows], tables.n_post_rows), np.int64),
        candidates(id_rows(samples.author_ids[rows], tables.n_author_rows), np.int64),
        candidates(samples.row_languages[rows], np.int64),
        candidates(samples.dense[rows] * np.float32(SCALE), np.float32),
        candidates(samples.labels[rows], np.float32),
        candidates(samples.weights[rows], np.float32),
        candidates(samples.positions[rows], np.int64),
        vectors.social(samples.viewers[slates], samples.now_ms[slates]),
        candidates(vectors.social(authors, samples.now_ms[slates][slate_of_row]), np.float32),
        history(_media(vectors, samples.history_posts[taken], width_media), np.float32),
        candidates(_media(vectors, samples.post_ids[rows], width_media), np.float32),
        samples.viewers[slates].astype(np.int64),
        candidates(samples.post_ids[rows], np.int64),
        history(samples.history_posts[taken], np.int64),
    )
    return RankerBatch(*(torch.from_numpy(np.ascontiguousarray(array)) for array in arrays))


def _media(vectors: SampleVectors, post_ids: Int64Array, width: int) -> npt.NDArray[np.float32]:
    return vectors.media(post_ids, width) if width else np.zeros((len(post_ids), 0), dtype=np.float32)


def assembled(batch: RankerBatch, tables: Tables) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return profile, history, mask and candidates as `millrace.models.ranker.Ranker` reads them."""
    content, semantic = tables.content(batch.tokens), tables.semantic(batch.sids)
    b = len(batch.history_texts)
    history = torch.cat(
        [
            content[batch.history_texts],
            tables.post(batch.history_posts),
            tables.author(batch.history_authors),
            semantic[batch.history_texts],
            batch.text_vectors[batch.history_texts],
            batch.history_rest,
            batch.history_media,
        ],
        dim=-1,
    )
    profile = torch.cat(
        [tables.spoken(batch.languages), tables.content(batch.bios), batch.viewer_social, batch.profile_dense], dim=-1
    )
    candidates = torch.cat(
        [
            content[batch.texts],
            tables.post(batch.posts),
            tables.author(batch.authors),
            semantic[batch.texts],
            tables.languages(batch.row_languages),
            batch.text_vectors[batch.texts],
            batch.author_social,
            batch.media,
            batch.dense,
        ],
        dim=-1,
    )
    is_token = torch.cat([torch.ones(b, 1, dtype=torch.bool, device=content.device), batch.is_history], dim=1)
    return profile, history, padding_mask(is_token), candidates


def alike_in_length(
    lengths: np.ndarray[Any, np.dtype[np.int64]], n_at_once: int, rng: np.random.Generator
) -> np.ndarray[Any, np.dtype[np.intp]]:
    """Return all places in random order, so that those of one batch are alike in length: padding costs as much as data.

    Parameters
    ----------
    lengths
        Shape (n,).
    n_at_once
        Size of a batch; what does not fill one comes last.
    rng
        Decides what is near each other, and the order of the batches.
    """
    order = rng.permutation(len(lengths))
    for first in range(0, len(order), _N_SORTED * n_at_once):
        some = slice(first, first + _N_SORTED * n_at_once)
        order[some] = order[some][np.argsort(lengths[order[some]], kind="stable")]
    n_whole = len(order) // n_at_once
    batches = order[: n_whole * n_at_once].reshape(n_whole, n_at_once)
    return np.concatenate([batches[rng.permutation(n_whole)].ravel(), order[n_whole * n_at_once :]])
