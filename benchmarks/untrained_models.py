"""Models of first weights for a home's registry: what a page costs does not hang on what they have learned."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from millrace.app import wiring
from millrace.app.model_publishing import promote, publish
from millrace.app.settings import Settings
from millrace.features.encoding.candidates import dense_fields, schema_hash
from millrace.flywheel.sample_set import SET_VERSION, SampleMeta
from millrace.models.config import PRESETS, PreRankerConfig, RankerConfig
from millrace.models.retrieval_config import RetrievalConfig
from millrace.registry.manifest import Kind

if TYPE_CHECKING:
    from millrace.models.learned_ranker import LearnedRanker


def let_untrained_serve(settings: Settings, folder: Path, size: str) -> None:
    """Publish and promote retrieval, pre-ranker and ranker of a preset; written by way of ``folder``."""
    promote(settings, publish_untrained(settings, folder, size), "benchmark")


def untrained_ranker(settings: Settings, size: str, seed: int = 1) -> LearnedRanker:
    """Return a ranker of a preset with its first weights."""
    import torch

    from millrace.models.learned_ranker import LearnedRanker

    torch.manual_seed(seed)
    actions = wiring.build_actions(settings)
    schema, n_dense = schema_hash(actions), len(dense_fields(actions))
    config = RankerConfig(trunk=PRESETS[size], actions=actions.names, n_dense=n_dense, schema=schema)
    return LearnedRanker(config).eval()


def publish_ranker(settings: Settings, folder: Path, ranker: LearnedRanker) -> str:
    """Publish a ranker that nothing taught; return its version, which serves nobody yet."""
    from millrace.models.export import export_ranker, export_tables

    export_ranker(ranker.ranker, folder)
    export_tables(ranker.tables, folder)
    trunk = ranker.ranker.config.trunk
    return publish(settings, "ranker", folder, _meta(settings), metrics={}, training=trunk).version


def publish_untrained(settings: Settings, folder: Path, size: str, seed: int = 1) -> dict[Kind, str]:
    """Publish retrieval, pre-ranker and ranker of a preset; return their versions, which serve nobody yet."""
    from millrace.models.export import export_tables
    from millrace.models.pre_ranker import PreRanker
    from millrace.models.pre_ranker_export import export_pre_ranker
    from millrace.models.retrieval import LearnedRetrieval
    from millrace.models.retrieval_export import export_retrieval

    ranker = publish_ranker(settings, folder / "ranker", untrained_ranker(settings, size, seed))
    actions, meta, trunk = wiring.build_actions(settings), _meta(settings), PRESETS[size]
    towers = LearnedRetrieval(RetrievalConfig(trunk=trunk, actions=actions.names, schema=meta.schema)).eval()
    export_retrieval(towers, folder / "retrieval")
    export_tables(towers.tables, folder / "retrieval")
    light = PreRanker(PreRankerConfig(actions=actions.names, n_dense=len(meta.dense), schema=meta.schema)).eval()
    export_pre_ranker(light, folder / "pre_ranker")
    kinds: tuple[Kind, ...] = ("retrieval", "pre_ranker")
    others = {kind: publish(settings, kind, folder / kind, meta, metrics={}, training=trunk).version for kind in kinds}
    return {"ranker": ranker, **others}


def _meta(settings: Settings) -> SampleMeta:
    actions = wiring.build_actions(settings)
    return SampleMeta(
        version=SET_VERSION,
        schema=schema_hash(actions),
        actions=actions.names,
        dense=dense_fields(actions),
        from_ms=0,
        until_ms=1,
        source="nothing: first weights, for benchmarks",
    )
