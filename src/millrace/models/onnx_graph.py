"""`GraphBuilder`: ONNX graphs written down node by node, so that what is served is exactly what was meant.

A tracer would carry over torch's operations one by one. Written by hand, weights are folded where they can be, nothing
is computed that nobody reads, and every weight enters a MatMul in the same form, which is what quantisation looks for.
The graphs are for ONNX Runtime: norms are its own operations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

Float32Array = npt.NDArray[np.float32]

OPSET: Final = 17
_IR_VERSION: Final = 9
CONTRIB: Final = "com.microsoft"
"""ONNX Runtime's own operations: what it makes of several standard ones."""
_EPS: Final = 1e-5
_TYPES: Final = {"float": TensorProto.FLOAT, "bool": TensorProto.BOOL}


class GraphBuilder:
    """Collects nodes and constants; values are known by their names.

    Parameters
    ----------
    name
        Of the graph.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._n = 0

    def input(self, name: str, shape: Sequence[int | str], dtype: str = "float") -> str:
        """Declare an input; names among the sizes are dynamic."""
        self._inputs.append(helper.make_tensor_value_info(name, _TYPES[dtype], shape))
        return name

    def output(self, value: str, name: str, shape: Sequence[int | str]) -> None:
        """Declare a value an output, under a name of its own."""
        self._nodes.append(helper.make_node("Identity", [value], [name]))
        self._outputs.append(helper.make_tensor_value_info(name, _TYPES["float"], shape))

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output and return its name."""
        return self.ops(kind, 1, *inputs, **attributes)[0]

    def ops(self, kind: str, n_outputs: int, *inputs: str, **attributes: Any) -> tuple[str, ...]:
        """Add a node with several outputs and return their names."""
        outputs = tuple(self._new(kind) for _ in range(n_outputs))
        self._nodes.append(helper.make_node(kind, inputs, outputs, **attributes))
        return outputs

    def constant(self, values: npt.ArrayLike, dtype: type[np.generic] = np.float32) -> str:
        """Add a constant and return its name."""
        name = self._new("const")
        self._constants.append(numpy_helper.from_array(np.asarray(values, dtype=dtype, order="C"), name))
        return name

    def ints(self, *values: int) -> str:
        """Add a constant list of int64 (shapes, axes) and return its name."""
        return self.constant(values, np.int64)

    def linear(self, x: str, weight: Float32Array, bias: Float32Array | None = None) -> str:
        """Return ``x @ weight.T + bias``, weights as torch keeps them: shape (out, in)."""
        product = self.op("MatMul", x, self.constant(weight.T))
        return product if bias is None else self.op("Add", product, self.constant(bias))

    def gemm(self, x: str, weight: Float32Array, bias: Float32Array | None = None, *, is_relu: bool = False) -> str:
        """Return ``x @ weight.T + bias``, and its ReLU if wanted, in one pass; ``x`` has two axes."""
        inputs = [x, self.constant(weight.T)] + ([] if bias is None else [self.constant(bias)])
        if is_relu:
            return self.op("FusedGemm", *inputs, domain=CONTRIB, activation="Relu")
        return self.op("Gemm", *inputs)

    def added_and_normed(self, x: str, added: str, d: int, bias: Float32Array | None = None) -> tuple[str, str]:
        """Return ``x + added + bias``, d wide, and the same as `normed` returns it, in one pass."""
        inputs = [x, added, self.constant(np.ones(d))]
        if bias is not None:
            inputs.append(self.constant(bias))
        outputs = [self._new("normed"), "", "", self._new("sum")]
        self._nodes.append(
            helper.make_node("SkipSimplifiedLayerNormalization", inputs, outputs, domain=CONTRIB, epsilon=_EPS)
        )
        return outputs[3], outputs[0]

    def normed(self, x: str, width: int, scale: Float32Array | None = None) -> str:
        """Return vectors divided by their root mean square; no scale: it belongs to what follows."""
        weight = self.constant(np.ones(width) if scale is None else scale)
        return self.op("SimplifiedLayerNormalization", x, weight, axis=-1, epsilon=_EPS)

    def split(self, x: str, *sizes: int) -> tuple[str, ...]:
        """Return parts of the last axis."""
        return self.ops("Split", len(sizes), x, self.ints(*sizes), axis=-1)

    def reshape(self, x: str, *shape: int) -> str:
        """Return a value in another shape: 0 keeps a size, -1 is what is left."""
        return self.op("Reshape", x, self.ints(*shape))

    def model(self, facts: Mapping[str, str]) -> onnx.ModelProto:
        """Return the model, with facts about it in its metadata."""
        graph = helper.make_graph(self._nodes, self._name, self._inputs, self._outputs, self._constants)
        model = helper.make_model(graph, opset_imports=_imports(), ir_version=_IR_VERSION)
        model.producer_name = "millrace"
        helper.set_model_props(model, dict(facts))
        return model

    def _new(self, kind: str) -> str:
        self._n += 1
        return f"{kind.lower()}_{self._n}"


def _imports() -> list[onnx.OperatorSetIdProto]:
    return [helper.make_opsetid("", OPSET), helper.make_opsetid(CONTRIB, 1)]


def save(model: onnx.ModelProto, path: Path) -> None:
    """Write a model to a file."""
    path.write_bytes(model.SerializeToString())
