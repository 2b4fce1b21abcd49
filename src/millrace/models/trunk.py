"""The transformer that all models share: a viewer is encoded once; candidates see the viewer and themselves, only.

The viewer's tokens (profile, then history, oldest first) see each other. What candidates need of them are their keys
and values, layer by layer: `encode_viewers` returns those, and `candidates` runs any number of candidates against them.
Because no candidate sees another, a score does not depend on how many others there are, nor on their order; because no
history token sees a candidate or the time of the request, what was encoded can be kept until the viewer acts.

Positions are rotary (Su et al. 2021) and anchored at the candidates: they share the place 0, where nothing is turned;
the newest event is always at -1, older ones before it, and the profile at ``-max_history - 1``. Norms are RMSNorm,
queries and keys are normalised as well, with a learned scale; the feed-forward part is a squared ReLU (So et al. 2021):
no transcendental function on the hot path.
"""

from __future__ import annotations

import math
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from millrace.models.config import TrunkConfig
from millrace.models.places import turns

_MASKED = -1e9


class KeysValues(NamedTuple):
    """Viewers, encoded.

    Attributes
    ----------
    keys, values
        Shape (batch, n_layers, n_heads, n_tokens, d / n_heads): keys are turned to their places already.
    mask
        Shape (batch, n_tokens), float: 0 for a token, a large negative number for padding.
    """

    keys: Tensor
    values: Tensor
    mask: Tensor


class Block(nn.Module):
    """One layer: attention and feed-forward, each after a norm, each added to what came in."""

    def __init__(self, config: TrunkConfig) -> None:
        super().__init__()
        d, hidden = config.d, config.d * config.ffn_factor
        self.n_heads = config.n_heads
        self.d_head = d // config.n_heads
        self.norm = nn.RMSNorm(d, eps=1e-5)
        self.qkv = nn.Linear(d, 3 * d, bias=False)
        self.out = nn.Linear(d, d, bias=False)
        self.q_norm = nn.RMSNorm(self.d_head, eps=1e-5)
        self.k_norm = nn.RMSNorm(self.d_head, eps=1e-5)
        self.ffn_norm = nn.RMSNorm(d, eps=1e-5)
        self.up = nn.Linear(d, hidden, bias=False)
        self.down = nn.Linear(hidden, d, bias=False)
        self.dropout = 0.0
        # At first keys are what queries are: tokens look at what is like them. To find that out takes long otherwise.
        with torch.no_grad():
            self.qkv.weight[d : 2 * d] = self.qkv.weight[:d]

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values, shape (batch, n_heads, n, d_head) each; the first two normed."""
        batch, n, _ = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(batch, n, 3 * self.n_heads, self.d_head).transpose(1, 2).chunk(3, 1)
        return self.q_norm(q), self.k_norm(k), v

    def finish(self, x: Tensor, mixed: Tensor) -> Tensor:
        """Return the layer's output from what attention mixed, shape (batch, n, d)."""
        batch, n, d = x.shape
        x = x + self._thinned(self.out(mixed.transpose(1, 2).reshape(batch, n, d)))
        widened: Tensor = self.up(self.ffn_norm(x))
        added: Tensor = x + self._thinned(self.down(torch.square(torch.relu(widened))))
        return added

    def _thinned(self, x: Tensor) -> Tensor:
        return functional.dropout(x, self.dropout, training=True) if self.training and self.dropout else x

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Run viewers' tokens; return the output, the keys and the values."""
        q, k, v = self.project(x)
        q, k = rotated(q, cos, sin), rotated(k, cos, sin)
        logits = q @ k.transpose(2, 3) * (1.0 / math.sqrt(self.d_head)) + mask[:, None, None, :]
        return self.finish(x, functional.softmax(logits, dim=-1) @ v), k, v

    def against(self, x: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        """Run candidates against viewers' keys and values of this layer; each sees those and itself."""
        q, k, v = self.project(x)
        scale = 1.0 / math.sqrt(self.d_head)
        seen = q @ keys.transpose(2, 3) * scale + mask[:, None, None, :]
        own = (q * k).sum(dim=-1, keepdim=True) * scale
        weights = functional.softmax(torch.cat([seen, own], dim=-1), dim=-1)
        return self.finish(x, weights[..., :-1] @ values + weights[..., -1:] * v)


class Trunk(nn.Module):
    """The layers, and the places of tokens."""

    def __init__(self, config: TrunkConfig) -> None:
        super().__init__()
        config.check()
        self.config = config
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layers))
        cos, sin = turns(config.max_history, config.d // config.n_heads)
        self.cos: Tensor
        self.sin: Tensor
        self.register_buffer("cos", torch.from_numpy(cos), persistent=False)
        self.register_buffer("sin", torch.from_numpy(sin), persistent=False)

    def set_dropout(self, share: float) -> None:
        """Leave out a share of each layer's output, in training."""
        for block in self.blocks:
            cast("Block", block).dropout = share

    def encode_viewers(self, profile: Tensor, history: Tensor, mask: Tensor) -> tuple[Tensor, KeysValues]:
        """Return the tokens' outputs, and the keys and values for candidates.

        Parameters
        ----------
        profile
            Shape (batch, 1, d).
        history
            Shape (batch, n, d), oldest first, padding in front; n may be less than ``max_history``.
        mask
            Shape (batch, n + 1), float: 0, or a large negative number for padding.
        """
        x = torch.cat([profile, history], dim=1)
        # The first row is the profile's place, the last one the newest event's, however long the history is.
        first = self.config.max_history + 1 - history.shape[1]
        cos, sin = torch.cat([self.cos[:1], self.cos[first:]]), torch.cat([self.sin[:1], self.sin[first:]])
        keys, values = [], []
        for block in self.blocks:
            x, k, v = block(x, cos, sin, mask)
            keys.append(k)
            values.append(v)
        return x, KeysValues(torch.stack(keys, dim=1), torch.stack(values, dim=1), mask)

    def candidates(self, x: Tensor, viewers: KeysValues) -> Tensor:
        """Return candidates' outputs, shape (batch, n_candidates, d), each from the viewer and itself alone."""
        for layer, block in enumerate(self.blocks):
            x = cast("Block", block).against(x, viewers.keys[:, layer], viewers.values[:, layer], viewers.mask)
        return x


def rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Return vectors turned to their places: the first half of each head pairs with the second."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)


def padding_mask(is_token: Tensor) -> Tensor:
    """Return the additive mask of a boolean one."""
    return torch.where(is_token, 0.0, _MASKED)
