"""Metrics: one process, and the sum over processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Counter

from millrace.app.metrics import Metrics, MetricsObserver, forget_process, prepare_shared_dir
from millrace.pipeline.outcome import ComponentReport, Fate, Outcome, PipelineReport

WORKER = """
import sys, os
from pathlib import Path
from millrace.app.metrics import Metrics
metrics = Metrics(Path(sys.argv[1]))
metrics.request("/api", 200, 0.01)
metrics.replica("worker", lag=int(sys.argv[2]), offset=5, is_ready=True)
print(os.getpid())
if len(sys.argv) > 3:
    print(metrics.render().decode())
"""


def lines(metrics: Metrics) -> list[str]:
    return metrics.render().decode().splitlines()


def report() -> PipelineReport:
    parts = (
        ComponentReport("source", "in_network", Fate.OK, 0.0, 2.0, 0, 700),
        ComponentReport("filter", "age", Fate.OK, 2.0, 0.1, 700, 650),
        ComponentReport("source", "off", Fate.DISABLED, 0.0, 0.0, 0, 0),
    )
    outcomes = (Outcome("source", "popular", Fate.LATE, "20 ms"),)
    return PipelineReport("home", 3.0, parts, outcomes, 700, 700, 650, 20, 35, 0)


def test_shared_values_stay_those_of_their_metrics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A registry of somebody else, in the same process, counts by itself, not on from what the folder holds."""
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "")
    for _ in range(2):
        Metrics(tmp_path).request("/api", 200, 0.01)
        mine = CollectorRegistry()
        Counter("mine", "Of nobody else.", ("what",), registry=mine).labels("told").inc()
        assert mine.get_sample_value("mine_total", {"what": "told"}) == 1.0
    assert [path for path in tmp_path.glob("*.db") if b"mine" in path.read_bytes()] == []


def test_a_pipelines_report_becomes_metrics() -> None:
    metrics = Metrics()
    MetricsObserver(metrics).observe(report())
    found = lines(metrics)
    where = 'component="{}",fate="{}",pipeline="home",stage="{}"'
    assert f"millrace_candidates_total{{{where.format('in_network', 'found', 'source')}}} 700.0" in found
    assert f"millrace_candidates_total{{{where.format('age', 'dropped', 'filter')}}} 50.0" in found
    assert f"millrace_candidates_total{{{where.format('age', 'kept', 'filter')}}} 650.0" in found
    assert f"millrace_component_outcomes_total{{{where.format('popular', 'late', 'source')}}} 1.0" in found
    assert 'millrace_pages_total{kind="short",pipeline="home"} 1.0' in found
    assert 'millrace_page_posts_total{pipeline="home"} 20.0' in found
    assert not any('component="off"' in line for line in found)


def test_keeper_and_checkpoints_are_told_by_any_worker() -> None:
    metrics = Metrics()
    metrics.keeper(lag=4, checkpoint_offset=100)
    assert 'millrace_replica_lag_records{role="keeper"} 4.0' in lines(metrics)
    assert "millrace_checkpoint_offset 100.0" in lines(metrics)


def test_requests_and_events_are_counted() -> None:
    metrics = Metrics()
    metrics.request("/api/v1/events", 422, 0.004)
    metrics.events({"accepted": 3, "duplicate": 0, "refused": 1})
    found = lines(metrics)
    assert 'millrace_requests_total{route="/api/v1/events",status="422"} 1.0' in found
    assert 'millrace_events_total{result="accepted"} 3.0' in found
    assert not any('result="duplicate"' in line for line in found)


def test_any_process_answers_for_all(tmp_path: Path) -> None:
    shared = tmp_path / "metrics"
    prepare_shared_dir(shared)
    command = [sys.executable, "-c", WORKER, str(shared)]
    first = subprocess.run([*command, "3"], capture_output=True, check=True, text=True)
    second = subprocess.run([*command, "8", "render"], capture_output=True, check=True, text=True)
    found = second.stdout.splitlines()
    assert 'millrace_requests_total{route="/api",status="200"} 2.0' in found
    assert 'millrace_replica_lag_records{role="worker"} 8.0' in found
    assert 'millrace_ready_processes{role="worker"} 2.0' in found
    forget_process(shared, int(first.stdout.splitlines()[0]))
    third = subprocess.run([*command, "1", "render"], capture_output=True, check=True, text=True)
    assert 'millrace_ready_processes{role="worker"} 2.0' in third.stdout
    assert 'millrace_requests_total{route="/api",status="200"} 3.0' in third.stdout


def test_a_new_server_starts_from_nothing(tmp_path: Path) -> None:
    (tmp_path / "counter_1.db").write_bytes(b"old")
    prepare_shared_dir(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_age_of_what_was_folded_is_told_by_role_in_seconds() -> None:
    metrics = Metrics()
    metrics.replica("worker", lag=0, lag_ms=42, offset=5, is_ready=True)
    assert 'millrace_replica_lag_seconds{role="worker"} 0.042' in lines(metrics)
