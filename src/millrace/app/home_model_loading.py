"""How the models of the home feed come from artefacts: opened, checked against what is encoded here, run once."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from millrace.base.errors import MillraceError
from millrace.base.ids import Int64Array
from millrace.content.ngrams import MAX_TOKENS, UInt16Array
from millrace.features.encoding.buckets import UInt8Array
from millrace.features.encoding.candidates import CandidateInputs
from millrace.features.encoding.history import N_HISTORY_DENSE, HistoryTokens
from millrace.features.encoding.vector_inputs import NOTHING, VectorInputs
from millrace.features.encoding.viewers import PROFILE_DENSE, ViewerInputs
from millrace.inference.live_models import Artefacts
from millrace.inference.post_vectors import MadeVectors
from millrace.inference.runner_choice import Precision, RunnerName, check_runner
from millrace.inference.tables import Float32Array
from millrace.mixer.home_models import HomeModels, Predictor
from millrace.registry.manifest import Kind
from millrace.stores.profiles import MAX_LANGUAGES

if TYPE_CHECKING:
    from millrace.inference.ranker_model import RankerModel

# ONNX Runtime is imported with the first model, not before: counters serve without it.

SERVED_KINDS: Final[tuple[Kind, ...]] = ("ranker", "retrieval", "pre_ranker")
"""Kinds that pages are made with; others (social, semantic_ids) are inputs of these and travel inside them."""

_N_WARM: Final = 32

_RANK_SERVERS_S: Final = 0.7
"""How long to ask for a rank server that holds what was promoted just now: it follows the registry as we do.

No longer, for everything that was promoted with the ranker waits as long: towers and pre-ranker are to serve within 1.2
seconds of a promotion, whatever became of the servers. Who is not there yet is found by the pages' own calls.
"""

logger = logging.getLogger(__name__)


class HomeModelLoader:
    """Opens one lane's models.

    Parameters
    ----------
    schema
        Hash of the features that are encoded here (`millrace.features.encoding.candidates.schema_hash`).
    n_dense
        Dense fields of a candidate.
    precision
        What rankers multiply in, where their gates let them.
    rank_servers
        Where rankers run; none: here.
    runner
        What runs them here.

    Raises
    ------
    ConfigError
        If the runner cannot run here, or not in that precision.

    Attributes
    ----------
    schema
        As given.
    settings
        Everything that decides how a folder is opened.
    """

    def __init__(
        self,
        schema: str,
        n_dense: int,
        precision: Precision = "fp32",
        rank_servers: tuple[str, ...] = (),
        runner: RunnerName = "onnx",
    ) -> None:
        if not rank_servers:  # else they choose, and this process needs no torch
            check_runner(runner, precision)
        self.schema = schema
        self._n_dense = n_dense
        self._precision: Precision = precision
        self._rank_servers = rank_servers
        self._runner: RunnerName = runner
        self.settings = (schema, precision, rank_servers, runner)

    def open(self, folders: Mapping[Kind, Path], versions: Mapping[str, str]) -> HomeModels:
        """Return the models of folders.

        Raises
        ------
        ConfigError, SchemaError
            If files are missing or damaged, or a model was trained on other features.
        """
        from millrace.inference.pre_ranker_model import PreRankerModel
        from millrace.inference.retrieval_model import RetrievalModel

        ranker = self._ranker(folders["ranker"]) if "ranker" in folders else None
        retrieval, pre_ranker = folders.get("retrieval"), folders.get("pre_ranker")
        return HomeModels(
            ranker=ranker,
            retrieval=RetrievalModel.open(retrieval, self.schema, versions["retrieval"]) if retrieval else None,
            pre_ranker=PreRankerModel.open(pre_ranker, self.schema) if pre_ranker else None,
            versions=versions,
        )

    def _ranker(self, folder: Path) -> RankerModel:
        from millrace.inference.ranker_model import RankerModel

        if not self._rank_servers:
            return RankerModel.open(folder, self.schema, self._precision, self._runner)
        from millrace.inference.grpc_runner import GrpcRunner  # an extra: grpcio

        runner = GrpcRunner.of_folder(folder, self._rank_servers)
        try:
            runner.describe(wait_s=_RANK_SERVERS_S)
        except MillraceError:
            # They may come later: until then counters predict, and each page says so (`inference.rank_servers`).
            logger.warning("no rank server holds %s yet", folder)
        return RankerModel.open(folder, self.schema, runner=runner)

    def load(self, artefacts: Artefacts) -> HomeModels:
        """Return the models of artefacts of the registry."""
        served = {kind: artefact for kind, artefact in artefacts.items() if kind in SERVED_KINDS}
        versions: dict[str, str] = {kind: artefact.manifest.version for kind, artefact in served.items()}
        return self.open({kind: artefact.path for kind, artefact in served.items()}, versions)

    def check(self, artefacts: Artefacts) -> str | None:
        """Say what is wrong with artefacts before they are loaded; None: nothing."""
        for kind, artefact in artefacts.items():
            schema = artefact.manifest.feature_schema_hash
            if kind in SERVED_KINDS and schema != self.schema:
                return f"the {kind} reads features {schema}, and this version encodes {self.schema}"
        return None

    def warm(self, models: HomeModels) -> None:
        """Run everything once, so that no page pays for that."""
        from millrace.inference.pre_ranker_model import PreRankerModel
        from millrace.inference.ranker_model import RankerModel

        viewer, posts = _somebody(), _some_posts(self._n_dense)
        if isinstance(models.ranker, RankerModel):
            models.ranker.tables.touch()
        if models.ranker is not None and not self._rank_servers:  # elsewhere it is warm, or not there yet
            _check("ranker", models.ranker.predict(viewer, posts, _no_texts, _vectors_like(models.ranker)))
        if models.retrieval is not None:
            models.retrieval.warm()
        if isinstance(models.pre_ranker, PreRankerModel):
            models.pre_ranker.tables.touch()
            made = MadeVectors(models.pre_ranker.tables, _no_texts)
            _check("pre-ranker", models.pre_ranker.predict(viewer, posts, made))


def _check(thing: str, predictions: Float32Array) -> None:
    if not np.isfinite(predictions).all():
        raise ValueError(f"the {thing}'s predictions are not finite")


def _vectors_like(model: Predictor) -> VectorInputs:
    """Return vectors of the widths that a ranker reads, all zeros."""
    from millrace.inference.ranker_model import RankerModel

    if not isinstance(model, RankerModel):
        return NOTHING
    trunk = model.config.trunk
    return VectorInputs(
        codes_of=lambda ids: np.full((len(ids), trunk.tables.n_sid_levels), -1, dtype=np.int16),
        social_of=lambda ids: (np.zeros((len(ids), trunk.social_width), np.float32), np.zeros(len(ids), np.bool_)),
        texts_of=lambda ids: np.zeros((len(ids), trunk.text_width), dtype=np.int8),
    )


def _somebody() -> ViewerInputs:
    ids = np.arange(1, _N_WARM + 1, dtype=np.int64)
    history = HistoryTokens(
        post_ids=ids,
        author_ids=ids,
        actions=np.ones(_N_WARM, dtype=np.uint64),
        dense=np.zeros((_N_WARM, N_HISTORY_DENSE), dtype=np.uint8),
        surfaces=np.zeros(_N_WARM, dtype=np.uint8),
        newest_ms=1,
    )
    return ViewerInputs(
        viewer_id=1,
        history=history,
        languages=np.zeros(MAX_LANGUAGES, dtype=np.uint8),
        bio=np.zeros(MAX_TOKENS, dtype=np.uint16),
        dense=np.zeros(len(PROFILE_DENSE), dtype=np.uint8),
    )


def _some_posts(n_dense: int) -> CandidateInputs:
    ids = np.arange(1, _N_WARM + 1, dtype=np.int64)
    none: UInt8Array = np.zeros(_N_WARM, dtype=np.uint8)
    return CandidateInputs(ids, ids, none, np.zeros((_N_WARM, n_dense), dtype=np.uint8))


def _no_texts(post_ids: Int64Array) -> UInt16Array:
    return np.zeros((len(post_ids), MAX_TOKENS), dtype=np.uint16)
