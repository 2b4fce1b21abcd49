"""The viewers' tower as an ONNX graph, from (profile, history, is_token) to vectors of length 1.

It computes what `millrace.models.retrieval.LearnedRetrieval.encode_viewers` does, with scales of norms folded into the
weights that follow and what is not read of a history left out. The posts' tower is two small products: here it reads
the posts of histories, and NumPy serves it for those that are looked for.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import onnx

from millrace.models.onnx_graph import Float32Array, GraphBuilder
from millrace.models.ranker_graphs import MASKED, Weights, places
from millrace.models.retrieval_config import RetrievalConfig

_LAST: Final = 2**31 - 1


def viewer_graph(config: RetrievalConfig, weights: Weights) -> onnx.ModelProto:
    """Return the graph.

    Parameters
    ----------
    config
        Sizes.
    weights
        By their names in torch (`millrace.models.retrieval.LearnedRetrieval`).
    """
    posts, weights = part_of(weights, "posts."), part_of(weights, "viewers.")
    g = GraphBuilder("encode_viewer")
    trunk, inputs = config.trunk, config.inputs
    profile = g.input("profile", ["batch", inputs.profile_width])
    history = g.input("history", ["batch", "n_history", inputs.history_width])
    is_token = g.input("is_token", ["batch", "n_tokens"], "bool")
    first = g.linear(g.op("Unsqueeze", profile, g.ints(1)), weights["profile_in.weight"], weights["profile_in.bias"])
    read = np.array(config.read_of_history(), dtype=np.float32)
    tokens = g.linear(history, weights["history_in.weight"] * read, weights["history_in.bias"])
    x = g.op("Concat", first, tokens, axis=1)
    mask = g.op("Unsqueeze", g.op("Where", is_token, g.constant(0.0), g.constant(MASKED)), g.ints(1, 2))
    turns = _turns(g, config, history)
    for layer in range(trunk.n_layers):
        x = _layer(g, x, part_of(weights, f"trunk.blocks.{layer}."), mask, turns, trunk.n_heads)
    is_history = g.op("Slice", is_token, g.ints(1), g.ints(_LAST), g.ints(1))
    is_history = g.op("Cast", is_history, to=onnx.TensorProto.FLOAT)
    said = g.linear(_pooled(g, g.normed(x, trunk.d), is_history), _head(weights), weights["head.bias"])
    vectors = g.op("Add", said, _taste(g, config, weights, posts, history, is_history))
    g.output(_of_length_1(g, vectors), "vectors", ["batch", config.width])
    return g.model({"schema": config.schema})


def part_of(weights: Weights, prefix: str) -> Weights:
    """Return the weights below a prefix, by what follows it."""
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}


def _taste(
    g: GraphBuilder, config: RetrievalConfig, weights: Weights, posts: Weights, history: str, is_history: str
) -> str:
    """Return the mean of the vectors of the history's posts, each by how much it counts; zeros for an empty one."""
    of_token, of_post = config.history_places()
    what, done = g.split(history, len(of_token), config.inputs.history_width - len(of_token))
    read = np.array(config.read_of_history()[: len(of_token)], dtype=np.float32)
    hidden = g.op("Relu", g.linear(what, posts["hidden.weight"][:, of_post] * read, posts["hidden.bias"]))
    liked = _of_length_1(g, g.linear(hidden, posts["out.weight"], posts["out.bias"]))
    shares = g.op("Sigmoid", g.linear(done, weights["counts.weight"], weights["counts.bias"]))
    shares = g.op("Mul", g.reshape(shares, 0, -1), is_history)
    total = g.op("Squeeze", g.op("MatMul", g.op("Unsqueeze", shares, g.ints(1)), liked), g.ints(1))
    return g.op("Div", total, g.op("Max", g.op("ReduceSum", shares, g.ints(1), keepdims=1), g.constant(1e-6)))


def _of_length_1(g: GraphBuilder, vectors: str) -> str:
    length = g.op("Sqrt", g.op("ReduceSum", g.op("Mul", vectors, vectors), g.ints(-1), keepdims=1))
    return g.op("Div", vectors, g.op("Max", length, g.constant(1e-12)))


def _turns(g: GraphBuilder, config: RetrievalConfig, history: str) -> tuple[str, str]:
    """Return cosines and sines of the tokens' places: the newest event stands at max_history, the profile at 0."""
    n_history = g.op("Slice", g.op("Shape", history), g.ints(1), g.ints(2))
    end = config.trunk.max_history + 1
    start = g.op("Sub", g.ints(end), n_history)
    turns = []
    for table in places(config.inputs):
        newest = g.op("Slice", g.constant(table), start, g.ints(end), g.ints(0))
        turns.append(g.op("Unsqueeze", g.op("Concat", g.constant(table[:1]), newest, axis=0), g.ints(1)))
    return turns[0], turns[1]


def _layer(g: GraphBuilder, x: str, w: Weights, mask: str, turns: tuple[str, str], n_heads: int) -> str:
    d = w["out.weight"].shape[0]
    d_head = d // n_heads
    normed = g.normed(x, d)
    q, k, v = (
        g.reshape(g.linear(normed, part), 0, 0, n_heads, d_head)
        for part in np.split(w["qkv.weight"] * w["norm.weight"], 3)
    )
    q = g.op("Mul", g.normed(q, d_head), g.constant(w["q_norm.weight"] / math.sqrt(d_head)))
    k = g.op("Mul", g.normed(k, d_head), g.constant(w["k_norm.weight"]))
    q = g.op("Transpose", _turned(g, q, turns, d_head), perm=[0, 2, 1, 3])
    k = g.op("Transpose", _turned(g, k, turns, d_head), perm=[0, 2, 3, 1])
    v = g.op("Transpose", v, perm=[0, 2, 1, 3])
    looks = g.op("Softmax", g.op("Add", g.op("MatMul", q, k), mask), axis=-1)
    mixed = g.reshape(g.op("Transpose", g.op("MatMul", looks, v), perm=[0, 2, 1, 3]), 0, 0, d)
    x, normed = g.added_and_normed(x, g.linear(mixed, w["out.weight"]), d)
    wide = g.op("Relu", g.linear(normed, w["up.weight"] * w["ffn_norm.weight"]))
    return g.op("Add", x, g.linear(g.op("Mul", wide, wide), w["down.weight"]))


def _turned(g: GraphBuilder, x: str, turns: tuple[str, str], d_head: int) -> str:
    a, b = g.split(x, d_head // 2, d_head // 2)
    cos, sin = turns
    left = g.op("Sub", g.op("Mul", a, cos), g.op("Mul", b, sin))
    right = g.op("Add", g.op("Mul", a, sin), g.op("Mul", b, cos))
    return g.op("Concat", left, right, axis=-1)


def _pooled(g: GraphBuilder, x: str, is_history: str) -> str:
    """Return the profile's output, and behind it the mean of the history's; zeros for an empty one."""
    first = g.reshape(g.op("Slice", x, g.ints(0), g.ints(1), g.ints(1)), 0, -1)
    tokens = g.op("Slice", x, g.ints(1), g.ints(_LAST), g.ints(1))
    total = g.op("MatMul", g.op("Unsqueeze", is_history, g.ints(1)), tokens)
    n = g.op("Max", g.op("ReduceSum", is_history, g.ints(1), keepdims=1), g.constant(1.0))
    mean = g.op("Div", g.op("Squeeze", total, g.ints(1)), n)
    return g.op("Concat", first, mean, axis=-1)


def _head(weights: Weights) -> Float32Array:
    scale = np.tile(weights["final_norm.weight"], 2)
    head: Float32Array = (weights["head.weight"] * scale).astype(np.float32)
    return head
