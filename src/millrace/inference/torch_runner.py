"""`TorchRunner`: the ranker in torch, as it was trained; for machines with a GPU, and to hold exports against.

In bf16 every product has one shape, whatever comes: how a kernel adds depends on how many rows it is given, and where
numbers have eight bits another order shows. So candidates run in blocks of 256, padded, and blocks and viewers a fixed
number at once: a score does not change with its company.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal, Self

import numpy as np
import torch
from torch.nn import functional

from millrace.inference.numpy_runner import WEIGHTS_FILE, load_config
from millrace.inference.runner import (
    BoolArray,
    EncodedViewers,
    Float32Array,
    Viewers,
    check_candidates,
    check_viewers,
    readable,
)
from millrace.models.ranker import Ranker
from millrace.models.trunk import KeysValues, padding_mask

DTYPES: Final[dict[Literal["fp32", "bf16"], torch.dtype]] = {"fp32": torch.float32, "bf16": torch.bfloat16}

_BLOCK: Final = 256
_N_AT_ONCE: Final = 8
"""Blocks, and viewers, of one run on a GPU, which hardly takes longer for them; a processor runs each alone."""


class TorchRunner:
    """Runs a ranker in torch.

    Parameters
    ----------
    ranker
        Taken over: put into evaluation, on the device, in the precision.
    device
        Such as ``"cpu"`` or ``"cuda"``.
    dtype
        What it computes in: ``torch.bfloat16`` halves the work where the processor knows it, for about 0.01 of error.
        The heads and their links are float32 always: eight bits would make equal what differs by less than 1 in 256.

    Attributes
    ----------
    config
        Of the ranker.
    device
        As given.
    """

    def __init__(self, ranker: Ranker, device: str = "cpu", dtype: torch.dtype = torch.float32) -> None:
        self.config = ranker.config
        self.device = device
        self._ranker = ranker.to(device=device, dtype=dtype).eval()
        self._ranker.final_norm.float()
        self._ranker.head.float()
        self._dtype = dtype
        self._n_at_once = 1 if device == "cpu" else _N_AT_ONCE

    @classmethod
    def open(cls, folder: Path, device: str = "cpu", dtype: torch.dtype = torch.float32) -> Self:
        """Return the runner of an exported ranker.

        Raises
        ------
        ConfigError
            If a file is missing or damaged.
        """
        ranker = Ranker(load_config(folder))
        with np.load(folder / WEIGHTS_FILE) as weights:
            state = {name: torch.from_numpy(value) for name, value in weights.items()}
        # What only training uses was left out.
        ranker.load_state_dict(state, strict=False)
        return cls(ranker, device, dtype)

    @classmethod
    def serving(cls, folder: Path, precision: Literal["fp32", "bf16"] = "fp32") -> Self:
        """Return the runner of an exported ranker as servers run it: on a GPU if there is one, else on one thread."""
        device = serving_device()
        if device == "cpu":
            torch.set_num_threads(1)  # as the other runners: a machine has as many workers as cores
        return cls.open(folder, device, DTYPES[precision])

    @torch.inference_mode()
    def encode(self, viewers: Viewers) -> EncodedViewers:
        """Encode viewers; see `RankRunner`."""
        check_viewers(self.config, viewers)
        mask = padding_mask(_tensor(viewers.mask)).to(self.device, self._dtype)
        given = self._given(viewers.profile), self._given(viewers.history), mask
        if self._dtype == torch.float32:
            encoded = self._ranker.encode(*given)
        else:
            parts = [self._ranker.encode(*(part[rows] for part in given)) for rows in self._runs(len(mask))]
            encoded = KeysValues(*(torch.cat(part)[: len(mask)] for part in zip(*parts, strict=True)))
        keys, values, added = (value.float().cpu().numpy() for value in encoded)
        return EncodedViewers(keys, readable(values, viewers.mask), added)

    @torch.inference_mode()
    def score(self, candidates: Float32Array, encoded: EncodedViewers) -> Float32Array:
        """Score candidates; see `RankRunner`."""
        check_candidates(self.config, candidates, encoded)
        values = self._given(encoded.values)[..., :-1]
        viewers = KeysValues(self._given(encoded.keys), values, self._given(encoded.mask))
        score = self._ranker.score if self._dtype == torch.float32 else self._in_blocks
        predictions: Float32Array = score(self._given(candidates), viewers).float().cpu().numpy()
        return predictions

    def close(self) -> None:
        """Nothing to give back."""

    def _in_blocks(self, candidates: torch.Tensor, viewers: KeysValues) -> torch.Tensor:
        """Return what `Ranker.score` returns, in runs of one shape."""
        n_viewers, n = candidates.shape[:2]
        n_blocks = -(-n // _BLOCK)
        if not n_viewers * n_blocks:
            return candidates.new_empty(n_viewers, n, len(self.config.actions))
        whole = functional.pad(candidates, (0, 0, 0, n_blocks * _BLOCK - n))
        blocks = whole.reshape(n_viewers * n_blocks, _BLOCK, -1)
        parts = []
        for rows in self._runs(len(blocks)):
            whose = KeysValues(*(part[rows // n_blocks] for part in viewers))
            parts.append(self._ranker.score(blocks[rows], whose))
        scores = torch.cat(parts)[: len(blocks)].reshape(n_viewers, n_blocks * _BLOCK, -1)
        return scores[:, :n]

    def _runs(self, n: int) -> Iterator[torch.Tensor]:
        """Yield rows up to ``n``, as many at once as one run takes; the last one takes the last row again and again."""
        for first in range(0, n, self._n_at_once):
            yield torch.arange(first, first + self._n_at_once, device=self.device).clamp(max=n - 1)

    def _given(self, array: Float32Array) -> torch.Tensor:
        return _tensor(array).to(self.device, self._dtype)


def serving_device() -> str:
    """Return the kind of device that `TorchRunner.serving` takes here."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def _tensor(array: Float32Array | BoolArray) -> torch.Tensor:
    # The arrays of a request may be read-only, of which torch warns; nothing here writes.
    return torch.from_numpy(np.require(array, requirements="W"))
