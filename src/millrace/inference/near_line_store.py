"""`NearLineStore`: the fold of `NearLineUpdated`: the near-line layers of the rankers that were served last."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from millrace.base.errors import SchemaError
from millrace.events.envelope import Payload
from millrace.events.near_line_events import NearLineUpdated
from millrace.events.packed import PackedArrays, unpack_arrays
from millrace.inference.near_line_layer import NearLineLayer
from millrace.stores.fold import Arrays, EventBatch

MAX_MODELS: Final = 4
"""Of more rankers than these, the layer that was updated longest ago goes."""

_NAMES: Final = ("slopes", "shifts", "is_calibrated", "fast_gates", "weights")


class NearLineStore:
    """Near-line layers by ranker version.

    Parameters
    ----------
    n_heads
        The known actions. What an event says of fewer holds for the first; actions are only ever appended.
    """

    name = "near_line"
    handles: tuple[type[Payload], ...] = (NearLineUpdated,)

    def __init__(self, n_heads: int) -> None:
        self._n_heads = n_heads
        self._layers: dict[str, NearLineLayer] = {}  # the order is that of the last updates

    @property
    def models(self) -> tuple[str, ...]:
        """The versions that have a layer, the one updated last at the end."""
        return tuple(self._layers)

    def layer(self, model: str) -> NearLineLayer | None:
        """Return a ranker's layer; None where it has none."""
        return self._layers.get(model)

    def apply(self, batch: EventBatch) -> None:
        """Apply the events it handles, in log order; damaged ones change nothing."""
        for row in batch.rows_of(self.handles):
            payload = batch.events[row].payload
            try:
                arrays = unpack_arrays(payload.arrays)
                self._update(payload, arrays)
            except (SchemaError, KeyError, ValueError, IndexError):
                continue

    def tick(self, watermark_ms: int) -> None:
        """Nothing to do: there are few layers, and each has its size."""

    def arrays(self) -> Arrays:
        """Return the whole state; the arrays are the live ones."""
        names = np.frombuffer("\0".join(self._layers).encode(), dtype=np.uint8)
        arrays: Arrays = {"models": names}
        for place, layer in enumerate(self._layers.values()):
            arrays.update({f"{place}.{name}": array for name, array in layer._asdict().items()})
        return arrays

    def load(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Take over a state written by `arrays`, perhaps before further business actions were declared."""
        models = arrays["models"].tobytes().decode()
        self._layers = {}
        for place, model in enumerate(models.split("\0") if models else ()):
            found = [self._widened(arrays[f"{place}.{name}"], name) for name in _NAMES]
            self._layers[model] = NearLineLayer(*found)

    def _update(self, payload: NearLineUpdated, arrays: PackedArrays) -> None:
        # Copies: what comes out of an event cannot be written, and kernels know two kinds of arrays then.
        values = {name: np.array(self._widened(arrays[name], name)) for name in _NAMES}
        slots = arrays["slots"]
        if len(slots) and not 0 <= int(slots.min()) <= int(slots.max()) < payload.n_slots:
            raise IndexError("slots beyond the table")
        known = self._layers.pop(payload.model, None)
        is_empty = known is None or payload.is_reset
        weights = np.zeros((1, self._n_heads), dtype=np.float32) if is_empty or known is None else known.weights
        if len(slots):  # a table is made with its first weights: most layers never have any
            if len(weights) != payload.n_slots:
                weights = np.zeros((payload.n_slots, self._n_heads), dtype=np.float32)
            weights[slots] = values["weights"]
        self._layers[payload.model] = NearLineLayer(
            values["slopes"], values["shifts"], values["is_calibrated"], values["fast_gates"], weights
        )
        while len(self._layers) > MAX_MODELS:
            del self._layers[next(iter(self._layers))]

    def _widened(self, array: npt.NDArray[Any], name: str) -> npt.NDArray[Any]:
        """Return an array with what changes nothing for actions that were appended since."""
        n_more = self._n_heads - array.shape[-1]
        dtype = np.dtype(np.uint8 if name == "is_calibrated" else np.float32)
        if n_more < 0:
            raise ValueError(f"{array.shape[-1]} actions, where {self._n_heads} are known")
        if n_more == 0:
            return array if array.dtype == dtype else array.astype(dtype)
        fill = np.full((*array.shape[:-1], n_more), 1 if name == "slopes" else 0, dtype=dtype)
        return np.concatenate([array.astype(dtype), fill], axis=-1)
