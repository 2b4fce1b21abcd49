"""Small retrieval towers, exported as they are served: with first weights, which is enough to tell posts apart."""

from __future__ import annotations

from pathlib import Path

from millrace.base.actions import ActionSpace
from millrace.features.encoding.candidates import schema_hash
from millrace.models.config import TableConfig, TrunkConfig
from millrace.models.retrieval_config import COLD, PostPart, RetrievalConfig

SMALL_TRUNK = TrunkConfig(
    d=16, n_layers=2, n_heads=2, max_history=8, tables=TableConfig(width=8, n_post_rows=64, n_author_rows=64)
)


def small_towers_config(reads: tuple[PostPart, ...] = COLD) -> RetrievalConfig:
    """Return towers that are small and still have every part."""
    actions = ActionSpace()
    return RetrievalConfig(
        trunk=SMALL_TRUNK, width=8, hidden=16, reads=reads, actions=actions.names, schema=schema_hash(actions)
    )


def export_small_towers(folder: Path, seed: int = 1, reads: tuple[PostPart, ...] = COLD) -> RetrievalConfig:
    """Write towers with first weights into a folder. Needs torch and onnx."""
    import torch

    from millrace.models.export import export_tables
    from millrace.models.retrieval import LearnedRetrieval
    from millrace.models.retrieval_export import export_retrieval

    torch.manual_seed(seed)
    model = LearnedRetrieval(small_towers_config(reads)).eval()
    export_retrieval(model, folder)
    export_tables(model.tables, folder)
    return model.config
