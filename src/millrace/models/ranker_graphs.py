"""The ranker as two ONNX graphs: `encode_graph` (viewers to keys and values), `score_graph` (candidates against those).

Both compute what `millrace.models.ranker.Ranker` does, with less work:

* Scales of norms are folded into the weights that follow.
* What depends on a post alone is projected before, and kept (`millrace.inference.content_cache`).
* All candidates share the place 0: nothing of theirs is turned.
* Queries and keys are normalised, so that logits are bounded: where the bound allows (it does unless training made the
  learned scales huge), exponentials are taken as they are. Padding then is values of zero; a column of ones behind the
  values sums the weights; what a candidate thinks of itself is added behind; nothing large is masked or joined.
* Each head has a weight of its own, so that nothing but what attention mixed is transposed.
* Of the viewer's last layer only keys and values are computed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

import numpy as np
import onnx

from millrace.base.actions import CONTINUOUS
from millrace.models.config import RankerConfig
from millrace.models.onnx_graph import Float32Array, GraphBuilder
from millrace.models.places import turns
from millrace.models.products import ByteProducts, FloatProducts, Ranges

Weights = Mapping[str, Float32Array]

MASKED: Final = -1e9
MAX_LOGIT: Final = 60.0
"""Sums of exponentials of logits up to here stay far inside float32."""


def places(config: RankerConfig) -> tuple[Float32Array, Float32Array]:
    """Return cosines and sines of a viewer's places, shape (max_history + 1, d / n_heads / 2) each."""
    return turns(config.trunk.max_history, config.trunk.d // config.trunk.n_heads)


def encode_graph(config: RankerConfig, weights: Weights) -> onnx.ModelProto:
    """Return the graph from (profile, history, is_token) to (keys, values, mask)."""
    g = GraphBuilder("encode_user")
    trunk = config.trunk
    n_heads, d_head = trunk.n_heads, trunk.d // trunk.n_heads
    profile = g.input("profile", ["batch", config.profile_width])
    history = g.input("history", ["batch", "n_history", config.history_width])
    is_token = g.input("is_token", ["batch", "n_tokens"], "bool")
    mask = g.op("Where", is_token, g.constant(0.0), g.constant(MASKED))
    first = g.linear(g.op("Unsqueeze", profile, g.ints(1)), weights["profile_in.weight"], weights["profile_in.bias"])
    x = g.op("Concat", first, g.linear(history, weights["history_in.weight"], weights["history_in.bias"]), axis=1)
    # The last place is the newest event's however long the history is, the first one the profile's.
    n_history = g.op("Slice", g.op("Shape", history), g.ints(1), g.ints(2))
    start = g.op("Sub", g.ints(trunk.max_history + 1), n_history)
    turns = []
    for table in places(config):
        newest = g.op("Slice", g.constant(table), start, g.ints(trunk.max_history + 1), g.ints(0))
        turns.append(g.op("Unsqueeze", g.op("Concat", g.constant(table[:1]), newest, axis=0), g.ints(1)))
    keys, values = [], []
    normed = g.normed(x, trunk.d)
    # One more dimension of queries and keys carries the mask.
    mask_row = _per_head(g, mask, n_heads)
    for layer in range(trunk.n_layers):
        is_last = layer == trunk.n_layers - 1
        w = _block(weights, layer)
        q_weight, k_weight, v_weight = np.split(w["qkv.weight"] * w["norm.weight"], 3)
        k = _heads(g, g.linear(normed, k_weight), n_heads, d_head)
        k = _turned(g, g.op("Mul", g.normed(k, d_head), g.constant(w["k_norm.weight"])), turns, d_head)
        k = g.op("Transpose", k, perm=[0, 2, 1, 3])
        v = g.op("Transpose", _heads(g, g.linear(normed, v_weight), n_heads, d_head), perm=[0, 2, 1, 3])
        keys.append(g.op("Unsqueeze", k, g.ints(1)))
        values.append(g.op("Unsqueeze", v, g.ints(1)))
        if is_last:
            break
        q = _heads(g, g.linear(normed, q_weight), n_heads, d_head)
        q = g.op("Mul", g.normed(q, d_head), g.constant(w["q_norm.weight"] / math.sqrt(d_head)))
        q = g.op("Transpose", _turned(g, q, turns, d_head), perm=[0, 2, 1, 3])
        k = g.op("Concat", g.op("Transpose", k, perm=[0, 1, 3, 2]), mask_row, axis=2)
        q = g.op("Pad", q, g.ints(0, 0, 0, 0, 0, 0, 0, 1), g.constant(1.0))
        mixed = g.op("MatMul", g.op("Softmax", g.op("MatMul", q, k), axis=-1), v)
        x, normed = _finished(g, x, g.op("Transpose", mixed, perm=[0, 2, 1, 3]), w)
    shape: list[int | str] = ["batch", trunk.n_layers, n_heads, "n_tokens"]
    g.output(g.op("Concat", *keys, axis=1), "keys", [*shape, d_head])
    wide = g.op("Pad", g.op("Concat", *values, axis=1), g.ints(*[0] * 9, 1), g.constant(1.0))
    alive = g.op("Unsqueeze", g.op("Cast", is_token, to=onnx.TensorProto.FLOAT), g.ints(1, 2, 4))
    g.output(g.op("Mul", wide, alive), "values", [*shape, d_head + 1])
    g.output(mask, "mask", ["batch", "n_tokens"])
    return g.model({"schema": config.schema})


def score_graph(
    config: RankerConfig, weights: Weights, ranges: Ranges | None = None, *, is_tapped: bool = False
) -> onnx.ModelProto:
    """Return the graph from candidates, and each layer's keys and values, to predictions.

    Each layer has inputs of its own, ``keys.0``, ``values.0``, ``keys.1`` and so on: a graph that cut them out of one
    array would copy them. Scales without a bound need the ``mask``, too.

    Parameters
    ----------
    config, weights
        The ranker.
    ranges
        Of `millrace.models.products.ranges_of`: products are of 8 bits; None: of float32.
    is_tapped
        Whether what float32 products read becomes further outputs.
    """
    g = GraphBuilder("score")
    products = FloatProducts(g, is_tapped=is_tapped) if ranges is None else ByteProducts(g, ranges)
    trunk = config.trunk
    n_heads, d, d_head = trunk.n_heads, trunk.d, trunk.d // trunk.n_heads
    candidates = g.input("candidates", ["batch", "n_candidates", config.scored_width])
    shape: list[int | str] = ["batch", n_heads, "n_tokens"]
    encoded = [
        (g.input(f"keys.{layer}", [*shape, d_head]), g.input(f"values.{layer}", [*shape, d_head + 1]))
        for layer in range(trunk.n_layers)
    ]
    mask = "" if _is_bounded(config, weights) else g.input("mask", ["batch", "n_tokens"])
    # Rows of all viewers lie one behind the other but where they look at their own viewer.
    sizes = g.op("Slice", g.op("Shape", candidates), g.ints(0), g.ints(2))
    by_viewer = g.op("Concat", sizes, g.ints(d), axis=0)
    x, normed = candidates_in(g, config, weights, candidates, products)
    for layer in range(trunk.n_layers):
        w = _block(weights, layer)
        parts = [_by_head(part, n_heads) for part in np.split(w["qkv.weight"] * w["norm.weight"], 3)]
        q, k, v = products.by_head(f"{layer}.qkv", normed, by_viewer, parts)
        q = g.normed(q, d_head, w["q_norm.weight"] / math.sqrt(d_head))
        k = g.normed(k, d_head, w["k_norm.weight"])
        # What a candidate thinks of itself, and of the viewer's tokens.
        own = g.op("ReduceSum", g.op("Mul", q, k), g.ints(-1), keepdims=1)
        keys, values = encoded[layer]
        logits = g.op("MatMul", q, g.op("Transpose", keys, perm=[0, 1, 3, 2]))
        if mask:
            logits, own = _shifted(g, logits, own, mask)
        own = g.op("Exp", own)
        mixed = g.op("MatMul", g.op("Exp", logits), values)
        mixed, total = g.split(mixed, d_head, 1)
        mixed = g.op("Div", g.op("Add", mixed, g.op("Mul", v, own)), g.op("Add", total, own))
        mixed = g.reshape(g.op("Transpose", mixed, perm=[0, 2, 1, 3]), -1, d)
        x, normed = g.added_and_normed(x, products.linear(f"{layer}.out", mixed, w["out.weight"]), d)
        up = w["up.weight"] * w["ffn_norm.weight"]
        added = products.squared((f"{layer}.up", f"{layer}.down"), normed, up, w["down.weight"])
        x, normed = g.added_and_normed(x, added, d)
    logits = g.gemm(normed, weights["head.weight"] * weights["final_norm.weight"], weights["head.bias"])
    by_viewer = g.op("Concat", sizes, g.ints(len(config.actions)), axis=0)
    linked(g, g.op("Reshape", logits, by_viewer, allowzero=1), len(config.actions))
    return g.model({"schema": config.schema})


def candidates_in(
    g: GraphBuilder, config: RankerConfig, weights: Weights, candidates: str, products: FloatProducts
) -> tuple[str, str]:
    """Return candidates as tokens, shape (batch * n_candidates, d), and the same normed."""
    d = config.trunk.d
    x, dense = g.split(g.reshape(candidates, -1, config.scored_width), d, config.n_dense)
    hidden = products.positive("dense_in.0", dense, weights["dense_in.0.weight"], weights["dense_in.0.bias"])
    added = products.linear_of_positive("dense_in.2", hidden, weights["dense_in.2.weight"])
    return g.added_and_normed(x, added, d, weights["dense_in.2.bias"])


def linked(g: GraphBuilder, logits: str, n_actions: int) -> None:
    """Declare predictions: probabilities, and seconds of dwell."""
    (at,) = (int(action) for action in CONTINUOUS)
    before, dwell, behind = g.split(logits, at, 1, n_actions - at - 1)
    parts = (g.op("Sigmoid", before), g.op("Softplus", dwell), g.op("Sigmoid", behind))
    g.output(g.op("Concat", *parts, axis=-1), "predictions", ["batch", "n_candidates", n_actions])


def _is_bounded(config: RankerConfig, weights: Weights) -> bool:
    """Tell whether the logits' bound, the product of what normed queries and keys can be at most, is low enough."""
    d_head = config.trunk.d // config.trunk.n_heads
    blocks = [_block(weights, layer) for layer in range(config.trunk.n_layers)]
    # Normed vectors are sqrt(d_head) long; scales stretch them.
    bounds = [np.abs(w["q_norm.weight"]).max() * np.abs(w["k_norm.weight"]).max() * math.sqrt(d_head) for w in blocks]
    return bool(max(bounds) <= MAX_LOGIT)


def _shifted(g: GraphBuilder, logits: str, own: str, mask: str) -> tuple[str, str]:
    """Return logits against the highest of each candidate: what a softmax does; for scales that know no bound."""
    logits = g.op("Add", logits, g.op("Unsqueeze", mask, g.ints(1, 2)))
    highest = g.op("Max", g.op("ReduceMax", logits, axes=[-1], keepdims=1), own)
    return g.op("Sub", logits, highest), g.op("Sub", own, highest)


def _by_head(weight: Float32Array, n_heads: int) -> Float32Array:
    """Return a projection's weight with a part for each head, shape (n_heads, d, d_head)."""
    return weight.reshape(n_heads, -1, weight.shape[1]).swapaxes(1, 2)


def _per_head(g: GraphBuilder, mask: str, n_heads: int) -> str:
    """Return a mask as a row for each head, shape (batch, n_heads, 1, n_tokens)."""
    return g.op("Add", g.op("Unsqueeze", mask, g.ints(1, 2)), g.constant(np.zeros((1, n_heads, 1, 1))))


def _heads(g: GraphBuilder, x: str, n_heads: int, d_head: int) -> str:
    return g.reshape(x, 0, 0, n_heads, d_head)


def _turned(g: GraphBuilder, x: str, turns: list[str], d_head: int) -> str:
    a, b = g.split(x, d_head // 2, d_head // 2)
    cos, sin = turns
    left = g.op("Sub", g.op("Mul", a, cos), g.op("Mul", b, sin))
    right = g.op("Add", g.op("Mul", a, sin), g.op("Mul", b, cos))
    return g.op("Concat", left, right, axis=-1)


def _finished(g: GraphBuilder, x: str, mixed: str, w: Weights) -> tuple[str, str]:
    """Return a layer's output from what attention mixed, shape (batch, n, n_heads, d_head); and the same normed."""
    d = w["out.weight"].shape[0]
    x, normed = g.added_and_normed(x, g.linear(g.reshape(mixed, 0, 0, d), w["out.weight"]), d)
    wide = g.op("Relu", g.linear(normed, w["up.weight"] * w["ffn_norm.weight"]))
    return g.added_and_normed(x, g.linear(g.op("Mul", wide, wide), w["down.weight"]), d)


def _block(weights: Weights, layer: int) -> Weights:
    prefix = f"trunk.blocks.{layer}."
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
