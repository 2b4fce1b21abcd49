"""The hashed embedding tables of a model, and the optimiser of their rows.

Only rows that a batch touches have gradients. They learn by row-wise AdaGrad: one accumulator a row instead of one a
number, as large recommenders do (Naumov et al. 2019; Gupta et al. 2014), so that rare rows keep a large step.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from millrace.features.encoding.languages import N_LANGUAGE_ROWS
from millrace.models.config import TableConfig

_FIRST_SCALE: Final = 0.05


class Tables(nn.Module):
    """Tables of tokens, posts, authors, languages and semantic ids; row 0 of each is zeros for ever.

    Parameters
    ----------
    config
        Rows and width.
    """

    def __init__(self, config: TableConfig) -> None:
        super().__init__()
        self.width = config.width
        self.tokens = _table(config.n_token_rows, config.width)
        self.posts = _table(config.n_post_rows, config.width)
        self.authors = _table(config.n_author_rows, config.width)
        self.languages = _table(N_LANGUAGE_ROWS, config.width)
        n_sids = config.n_sid_levels * config.n_sid_codes + 1 if config.n_sid_levels else 1
        self.sids = _table(n_sids, config.width)

    def content(self, rows: Tensor) -> Tensor:
        """Return the mean of texts' token rows, shape (n, width); zeros for no text. ``rows`` is (n, 64), int64."""
        return _mean(self.tokens, rows)

    def spoken(self, rows: Tensor) -> Tensor:
        """Return the mean of language rows, shape (n, width); ``rows`` is (n, k), int64."""
        return _mean(self.languages, rows)

    def post(self, rows: Tensor) -> Tensor:
        """Return posts' vectors, the sum of two rows each, shape (..., width); ``rows`` is (..., 2), int64."""
        summed: Tensor = self.posts(rows).sum(dim=-2)
        return summed

    def author(self, rows: Tensor) -> Tensor:
        """Return authors' vectors, the sum of two rows each, shape (..., width); ``rows`` is (..., 2), int64."""
        summed: Tensor = self.authors(rows).sum(dim=-2)
        return summed

    def semantic(self, rows: Tensor) -> Tensor:
        """Return the sum over levels of semantic ids' vectors, shape (..., width); ``rows`` is (..., n_levels), int64.

        Zeros where no levels are read. Rows are those of `millrace.content.semantic_ids.table_rows`.
        """
        summed: Tensor = self.sids(rows).sum(dim=-2)
        return summed


def _table(n_rows: int, width: int) -> nn.Embedding:
    table = nn.Embedding(n_rows, width, padding_idx=0, sparse=True)
    nn.init.normal_(table.weight, std=_FIRST_SCALE)
    with torch.no_grad():
        table.weight[0] = 0.0
    return table


def _mean(table: nn.Embedding, rows: Tensor) -> Tensor:
    return functional.embedding_bag(rows, table.weight, mode="mean", padding_idx=0, sparse=True)


class RowwiseAdaGrad(torch.optim.Optimizer):
    """AdaGrad with one accumulator a row: the mean of the squares of its gradient so far.

    Parameters
    ----------
    params
        Tables; their gradients must be sparse.
    lr
        Step of a row whose accumulator is 1.
    eps
        Added to the root of the accumulator.
    """

    def __init__(self, params: Iterable[Tensor], lr: float, eps: float = 1e-8) -> None:
        super().__init__(params, {"lr": lr, "eps": eps})
        for group in self.param_groups:
            for table in group["params"]:
                self.state[table]["sum"] = torch.zeros(table.shape[0], device=table.device)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # noqa: ARG002 - as torch calls it
        """Move the rows that have gradients."""
        for group in self.param_groups:
            for table in group["params"]:
                if table.grad is None:
                    continue
                gradient = table.grad.coalesce()
                rows, values = gradient.indices()[0], gradient.values()
                sums = self.state[table]["sum"]
                sums[rows] += values.square().mean(dim=1)
                steps = group["lr"] / (sums[rows].sqrt() + group["eps"])
                table[rows] -= steps[:, None] * values
