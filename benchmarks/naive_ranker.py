"""The ranker as one sequence under one mask: what candidates cost where keys and values of the viewer are not shared.

The same weights, the same operations of ONNX Runtime, scales folded alike; all tokens (profile, history, candidates) go
through every layer together, each looks at all of them, and a mask takes out what it may not see.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import onnx

from millrace.models.config import RankerConfig
from millrace.models.onnx_graph import GraphBuilder
from millrace.models.products import FloatProducts
from millrace.models.ranker_graphs import MASKED, candidates_in, linked, places

Weights = Mapping[str, np.ndarray]


def naive_graph(config: RankerConfig, weights: Weights, n_history: int, n_candidates: int) -> onnx.ModelProto:
    """Return the graph from (profile, history, candidates, mask) of one viewer to predictions."""
    g = GraphBuilder("naive")
    trunk, n = config.trunk, 1 + n_history + n_candidates
    n_heads, d, d_head = trunk.n_heads, trunk.d, trunk.d // trunk.n_heads
    profile = g.input("profile", [1, config.profile_width])
    history = g.input("history", [1, n_history, config.history_width])
    candidates = g.input("candidates", [1, n_candidates, config.scored_width])
    mask = g.input("mask", [n, n])
    first = g.linear(profile, weights["profile_in.weight"], weights["profile_in.bias"])
    tokens = g.linear(history, weights["history_in.weight"], weights["history_in.bias"])
    rows, _ = candidates_in(g, config, weights, candidates, FloatProducts(g))
    x = g.op("Concat", first, g.reshape(tokens, -1, d), rows, axis=0)
    at = np.array([0, *range(trunk.max_history + 1 - n_history, trunk.max_history + 1)])
    # Candidates stand at 0, where the cosine is 1 and the sine 0.
    turns = zip(places(config), (1.0, 0.0), strict=True)
    own = (n_candidates, d_head // 2)
    cos, sin = (g.constant(np.concatenate([table[at], np.full(own, amount)])[None]) for table, amount in turns)
    normed = g.normed(x, d)
    for layer in range(trunk.n_layers):
        prefix = f"trunk.blocks.{layer}."
        w = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
        parts = np.split(w["qkv.weight"] * w["norm.weight"], 3)
        by_head = (part.reshape(n_heads, d_head, d).swapaxes(1, 2) for part in parts)
        q, k, v = (g.op("MatMul", normed, g.constant(part)) for part in by_head)
        q = _turned(g, g.normed(q, d_head, w["q_norm.weight"] / math.sqrt(d_head)), cos, sin, d_head)
        k = _turned(g, g.normed(k, d_head, w["k_norm.weight"]), cos, sin, d_head)
        logits = g.op("Add", g.op("MatMul", q, g.op("Transpose", k, perm=[0, 2, 1])), mask)
        mixed = g.op("MatMul", g.op("Softmax", logits, axis=-1), v)
        mixed = g.reshape(g.op("Transpose", mixed, perm=[1, 0, 2]), -1, d)
        x, normed = g.added_and_normed(x, g.gemm(mixed, w["out.weight"]), d)
        wide = g.gemm(normed, w["up.weight"] * w["ffn_norm.weight"], is_relu=True)
        x, normed = g.added_and_normed(x, g.gemm(g.op("Mul", wide, wide), w["down.weight"]), d)
    normed = g.op("Slice", normed, g.ints(1 + n_history), g.ints(n), g.ints(0))
    logits = g.gemm(normed, weights["head.weight"] * weights["final_norm.weight"], weights["head.bias"])
    linked(g, g.op("Unsqueeze", logits, g.ints(0)), len(config.actions))
    return g.model({})


def naive_mask(n_history: int, n_candidates: int) -> np.ndarray:
    """Return who sees whom, as what is added: history sees history, a candidate sees that and itself."""
    n_viewer = 1 + n_history
    mask = np.full((n_viewer + n_candidates, n_viewer + n_candidates), MASKED, dtype=np.float32)
    mask[:, :n_viewer] = 0.0
    np.fill_diagonal(mask, 0.0)
    return mask


def _turned(g: GraphBuilder, x: str, cos: str, sin: str, d_head: int) -> str:
    a, b = g.split(x, d_head // 2, d_head // 2)
    left = g.op("Sub", g.op("Mul", a, cos), g.op("Mul", b, sin))
    right = g.op("Add", g.op("Mul", a, sin), g.op("Mul", b, cos))
    return g.op("Concat", left, right, axis=-1)
