"""Models of the registry in a worker: followed while pages are served, chosen by lane, stamped on what is served."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from millrace.app import wiring
from millrace.app.cache_report import CACHES
from millrace.app.commands.init import make_home
from millrace.app.doctor import examine
from millrace.app.model_publishing import promote, publish
from millrace.app.model_status import model_status
from millrace.app.settings import Settings, load_settings
from millrace.base.actions import ActionSpace
from millrace.features.encoding.candidates import dense_fields, schema_hash
from millrace.flywheel.sample_set import SET_VERSION, SampleMeta
from millrace.inference.model_events import ModelEvent
from millrace.mixer.home_models import NO_MODELS, lane_of
from millrace.models.config import RankerConfig, TableConfig, TrunkConfig
from millrace.models.export import export_ranker, export_tables
from millrace.models.learned_ranker import LearnedRanker
from millrace.registry.pointer import HISTORY_FILE

TRUNK = TrunkConfig(
    d=16,
    n_layers=1,
    n_heads=2,
    max_history=8,
    tables=TableConfig(width=4, n_post_rows=32, n_author_rows=16),
)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return make_home(tmp_path / "home")[0]


def a_ranker(settings: Settings, folder: Path, *, seed: int = 1, schema: str | None = None) -> tuple[Path, SampleMeta]:
    """Write an untrained ranker; return where, and what it says that it reads."""
    actions = ActionSpace()
    meta = SampleMeta(
        version=SET_VERSION,
        schema=schema or schema_hash(actions),
        actions=actions.names,
        dense=dense_fields(actions),
        from_ms=0,
        until_ms=1,
    )
    torch.manual_seed(seed)
    config = RankerConfig(trunk=TRUNK, actions=actions.names, n_dense=len(meta.dense), schema=meta.schema)
    model = LearnedRanker(config).eval()
    export_ranker(model.ranker, folder)
    export_tables(model.tables, folder)
    return folder, meta


def published(settings: Settings, folder: Path, **more: Any) -> str:
    at, meta = a_ranker(settings, folder, **more)
    return publish(settings, "ranker", at, meta, metrics={"auc": 0.7, "none": float("inf")}, training=TRUNK).version


def test_without_models_pages_have_none(settings: Settings) -> None:
    with wiring.build_models(settings).lease("default") as models:
        assert models is NO_MODELS


def test_what_is_promoted_serves_and_a_lane_has_its_own(settings: Settings, tmp_path: Path) -> None:
    first, second = published(settings, tmp_path / "a"), published(settings, tmp_path / "b", seed=2)
    live = wiring.build_live_models(settings)
    source = wiring.build_models(settings, live)
    promote(settings, {"ranker": first}, "first")
    wiring.build_registry(settings).promote({"ranker": second}, "arm-1", now_ms=1, note="second")
    assert live.poll()
    with source.lease("default") as everybody, source.lease(lane_of("default", 1)) as arm:
        assert (everybody.versions, arm.versions) == ({"ranker": first}, {"ranker": second})
    with source.lease("unknown") as models:
        assert models.versions == {"ranker": first}
    live.close()


@pytest.mark.skipif(sys.platform != "linux", reason="threads have priorities of their own on Linux alone")
@pytest.mark.parametrize("set_", [(), (("home.rank_servers", '["127.0.0.1:1"]'),)])
def test_models_are_loaded_when_no_page_wants_the_core_unless_that_starts_threads(
    settings: Settings, tmp_path: Path, set_: tuple[tuple[str, str], ...]
) -> None:
    before, found, swapped = os.getpriority(os.PRIO_PROCESS, 0), [], threading.Event()

    def note(_event: ModelEvent) -> None:
        found.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        swapped.set()

    promote(settings, {"ranker": published(settings, tmp_path / "a")}, "")
    live = wiring.build_live_models(load_settings(settings.home, {}, set_), note)
    live.start()
    assert swapped.wait(60)
    live.close()
    assert found[0] == (before if set_ else 19)


def test_the_status_names_what_serves_and_since_when(settings: Settings, tmp_path: Path) -> None:
    first, second = published(settings, tmp_path / "a"), published(settings, tmp_path / "b", seed=2)
    registry = wiring.build_registry(settings)
    registry.promote({"ranker": first}, now_ms=1_500_000_000_000, note="")
    registry.promote({"ranker": second}, "arm-1", now_ms=1_600_000_000_000, note="")
    status = model_status(settings)
    assert (status.serving, status.since_ms, status.training) == ({"ranker": first}, 1_500_000_000_000, None)
    assert status.words == f"models: ranker {first} serves since Fri 14 Jul, 02:40 UTC"
    registry.promote({"ranker": None}, now_ms=1_700_000_000_000, note="")
    assert model_status(settings).words == "models: none, counters rank"


def test_the_status_reads_the_history_once_for_each_change_of_what_serves(settings: Settings, tmp_path: Path) -> None:
    first, second = published(settings, tmp_path / "a"), published(settings, tmp_path / "b", seed=2)
    registry = wiring.build_registry(settings)
    registry.promote({"ranker": first}, now_ms=1_500_000_000_000, note="")
    assert model_status(settings).since_ms == 1_500_000_000_000
    (registry.root / HISTORY_FILE).write_text("no history\n")
    assert model_status(settings).serving == {"ranker": first}  # another look at it would find it damaged
    (registry.root / HISTORY_FILE).unlink()
    registry.promote({"ranker": second}, now_ms=1_600_000_000_000, note="")
    status = model_status(settings)
    assert (status.serving, status.since_ms) == ({"ranker": second}, 1_600_000_000_000)


def test_the_caches_of_all_that_serves_are_told_of(settings: Settings, tmp_path: Path) -> None:
    live = wiring.build_live_models(settings)
    source = wiring.build_models(settings, live)
    assert source.held() == []
    promote(settings, {"ranker": published(settings, tmp_path / "a")}, "")
    live.poll()
    (models,) = source.held()
    caches = models.caches()
    assert sorted(caches) == sorted(CACHES)
    for counts in caches.values():  # what warming up left there
        assert counts.n_misses > 0
        assert 0 < counts.n_bytes <= counts.max_bytes
    live.close()
    assert source.held() == []


def test_a_ranker_of_other_features_is_refused_and_the_old_one_goes_on(settings: Settings, tmp_path: Path) -> None:
    good = published(settings, tmp_path / "a")
    bad = published(settings, tmp_path / "b", schema="other")
    live = wiring.build_live_models(settings)
    source = wiring.build_models(settings, live)
    promote(settings, {"ranker": good}, "")
    live.poll()
    promote(settings, {"ranker": bad}, "")
    live.poll()
    with source.lease("default") as models:
        assert models.versions == {"ranker": good}
    assert "reads features other" in live.status()["default"].problem
    found = [finding for finding in examine(settings, wiring.build_clock()) if finding.check == "models"]
    assert [finding.verdict for finding in found] == ["problem"]
    live.close()


@pytest.mark.parametrize(
    ("pairs", "runs"),
    [
        ([], "; run by onnx in fp32"),
        ([("home.runner", "numpy")], "; run by numpy in fp32"),
        ([("home.precision", "int8")], "; run by onnx in fp32, not in int8: it was never judged in int8"),
        ([("home.rank_servers", '["127.0.0.1:9"]')], "; run by rank servers"),
    ],
)
def test_the_doctor_says_what_runs_the_ranker_and_in_which_precision(
    settings: Settings, tmp_path: Path, pairs: list[tuple[str, str]], runs: str
) -> None:
    version = published(settings, tmp_path / "a")
    promote(settings, {"ranker": version}, "")
    settings = load_settings(settings.home, {}, pairs)
    (found,) = (finding for finding in examine(settings, wiring.build_clock()) if finding.check == "models")
    assert found.detail.startswith(f"lane default: ranker {version}, newest of ")
    assert found.detail.endswith(runs)


def test_a_folder_of_the_config_goes_before_the_registry(settings: Settings, tmp_path: Path) -> None:
    promote(settings, {"ranker": published(settings, tmp_path / "a")}, "")
    folder, _ = a_ranker(settings, tmp_path / "own")
    settings = load_settings(settings.home, {}, [("home.ranker", str(folder))])
    with wiring.build_models(settings).lease("default") as models:
        assert models.versions == {"ranker": str(folder)}
        assert models.ranker is not None


@pytest.mark.parametrize(
    ("lane", "arm", "expected"), [("default", 0, "default"), ("default", 3, "arm-3"), ("x", 3, "x")]
)
def test_a_lane_that_was_asked_for_goes_before_the_experiment(lane: str, arm: int, expected: str) -> None:
    assert lane_of(lane, arm) == expected


def test_a_model_whose_predictions_are_not_finite_is_refused(settings: Settings, tmp_path: Path) -> None:
    at, meta = a_ranker(settings, tmp_path / "a")
    torch.manual_seed(1)
    config = RankerConfig(trunk=TRUNK, actions=meta.actions, n_dense=len(meta.dense), schema=meta.schema)
    model = LearnedRanker(config).eval()
    with torch.no_grad():
        model.ranker.head.bias.fill_(float("nan"))
    export_ranker(model.ranker, at)
    export_tables(model.tables, at)
    version = publish(settings, "ranker", at, meta, metrics={}, training={}).version
    promote(settings, {"ranker": version}, "")
    live = wiring.build_live_models(settings)
    live.poll()
    assert "not finite" in live.status()["default"].problem
    assert np.isnan(model.ranker.head.bias.detach().numpy()).all()
    live.close()


def test_the_doctor_asks_rank_servers_for_everybodys_ranker(settings: Settings, tmp_path: Path) -> None:
    pytest.importorskip("grpc", reason="grpcio is not installed: pip install '.[grpc]'")

    def found(settings: Settings) -> list[tuple[str, str]]:
        findings = examine(settings, wiring.build_clock())
        return [(finding.verdict, finding.detail) for finding in findings if finding.check == "rank servers"]

    assert found(settings) == []
    elsewhere = load_settings(settings.home, {}, [("home.rank_servers", '["127.0.0.1:1"]')])
    assert found(elsewhere) == [("ok", "127.0.0.1:1: not asked, no ranker serves everybody")]
    promote(settings, {"ranker": published(settings, tmp_path / "a")}, "")
    ((verdict, detail),) = found(elsewhere)
    assert verdict == "problem"
    assert "127.0.0.1:1: cannot be reached" in detail
