"""The learning loop on a planted world: it learns on, refuses lies, survives kills, and follows what serves."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from millrace.base.actions import Action
from millrace.base.clock import ManualClock
from millrace.base.errors import NoSamplesError, SchemaError, StoreError
from millrace.base.ids import Int64Array
from millrace.flywheel.decisions import Decision, DecisionLog
from millrace.flywheel.learning_config import GateConfig, LearningConfig
from millrace.flywheel.learning_round import Keep, RoundFolder, Waiting
from millrace.flywheel.live_ranker import open_live_ranker
from millrace.flywheel.loop import LearningLoop
from millrace.flywheel.promotion_gate import Cost
from millrace.flywheel.sample_set import SampleSet
from millrace.flywheel.scoring_cost import serving_costs
from millrace.flywheel.train_ranker import RankerTraining, load_ranker, predicted, train_ranker
from millrace.models.config import TableConfig, TrunkConfig
from millrace.registry.manifest import Description
from millrace.registry.registry import Registry
from millrace.registry.withdrawals import WITHDRAWN_FILE
from millrace.testing.progress import SilentStep, in_silence
from millrace.testing.sample_builders import HOUR_MS, planted_samples

TRUNK = TrunkConfig(
    d=16, n_layers=1, n_heads=2, max_history=8, tables=TableConfig(width=8, n_post_rows=64, n_author_rows=16)
)
SEED = RankerTraining(
    trunk=TRUNK,
    n_epochs=5,
    n_slates=20,
    n_warm_up=2,
    report_every=40,
    learning_rate=1e-2,
    table_learning_rate=0.1,
    is_position_debiased=False,
)
LEARNING = LearningConfig(
    hours_per_round=150,
    max_hours=300,
    replay_hours=400,
    replay_half_life_h=200,
    min_pages=60,
    n_slates=20,
    learning_rate=2e-3,
    table_learning_rate=1e-2,
)
GATE = GateConfig(n_resamples=50)
N_SEED = 300
"""Pages that the first ranker learned from; one an hour."""
SAMPLES = planted_samples(N_SEED + 600)


pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


class KilledError(Exception):
    """The process ended here."""


class Pages:
    """A source of pages whose labels are known up to a time."""

    def __init__(self, known_h: int, samples: SampleSet = SAMPLES) -> None:
        self.known_until_ms = known_h * HOUR_MS
        self.all = samples

    def n_pages(self, from_ms: int, until_ms: int) -> int:
        return len(self.all.between(from_ms, until_ms))

    def samples(self, from_ms: int, until_ms: int, keep: Keep | None = None) -> SampleSet:
        found = self.all.between(from_ms, until_ms)
        if not len(found):
            raise NoSamplesError("pages", problem="none", remedy="wait")
        return found if keep is None else found.take(keep(found.now_ms))


def as_dear(_samples: SampleSet, _slates: Int64Array, _live: Path, _candidate: Path) -> tuple[Cost, Cost]:
    return Cost(1.0, 1_000), Cost(1.0, 1_000)


class House:
    """A registry with a ranker that serves, and a loop over it."""

    def __init__(self, folder: Path, known_h: int = N_SEED + 150, samples: SampleSet = SAMPLES) -> None:
        self.folder = folder
        self.registry = Registry(folder / "models")
        self.pages = Pages(known_h, samples)
        self.decisions = DecisionLog(folder / "models" / "decisions.jsonl")
        self.round = RoundFolder(folder / "unfinished")
        self.show = in_silence

    def run(self, config: LearningConfig = LEARNING, gate: GateConfig = GATE) -> Decision | Waiting:
        loop = LearningLoop(
            self.registry,
            self.pages,
            self.decisions,
            self.round,
            config,
            gate,
            ManualClock(1_700_000_000_000),
            self.show,
            measure_costs=as_dear,
        )
        return loop.run_round()

    def decide(self, gate: GateConfig = GATE) -> Decision:
        found = self.run(gate=gate)
        assert isinstance(found, Decision), found
        return found

    @property
    def serving(self) -> str:
        return self.registry.serving()["ranker"]


@pytest.fixture(scope="module")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a registry whose ranker has learned from the first pages."""
    folder = tmp_path_factory.mktemp("seeded")
    train_ranker(SAMPLES.take(np.arange(N_SEED)), SEED, folder=folder / "ranker")
    registry = Registry(folder / "models")
    description = Description(
        kind="ranker",
        feature_schema_hash=SAMPLES.meta.schema,
        from_ms=0,
        until_ms=N_SEED * HOUR_MS,
        metrics={"auc/like": 0.9},
    )
    manifest = registry.publish(folder / "ranker" / "served", description, now_ms=1_600_000_000_000)
    registry.promote({"ranker": manifest.version}, now_ms=1_600_000_000_000)
    return folder


@pytest.fixture
def house(seeded: Path, tmp_path: Path) -> House:
    shutil.copytree(seeded / "models", tmp_path / "models")
    return House(tmp_path)


def with_labels(samples: SampleSet, labels: np.ndarray, viewers: Int64Array | None = None) -> SampleSet:
    return replace(samples, labels=labels, viewers=samples.viewers if viewers is None else viewers)


def rows_of_hours(first: int, end: int) -> Int64Array:
    return SAMPLES.rows_of(np.arange(first, end))


def test_what_serves_can_be_learned_on_from_and_says_the_same(seeded: Path) -> None:
    trained, _ = load_ranker(seeded / "ranker")
    (version,) = Registry(seeded / "models").versions("ranker")
    folder = seeded / "models" / "ranker" / version
    opened = open_live_ranker(folder, SAMPLES.meta.schema)
    assert np.array_equal(predicted(trained, SAMPLES, np.arange(9)), predicted(opened, SAMPLES, np.arange(9)))
    assert np.array_equal(
        opened.ranker.position_bias.weight.detach().numpy(), trained.ranker.position_bias.weight.detach().numpy()
    )
    with pytest.raises(SchemaError, match="reads other features"):
        open_live_ranker(folder, "others")


def test_two_rankers_on_the_same_inputs_cost_time_and_bytes(seeded: Path) -> None:
    served = seeded / "ranker" / "served"
    one, other = serving_costs(SAMPLES, np.arange(20), served, served)
    assert one.n_bytes == other.n_bytes == sum(path.stat().st_size for path in served.iterdir())
    assert one.ms > 0
    assert other.ms > 0


def test_an_hour_is_predicted_learned_from_judged_and_what_is_better_serves(house: House) -> None:
    before = house.serving
    first = house.decide()
    assert (first.verdict, first.from_version) == ("promoted", before)
    assert first.to_version == house.serving != before
    assert (first.n_pages, first.n_learned, first.n_judged, first.n_trusted) == (150, 90, 38, 0)
    assert {head.action for head in first.prequential} == {"like", "not_dwelled"}
    assert {"surprise", "crowd", "entropy", "auc", "calibration", "memory", "latency", "size"} <= {
        rule.name for rule in first.rules
    }
    assert set(first.seconds) == {"reading pages", "predicting before learning", "learning on", "judging"}
    manifest = house.registry.manifest("ranker", first.to_version)
    assert manifest.settings["learned_on_from"] == before
    assert manifest.until_ms == first.until_ms == (N_SEED + 150) * HOUR_MS
    assert house.registry.history()[-1].note == f"flywheel round 1: {first.why}"
    # The next round learns on from it, and asks what was forgotten on pages that the first was judged on.
    house.pages.known_until_ms += 150 * HOUR_MS
    second = house.decide()
    assert (second.number, second.from_version, second.from_ms) == (2, first.to_version, first.until_ms)
    assert second.n_trusted == 19  # of 38; the others calibrate
    assert house.decisions.all() == [first, second]


def test_what_is_only_not_better_yet_is_learned_on_from_and_not_served(house: House) -> None:
    before = house.serving
    proud = msgspec.structs.replace(GATE, min_entropy_gain=0.9)
    first = house.decide(proud)
    assert (first.verdict, first.n_carried, [rule.name for rule in first.broken]) == ("refused", 0, ["entropy"])
    left = house.round.learner_path.read_bytes()
    house.pages.known_until_ms += 150 * HOUR_MS
    second = house.decide(proud)
    assert (second.n_carried, second.from_version, house.serving) == (1, before, before)
    assert house.round.learner_path.read_bytes() != left
    house.pages.known_until_ms += 150 * HOUR_MS
    third = house.decide()
    assert (third.verdict, third.n_carried, third.from_version) == ("promoted", 2, before)
    learner = house.round.learner_of(house.serving)
    assert learner is not None
    assert (learner.number, learner.n_carried) == (3, 0)
    # Whatever else serves, the learner is none of it.
    house.registry.rollback(now_ms=9)
    assert house.round.learner_of(house.serving) is None


@pytest.mark.parametrize("damaged", ["empty", "cut off", "a text", "no pickle"])
def test_a_learner_that_cannot_be_read_is_begun_anew(
    house: House, caplog: pytest.LogCaptureFixture, damaged: str
) -> None:
    assert house.decide().verdict == "promoted"
    path = house.round.learner_path
    whole = path.read_bytes()
    left = {"empty": b"", "cut off": whole[: len(whole) // 2], "a text": b"half a file", "no pickle": b"t" * 50}
    path.write_bytes(left[damaged])
    house.pages.known_until_ms += 150 * HOUR_MS
    assert house.decide().n_steps
    assert "learning begins anew" in caplog.text


def test_an_hour_of_lies_leaves_the_learner_as_it_was(house: House) -> None:
    assert house.decide().verdict == "promoted"
    left = house.round.learner_path.read_bytes()
    labels = np.array(SAMPLES.labels)
    rows = rows_of_hours(N_SEED + 150, N_SEED + 300)
    labels[rows] = labels[np.random.default_rng(1).permutation(rows)]
    house.pages = Pages(N_SEED + 300, with_labels(SAMPLES, labels))
    assert house.decide().verdict == "refused"
    assert house.round.learner_path.read_bytes() == left


def test_pages_that_cannot_be_read_are_no_missing_pages(house: House) -> None:
    def damaged(_from_ms: int, _until_ms: int, _keep: object) -> SampleSet:
        raise StoreError("labels", value="epoch-7.parquet", problem="damaged", remedy="restore it")

    house.pages.samples = damaged  # type: ignore[method-assign,assignment]
    with pytest.raises(StoreError, match="damaged"):
        house.run()


def test_an_hour_that_is_not_known_yet_is_waited_for_and_few_pages_are_not_enough(house: House) -> None:
    house.pages.known_until_ms = (N_SEED + 149) * HOUR_MS
    waiting = house.run()
    assert isinstance(waiting, Waiting)
    assert waiting.until_ms == (N_SEED + 150) * HOUR_MS
    few = house.run(msgspec.structs.replace(LEARNING, hours_per_round=50))  # two rounds' hours: 100 pages
    assert isinstance(few, Decision)
    assert few.n_pages == 100
    house.pages.known_until_ms += 50 * HOUR_MS
    waiting = house.run(msgspec.structs.replace(LEARNING, hours_per_round=50))
    assert isinstance(waiting, Waiting)
    assert waiting.why == "50 new pages in 50 h, and a round needs 60"


def test_a_home_that_never_has_enough_pages_is_told_what_to_set(house: House) -> None:
    small = msgspec.structs.replace(LEARNING, hours_per_round=20, max_hours=50)
    for known_h, told in ((N_SEED + 20, "20 new pages in 20 h"), (N_SEED + 300, "50 new pages in 50 h")):
        house.pages.known_until_ms = known_h * HOUR_MS
        waiting = house.run(small)
        assert isinstance(waiting, Waiting)
        assert waiting.why.startswith(f"{told}, and a round needs 60")
        assert ("max_hours = 50" in waiting.why) == ("a lower min_pages" in waiting.why) == (known_h > N_SEED + 20)


def test_more_than_a_round_takes_is_skipped_and_told(house: House) -> None:
    house.pages.known_until_ms = (N_SEED + 450) * HOUR_MS
    decision = house.decide()
    assert decision.n_pages == 300
    assert "150.0 h before were skipped" in decision.why


def test_an_hour_whose_labels_were_shuffled_is_refused_and_its_pages_are_not_trusted(house: House) -> None:
    assert house.decide().verdict == "promoted"
    before = house.serving
    labels = np.array(SAMPLES.labels)
    rows = rows_of_hours(N_SEED + 150, N_SEED + 300)
    labels[rows] = labels[np.random.default_rng(1).permutation(rows)]
    house.pages = Pages(N_SEED + 300, with_labels(SAMPLES, labels))
    refused = house.decide()
    assert (refused.verdict, refused.to_version, house.serving) == ("refused", "", before)
    # On its own newest pages, which are lies as well, the candidate looks better: two rules look elsewhere.
    assert {rule.name for rule in refused.broken} >= {"surprise", "memory"}
    assert "the live model's AUC on the new pages" in refused.why
    assert house.registry.versions("ranker")[-1] == before
    house.pages.known_until_ms = (N_SEED + 450) * HOUR_MS
    after = house.decide()
    assert after.from_version == before
    assert (after.n_replayed, after.n_trusted) == (112 + 100, 19)  # the seed's hours and the first round's alone


def test_an_hour_in_which_a_few_clients_went_mad_is_refused(house: House) -> None:
    assert house.decide().verdict == "promoted"
    labels, viewers = np.array(SAMPLES.labels), np.array(SAMPLES.viewers)
    mad = np.arange(N_SEED + 150, N_SEED + 300, 4)  # every fourth page is one of three viewers', who like everything
    viewers[mad] = 1 + np.arange(len(mad)) % 3
    labels[SAMPLES.rows_of(mad), Action.LIKE] = 1.0
    house.pages = Pages(N_SEED + 300, with_labels(SAMPLES, labels, viewers))
    refused = house.decide()
    assert refused.verdict == "refused"
    assert "crowd" in {rule.name for rule in refused.broken}
    assert "the 3 busiest viewers did" in refused.why


def test_after_a_rollback_it_learns_on_from_what_serves_and_trusts_no_hour_of_what_does_not(house: House) -> None:
    good = house.serving
    bad = house.decide().to_version
    house.registry.withdraw("ranker", bad, now_ms=5, reason="a guard: calibration")
    assert house.serving == good
    house.pages.known_until_ms += 150 * HOUR_MS
    decision = house.decide()
    assert decision.from_version == good
    assert decision.to_version not in {"", bad}
    assert decision.from_ms == (N_SEED + 150) * HOUR_MS
    assert (decision.n_replayed, decision.n_trusted) == (250, 0)


def test_after_a_guard_has_withdrawn_a_ranker_rounds_begin_from_what_serves_and_never_publish_it_again(
    house: House,
) -> None:
    good = house.serving
    bad = house.decide().to_version
    reason = "guard calibration: predicted over happened of like is 3.20"
    assert list(house.registry.withdraw("ranker", bad, now_ms=5, reason=reason)) == ["default"]
    assert house.serving == good
    house.pages.known_until_ms += 150 * HOUR_MS
    decision = house.decide()
    assert decision.from_version == good
    assert decision.to_version not in {"", bad}
    assert (decision.n_replayed, decision.n_trusted) == (250, 0)  # none of the hours that it learned from
    # The very round that made it, asked for once more: the same bytes, and refused for that alone.
    house.registry.withdraw("ranker", decision.to_version, now_ms=6, reason=reason)
    house.decisions.path.unlink()
    house.pages.known_until_ms -= 150 * HOUR_MS
    again = house.decide()
    assert (again.verdict, again.to_version, house.serving) == ("refused", "", good)
    assert again.why == f"{bad} was withdrawn before"


def test_what_serves_although_it_was_withdrawn_is_not_learned_on_from(house: House) -> None:
    bad = house.serving
    line = {"at_ms": 5, "serial": 1, "kind": "ranker", "version": bad, "reason": "killed before the pointer moved"}
    (house.registry.root / WITHDRAWN_FILE).write_bytes(msgspec.json.encode(line) + b"\n")
    waiting = house.run()
    assert isinstance(waiting, Waiting)
    assert waiting.why.startswith(f"ranker {bad} serves and was withdrawn")
    house.registry.promote({"ranker": bad}, now_ms=6, note="it is good, I have looked")
    assert house.decide().from_version == bad


def test_a_rollback_while_a_round_is_at_work_makes_it_begin_anew(house: House) -> None:
    house.decide()
    house.pages.known_until_ms += 150 * HOUR_MS
    house.show = ended_at("judging (pages)")
    with pytest.raises(KilledError):
        house.run()
    house.registry.rollback(now_ms=5)
    house.show = in_silence
    decision = house.decide()
    assert decision.from_version == house.registry.manifest("ranker", decision.to_version).settings["learned_on_from"]
    assert decision.from_version == house.registry.versions("ranker")[0]


def test_somebody_elses_promotion_meanwhile_makes_what_was_judged_void(house: House) -> None:
    folder = house.registry.folder("ranker", house.serving)
    copied = shutil.copytree(folder, house.folder / "copy", ignore=shutil.ignore_patterns("manifest.json"))
    said = Description(
        kind="ranker", feature_schema_hash=SAMPLES.meta.schema, from_ms=0, until_ms=N_SEED * HOUR_MS, data="by hand"
    )
    other = house.registry.publish(copied, said, now_ms=1_650_000_000_000).version

    @contextmanager
    def promoting(what: str) -> Iterator[SilentStep]:
        yield SilentStep()
        if what == "judging (pages)":
            house.registry.promote({"ranker": other}, now_ms=6, note="by hand")

    house.show = promoting
    void = house.decide()
    assert (void.verdict, void.to_version, house.serving) == ("void", "", other)
    house.show = in_silence
    again = house.decide()
    assert (again.number, again.from_ms, again.from_version) == (2, void.from_ms, other)  # beside what serves now


def ended_at(stage: str) -> object:
    @contextmanager
    def show(what: str) -> Iterator[SilentStep]:
        if what == stage:
            raise KilledError
        yield SilentStep()

    return show


@pytest.mark.parametrize("stage", ["predicting before learning (pages)", "learning on (steps)", "judging (pages)"])
def test_a_round_that_is_killed_ends_with_the_same_ranker(
    house: House, seeded: Path, tmp_path: Path, stage: str
) -> None:
    shutil.copytree(seeded / "models", tmp_path / "whole" / "models")
    whole = House(tmp_path / "whole").decide()
    house.show = ended_at(stage)
    with pytest.raises(KilledError):
        house.run()
    house.show = in_silence
    house.pages = Pages(N_SEED + 300)  # the log goes on: the round does not
    cut = house.decide()
    assert cut.to_version == whole.to_version
    assert msgspec.structs.replace(cut, seconds={}) == msgspec.structs.replace(whole, seconds={})


def test_killed_in_the_midst_of_steps_it_goes_on_with_the_same_bytes(
    house: House, seeded: Path, tmp_path: Path
) -> None:
    shutil.copytree(seeded / "models", tmp_path / "whole" / "models")
    whole = House(tmp_path / "whole").decide()
    steps: list[int] = []

    class Counting(SilentStep):
        def advance(self, n: int = 1) -> None:
            steps.append(n)
            if len(steps) == 6:
                raise KilledError

    @contextmanager
    def show(what: str) -> Iterator[SilentStep]:
        yield Counting() if what == "learning on (steps)" else SilentStep()

    house.show = show
    with pytest.raises(KilledError):
        house.run()
    cut = house.decide()
    assert cut.to_version == whole.to_version
    assert cut.n_steps > 6


def test_what_was_decided_is_carried_out_once_however_often_it_is_said(house: House) -> None:
    kept: list[Decision] = []
    house.round.decide = lambda decision: kept.append(decision) or _raise()  # type: ignore[method-assign,func-returns-value]
    with pytest.raises(KilledError):
        house.run()
    del house.round.decide  # type: ignore[attr-defined]
    (decision,) = kept
    house.round.decide(decision)  # killed behind it: nothing is promoted yet
    assert house.decide() == decision
    assert house.serving == decision.to_version
    # Killed before the folder was gone: it is said again, after a guard has rolled it back.
    house.registry.rollback(now_ms=7)
    (house.folder / "unfinished" / "round.json").write_bytes(b"{}")
    house.round.decide(decision)
    house.decide()
    assert house.serving == decision.from_version
    assert [each.number for each in house.decisions.all()] == [1]


def _raise() -> None:
    raise KilledError


def test_of_what_had_to_be_forgotten_nothing_is_published(house: House) -> None:
    @contextmanager
    def erasing(what: str) -> Iterator[SilentStep]:
        yield SilentStep()
        if what == "judging (pages)":
            shutil.rmtree(house.round.path)

    house.show = erasing
    before = house.serving
    void = house.decide()
    assert (void.verdict, house.serving, house.registry.versions("ranker")) == ("void", before, (before,))
    assert "forgotten" in void.why


def test_without_a_ranker_that_serves_there_is_nothing_to_learn_on_from(house: House) -> None:
    house.registry.promote({"ranker": None}, now_ms=5)
    waiting = house.run()
    assert isinstance(waiting, Waiting)
    assert "no ranker serves" in waiting.why
