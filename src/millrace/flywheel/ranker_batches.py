"""Batches of the ranker: slates of a `SampleSet` as tensors, laid out as serving assembles them.

The layout is that of `millrace.models.config.RankerConfig.history_width` and its siblings. Each post of a batch has its
text read once, however often it occurs in histories and among candidates.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from millrace.base.ids import Int64Array
from millrace.content.vectors import N_DIMS
from millrace.content.vectors import SCALE as VECTOR_SCALE
from millrace.features.encoding.buckets import SCALE
from millrace.features.encoding.hashing import id_rows
from millrace.flywheel.sample_set import SampleSet, ranges
from millrace.models.config import N_SURFACES, TEXT_SCALE, RankerConfig, TrunkConfig
from millrace.models.tables import Tables
from millrace.models.trunk import padding_mask


class RankerBatch(NamedTuple):
    """Slates; B of them, histories of at most H tokens, at most C candidates, U different posts.

    Attributes
    ----------
    tokens, vectors
        Shape (U, 64) each: the texts, as rows and as vectors.
    history_texts, history_posts, history_authors, history_rest, is_history
        Shape (B, H, ...), padding in front: rows of ``tokens``, hashed rows, what needs no table, which are tokens.
    languages, bios, profile_dense
        Shape (B, ...).
    texts, posts, authors, row_languages, dense
        Shape (B, C, ...): the candidates, padding behind.
    labels, weights, positions
        Shape (B, C, n_actions), (B, C) and (B, C); weights of padding are 0.
    """

    tokens: Tensor
    vectors: Tensor
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

    def to(self, device: str) -> RankerBatch:
        """Return the batch on a device."""
        return self if device == "cpu" else RankerBatch(*(tensor.to(device) for tensor in self))


def ranker_batch(
    samples: SampleSet, slates: Int64Array, config: RankerConfig, max_history: Int64Array | None = None
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
    """
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
    vectors = np.concatenate([np.zeros((1, N_DIMS)), samples.text_vectors[unique[1:]] * (TEXT_SCALE / VECTOR_SCALE)])
    of_history, of_rows = np.split(text_of[1:], [len(taken)])

    bits = samples.history_actions[taken, None] >> np.arange(n_actions, dtype=np.uint64) & np.uint64(1)
    surfaces = np.zeros((len(taken), N_SURFACES), dtype=np.float32)
    known = np.flatnonzero(samples.history_surfaces[taken])
    surfaces[known, samples.history_surfaces[taken[known]] % N_SURFACES] = 1.0
    rest = np.concatenate([bits, samples.history_dense[taken] * np.float32(SCALE), surfaces], axis=1)
    arrays = (
        tokens.astype(np.int64),
        vectors.astype(np.float32),
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
        candidates(np.maximum(samples.positions[rows], 0), np.int64),
    )
    return RankerBatch(*(torch.from_numpy(np.ascontiguousarray(array)) for array in arrays))


def assembled(batch: RankerBatch, tables: Tables, trunk: TrunkConfig) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return profile, history, mask and candidates as `millrace.models.ranker.Ranker` reads them.

    Semantic ids and social vectors are zeros where a ranker has their place and these samples do not carry them.
    """
    social_width, text_width = trunk.social_width, trunk.text_width
    content = tables.content(batch.tokens)
    b, h = batch.history_texts.shape
    c = batch.texts.shape[1]
    none = content.new_zeros
    history = torch.cat(
        [
            content[batch.history_texts],
            tables.post(batch.history_posts),
            tables.author(batch.history_authors),
            none(b, h, tables.width),
            *([batch.vectors[batch.history_texts]] if text_width else []),
            batch.history_rest,
        ],
        dim=-1,
    )
    profile = torch.cat(
        [tables.spoken(batch.languages), tables.content(batch.bios), none(b, social_width), batch.profile_dense], dim=-1
    )
    candidates = torch.cat(
        [
            content[batch.texts],
            tables.post(batch.posts),
            tables.author(batch.authors),
            none(b, c, tables.width),
            tables.languages(batch.row_languages),
            *([batch.vectors[batch.texts]] if text_width else []),
            none(b, c, social_width),
            batch.dense,
        ],
        dim=-1,
    )
    is_token = torch.cat([torch.ones(b, 1, dtype=torch.bool, device=content.device), batch.is_history], dim=1)
    return profile, history, padding_mask(is_token), candidates
