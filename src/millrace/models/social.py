"""`SocialEncoder`: GraphSAGE over the follow graph, as it learns; `millrace.features.social_network` is how it serves.

Unusual here: those whom a user follows and those who follow them are two means, not one; whether somebody follows
somebody is scored by two projections of one vector and an appeal of the followed, because following is not mutual and
some are followed by many; a user's own inputs hold nothing that is looked up by id.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, NamedTuple

import numpy as np
import torch
from msgspec import Meta, Struct
from torch import Tensor, nn
from torch.nn import functional

from millrace.features.social_network import MIN_LENGTH, Float32Array, SocialNetwork, SocialShape


class SocialConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Size of the encoder, and how many neighbours it samples while it learns.

    Attributes
    ----------
    fanouts
        One a layer, from the user outwards: at most so many followees and so many followers of each.
    """

    dim: Annotated[int, Meta(ge=1)] = 32
    hidden: Annotated[int, Meta(ge=1)] = 64
    n_signature: Annotated[int, Meta(ge=0, multiple_of=64)] = 128
    n_languages: Annotated[int, Meta(ge=0)] = 0
    fanouts: tuple[int, ...] = (10, 8, 5)
    seed: int = 0

    @property
    def shape(self) -> SocialShape:
        """What the encoder reads and gives."""
        return SocialShape(
            n_layers=len(self.fanouts),
            dim=self.dim,
            hidden=self.hidden,
            n_signature=self.n_signature,
            n_languages=self.n_languages,
        )


class Neighbours(NamedTuple):
    """Lists of neighbours, as an embedding bag takes them.

    Attributes
    ----------
    values
        Shape (n_values,), int64: rows of what the layer reads.
    offsets
        Shape (n + 1,), int64.
    """

    values: Tensor
    offsets: Tensor


class Block(NamedTuple):
    """Which rows of what a layer reads make up each row that it gives.

    Attributes
    ----------
    own
        Shape (n,), int64: the users themselves.
    following, followers
        n lists each.
    """

    own: Tensor
    following: Neighbours
    followers: Neighbours


class SocialEncoder(nn.Module):
    """The encoder; its parameters have the names and shapes of `SocialShape.weight_shapes`.

    Parameters
    ----------
    config
        Its size; the seed decides the weights it begins with.
    """

    def __init__(self, config: SocialConfig) -> None:
        super().__init__()
        shape = self.shape = config.shape
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.inputs = nn.Linear(shape.n_inputs, shape.hidden)
            self.layers = nn.ModuleList(
                nn.Linear(3 * shape.hidden, shape.width(layer)) for layer in range(shape.n_layers)
            )
            self.as_follower = nn.Linear(shape.dim, shape.dim, bias=False)
            self.as_followee = nn.Linear(shape.dim, shape.dim, bias=False)
            self.appeal = nn.Linear(shape.dim, 1)
            self.log_scale = nn.Parameter(torch.tensor(2.0))
        # From the first step on, those who are alike are taken to follow each other. From random projections, whom
        # many follow is learned first and who is like whom hundreds of steps later, if at all.
        nn.init.eye_(self.as_follower.weight)
        nn.init.eye_(self.as_followee.weight)

    def forward(self, inputs: Tensor, blocks: Sequence[Block]) -> Tensor:
        """Return social vectors, shape (n, dim), of length 1.

        Parameters
        ----------
        inputs
            Shape (n_read, n_inputs): what is read of all users that the first block names.
        blocks
            One a layer, in the order in which they are applied; rows of each are rows of what the one before gives.
        """
        values = _normalised(self.inputs(inputs))
        for layer, (linear, block) in enumerate(zip(self.layers, blocks, strict=True)):
            read = torch.cat(
                [values[block.own], _means(values, block.following), _means(values, block.followers)], dim=1
            )
            given = linear(read)
            values = _normalised(torch.relu(given) if layer < self.shape.n_layers - 1 else given)
        return values

    def follow_scores(self, followers: Tensor, followees: Tensor) -> Tensor:
        """Return logits of following, shape (n, m), from vectors (n, dim) and (m, dim)."""
        alike = self.as_follower(followers) @ self.as_followee(followees).T
        scores: Tensor = alike * torch.exp(self.log_scale) + self.appeal(followees).T
        return scores

    def network(self) -> SocialNetwork:
        """Return the encoder as it serves, with a copy of the weights as they are."""
        weights: dict[str, Float32Array] = {
            name: np.array(value.detach().cpu().numpy(), dtype=np.float32) for name, value in self.state_dict().items()
        }
        return SocialNetwork(self.shape, weights)


def follow_loss(scores: Tensor, positives: Tensor, log_frequencies: Tensor, is_left_out: Tensor) -> Tensor:
    """Return the sampled softmax (InfoNCE) of who is followed, corrected for how often each candidate is drawn.

    Parameters
    ----------
    scores
        Shape (n, m): logits of n followers for m candidates.
    positives
        Shape (n,), int64: the candidate that each follows.
    log_frequencies
        Shape (m,): the log of the chance that a candidate is among those drawn (Bengio and Senécal 2008).
    is_left_out
        Shape (n, m): candidates that are no negatives, because the follower follows them too.
    """
    corrected = (scores - log_frequencies).masked_fill(is_left_out, float("-inf"))
    return functional.cross_entropy(corrected, positives)


def _means(values: Tensor, neighbours: Neighbours) -> Tensor:
    return functional.embedding_bag(
        neighbours.values, values, neighbours.offsets, mode="mean", include_last_offset=True
    )


def _normalised(vectors: Tensor) -> Tensor:
    return functional.normalize(vectors, dim=1, eps=MIN_LENGTH)
