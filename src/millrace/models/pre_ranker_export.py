"""From a trained pre-ranker to the files that are served: two ONNX graphs, projected tables, the sizes."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import onnx
import torch

from millrace.base.actions import CONTINUOUS
from millrace.models.config import PreRankerConfig
from millrace.models.onnx_graph import CONTRIB, Float32Array, GraphBuilder, save
from millrace.models.pre_ranker import PreRanker

ENCODE_FILE: Final = "encode_viewer.onnx"
SCORE_FILE: Final = "pre_score.onnx"
CONFIG_FILE: Final = "pre_ranker.json"


def export_pre_ranker(model: PreRanker, folder: Path) -> None:
    """Write what `millrace.inference.pre_ranker_model` reads.

    ``encode_viewer.onnx`` (one viewer, any history), ``pre_score.onnx`` (any number of candidates), a ``.npy`` file a
    table (each row projected), ``pre_ranker.json``: the `PreRankerConfig`.

    Parameters
    ----------
    model
        Trained; on any device.
    folder
        Where to; made if it is missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: value.detach().float().cpu().numpy() for name, value in model.state_dict().items()}
    save(encode_graph(model.config, weights), folder / ENCODE_FILE)
    save(score_graph(model.config, weights), folder / SCORE_FILE)
    for name, layer in (
        ("tokens", model.content_in),
        ("posts", model.post_in),
        ("authors", model.author_in),
        ("languages", model.language_in),
    ):
        table = getattr(model.tables, name).weight
        with torch.no_grad():
            np.save(folder / f"{name}.npy", np.ascontiguousarray(layer(table).float().cpu().numpy()))
    (folder / CONFIG_FILE).write_bytes(msgspec.json.format(msgspec.json.encode(model.config)))


def encode_graph(config: PreRankerConfig, weights: dict[str, Float32Array]) -> onnx.ModelProto:
    """Return the graph from one viewer (profile, history) to (matrix, bias)."""
    g = GraphBuilder("encode_viewer")
    profile = g.input("profile", [1, config.profile_width])
    history = g.input("history", ["n", config.history_width])
    first = g.linear(profile, weights["profile_in.weight"], weights["profile_in.bias"])
    rest = g.linear(history, weights["history_in.weight"], weights["history_in.bias"])
    tokens = g.op("Relu", g.op("Concat", first, rest, axis=0))
    looks = g.op("Softmax", g.op("Transpose", g.linear(tokens, weights["queries"]), perm=[1, 0]), axis=-1)
    interests = g.linear(g.op("MatMul", looks, tokens), weights["interest_out.weight"])
    through = g.op(
        "Add", g.op("MatMul", g.constant(weights["mix"]), interests), g.constant(weights["vector_in.weight"])
    )
    matrix = g.op("Concat", g.op("Transpose", through, perm=[1, 0]), g.constant(weights["dense_in.weight"].T), axis=0)
    whole = g.op("Concat", first, g.reshape(interests, 1, -1), axis=1)
    hidden = g.op("Relu", g.linear(whole, weights["viewer_in.weight"], weights["viewer_in.bias"]))
    bias = g.reshape(g.linear(hidden, weights["viewer_out.weight"], weights["viewer_out.bias"]), -1)
    g.output(matrix, "matrix", [config.candidate_width, config.n_hidden])
    g.output(bias, "bias", [config.n_hidden])
    return g.model({"schema": config.schema})


def score_graph(config: PreRankerConfig, weights: dict[str, Float32Array]) -> onnx.ModelProto:
    """Return the graph from (candidates, matrix, bias) to predictions, shape (n, n_actions)."""
    g = GraphBuilder("pre_score")
    candidates = g.input("candidates", ["n", config.candidate_width])
    matrix = g.input("matrix", [config.candidate_width, config.n_hidden])
    bias = g.input("bias", [config.n_hidden])
    hidden = g.op("FusedGemm", candidates, matrix, bias, domain=CONTRIB, activation="Relu")
    logits = g.gemm(hidden, weights["head.weight"], weights["head.bias"])
    (at,) = (int(action) for action in CONTINUOUS)
    n_actions = len(config.actions)
    before, dwell, behind = g.split(logits, at, 1, n_actions - at - 1)
    parts = (g.op("Sigmoid", before), g.op("Softplus", dwell), g.op("Sigmoid", behind))
    g.output(g.op("Concat", *parts, axis=-1), "predictions", ["n", n_actions])
    return g.model({"schema": config.schema})
