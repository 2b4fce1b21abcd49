"""`millrace simulate learned`: rows find their truth, and only what rankers have not seen is judged."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from millrace.app import cli
from millrace.app.simulation.learned import Seen, judged_on, load_rankers, true_rows
from millrace.base.actions import Action
from millrace.base.errors import ConfigError, SourceDataError
from millrace.base.ids import IdKind, hash_id
from millrace.flywheel.sample_set import SampleSet
from millrace.flywheel.train_ranker import RankerTraining, train_ranker
from millrace.models.config import TableConfig, TrunkConfig
from millrace.simulator.judge.learned import CALIBRATED, COUNTERS, TRUTH
from millrace.simulator.records import RunRecords
from millrace.testing.run_plan import BEGAN_MS, HOUR_MS
from millrace.testing.run_tables import small_run
from millrace.testing.sample_builders import planted_samples

N_SLATES, N_ROWS = 40, 6
LIKELY, UNLIKELY = 0.75, 0.02
TABLES = TableConfig(width=8, n_post_rows=64, n_author_rows=16)
QUICK = RankerTraining(
    trunk=TrunkConfig(d=16, n_layers=1, n_heads=2, max_history=8, tables=TABLES), n_epochs=1, n_slates=20
)


@pytest.fixture(scope="module")
def samples() -> SampleSet:
    """Return planted slates as pages ``r0``, ``r1``, ... of a run."""
    planted = planted_samples(N_SLATES, n_rows=N_ROWS)
    requests = np.array([hash_id(IdKind.REQUEST, f"r{i}") for i in range(N_SLATES)])
    dense = planted.dense.copy()
    dense[::2, planted.meta.dense.index("video")] = 32
    return replace(planted, requests=requests, now_ms=BEGAN_MS + np.arange(N_SLATES) * HOUR_MS, dense=dense)


@pytest.fixture(scope="module")
def records(samples: SampleSet) -> RunRecords:
    """Return the records of that run, in another order; of the last page nothing was recorded."""
    is_own = samples.labels[:, Action.NOT_DWELLED] == 0
    pages, items = [], []
    for page in reversed(range(N_SLATES - 1)):
        pages.append({"page": page, "request_id": f"r{page}", "time_ms": BEGAN_MS + page * HOUR_MS})
        for position in range(N_ROWS):
            likely = bool(is_own[page * N_ROWS + position])
            items.append(
                {
                    "page": page,
                    "position": position,
                    "viewer": page % 7,
                    "post": 1 if page % 2 else 1000 + page * N_ROWS + position,
                    "is_examined": True,
                    "is_followed": likely,
                    "true_like": LIKELY if likely else UNLIKELY,
                }
            )
    return small_run(pages=pages, items=items, users=[{"user": i, "joined_ms": 0} for i in range(7)])


def truth_of(samples: SampleSet, slates: Any) -> Any:
    rows = samples.rows_of(slates)
    probs = np.full((len(rows), len(samples.meta.actions)), 0.5, dtype=np.float32)
    is_own = samples.labels[rows, Action.NOT_DWELLED] == 0
    probs[:, Action.LIKE] = np.where(is_own, np.float32(LIKELY), np.float32(UNLIKELY))
    return probs


def test_each_row_finds_its_truth_by_request_and_place(samples: SampleSet, records: RunRecords) -> None:
    rows = samples.rows_of(np.array([5, N_SLATES - 1, 2]))
    found, is_judged = true_rows(records, samples, rows)
    assert is_judged.tolist() == [True] * N_ROWS + [False] * N_ROWS + [True] * N_ROWS
    like = found.actions.index("like")
    expected = truth_of(samples, np.array([5, 2]))[:, Action.LIKE]
    assert found.truth[:, like].tolist() == expected.tolist()
    assert found.did[:, like].tolist() == (samples.labels[rows[is_judged], Action.LIKE] > 0).tolist()
    assert found.viewers.tolist() == [5] * N_ROWS + [2] * N_ROWS
    assert "dwell_time" not in found.actions  # the world's laws say nothing of derived actions


def test_slices_are_of_the_records_and_of_what_was_encoded(samples: SampleSet, records: RunRecords) -> None:
    found, _ = true_rows(records, samples, samples.rows_of(np.arange(N_SLATES - 1)))
    n = (N_SLATES - 1) * N_ROWS
    assert sorted([*found.slices["media=video"], *found.slices["media=none"]]) == list(range(n))
    assert len(found.slices["media=video"]) == n // 2
    likely = np.flatnonzero(found.truth[:, found.actions.index("like")] > 0.5)
    assert found.slices["network=in"].tolist() == likely.tolist()
    # Post 1 fills the odd pages; it is known after ten looks of them. (Page 0 is no older than the run.)
    known = found.slices["cold=known"] // N_ROWS
    assert set(known[known > 0]) == set(range(3, N_SLATES - 1, 2))
    assert np.count_nonzero(known == 3) == 2 * N_ROWS - 10


def test_the_truth_closes_all_and_counters_nothing_on_what_was_not_seen(
    samples: SampleSet, records: RunRecords
) -> None:
    seen = Seen(BEGAN_MS, BEGAN_MS + 10 * HOUR_MS, BEGAN_MS + 20 * HOUR_MS)
    asked = []

    def recording(samples: SampleSet, slates: Any) -> Any:
        asked.append(slates)
        return truth_of(samples, slates)

    def baseline(samples: SampleSet, slates: Any) -> Any:
        return samples.baseline[samples.rows_of(slates)]

    found = judged_on(records, samples, seen, {"best": recording, "none": baseline}, min_rows=20)
    assert [slates.tolist() for slates in asked] == [list(range(20, N_SLATES))]
    assert (found.n_slates, found.n_calibrated, found.n_unjudged) == (20, 10, N_ROWS)
    heads = {head.prediction: head for head in found.judgement.heads if head.action == "like"}
    assert set(heads) == {COUNTERS, CALIBRATED, TRUTH, "best", "none"}
    assert heads["best"].closed.value == heads["best"].closed_calibrated.value == 1.0
    assert heads["none"].closed.value == 0.0
    assert 0.0 < heads[CALIBRATED].closed.value < 1.0
    assert heads["best"].n == 19 * N_ROWS
    assert {part.slice.split("=")[0] for part in found.judgement.slices} >= {"network", "media"}


def test_baselines_are_fitted_on_what_the_rankers_learned_from(samples: SampleSet, records: RunRecords) -> None:
    seen = Seen(BEGAN_MS, BEGAN_MS + 20 * HOUR_MS, BEGAN_MS + 30 * HOUR_MS)
    found = judged_on(records, samples, seen, {"best": truth_of}, baselines=["item_knn"])
    heads = {head.prediction: head for head in found.judgement.heads if head.action == "like"}
    assert heads[CALIBRATED].closed.value < heads["item_knn"].closed.value < heads["best"].closed.value
    with pytest.raises(ConfigError, match="not known"):
        judged_on(records, samples, seen, {}, baselines=["nothing"])


def test_nothing_later_than_what_was_seen_is_an_error(samples: SampleSet, records: RunRecords) -> None:
    late = BEGAN_MS + N_SLATES * HOUR_MS
    with pytest.raises(SourceDataError, match="no page from after"):
        judged_on(records, samples, Seen(0, late, late), {})
    with pytest.raises(SourceDataError, match="no page from after"):
        judged_on(small_run(), samples, Seen(0, 0, 0), {})


def test_a_ranker_tells_until_when_it_has_seen_the_world_or_is_refused(tmp_path: Path) -> None:
    planted = planted_samples(40)
    _, report = train_ranker(planted, QUICK, folder=tmp_path)
    (ranker,) = load_rankers({"nano": tmp_path}).values()
    assert ranker.seen == Seen(0, 35 * HOUR_MS + 1, 39 * HOUR_MS + 1)
    assert ranker.positives == report.positives
    assert ranker.predict(planted, np.array([39])).shape == (6, len(planted.meta.actions))
    told = json.loads((tmp_path / "report.json").read_text())
    (tmp_path / "report.json").write_text(json.dumps({**told, "validated_until_ms": 0}))
    with pytest.raises(ConfigError, match="does not say until when"):
        load_rankers({"nano": tmp_path})
    with pytest.raises(ConfigError, match="no trained ranker"):
        load_rankers({"nano": tmp_path / "nowhere"})


@pytest.mark.parametrize("text", ["=x", "a=", "counters=x", "truth=x"])
def test_a_ranker_needs_a_name_of_its_own(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["simulate", "learned", str(tmp_path), "--ranker", text]) == 2
    assert "NAME=FOLDER" in capsys.readouterr().err


def test_what_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["simulate", "learned", str(tmp_path), "--ranker", str(tmp_path)]) == 2
    assert "no simulated run is there" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_ranker_trained_on_a_run_is_judged_on_its_newest_pages(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world = ["--size", "tiny", "--set", "world.n_users=40", "--hours", "4"]
    assert cli.run(["simulate", "run", *world, "--out", str(tmp_path), "--name", "run"]) == 0
    ranker = tmp_path / "ranker"
    assert (
        cli.run(["train", "ranker", "--home", str(tmp_path / "run" / "home"), "--epochs", "0.2", "--out", str(ranker)])
        == 0
    )
    capsys.readouterr()
    argv = ["simulate", "learned", str(tmp_path / "run"), "--ranker", f"nano={ranker}", "--min-rows", "50"]
    argv += ["--samples", str(tmp_path / "samples"), "--json"]
    assert cli.run(argv) == 0
    told = json.loads(capsys.readouterr().out)
    heads = {(head["action"], head["prediction"]): head for head in told["judgement"]["heads"]}
    assert heads["like", "truth"]["closed"]["value"] == 1.0
    assert heads["like", "truth"]["calibration"]["value"] == pytest.approx(1.0)
    # No order of the rows is expected to do better than that of the truth.
    assert heads["like", "truth"]["auc"]["value"] >= heads["like", "counters"]["auc"]["value"]
    assert heads["like", "truth"]["cross_entropy"] < heads["like", "nano"]["cross_entropy"]
    assert told["n_calibrated"] > 0
    assert told["n_unjudged"] == 0  # the newest pages of the log are all of the run
    assert cli.run(argv) == 0  # from the samples that were kept
    assert json.loads(capsys.readouterr().out) == told
