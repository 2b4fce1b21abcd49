"""Two towers: a vector for a viewer, a vector for a post; how near they are says how likely the one acts on the other.

The posts' tower reads what a post has from its first second (text and its vector, author, semantic id, language, what
is attached), nothing that changes with time, and by default no rows of its id, which nobody has learned yet when the
post is new. The viewers' tower begins as the mean of the vectors of what the viewer took an interest in: the same tower
reads the posts of their history, and what was done to each says how much it counts. The trunk that the ranker has too,
over profile and history, adds what that mean cannot say. There is no embedding of the viewer's id, so that a new viewer
has a vector at once, and another one after every action. All vectors have length 1.

Two towers with sampled softmax: Yi et al. 2019 (log-Q correction), Yang et al. 2020 (mixed negatives).
"""

from __future__ import annotations

import math

import torch
from msgspec.structs import replace
from torch import Tensor, nn
from torch.nn import functional

from millrace.features.encoding.vector_sources import VectorSources
from millrace.models.retrieval_config import PostPart, RetrievalConfig
from millrace.models.tables import Tables
from millrace.models.trunk import Trunk

FIRST_TEMPERATURE = 0.1
MIN_TEMPERATURE = 0.01

_FIRST_SAY = 0.1
_LEAST = 1e-6


class ViewerTower(nn.Module):
    """From profile and history to a vector of length 1.

    Parameters
    ----------
    config
        Sizes.
    """

    def __init__(self, config: RetrievalConfig) -> None:
        super().__init__()
        self.config = config
        d, inputs = config.trunk.d, config.inputs
        self.trunk = Trunk(config.trunk)
        self.history_in = nn.Linear(inputs.history_width, d)
        self.profile_in = nn.Linear(inputs.profile_width, d)
        self.final_norm = nn.RMSNorm(d, eps=1e-5)
        self.head = nn.Linear(2 * d, config.width)
        # How much a post of the history counts, by what was done to it and when, not by what it is.
        self.counts = nn.Linear(inputs.history_width - len(config.history_places()[0]), 1)
        with torch.no_grad():
            self.head.weight.mul_(_FIRST_SAY)
            self.head.bias.zero_()
            self.counts.weight.zero_()
            self.counts.bias.zero_()
        self.is_read: Tensor
        self.register_buffer("is_read", torch.tensor(config.read_of_history(), dtype=torch.float32), persistent=False)

    def forward(self, profile: Tensor, history: Tensor, mask: Tensor, liked: Tensor) -> Tensor:
        """Return vectors, shape (batch, width).

        Parameters
        ----------
        profile
            Shape (batch, profile_width).
        history
            Shape (batch, n, history_width), oldest first, padding in front.
        mask
            Shape (batch, n + 1), float: 0 for tokens (the profile first), a large negative number for padding.
        liked
            Shape (batch, n, width): the vectors of the history's posts (`PostTower.of_history`).
        """
        tokens = self.history_in(history * self.is_read)
        x, _ = self.trunk.encode_viewers(self.profile_in(profile)[:, None], tokens, mask)
        x = self.final_norm(x)
        is_token = (mask[:, 1:] == 0.0).to(x.dtype)[..., None]
        mean = (x[:, 1:] * is_token).sum(dim=1) / is_token.sum(dim=1).clamp(min=1.0)
        said = self.head(torch.cat([x[:, 0], mean], dim=-1))
        done = history[..., history.shape[-1] - self.counts.in_features :]
        shares = torch.sigmoid(self.counts(done)) * is_token
        taste = (shares * liked).sum(dim=1) / shares.sum(dim=1).clamp(min=_LEAST)
        return functional.normalize(taste + said, dim=-1)


class PostTower(nn.Module):
    """From what a post is to a vector of length 1.

    Parameters
    ----------
    config
        Sizes.
    """

    def __init__(self, config: RetrievalConfig) -> None:
        super().__init__()
        self.hidden = nn.Linear(config.post_width, config.hidden)
        self.out = nn.Linear(config.hidden, config.width)
        self.is_read: Tensor
        self.register_buffer("is_read", torch.tensor(config.read_of_post(), dtype=torch.float32), persistent=False)
        of_token, self._of_post = config.history_places()
        self._n_of_token = len(of_token)
        self.is_read_of_token: Tensor
        read = torch.tensor(config.read_of_history()[: len(of_token)], dtype=torch.float32)
        self.register_buffer("is_read_of_token", read, persistent=False)

    def forward(self, posts: Tensor) -> Tensor:
        """Return vectors, shape (n, width), of posts' floats, shape (n, post_width)."""
        return self._finished(self.hidden(posts * self.is_read))

    def of_history(self, history: Tensor) -> Tensor:
        """Return vectors of the posts of histories, shape (batch, n, width): what is not read of a token is not there.

        ``history`` is as `ViewerTower` reads it.
        """
        weight = self.hidden.weight[:, self._of_post] * self.is_read_of_token
        return self._finished(functional.linear(history[..., : self._n_of_token], weight, self.hidden.bias))

    def _finished(self, hidden: Tensor) -> Tensor:
        return functional.normalize(self.out(torch.relu(hidden)), dim=-1)


class LearnedRetrieval(nn.Module):
    """Both towers, their tables, and the temperature of their softmax: all that learns together.

    Parameters
    ----------
    config
        Sizes.
    sources
        Where its semantic ids come from; None for a model that reads none.
    """

    def __init__(self, config: RetrievalConfig, sources: VectorSources | None = None) -> None:
        super().__init__()
        self.config = config
        self.sources = sources or VectorSources()
        self.tables = Tables(config.trunk.tables)
        self.viewers = ViewerTower(config)
        self.posts = PostTower(config)
        self.log_temperature = nn.Parameter(torch.tensor(math.log(FIRST_TEMPERATURE)))

    def temperature(self) -> Tensor:
        """Return what inner products are divided by, a scalar."""
        return self.log_temperature.exp().clamp(min=MIN_TEMPERATURE)

    def leave_out(self, part: PostPart) -> None:
        """Read a part of posts no more, from now on and as exported; what was learned of the rest stays."""
        self.read(tuple(read for read in self.config.reads if read != part))

    def read(self, parts: tuple[PostPart, ...]) -> None:
        """Read these parts of posts from now on, and as exported."""
        self.config = replace(self.config, reads=parts)
        self.viewers.config = self.config
        for tower, read in ((self.viewers, self.config.read_of_history()), (self.posts, self.config.read_of_post())):
            tower.is_read.copy_(torch.tensor(read, dtype=torch.float32))
        n_of_token = len(self.posts.is_read_of_token)
        self.posts.is_read_of_token.copy_(torch.tensor(self.config.read_of_history()[:n_of_token], dtype=torch.float32))

    def encode_viewers(self, profile: Tensor, history: Tensor, mask: Tensor) -> Tensor:
        """Return viewers' vectors, shape (batch, width), of what `ViewerTower.forward` reads."""
        vectors: Tensor = self.viewers(profile, history, mask, self.posts.of_history(history))
        return vectors

    def dense_parameters(self) -> list[nn.Parameter]:
        """Return everything but the tables."""
        return [*self.viewers.parameters(), *self.posts.parameters(), self.log_temperature]


def sampled_softmax(scores: Tensor, targets: Tensor, log_q: Tensor, is_masked: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted mean cross-entropy of positives among what was sampled, a scalar.

    Parameters
    ----------
    scores
        Shape (n, m): inner products over the temperature, a row a positive, a column a sampled post.
    targets
        Shape (n,), int64: the column of each row's own post.
    log_q
        Shape (m,): log of how often a batch is expected to hold each column's post: what is sampled often would
        otherwise be pushed away for that alone (Bengio and Senecal 2008).
    is_masked
        Shape (n, m), bool: columns that are no negatives of a row. The target counts nevertheless.
    weights
        Shape (n,).
    """
    own = functional.one_hot(targets, scores.shape[1]).bool()
    logits = (scores - log_q).masked_fill(is_masked & ~own, -torch.inf)
    losses = functional.cross_entropy(logits.float(), targets, reduction="none")
    total: Tensor = (losses * weights).sum() / weights.sum().clamp(min=1e-9)
    return total
