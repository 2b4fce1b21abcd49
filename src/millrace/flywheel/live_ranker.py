"""From what serves back to what learns: a ranker's artefact opened so that it can be trained on.

The artefact is the only checkpoint there is. Whatever the registry names, after a promotion, a rollback or a restore
from a backup, is where learning goes on from; no second copy can be of another version.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import torch

from millrace.base.errors import SchemaError, StoreError
from millrace.content import semantic_ids
from millrace.features.encoding.vector_sources import VectorSources
from millrace.models.config import RankerConfig
from millrace.models.export import CONFIG_FILE, PLACES_FILE, WEIGHTS_FILE
from millrace.models.learned_ranker import LearnedRanker

_TABLES = ("tokens", "posts", "authors", "languages", "sids")


def open_live_ranker(folder: Path, schema: str) -> LearnedRanker:
    """Return the ranker of an artefact, as it was exported.

    What places on the page do is taken from the artefact, too; one that was published without begins with nothing.

    Parameters
    ----------
    folder
        Of `millrace.models.export.export_ranker` and `export_tables`.
    schema
        Hash of the features that it is to learn from.

    Raises
    ------
    SchemaError
        If it reads other features, or social vectors: of those the artefact holds one moment only, and learning needs
        them as they were at each page.
    StoreError
        If a file is missing or damaged.
    """
    try:
        config = msgspec.json.decode((folder / CONFIG_FILE).read_bytes(), type=RankerConfig)
        _check(config, schema)
        books = folder if (folder / semantic_ids.FILE_NAME).exists() else None
        model = LearnedRanker(config, VectorSources.open(books, None))
        with np.load(folder / WEIGHTS_FILE) as weights:
            state = {name: torch.from_numpy(weights[name]) for name in weights.files}
        places = folder / PLACES_FILE
        shape = model.ranker.position_bias.weight.shape
        state["position_bias.weight"] = torch.from_numpy(np.load(places)) if places.exists() else torch.zeros(shape)
        model.ranker.load_state_dict(state)
        for name in _TABLES:
            path = folder / f"{name}.npy"
            if path.exists():
                with torch.no_grad():
                    getattr(model.tables, name).weight.copy_(torch.from_numpy(np.load(path)))
    except (OSError, ValueError, KeyError, RuntimeError, msgspec.MsgspecError) as error:
        raise StoreError(
            "ranker", value=str(folder), problem=f"cannot be learned on from ({error})", remedy="train one anew"
        ) from error
    return model.eval()


def _check(config: RankerConfig, schema: str) -> None:
    if config.schema != schema:
        raise SchemaError(
            "ranker",
            value=config.schema,
            problem=f"reads other features than this version's {schema}",
            remedy="train it anew: millrace train --promote",
        )
    if config.social:
        raise SchemaError(
            "ranker",
            value=config.social,
            problem="reads social vectors, and learning on needs them as they were at each page",
            remedy="let one serve that reads none: millrace train --promote",
        )
