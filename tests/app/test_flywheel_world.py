"""A simulated world's hours before the gate: an honest one is not taken for a lie, and lies are refused."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from millrace.app import cli
from millrace.app.settings import load_settings
from millrace.app.training import home_samples
from millrace.base.actions import Action
from millrace.base.clock import ManualClock
from millrace.base.errors import NoSamplesError
from millrace.base.ids import Int64Array
from millrace.flywheel.decisions import Decision, DecisionLog
from millrace.flywheel.learning_config import GateConfig, LearningConfig
from millrace.flywheel.learning_round import Keep, RoundFolder
from millrace.flywheel.loop import LearningLoop
from millrace.flywheel.promotion_gate import Cost
from millrace.flywheel.sample_set import SampleSet
from millrace.flywheel.train_ranker import RankerTraining, train_ranker
from millrace.models.config import TableConfig, TrunkConfig
from millrace.registry.manifest import Description
from millrace.registry.registry import Registry
from millrace.testing.progress import in_silence

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

TRUNK = TrunkConfig(
    d=32, n_layers=1, n_heads=2, max_history=16, tables=TableConfig(width=16, n_post_rows=1_024, n_author_rows=256)
)
HOUR_MS = 3_600_000


class Pages:
    """A world's pages up to a moment."""

    def __init__(self, samples: SampleSet, known_until_ms: int) -> None:
        self.all, self.known_until_ms = samples, known_until_ms

    def n_pages(self, from_ms: int, until_ms: int) -> int:
        return len(self.all.between(from_ms, until_ms))

    def samples(self, from_ms: int, until_ms: int, keep: Keep | None = None) -> SampleSet:
        found = self.all.between(from_ms, until_ms)
        if not len(found):
            raise NoSamplesError("pages", problem="none", remedy="wait")
        return found if keep is None else found.take(keep(found.now_ms))


class World:
    """Pages of a simulated world, in thirds: of the first a ranker has learned, of the second one round.

    Attributes
    ----------
    spans
        When each third ends.
    """

    def __init__(self, folder: Path) -> None:
        home = folder / "home"
        world = ["--size", "tiny", "--set", "world.n_users=600", "--to-home", str(home)]
        assert cli.run(["simulate", "generate", str(folder / "history.ndjson"), *world]) == 0
        self.samples = home_samples(load_settings(home), in_silence)
        ends = np.quantile(self.samples.now_ms, (0.5, 0.75, 1.0), method="higher") + 1
        self.spans = [int(end) for end in ends]
        self.folder = folder
        seed = self.samples.between(0, self.spans[0])
        training = RankerTraining(trunk=TRUNK, n_epochs=3, n_slates=32, n_warm_up=10, report_every=20)
        train_ranker(seed, training, folder=folder / "ranker")
        registry = Registry(folder / "models")
        description = Description(
            kind="ranker", feature_schema_hash=seed.meta.schema, from_ms=0, until_ms=self.spans[0]
        )
        version = registry.publish(folder / "ranker" / "served", description, now_ms=1_600_000_000_000).version
        registry.promote({"ranker": version}, now_ms=1)
        self.round(self.samples, folder, third=1)

    def round(self, samples: SampleSet, folder: Path, third: int) -> Decision:
        """Learn on from a third of the pages."""
        begin_ms, end_ms = self.spans[third - 1], self.spans[third]
        hours = (end_ms - begin_ms) / HOUR_MS
        learning = LearningConfig(
            hours_per_round=hours * 0.999, max_hours=hours, replay_hours=500, replay_half_life_h=100, min_pages=40
        )
        loop = LearningLoop(
            Registry(folder / "models"),
            Pages(samples, end_ms),
            DecisionLog(folder / "models" / "decisions.jsonl"),
            RoundFolder(folder / "unfinished"),
            learning,
            GateConfig(n_resamples=100, min_positives=15),
            ManualClock(1_700_000_000_000 + third),
            in_silence,
            measure_costs=lambda *_: (Cost(1.0, 1), Cost(1.0, 1)),
        )
        decision = loop.run_round()
        assert isinstance(decision, Decision), decision
        return decision

    def last_rows(self) -> Int64Array:
        return self.samples.rows_of(np.flatnonzero(self.samples.now_ms >= self.spans[1]))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("world"))


def last_third(world: World, tmp_path: Path, samples: SampleSet) -> Decision:
    """Return what comes of the last third if the world's pages are these."""
    shutil.copytree(world.folder / "models", tmp_path / "models")
    return world.round(samples, tmp_path, third=2)


def test_honest_hours_are_not_taken_for_lies(world: World, tmp_path: Path) -> None:
    (first,) = DecisionLog(world.folder / "models" / "decisions.jsonl").all()
    second = last_third(world, tmp_path, world.samples)
    for decision in (first, second):
        assert not {rule.name for rule in decision.broken} & {"surprise", "crowd", "memory", "calibration", "finite"}


def test_hours_of_shuffled_labels_are_refused(world: World, tmp_path: Path) -> None:
    labels, rows = np.array(world.samples.labels), world.last_rows()
    labels[rows] = labels[np.random.default_rng(1).permutation(rows)]
    refused = last_third(world, tmp_path, replace(world.samples, labels=labels))
    assert refused.verdict == "refused"
    assert {"surprise", "memory"} & {rule.name for rule in refused.broken}


def test_hours_in_which_a_few_did_half_of_all_likes_are_refused(world: World, tmp_path: Path) -> None:
    samples = world.samples
    labels, viewers = np.array(samples.labels), np.array(samples.viewers)
    late = np.flatnonzero(samples.now_ms >= world.spans[1])
    n_likes = float(labels[world.last_rows(), Action.LIKE].sum())
    mad, n_rows = [], 0
    for slate in np.random.default_rng(1).permutation(late).tolist():  # pages that two viewers ask for, liking all
        if n_rows >= 1.2 * n_likes + 50:
            break
        mad.append(slate)
        n_rows += int(samples.starts[slate + 1] - samples.starts[slate])
    viewers[mad] = 1 + np.arange(len(mad)) % 2
    labels[samples.rows_of(np.array(mad)), Action.LIKE] = 1.0
    refused = last_third(world, tmp_path, replace(samples, labels=labels, viewers=viewers))
    assert refused.verdict == "refused"
    assert "crowd" in {rule.name for rule in refused.broken}
