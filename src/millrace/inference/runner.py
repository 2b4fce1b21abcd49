"""`RankRunner`: the contract of everything that runs a ranker; what goes in, what is kept of a viewer, what is refused.

A ranker runs in two parts. `encode` turns viewers into keys and values, which may be kept as long as the viewer's
inputs stay as they are; `score` runs any number of candidates against them. A score depends on its candidate and its
viewer alone: not on other candidates, their order, other viewers of the batch, or padding. Implementations:
`millrace.inference.numpy_runner` (reference), ``onnx_runner`` (what serves), ``torch_runner``;
`millrace.testing.rank_runner_contract` is what all of them must pass.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from millrace.base.errors import SchemaError
from millrace.models.config import RankerConfig

Float32Array = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]

MASKED: Final = np.float32(-1e9)
"""What is added to the logits of padding."""


class Viewers(NamedTuple):
    """Viewers, as floats (`RankerConfig.profile_width`, `RankerConfig.history_width`).

    Attributes
    ----------
    profile
        Shape (batch, profile_width), float32.
    history
        Shape (batch, n, history_width), float32: oldest first, padding in front; n at most ``max_history``.
    mask
        Shape (batch, n + 1), bool: True for a token, the profile (always there) first.
    """

    profile: Float32Array
    history: Float32Array
    mask: BoolArray


class EncodedViewers(NamedTuple):
    """Viewers, encoded.

    Attributes
    ----------
    keys
        Shape (batch, n_layers, n_heads, n + 1, d / n_heads), float32: turned to their places before the candidates.
    values
        Shape (batch, n_layers, n_heads, n + 1, d / n_heads + 1), float32: zeros for padding; the last column is 1 for
        tokens, so that it sums the weights that candidates give them (`readable`).
    mask
        Shape (batch, n + 1), float32: 0 for a token, a large negative number for padding.
    """

    keys: Float32Array
    values: Float32Array
    mask: Float32Array

    @property
    def n(self) -> int:
        """How many viewers."""
        return len(self.mask)

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        return self.keys.nbytes + self.values.nbytes + self.mask.nbytes

    def take(self, i: int) -> EncodedViewers:
        """Return one viewer, as arrays of their own: a kept viewer must not keep the batch."""
        row = slice(i, i + 1)
        return EncodedViewers(self.keys[row].copy(), self.values[row].copy(), self.mask[row].copy())


class RankRunner(Protocol):
    """Runs one version of a ranker."""

    config: RankerConfig

    def encode(self, viewers: Viewers) -> EncodedViewers:
        """Encode viewers.

        Raises
        ------
        SchemaError
            If a shape is not the config's, or a number is not finite.
        """

    def score(self, candidates: Float32Array, encoded: EncodedViewers) -> Float32Array:
        """Return predictions, shape (batch, n_candidates, n_actions): probabilities, and seconds of dwell.

        Parameters
        ----------
        candidates
            Shape (batch, n_candidates, scored_width), float32: what depends on the post alone, projected
            (`millrace.inference.content_cache.projected`), then the dense fields. No candidates are fine.
        encoded
            As many viewers, of `encode` of the same version.

        Raises
        ------
        SchemaError
            If a shape is not the config's, or a number is not finite.
        """

    def close(self) -> None:
        """Give back what it holds; it runs no more."""


@runtime_checkable
class WholeRunner(Protocol):
    """A runner that encodes and scores in one call, and keeps encoded viewers by itself where that is quicker."""

    def predict(self, viewers: Viewers, candidates: Float32Array) -> Float32Array:
        """Return ``score(candidates, encode(viewers))``."""


class Room:
    """Memory for large arrays that is used again: from the system each page would come anew, filled with zeros.

    For one thread at a time; an array is good until the next one of its name.
    """

    def __init__(self) -> None:
        self._held: dict[str, Float32Array] = {}

    def array(self, name: str, shape: tuple[int, ...]) -> Float32Array:
        """Return an array of a shape; what is in it, nobody knows."""
        size = math.prod(shape)
        held = self._held.get(name)
        if held is None or held.size < size:
            held = self._held[name] = np.empty(size, dtype=np.float32)
        return held[:size].reshape(shape)


def joined(encoded: list[EncodedViewers], room: Room | None = None) -> EncodedViewers:
    """Return several encodings as one batch, shorter ones padded in front.

    In memory, layer lies behind layer, as runners read them.

    Parameters
    ----------
    encoded
        Of one version.
    room
        Where the batch may be; None: in memory of its own.
    """
    if len(encoded) == 1:
        return encoded[0]
    room = room or Room()
    n_tokens = max(one.mask.shape[1] for one in encoded)
    n, n_layers, n_heads = sum(one.n for one in encoded), *encoded[0].keys.shape[1:3]
    keys, values = (
        room.array(name, (n_layers, n, n_heads, n_tokens, width)).swapaxes(0, 1)
        for name, width in (("keys", encoded[0].keys.shape[4]), ("values", encoded[0].values.shape[4]))
    )
    mask = np.full((n, n_tokens), MASKED, dtype=np.float32)
    row = 0
    for one in encoded:
        rows, first = slice(row, row + one.n), n_tokens - one.mask.shape[1]
        for whole, part in ((keys, one.keys), (values, one.values)):
            whole[rows, :, :, :first], whole[rows, :, :, first:] = 0.0, part
        mask[rows, first:] = one.mask
        row += one.n
    return EncodedViewers(keys, values, mask)


def readable(values: Float32Array, is_token: BoolArray) -> Float32Array:
    """Return values as encoded viewers carry them: zeros for padding, and a column that tells tokens from it."""
    wide = np.concatenate([values, np.ones((*values.shape[:-1], 1), dtype=np.float32)], axis=-1)
    return np.where(is_token[:, None, None, :, None], wide, np.float32(0.0))


def check_viewers(config: RankerConfig, viewers: Viewers) -> None:
    """Raise `SchemaError` unless viewers are what the config says."""
    batch = len(viewers.profile)
    n = viewers.history.shape[1] if viewers.history.ndim > 1 else 0
    _check("profile", viewers.profile, (batch, config.profile_width), np.float32)
    _check("history", viewers.history, (batch, n, config.history_width), np.float32)
    _check("viewers' mask", viewers.mask, (batch, n + 1), np.bool_)
    if n > config.trunk.max_history:
        raise _wrong("history", n, f"more tokens than the {config.trunk.max_history} of the model", "give the newest")
    if not viewers.mask[:, 0].all():
        raise _wrong("viewers' mask", None, "the profile is masked", "mask tokens of the history only")


def check_candidates(config: RankerConfig, candidates: Float32Array, encoded: EncodedViewers) -> None:
    """Raise `SchemaError` unless candidates and encoded viewers are what the config says, and as many."""
    check_candidate_rows(config, candidates, encoded.n)
    trunk, n_tokens = config.trunk, encoded.mask.shape[-1]
    lead, d_head = (encoded.n, trunk.n_layers, trunk.n_heads, n_tokens), trunk.d // trunk.n_heads
    _check("encoded viewers' keys", encoded.keys, (*lead, d_head), np.float32)
    _check("encoded viewers' values", encoded.values, (*lead, d_head + 1), np.float32)
    _check("encoded viewers' mask", encoded.mask, (encoded.n, n_tokens), np.float32)


def check_candidate_rows(config: RankerConfig, candidates: Float32Array, n_viewers: int) -> None:
    """Raise `SchemaError` unless candidates are what the config says, for so many viewers."""
    n = candidates.shape[1] if candidates.ndim > 1 else 0
    _check("candidates", candidates, (n_viewers, n, config.scored_width), np.float32)


def _check(thing: str, array: npt.NDArray[np.generic], shape: tuple[int, ...], dtype: type[np.generic]) -> None:
    if array.shape != shape:
        raise _wrong(thing, array.shape, f"not of shape {shape}", "assemble it for this model's config")
    if array.dtype != dtype:
        raise _wrong(thing, array.dtype.name, f"not {np.dtype(dtype).name}", "assemble it for this model's config")
    # A sum is finite only if all are: one quick pass. Where it overflows, a second pass tells.
    if dtype is np.float32 and not np.isfinite(array.sum()) and not np.isfinite(array).all():
        raise _wrong(thing, None, "a number is not finite", "find the table or feature that it comes from")


def _wrong(thing: str, value: object, problem: str, remedy: str) -> SchemaError:
    return SchemaError(thing, value=value, problem=problem, remedy=remedy)
