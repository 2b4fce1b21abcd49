"""The pre-ranker is distilled anew after so many promoted rankers, and serves if good enough: once, kills or not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from millrace.app import cli, wiring
from millrace.app.commands.flywheel_run import round_words
from millrace.app.commands.init import make_home
from millrace.app.flywheel_rounds import decision_log, keep_learning
from millrace.app.flywheel_status import flywheel_status
from millrace.app.settings import Settings, load_settings
from millrace.app.student_renewal import distillation_log, renew_student
from millrace.app.training_run import forget_training
from millrace.base.actions import Action
from millrace.base.errors import StoreError
from millrace.flywheel.decisions import Decision
from millrace.flywheel.distillations import Distillation
from millrace.flywheel.sample_set import SampleSet
from millrace.flywheel.train_pre_ranker import PreRankerTraining
from millrace.flywheel.train_ranker import RankerTraining, train_ranker
from millrace.models.config import TableConfig, TrunkConfig
from millrace.registry.manifest import Description
from millrace.testing.progress import SilentStep, in_silence
from millrace.testing.sample_builders import HOUR_MS, planted_samples

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

TRUNK = TrunkConfig(
    d=16, n_layers=1, n_heads=2, max_history=8, tables=TableConfig(width=8, n_post_rows=64, n_author_rows=16)
)
LEARNS = PreRankerTraining(
    d=16, n_hidden=16, n_interests=2, n_epochs=8, n_slates=20, n_warm_up=5, report_every=20, learning_rate=2e-2
)
EVERY = "flywheel.learning.distils_every"
N_PAGES = 400
"""One an hour."""
SAMPLES = planted_samples(N_PAGES)


class KilledError(Exception):
    """The process ended here."""


class Pages:
    """A source of pages whose labels are all known."""

    known_until_ms = N_PAGES * HOUR_MS

    def __init__(self, all_: SampleSet) -> None:
        self._all = all_

    def samples(self, from_ms: int, until_ms: int) -> SampleSet:
        return self._all.between(from_ms, until_ms)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the served form of a ranker that has learned from the first 300 pages."""
    folder = tmp_path_factory.mktemp("ranker")
    how = RankerTraining(trunk=TRUNK, n_epochs=5, n_slates=20, n_warm_up=2, learning_rate=1e-2, table_learning_rate=0.1)
    train_ranker(SAMPLES.take(np.arange(300)), how, folder=folder)
    return folder / "served"


class House:
    """A home with a ranker and a pre-ranker that serve; of every two rankers the pre-ranker is distilled anew."""

    def __init__(self, folder: Path, served: Path, samples: SampleSet = SAMPLES) -> None:
        made, _ = make_home(folder / "home")
        hours = [("flywheel.learning.max_hours", str(N_PAGES)), ("flywheel.learning.replay_hours", "0")]
        self.settings: Settings = load_settings(made.home, {}, [(EVERY, "2"), *hours])
        self.registry = wiring.build_registry(self.settings)
        self.served, self.samples, self.show = served, samples, in_silence
        self.n = 0
        self.first_ranker = self.publish_ranker()
        older = folder / "older"
        older.mkdir()
        (older / "net").write_text("x")
        said = Description(kind="pre_ranker", feature_schema_hash="f", from_ms=0, until_ms=1)
        self.older = self.registry.publish(older, said, now_ms=1_000).version
        self.registry.promote({"ranker": self.first_ranker, "pre_ranker": self.older}, now_ms=1)

    def publish_ranker(self) -> str:
        """Publish a ranker that differs from the others in what is said of it alone."""
        self.n += 1
        said = Description(
            kind="ranker", feature_schema_hash=SAMPLES.meta.schema, from_ms=0, until_ms=300 * HOUR_MS + self.n
        )
        return self.registry.publish(self.served, said, now_ms=1_000 * self.n).version

    def promote_rankers(self, n: int) -> str:
        version = ""
        for _ in range(n):
            version = self.publish_ranker()
            self.registry.promote({"ranker": version}, now_ms=2)
        return version

    def renew(self) -> Distillation | None:
        @contextmanager
        def source(_settings: Settings, _show: object, *, hours: float) -> Iterator[Pages]:
            assert hours == N_PAGES
            yield Pages(self.samples)

        return renew_student(self.settings, self.show, open_source=source, training=LEARNS)

    @property
    def serving(self) -> str | None:
        return self.registry.serving().get("pre_ranker")

    @property
    def told(self) -> list[Distillation]:
        return distillation_log(self.settings).all()


@pytest.fixture
def house(tmp_path: Path, served: Path) -> House:
    return House(tmp_path, served)


def decide(house: House, from_h: int, until_h: int, judged_from_h: int) -> None:
    log = decision_log(house.settings)
    said = Decision(
        number=1 + len(log.all()),
        at_ms=5,
        from_ms=from_h * HOUR_MS,
        until_ms=until_h * HOUR_MS,
        judged_from_ms=judged_from_h * HOUR_MS,
        verdict="promoted",
        why="better",
        to_version=house.first_ranker,
    )
    log.append(said)


def test_after_so_many_rankers_the_pre_ranker_is_that_of_the_one_that_serves(
    house: House, capsys: pytest.CaptureFixture[str]
) -> None:
    assert house.renew() is None
    house.promote_rankers(1)
    assert house.renew() is None
    live = house.promote_rankers(1)
    made = house.renew()
    assert made is not None
    assert (made.verdict, made.ranker, made.from_version) == ("promoted", live, house.older), made.why
    assert made.to_version == house.serving
    assert house.registry.serving()["ranker"] == live
    assert house.registry.history()[-1].note == f"flywheel: {made.why}"
    # The ranker has learned from nothing since page 301; the newest 20 are measured on, half of a tenth of all.
    assert (made.n_pages, made.n_measured) == (380, 20)
    assert (made.from_ms, made.until_ms) == (0, 399 * HOUR_MS + 1)
    assert made.auc_lost is not None
    assert made.auc_lost <= 0.02
    assert house.registry.manifest("pre_ranker", made.to_version).metrics["auc_lost"] == made.auc_lost
    assert house.told == [made]
    assert not list(house.settings.training_dir.glob("unfinished*"))
    # Seen by people.
    assert flywheel_status(house.settings).distillations == (made,)
    home = str(house.settings.home)
    assert cli.run(["flywheel", "history", "--home", home]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert f"pre-ranker, 380 pages: promoted {house.older} → {made.to_version}: distilled anew" in shown
    assert cli.run(["flywheel", "history", "--pre-rankers", "--json", "--home", home]) == 0
    assert json.loads(capsys.readouterr().out)[0]["to_version"] == made.to_version
    # The count begins anew.
    assert house.renew() is None
    house.promote_rankers(1)
    assert house.renew() is None


def test_never_means_never(house: House) -> None:
    house.settings = load_settings(house.settings.home, {}, [(EVERY, "0")])
    house.promote_rankers(30)
    assert house.renew() is None


def test_one_that_was_taken_out_of_service_stays_out(house: House) -> None:
    house.registry.promote({"pre_ranker": None}, now_ms=2)
    house.promote_rankers(5)
    assert house.renew() is None


def test_a_student_that_loses_too_much_is_refused_and_the_next_comes_after_as_many_again(
    tmp_path: Path, served: Path
) -> None:
    # On all pages but those measured on, people did the contrary: the ranker knew better, the student is misled.
    labels = np.array(SAMPLES.labels)
    rows = SAMPLES.rows_of(np.arange(380))
    labels[rows, Action.LIKE] = 1.0 - labels[rows, Action.LIKE]
    house = House(tmp_path, served, replace(SAMPLES, labels=labels))
    house.promote_rankers(2)
    made = house.renew()
    assert made is not None
    assert made.verdict == "refused"
    assert "of its ranker's AUC" in made.why
    assert (house.serving, made.to_version, house.told) == (house.older, "", [made])
    house.promote_rankers(1)
    assert house.renew() is None
    house.promote_rankers(1)
    assert house.renew() is not None


def test_pages_that_rounds_were_judged_on_are_not_learned_from(house: House) -> None:
    decide(house, 300, 350, 340)
    house.promote_rankers(2)
    made = house.renew()
    assert made is not None
    # Of 400 pages 20 are measured on: the newest, since page 301 unlearned. The ten judged before are left alone.
    assert (made.n_pages, made.n_measured) == (370, 20)


@pytest.mark.parametrize("moment", ["asking the ranker (slates)", "distilling (steps)"])
def test_one_that_is_killed_goes_on_and_serves_the_same(
    house: House, served: Path, tmp_path: Path, moment: str
) -> None:
    whole = House(tmp_path / "whole", served)
    whole.promote_rankers(2)
    expected = whole.renew()
    assert expected is not None
    house.promote_rankers(2)

    def until(what: str) -> SilentStep:
        if what == moment:
            raise KilledError
        return in_silence(what)  # type: ignore[return-value]

    house.show = until  # type: ignore[assignment]
    with pytest.raises(KilledError):
        house.renew()
    assert house.told == []
    assert house.serving == house.older
    house.show = in_silence
    made = house.renew()
    assert made is not None
    assert (made.verdict, made.auc_lost) == ("promoted", expected.auc_lost)
    files = [
        sorted((each.registry.folder("pre_ranker", version)).glob("*.npy"))
        for each, version in ((house, made.to_version), (whole, expected.to_version))
    ]
    assert [path.read_bytes() for path in files[0]] == [path.read_bytes() for path in files[1]]


def test_what_was_decided_is_carried_out_by_the_next_one_once(house: House) -> None:
    house.promote_rankers(2)
    shutil.copytree(house.registry.root, house.settings.home / "before")
    made = house.renew()
    assert made is not None
    for name in ("live.json", "history.jsonl"):  # killed before the pointer moved
        shutil.copy(house.settings.home / "before" / name, house.registry.root / name)
    assert house.serving == house.older
    assert house.renew() == made
    assert house.serving == made.to_version
    assert house.renew() is None
    assert house.told == [made]
    # Rolled back by hand, it is not let in again.
    house.registry.rollback(now_ms=3)
    assert house.renew() is None
    assert house.serving == house.older


def test_beside_another_ranker_than_it_was_judged_with_it_does_not_serve_and_is_made_anew(house: House) -> None:
    house.promote_rankers(2)
    shutil.copytree(house.registry.root, house.settings.home / "before")
    made = house.renew()
    assert made is not None
    for name in ("live.json", "history.jsonl"):
        shutil.copy(house.settings.home / "before" / name, house.registry.root / name)
    other = house.promote_rankers(1)
    void = house.renew()
    assert void is not None
    assert (void.number, void.verdict) == (2, "void")
    assert house.serving == house.older
    again = house.renew()
    assert again is not None
    assert (again.verdict, again.ranker, again.number) == ("promoted", other, 3)


def test_an_erasure_meanwhile_lets_nothing_serve(house: House) -> None:
    house.promote_rankers(2)

    def erase(what: str) -> SilentStep:
        if what == "distilling (steps)":
            forget_training(house.settings)
        return in_silence(what)  # type: ignore[return-value]

    house.show = erase  # type: ignore[assignment]
    with pytest.raises(StoreError, match="forgotten meanwhile"):
        house.renew()
    assert (house.serving, house.told) == (house.older, [])


def test_a_loop_says_once_why_it_cannot_be_distilled(house: House) -> None:
    house.promote_rankers(2)
    told: list[str] = []
    waits = iter([True, True, False])
    keep_learning(house.settings, in_silence, lambda _: next(waits), lambda found: told.append(round_words(found)))
    assert len([words for words in told if "distilled anew" in words]) == 1
