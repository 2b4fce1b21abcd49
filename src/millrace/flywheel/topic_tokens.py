"""First rows for a table of tokens: what a word is about, found in who writes it, before anything is learned from acts.

A text of ten words says little of its topic, and actions say it late: a network has to see very many of them before
words of one topic look alike to it. But authors write again and again about the same things, so all texts of an
author are taken as one document (Hong and Davison 2010 find topics of short posts in this way), and the
leading directions of these documents, by words, are where words that belong together lie together: latent semantic
analysis (Deerwester et al. 1990), on hashed tokens of any language.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import torch

from millrace.base.ids import Int64Array
from millrace.flywheel.sample_set import Float32Array, SampleSet

MIN_POSTS: Final = 3
"""Tokens of fewer posts are left out: they say who wrote, not what about."""

MIN_AUTHORS: Final = 64
"""With documents of fewer authors there are no topics to be found."""

_N_ITERATIONS: Final = 4


class TopicTokens(NamedTuple):
    """Rows of a table of tokens.

    Attributes
    ----------
    rows
        Shape (n,), int64: which.
    vectors
        Shape (n, width), float32. The mean over a text's tokens is about 1 in each place, in root mean square.
    """

    rows: Int64Array
    vectors: Float32Array


def topic_tokens(samples: SampleSet, width: int, *, seed: int = 0) -> TopicTokens | None:
    """Return first rows for the tokens of samples' texts, or None where there are too few authors to tell.

    Parameters
    ----------
    samples
        Their posts' texts and authors, of candidates and histories; labels are not looked at.
    width
        Of the table.
    seed
        Of the randomised decomposition.
    """
    authors, tokens = _texts(samples)
    _, author = np.unique(authors, return_inverse=True)
    n_authors = int(author.max(initial=-1)) + 1
    if n_authors < max(MIN_AUTHORS, width):
        return None
    text, place = np.nonzero(tokens)
    token = tokens[text, place].astype(np.int64)
    n_texts = np.bincount(token)
    is_kept = n_texts[token] >= MIN_POSTS
    text, token = text[is_kept], token[is_kept]
    rows, column = np.unique(token, return_inverse=True)
    if len(rows) < width:
        return None
    rarity = np.log(len(tokens) / n_texts[rows])
    weights = _scaled(rarity[column], text, len(tokens))  # every text counts alike
    documents = torch.sparse_coo_tensor(
        torch.from_numpy(np.stack([author[text], column])),
        torch.from_numpy(weights),
        (n_authors, len(rows)),
        check_invariants=False,
    ).coalesce()
    owner = documents.indices()[0].numpy()
    values = _scaled(documents.values().numpy(), owner, n_authors)  # and so does every author
    documents = torch.sparse_coo_tensor(
        documents.indices(), torch.from_numpy(values), documents.shape, check_invariants=False
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        _, strengths, directions = torch.svd_lowrank(documents.float(), q=width, niter=_N_ITERATIONS)
    # Strong directions are the languages; whitened, topics within a language count as much.
    vectors = rarity[:, None] * (directions / strengths.clamp(min=1e-6)).numpy()
    sums = np.zeros((len(tokens), width))
    np.add.at(sums, text, vectors[column])
    n_each = np.bincount(text, minlength=len(tokens))
    means = sums[n_each > 0] / n_each[n_each > 0, None]
    return TopicTokens(rows, (vectors / np.sqrt(np.square(means).mean())).astype(np.float32))


def begin_with_topics(table: torch.nn.Embedding, samples: SampleSet, *, seed: int = 0) -> None:
    """Let a table of tokens begin with `topic_tokens`; where they cannot be told it stays as it is."""
    found = topic_tokens(samples, table.embedding_dim, seed=seed)
    if found is None:
        return
    with torch.no_grad():
        table.weight[torch.from_numpy(found.rows)] = torch.from_numpy(found.vectors).to(table.weight.device)


def _texts(samples: SampleSet) -> tuple[Int64Array, np.ndarray]:
    """Return author and tokens of every post of the samples whose text and author are known."""
    posts, first = np.unique(np.concatenate([samples.post_ids, samples.history_posts]), return_index=True)
    authors = np.concatenate([samples.author_ids, samples.history_authors])[first]
    at = samples.texts_of(posts)
    is_known = (at >= 0) & (authors != 0)
    return authors[is_known], np.asarray(samples.text_tokens[at[is_known]])


def _scaled(values: np.ndarray, group: Int64Array, n_groups: int) -> np.ndarray:
    """Return values by the length of the vector that their group's make."""
    lengths = np.sqrt(np.bincount(group, np.square(values), minlength=n_groups))
    return values / np.maximum(lengths[group], 1e-12)
