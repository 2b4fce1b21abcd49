"""`NumpyRunner`: the ranker in NumPy, line by line; slow, clear, what the other runners are held against."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Self

import msgspec
import numpy as np

from millrace.base.actions import CONTINUOUS
from millrace.base.errors import ConfigError
from millrace.inference.runner import (
    MASKED,
    EncodedViewers,
    Float32Array,
    Viewers,
    check_candidates,
    check_viewers,
    readable,
)
from millrace.models.config import RankerConfig
from millrace.models.places import turns

CONFIG_FILE: Final = "ranker.json"
WEIGHTS_FILE: Final = "weights.npz"

_EPS: Final = 1e-5


def load_config(folder: Path) -> RankerConfig:
    """Return the config of an exported ranker.

    Raises
    ------
    ConfigError
        If the file is missing or is not one.
    """
    path = folder / CONFIG_FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=RankerConfig)
    except (OSError, msgspec.MsgspecError) as error:
        raise ConfigError(
            "ranker config", value=str(path), problem=str(error), remedy="export the ranker again"
        ) from error


def load_weight(folder: Path, name: str) -> Float32Array:
    """Return one weight of an exported ranker, by its name in torch.

    Raises
    ------
    ConfigError
        If it is missing or damaged.
    """
    path = folder / WEIGHTS_FILE
    try:
        with np.load(path) as weights:
            weight: Float32Array = weights[name]
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise ConfigError(
            "ranker's weights", value=f"{path}: {name}", problem=str(error), remedy="export the ranker again"
        ) from error
    return weight


class NumpyRunner:
    """Runs a ranker in NumPy.

    Parameters
    ----------
    config
        Of the ranker.
    weights
        By their names in torch.
    """

    def __init__(self, config: RankerConfig, weights: Mapping[str, Float32Array]) -> None:
        self.config = config
        self._weights = dict(weights)
        self._d_head = config.trunk.d // config.trunk.n_heads
        self._cos, self._sin = turns(config.trunk.max_history, self._d_head)

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Return the runner of an exported ranker."""
        with np.load(folder / WEIGHTS_FILE) as weights:
            return cls(load_config(folder), dict(weights))

    def encode(self, viewers: Viewers) -> EncodedViewers:
        """Encode viewers; see `RankRunner`."""
        check_viewers(self.config, viewers)
        max_history, n_history = self.config.trunk.max_history, viewers.history.shape[1]
        mask = np.where(viewers.mask, np.float32(0.0), MASKED)
        x = np.concatenate(
            [self._linear("profile_in", viewers.profile)[:, None], self._linear("history_in", viewers.history)], axis=1
        )
        # The profile's place, then those before the candidates.
        places = np.array([0, *range(max_history + 1 - n_history, max_history + 1)])
        keys, values = [], []
        for layer in range(self.config.trunk.n_layers):
            q, k, v = self._project(layer, x)
            q, k = self._turned(q, places), self._turned(k, places)
            logits = q @ k.swapaxes(2, 3) / np.float32(math.sqrt(self._d_head)) + mask[:, None, None, :]
            x = self._finish(layer, x, _softmax(logits) @ v)
            keys.append(k)
            values.append(v)
        return EncodedViewers(np.stack(keys, axis=1), readable(np.stack(values, axis=1), viewers.mask), mask)

    def score(self, candidates: Float32Array, encoded: EncodedViewers) -> Float32Array:
        """Score candidates; see `RankRunner`."""
        check_candidates(self.config, candidates, encoded)
        d = self.config.trunk.d
        hidden = np.maximum(self._linear("dense_in.0", candidates[..., d:]), 0.0)
        x = candidates[..., :d] + self._linear("dense_in.2", hidden)
        scale = np.float32(1.0 / math.sqrt(self._d_head))
        for layer in range(self.config.trunk.n_layers):
            q, k, v = self._project(layer, x)
            seen = q @ encoded.keys[:, layer].swapaxes(2, 3) * scale + encoded.mask[:, None, None, :]
            own = (q * k).sum(axis=-1, keepdims=True) * scale
            weights = _softmax(np.concatenate([seen, own], axis=-1))
            x = self._finish(layer, x, weights[..., :-1] @ encoded.values[:, layer, ..., :-1] + weights[..., -1:] * v)
        logits = self._linear("head", self._normed("final_norm", x))
        predictions = _sigmoid(logits)
        (at,) = (int(action) for action in CONTINUOUS)
        predictions[..., at] = np.logaddexp(0.0, logits[..., at])
        return predictions

    def close(self) -> None:
        """Nothing to give back."""

    def _linear(self, name: str, x: Float32Array) -> Float32Array:
        out: Float32Array = x @ self._weights[f"{name}.weight"].T
        bias = self._weights.get(f"{name}.bias")
        return out if bias is None else out + bias

    def _normed(self, name: str, x: Float32Array) -> Float32Array:
        mean = np.square(x).mean(axis=-1, keepdims=True, dtype=np.float32)
        normed: Float32Array = x / np.sqrt(mean + np.float32(_EPS)) * self._weights[f"{name}.weight"]
        return normed

    def _project(self, layer: int, x: Float32Array) -> tuple[Float32Array, Float32Array, Float32Array]:
        block = f"trunk.blocks.{layer}"
        qkv = self._linear(f"{block}.qkv", self._normed(f"{block}.norm", x))
        heads = qkv.reshape(*x.shape[:2], 3 * self.config.trunk.n_heads, self._d_head).swapaxes(1, 2)
        q, k, v = np.split(heads, 3, axis=1)
        return self._normed(f"{block}.q_norm", q), self._normed(f"{block}.k_norm", k), v

    def _turned(self, x: Float32Array, places: np.ndarray) -> Float32Array:
        a, b = np.split(x, 2, axis=-1)
        cos, sin = self._cos[places], self._sin[places]
        return np.concatenate([a * cos - b * sin, a * sin + b * cos], axis=-1)

    def _finish(self, layer: int, x: Float32Array, mixed: Float32Array) -> Float32Array:
        block = f"trunk.blocks.{layer}"
        x = x + self._linear(f"{block}.out", mixed.swapaxes(1, 2).reshape(x.shape))
        wide = np.maximum(self._linear(f"{block}.up", self._normed(f"{block}.ffn_norm", x)), 0.0)
        return x + self._linear(f"{block}.down", np.square(wide))


def _softmax(logits: Float32Array) -> Float32Array:
    exps = np.exp(logits - logits.max(axis=-1, keepdims=True))
    softmax: Float32Array = exps / exps.sum(axis=-1, keepdims=True)
    return softmax


def _sigmoid(x: Float32Array) -> Float32Array:
    # By halves of the hyperbolic tangent: no exponential of it overflows.
    sigmoid: Float32Array = np.float32(0.5) * (np.tanh(np.float32(0.5) * x) + np.float32(1.0))
    return sigmoid
