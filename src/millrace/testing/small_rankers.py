"""A small ranker of random weights that reads what a home feed encodes, exported as a trained one is."""

from __future__ import annotations

from pathlib import Path

import torch

from millrace.base.actions import ActionSpace
from millrace.features.encoding.candidates import dense_fields, schema_hash
from millrace.models.config import RankerConfig, TableConfig, TrunkConfig
from millrace.models.export import export_ranker, export_tables
from millrace.models.learned_ranker import LearnedRanker


def export_small_ranker(folder: Path, seed: int = 1) -> RankerConfig:
    """Write a ranker into a folder, which is made; another seed gives another one of the same config."""
    torch.manual_seed(seed)
    actions = ActionSpace()
    tables = TableConfig(width=8, n_post_rows=64, n_author_rows=16)
    trunk = TrunkConfig(d=16, n_layers=2, n_heads=2, max_history=16, tables=tables)
    config = RankerConfig(
        trunk=trunk, actions=actions.names, n_dense=len(dense_fields(actions)), schema=schema_hash(actions)
    )
    model = LearnedRanker(config).eval()
    folder.mkdir(parents=True, exist_ok=True)
    export_ranker(model.ranker, folder)
    export_tables(model.tables, folder)
    return config
