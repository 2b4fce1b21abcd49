"""What towers make of samples: vectors of viewers and of a catalogue's posts, and how near these are."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import torch

from millrace.base.ids import Int64Array
from millrace.flywheel.catalogue import Catalogue
from millrace.flywheel.ranker_batches import ranker_batch
from millrace.flywheel.recall import Scores
from millrace.flywheel.retrieval_batches import assembled_posts, assembled_viewers, post_batch
from millrace.flywheel.sample_set import SampleSet
from millrace.flywheel.sample_vectors import SampleVectors
from millrace.models.retrieval import LearnedRetrieval

_AT_ONCE: Final = 256


@torch.no_grad()
def tower_scores(
    model: LearnedRetrieval, samples: SampleSet, catalogue: Catalogue, vectors: SampleVectors | None = None
) -> Scores:
    """Return the towers as a retriever over a catalogue, whose posts are encoded now; ``vectors`` are the samples'."""
    vectors = vectors or SampleVectors(samples, model.sources)
    posts = post_vectors(model, samples, catalogue, vectors)
    return lambda slates: viewer_vectors(model, samples, slates, vectors) @ posts.T


@torch.no_grad()
def post_vectors(
    model: LearnedRetrieval, samples: SampleSet, catalogue: Catalogue, vectors: SampleVectors | None = None
) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return the vectors of all posts of a catalogue, shape (P, width)."""
    vectors = vectors or SampleVectors(samples, model.sources)
    device = str(model.log_temperature.device)
    parts = []
    for first in range(0, len(catalogue), 4 * _AT_ONCE):
        some = np.arange(first, min(first + 4 * _AT_ONCE, len(catalogue)))
        batch = post_batch(samples, catalogue, some, model.config, vectors).to(device)
        parts.append(model.posts(assembled_posts(batch, model.tables)).float().cpu())
    return torch.cat(parts).numpy() if parts else np.empty((0, model.config.width), dtype=np.float32)


@torch.no_grad()
def viewer_vectors(
    model: LearnedRetrieval, samples: SampleSet, slates: Int64Array, vectors: SampleVectors | None = None
) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return the vectors of the viewers of some slates, as they were then, shape (n, width)."""
    vectors = vectors or SampleVectors(samples, model.sources)
    device = str(model.log_temperature.device)
    parts = []
    for first in range(0, len(slates), _AT_ONCE):
        batch = ranker_batch(samples, slates[first : first + _AT_ONCE], model.config.inputs, None, vectors).to(device)
        inputs = assembled_viewers(batch, model.tables)
        parts.append(model.encode_viewers(*inputs).float().cpu())
    return torch.cat(parts).numpy() if parts else np.empty((0, model.config.width), dtype=np.float32)
