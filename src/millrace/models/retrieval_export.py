"""From trained towers to the files that are served: an ONNX graph for viewers, arrays for posts, the sizes."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from millrace.models.onnx_graph import Float32Array, save
from millrace.models.retrieval import LearnedRetrieval
from millrace.models.retrieval_graph import part_of, viewer_graph

VIEWER_FILE: Final = "encode_viewer.onnx"
POST_FILE: Final = "post_tower.npz"
CONFIG_FILE: Final = "retrieval.json"


def export_retrieval(model: LearnedRetrieval, folder: Path) -> None:
    """Write what `millrace.inference.retrieval_model` opens, but for the tables (`export_tables`).

    ``encode_viewer.onnx`` (any number of viewers and tokens), ``post_tower.npz``, ``retrieval.json``: the
    `RetrievalConfig`.

    Parameters
    ----------
    model
        Trained; on any device.
    folder
        Where to; made if it is missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    towers = model.state_dict().items()
    weights = {name: _plain(value) for name, value in towers if not name.startswith("tables.")}
    save(viewer_graph(model.config, weights), folder / VIEWER_FILE)
    posts = dict(part_of(weights, "posts."))
    posts["hidden.weight"] = posts["hidden.weight"] * np.array(model.config.read_of_post(), dtype=np.float32)
    np.savez(folder / POST_FILE, **posts)  # type: ignore[arg-type] # the stub takes a name for allow_pickle
    (folder / CONFIG_FILE).write_bytes(msgspec.json.format(msgspec.json.encode(model.config)))


def _plain(value: object) -> Float32Array:
    from torch import Tensor

    assert isinstance(value, Tensor)
    return value.detach().float().cpu().numpy()
