"""The pre-ranker: what the ranker would say, roughly, of thousands of candidates within a millisecond.

A viewer becomes a small matrix once a request; a candidate is then one hidden layer. The history is pooled by a few
learned queries (Lin et al. 2017) into interests, and each hidden unit looks at a candidate's vector through a mixture
of them: since that is linear in the candidate, all interests together are one matrix, and cost a candidate nothing.

A candidate's vector is a sum of what its text, its post, its author and its language are each projected to, so that
projected tables are what is served, and text and post can be added up once a post (`millrace.inference.post_vectors`).
Everything reads assembled floats (`millrace.models.config.PreRankerConfig.history_width` and its siblings).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from millrace.base.actions import CONTINUOUS
from millrace.models.config import PreRankerConfig
from millrace.models.tables import Tables

_MIN_RATE = 1e-4


class PreRanker(nn.Module):
    """Tables, the viewer's side, the candidates' side, heads.

    Parameters
    ----------
    config
        Sizes and heads.
    """

    def __init__(self, config: PreRankerConfig) -> None:
        super().__init__()
        self.config = config
        d, hidden, width = config.d, config.n_hidden, config.tables.width
        self.tables = Tables(config.tables)
        self.content_in = nn.Linear(width, d, bias=False)
        self.post_in = nn.Linear(width, d, bias=False)
        self.author_in = nn.Linear(width, d, bias=False)
        self.language_in = nn.Linear(width, d, bias=False)
        self.history_in = nn.Linear(config.history_width, d)
        self.profile_in = nn.Linear(config.profile_width, d)
        self.queries = nn.Parameter(torch.randn(config.n_interests, d) / math.sqrt(d))
        self.interest_out = nn.Linear(d, d, bias=False)
        self.mix = nn.Parameter(torch.randn(hidden, config.n_interests) / math.sqrt(config.n_interests))
        self.viewer_in = nn.Linear((config.n_interests + 1) * d, hidden)
        self.viewer_out = nn.Linear(hidden, hidden)
        self.vector_in = nn.Linear(d, hidden, bias=False)
        self.dense_in = nn.Linear(config.n_dense, hidden, bias=False)
        self.head = nn.Linear(hidden, len(config.actions))
        (continuous,) = (int(action) for action in CONTINUOUS)
        self.continuous = continuous

    def dense_parameters(self) -> list[nn.Parameter]:
        """Return everything but the tables."""
        return [value for name, value in self.named_parameters() if not name.startswith("tables.")]

    def start_from(self, rates: Tensor) -> None:
        """Begin with heads that predict given rates (seconds for the continuous one), shape (n_actions,)."""
        with torch.no_grad():
            rates = rates.clamp(min=_MIN_RATE)
            logits = torch.logit(rates.clamp(max=1.0 - _MIN_RATE))
            logits[self.continuous] = torch.log(torch.expm1(rates[self.continuous]))
            self.head.bias.copy_(logits)
            self.head.weight.mul_(0.1)

    def encode(self, profile: Tensor, history: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return viewers as what they make of candidates: matrices and biases of the hidden layer.

        Parameters
        ----------
        profile
            Shape (batch, profile_width).
        history
            Shape (batch, n, history_width).
        mask
            Shape (batch, n + 1), float: 0 for tokens (the profile first), a large negative number for padding.

        Returns
        -------
        tuple
            Shapes (batch, candidate_width, n_hidden) and (batch, n_hidden).
        """
        first = self.profile_in(profile)
        tokens = torch.relu(torch.cat([first[:, None], self.history_in(history)], dim=1))
        logits = tokens @ self.queries.T + mask[..., None]
        interests = self.interest_out(functional.softmax(logits, dim=1).transpose(1, 2) @ tokens)
        through = self.vector_in.weight + self.mix @ interests
        dense = self.dense_in.weight.expand(len(profile), -1, -1)
        matrix = torch.cat([through, dense], dim=2).transpose(1, 2)
        whole = torch.cat([first, interests.flatten(1)], dim=1)
        return matrix, self.viewer_out(torch.relu(self.viewer_in(whole)))

    def logits(self, candidates: Tensor, matrix: Tensor, bias: Tensor) -> Tensor:
        """Return the heads before their link, shape (batch, n_candidates, n_actions)."""
        logits: Tensor = self.head(torch.relu(candidates @ matrix + bias[:, None]))
        return logits

    def linked(self, logits: Tensor) -> Tensor:
        """Return predictions from logits: probabilities, and seconds of dwell."""
        at = self.continuous
        seconds = functional.softplus(logits[..., at : at + 1])
        probs = torch.sigmoid(logits)
        return torch.cat([probs[..., :at], seconds, probs[..., at + 1 :]], dim=-1)
