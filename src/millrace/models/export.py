"""From a trained ranker to the files that are served: two ONNX graphs, the weights, the sizes."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from millrace.base.atomic_file import replacing
from millrace.models.onnx_graph import Float32Array, save
from millrace.models.products import Ranges
from millrace.models.ranker import Ranker
from millrace.models.ranker_graphs import encode_graph, score_graph
from millrace.models.tables import Tables

ENCODE_FILE: Final = "encode_user.onnx"
SCORE_FILE: Final = "score.onnx"
SCORE_BY_PRECISION: Final = {"fp32": SCORE_FILE, "int8": "score_int8.onnx"}
CONFIG_FILE: Final = "ranker.json"
WEIGHTS_FILE: Final = "weights.npz"
PLACES_FILE: Final = "position_bias.npy"
"""No runner reads it: whoever goes on learning from what serves does (`millrace.flywheel.live_ranker`)."""

_TRAINING_ONLY: Final = ("position_bias.",)


def export_ranker(ranker: Ranker, folder: Path) -> None:
    """Write what the runners of `millrace.inference` read.

    ``encode_user.onnx`` and ``score.onnx`` (any number of viewers, tokens and candidates), ``weights.npz`` for the
    NumPy and torch runners, ``ranker.json``: the `RankerConfig`. What only training uses is left out.

    Parameters
    ----------
    ranker
        Trained; on any device.
    folder
        Where to; made if it is missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    weights = served_weights(ranker)
    save(encode_graph(ranker.config, weights), folder / ENCODE_FILE)
    save(score_graph(ranker.config, weights), folder / SCORE_FILE)
    np.savez(folder / WEIGHTS_FILE, **weights)  # type: ignore[arg-type] # the stub takes a name for allow_pickle
    (folder / CONFIG_FILE).write_bytes(msgspec.json.format(msgspec.json.encode(ranker.config)))


def export_bytes(ranker: Ranker, ranges: Ranges, folder: Path) -> Path:
    """Write the score graph of 8 bits beside the one of float32, and return its path.

    Parameters
    ----------
    ranker
        As it was exported.
    ranges
        Of its activations (`millrace.models.products.ranges_of`).
    folder
        Of `export_ranker`.
    """
    path = folder / SCORE_BY_PRECISION["int8"]
    save(score_graph(ranker.config, served_weights(ranker), ranges), path)
    return path


def export_tables(tables: Tables, folder: Path) -> None:
    """Write a model's embedding tables as ``.npy`` files, float32, to be mapped by `millrace.inference.tables`."""
    folder.mkdir(parents=True, exist_ok=True)
    names = ("tokens", "posts", "authors", "languages", *(("sids",) if tables.sids.num_embeddings > 1 else ()))
    for name in names:
        # Not over the old one: a process that has it mapped goes on with what it mapped.
        with replacing(folder / f"{name}.npy") as file:
            np.save(file, getattr(tables, name).weight.detach().float().cpu().numpy())


def export_places(ranker: Ranker, folder: Path) -> None:
    """Write what places on the page do to each head, float32: all that learning on needs beside what serving reads."""
    with replacing(folder / PLACES_FILE) as file:
        np.save(file, ranker.position_bias.weight.detach().float().cpu().numpy())


def served_weights(ranker: Ranker) -> dict[str, Float32Array]:
    """Return the weights that serving needs, by their names in torch, float32."""
    state = ranker.state_dict()
    return {
        name: value.detach().float().cpu().numpy()
        for name, value in state.items()
        if not name.startswith(_TRAINING_ONLY)
    }
