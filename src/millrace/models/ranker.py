"""The ranker: P(action) for every action and candidate, and the expected seconds of dwell.

In two parts, as it is served: `encode` turns viewers into keys and values, `score` turns candidates against those into
predictions. Both read assembled floats (`millrace.models.config.RankerConfig.history_width` and its siblings): rows of
embedding tables are gathered outside, so that the tables stay out of the exported graph.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from millrace.base.actions import CONTINUOUS
from millrace.models.config import RankerConfig
from millrace.models.trunk import KeysValues, Trunk

_N_POSITIONS = 64
_UNKNOWN_PLACE = _N_POSITIONS - 1
"""The row of looks whose place nobody knows; the places before it are themselves, the last of them all farther ones."""
_MIN_RATE = 1e-4


class Ranker(nn.Module):
    """Trunk, projections, heads.

    Parameters
    ----------
    config
        Sizes and heads.
    """

    def __init__(self, config: RankerConfig) -> None:
        super().__init__()
        self.config = config
        d = config.trunk.d
        self.n_sparse = config.candidate_width - config.n_dense
        self.trunk = Trunk(config.trunk)
        self.history_in = nn.Linear(config.history_width, d)
        self.profile_in = nn.Linear(config.profile_width, d)
        self.sparse_in = nn.Linear(self.n_sparse, d, bias=False)
        self._begin_alike()
        self.dense_in = nn.Sequential(nn.Linear(config.n_dense, 2 * d), nn.ReLU(), nn.Linear(2 * d, d))
        self.final_norm = nn.RMSNorm(d, eps=1e-5)
        self.head = nn.Linear(d, len(config.actions))
        # What a place on the page does to each head, beside the post itself: learned, and left out when served.
        self.position_bias = nn.Embedding(_N_POSITIONS, len(config.actions))
        nn.init.zeros_(self.position_bias.weight)
        (continuous,) = (int(action) for action in CONTINUOUS)
        self.continuous = continuous

    def _begin_alike(self) -> None:
        """Let a post be the same in a history and as a candidate, at first: likeness can be seen from the start."""
        width, n_text = self.config.trunk.tables.width, self.config.trunk.text_width
        with torch.no_grad():
            self.history_in.weight[:, : 4 * width] = self.sparse_in.weight[:, : 4 * width]
            texts = self.sparse_in.weight[:, 5 * width : 5 * width + n_text]
            self.history_in.weight[:, 4 * width : 4 * width + n_text] = texts

    def start_from(self, rates: Tensor) -> None:
        """Begin with heads that predict given rates (seconds for the continuous one), shape (n_actions,)."""
        with torch.no_grad():
            rates = rates.clamp(min=_MIN_RATE)
            logits = torch.logit(rates.clamp(max=1.0 - _MIN_RATE))
            logits[self.continuous] = torch.log(torch.expm1(rates[self.continuous]))
            self.head.bias.copy_(logits)
            self.head.weight.mul_(0.1)

    def encode(self, profile: Tensor, history: Tensor, mask: Tensor) -> KeysValues:
        """Encode viewers.

        Parameters
        ----------
        profile
            Shape (batch, profile_width).
        history
            Shape (batch, n, history_width), oldest first, padding in front.
        mask
            Shape (batch, n + 1), float: 0 for tokens (the profile first), a large negative number for padding.
        """
        return self.trunk.encode_viewers(self.profile_in(profile)[:, None], self.history_in(history), mask)[1]

    def logits(self, candidates: Tensor, viewers: KeysValues) -> Tensor:
        """Return the heads before their link, shape (batch, n_candidates, n_actions), of whole candidates."""
        x = self.sparse_in(candidates[..., : self.n_sparse]) + self.dense_in(candidates[..., self.n_sparse :])
        return self._heads(x, viewers)

    def projected(self, candidates: Tensor) -> Tensor:
        """Return candidates as they are scored: what depends on the post alone projected, then the dense fields.

        Shape (..., candidate_width) becomes (..., scored_width). The projection is linear, and may be kept.
        """
        sparse, dense = candidates[..., : self.n_sparse], candidates[..., self.n_sparse :]
        return torch.cat([self.sparse_in(sparse), dense], dim=-1)

    def score(self, projected: Tensor, viewers: KeysValues) -> Tensor:
        """Return predictions, shape (batch, n_candidates, n_actions), of `projected` candidates.

        Probabilities, and seconds of dwell.
        """
        d = self.config.trunk.d
        x = projected[..., :d] + self.dense_in(projected[..., d:])
        return self.linked(self._heads(x, viewers))

    def _heads(self, x: Tensor, viewers: KeysValues) -> Tensor:
        # The heads may be wider than what leads to them (`millrace.inference.torch_runner`).
        hidden = self.trunk.candidates(x, viewers).to(self.head.weight.dtype)
        logits: Tensor = self.head(self.final_norm(hidden))
        return logits

    def linked(self, logits: Tensor) -> Tensor:
        """Return predictions from logits."""
        at = self.continuous
        seconds = functional.softplus(logits[..., at : at + 1])
        probs = torch.sigmoid(logits)
        return torch.cat([probs[..., :at], seconds, probs[..., at + 1 :]], dim=-1)

    def biased(self, logits: Tensor, positions: Tensor) -> Tensor:
        """Return logits with what each row's place on the page does added; training only.

        Parameters
        ----------
        logits
            Shape (batch, n, n_actions).
        positions
            Shape (batch, n), int64: places from 0, -1 where not known. Such rows have a bias of their own, and teach
            nothing about any place: neither the first one's, which they are not, nor those of others.
        """
        is_unknown = positions < 0
        rows = positions.clamp(max=_UNKNOWN_PLACE - 1).masked_fill(is_unknown, _UNKNOWN_PLACE)
        # Of known places the first is the measure: what is served is what a post is worth there.
        measure = self.position_bias.weight[0].expand(*positions.shape, -1).masked_fill(is_unknown[..., None], 0.0)
        biased: Tensor = logits + (self.position_bias(rows) - measure)
        return biased
