"""Models of first weights for a home's registry: what a page costs does not hang on what they have learned."""

from __future__ import annotations

from pathlib import Path

from millrace.app import wiring
from millrace.app.model_publishing import promote, publish
from millrace.app.settings import Settings
from millrace.features.encoding.candidates import dense_fields, schema_hash
from millrace.flywheel.sample_set import SET_VERSION, SampleMeta
from millrace.models.config import PRESETS, PreRankerConfig, RankerConfig
from millrace.models.retrieval_config import RetrievalConfig
from millrace.registry.manifest import Kind


def let_untrained_serve(settings: Settings, folder: Path, size: str) -> None:
    """Publish and promote retrieval, pre-ranker and ranker of a preset; written by way of ``folder``."""
    promote(settings, publish_untrained(settings, folder, size), "benchmark")


def publish_untrained(settings: Settings, folder: Path, size: str, seed: int = 1) -> dict[Kind, str]:
    """Publish retrieval, pre-ranker and ranker of a preset; return their versions, which serve nobody yet."""
    import torch

    from millrace.models.export import export_ranker, export_tables
    from millrace.models.learned_ranker import LearnedRanker
    from millrace.models.pre_ranker import PreRanker
    from millrace.models.pre_ranker_export import export_pre_ranker
    from millrace.models.retrieval import LearnedRetrieval
    from millrace.models.retrieval_export import export_retrieval

    torch.manual_seed(seed)
    actions = wiring.build_actions(settings)
    schema, n_dense, trunk = schema_hash(actions), len(dense_fields(actions)), PRESETS[size]
    ranker = LearnedRanker(RankerConfig(trunk=trunk, actions=actions.names, n_dense=n_dense, schema=schema)).eval()
    export_ranker(ranker.ranker, folder / "ranker")
    export_tables(ranker.tables, folder / "ranker")
    towers = LearnedRetrieval(RetrievalConfig(trunk=trunk, actions=actions.names, schema=schema)).eval()
    export_retrieval(towers, folder / "retrieval")
    export_tables(towers.tables, folder / "retrieval")
    light = PreRanker(PreRankerConfig(actions=actions.names, n_dense=n_dense, schema=schema)).eval()
    export_pre_ranker(light, folder / "pre_ranker")
    meta = SampleMeta(
        version=SET_VERSION,
        schema=schema,
        actions=actions.names,
        dense=dense_fields(actions),
        from_ms=0,
        until_ms=1,
        source="nothing: first weights, for benchmarks",
    )
    kinds: tuple[Kind, ...] = ("ranker", "retrieval", "pre_ranker")
    return {kind: publish(settings, kind, folder / kind, meta, metrics={}, training=trunk).version for kind in kinds}
