"""Rows of tokens from texts alone: words that occur together in posts get vectors that lie together, in seconds.

Latent semantic analysis (Deerwester et al. 1990): the table of how often each post has each token, rare ones counting
more, is taken apart into few directions (Halko, Martinsson and Tropp 2011). A text's mean of rows then tells what it is
about before anybody has acted on anything; what that is worth to whom, towers learn far sooner than what words mean.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from torch import Tensor

from millrace.content.ngrams import UInt16Array
from millrace.flywheel.sample_set import Float32Array

_MIN_POSTS: Final = 3
_N_SPARE: Final = 16
_N_ROUNDS: Final = 3
_LENGTH: Final = 8.0


def text_rows(tokens: UInt16Array, n_rows: int, width: int, seed: int = 1) -> Float32Array:
    """Return a table of token rows, shape (n_rows, width), float32; zeros for tokens of fewer than three posts.

    The mean of a post's rows has a length of about 8, as text vectors have
    (`millrace.features.encoding.vector_inputs.text_floats`).

    Parameters
    ----------
    tokens
        Shape (n, 64): token rows of the posts' texts, 0 for padding.
    n_rows, width
        The table's.
    seed
        Of the directions that are begun with.
    """
    plain = np.asarray(tokens).astype(np.int64)
    post, _ = np.nonzero(plain)
    token = plain[plain != 0]
    n_posts = np.bincount(np.unique(np.stack([post, token]), axis=1)[1], minlength=n_rows)
    rarity = np.where(n_posts >= _MIN_POSTS, np.log(max(len(plain), 1) / np.maximum(n_posts, 1)), 0.0)
    squares = np.bincount(post, weights=np.square(rarity[token]), minlength=len(plain))
    amounts = rarity[token] / np.sqrt(np.maximum(squares, 1e-12))[post]
    table = torch.sparse_coo_tensor(
        torch.from_numpy(np.stack([post, token])),
        torch.from_numpy(amounts.astype(np.float32)),
        (len(plain), n_rows),
        check_invariants=True,
    ).coalesce()
    rows = np.zeros((n_rows, width), dtype=np.float32)
    found = rarity[:, None] * _directions(table, width, seed).numpy()
    rows[:, : found.shape[1]] = found
    rows[0] = 0.0
    means = rows[plain].sum(axis=1) / np.maximum((plain != 0).sum(axis=1, keepdims=True), 1)
    typical = float(np.sqrt(np.square(means).sum(axis=1).mean())) if len(means) else 0.0
    return rows * np.float32(_LENGTH / max(typical, 1e-12))


def _directions(table: Tensor, k: int, seed: int) -> Tensor:
    """Return the first right singular vectors of a sparse matrix, as columns, each over its singular value."""
    generator = torch.Generator().manual_seed(seed)
    n_found = min(k + _N_SPARE, *table.shape)
    basis = torch.randn(table.shape[1], n_found, generator=generator)
    turned = table.t().coalesce()
    for _ in range(_N_ROUNDS):
        basis, _ = torch.linalg.qr(torch.sparse.mm(turned, torch.sparse.mm(table, basis)))
    _, sizes, right = torch.linalg.svd(torch.sparse.mm(table, basis), full_matrices=False)
    vectors = basis @ right.T[:, :k]
    # As many posts may lie along a direction as there are: each direction then counts alike.
    scaled: Tensor = vectors / sizes[:k].clamp(min=1e-6 * float(sizes[:1].sum()) + 1e-12)
    return scaled
