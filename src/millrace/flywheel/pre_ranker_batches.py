"""Batches of the pre-ranker: those of the ranker, and what the pre-ranker makes of them, as serving assembles it."""

from __future__ import annotations

import torch
from torch import Tensor

from millrace.flywheel.ranker_batches import RankerBatch
from millrace.models.config import PreRankerConfig, RankerConfig, TrunkConfig
from millrace.models.pre_ranker import PreRanker
from millrace.models.trunk import padding_mask


def read_as(config: PreRankerConfig) -> RankerConfig:
    """Return the sizes by which `millrace.flywheel.ranker_batches.ranker_batch` lays out what a pre-ranker reads."""
    return RankerConfig(
        trunk=TrunkConfig(max_history=config.max_history, tables=config.tables),
        actions=config.actions,
        n_dense=config.n_dense,
        n_profile_dense=config.n_profile_dense,
        schema=config.schema,
    )


def assembled(batch: RankerBatch, model: PreRanker) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return profile, history, mask and candidates as `millrace.models.pre_ranker.PreRanker` reads them."""
    tables = model.tables
    texts = model.content_in(tables.content(batch.tokens))
    history = torch.cat(
        [
            texts[batch.history_texts]
            + model.post_in(tables.post(batch.history_posts))
            + model.author_in(tables.author(batch.history_authors)),
            batch.history_rest,
        ],
        dim=-1,
    )
    profile = torch.cat(
        [
            model.language_in(tables.spoken(batch.languages)),
            model.content_in(tables.content(batch.bios)),
            batch.profile_dense,
        ],
        dim=-1,
    )
    candidates = torch.cat(
        [
            texts[batch.texts]
            + model.post_in(tables.post(batch.posts))
            + model.author_in(tables.author(batch.authors))
            + model.language_in(tables.languages(batch.row_languages)),
            batch.dense,
        ],
        dim=-1,
    )
    first = torch.ones(len(profile), 1, dtype=torch.bool, device=texts.device)
    return profile, history, padding_mask(torch.cat([first, batch.is_history], dim=1)), candidates
