"""Small retrieval towers, exported as they are served: with first weights, which is enough to tell posts apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from millrace.base.actions import ActionSpace
from millrace.content.semantic_ids import Codebooks, SemanticIdSettings
from millrace.content.vectors import N_DIMS
from millrace.features.encoding.candidates import schema_hash
from millrace.features.encoding.vector_sources import VectorSources
from millrace.models.config import TableConfig, TrunkConfig
from millrace.models.retrieval_config import COLD, PostPart, RetrievalConfig

_N_LEVELS = 2
_N_CODES = 5

SMALL_TRUNK = TrunkConfig(
    d=16,
    n_layers=2,
    n_heads=2,
    max_history=8,
    tables=TableConfig(width=8, n_post_rows=64, n_author_rows=64, n_sid_levels=_N_LEVELS, n_sid_codes=_N_CODES),
    text_width=N_DIMS,
)


def small_sources() -> VectorSources:
    """Return the codebooks of the towers, a few codes drawn at random."""
    vectors = np.random.default_rng(7).standard_normal((_N_LEVELS, _N_CODES, N_DIMS)).astype(np.float32)
    settings = SemanticIdSettings(n_levels=_N_LEVELS, n_codes=_N_CODES, n_dims=N_DIMS)
    return VectorSources(codebooks=Codebooks(settings, vectors))


def small_towers_config(reads: tuple[PostPart, ...] = COLD) -> RetrievalConfig:
    """Return towers that are small and still have every part."""
    actions = ActionSpace()
    return RetrievalConfig(
        trunk=SMALL_TRUNK,
        width=8,
        hidden=16,
        reads=reads,
        actions=actions.names,
        schema=schema_hash(actions),
        semantic_ids=small_sources().semantic_ids_digest,
    )


def export_small_towers(folder: Path, seed: int = 1, reads: tuple[PostPart, ...] = COLD) -> RetrievalConfig:
    """Write towers with first weights into a folder. Needs torch and onnx."""
    import torch

    from millrace.models.export import export_tables
    from millrace.models.retrieval import LearnedRetrieval
    from millrace.models.retrieval_export import export_retrieval

    torch.manual_seed(seed)
    model = LearnedRetrieval(small_towers_config(reads), small_sources()).eval()
    export_retrieval(model, folder)
    export_tables(model.tables, folder)
    model.sources.save_served(folder)
    return model.config
