"""A training that is killed goes on: finished stages are not run again, on the same log, for the same question."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from millrace.app import wiring
from millrace.app.commands.init import make_home
from millrace.app.entropy_gain import EntropyGain
from millrace.app.intake import Intake
from millrace.app.kept_samples import kept_candidates, kept_samples
from millrace.app.settings import Settings, load_settings
from millrace.app.training_all import let_serve
from millrace.app.training_run import forget_training, training_lock, training_run
from millrace.base.clock import SystemClock
from millrace.base.errors import SourceDataError, StoreError
from millrace.flywheel.logged_samples import LoggedCandidates
from millrace.testing.builders import a_post_created
from millrace.testing.sample_builders import planted_samples

OPTIONS = {"hours": None, "epochs": 3.0}


class Told(msgspec.Struct, frozen=True):
    name: str
    gain: EntropyGain


class Killed(BaseException):
    """As if by kill -9: nothing of what is told here is cleaned up."""


@pytest.fixture
def home(tmp_path: Path) -> Settings:
    settings, _ = make_home(tmp_path)
    return settings


class Stages:
    """Three stages that note when they are run; one may be the last."""

    def __init__(self, settings: Settings, options: dict[str, object] | None = None) -> None:
        self.settings, self.options = settings, options or OPTIONS
        self.ran: list[str] = []

    def go(self, killed_in: str = "", *, begins_anew: bool = False) -> list[Told]:
        self.ran.clear()
        with training_run(self.settings, self.options, begins_anew=begins_anew) as run:
            return [
                run.stage(name, Told, self._making(name, killed_in), self.settings.training_dir / name)
                for name in ("ranker", "retrieval", "pre_ranker")
            ]

    def _making(self, name: str, killed_in: str) -> Callable[[], Told]:
        def make() -> Told:
            if name == killed_in:
                raise Killed
            self.ran.append(name)
            folder = self.settings.training_dir / name
            folder.mkdir(exist_ok=True)
            (folder / "model").write_text(name)
            return Told(name, EntropyGain(np.float64(0.5), -math.inf))

        return make


def test_finished_stages_are_not_run_again_and_tell_what_they_told(home: Settings) -> None:
    stages = Stages(home)
    with pytest.raises(Killed):
        stages.go(killed_in="pre_ranker")
    assert stages.ran == ["ranker", "retrieval"]
    told = stages.go()
    assert stages.ran == ["pre_ranker"]
    assert told == [Told(name, EntropyGain(0.5, -math.inf)) for name in ("ranker", "retrieval", "pre_ranker")]


def test_a_run_that_came_to_its_end_is_not_gone_on_with(home: Settings) -> None:
    stages = Stages(home)
    stages.go()
    assert sorted(path.name for path in home.training_dir.iterdir()) == [".lock", "pre_ranker", "ranker", "retrieval"]
    stages.go()
    assert stages.ran == ["ranker", "retrieval", "pre_ranker"]


@pytest.mark.parametrize("change", ["options", "config", "asked", "erased", "marker", "log"])
def test_what_depends_on_something_else_begins_anew(home: Settings, change: str) -> None:
    with pytest.raises(Killed):
        Stages(home).go(killed_in="retrieval")
    stages = Stages(home)
    if change == "options":
        stages = Stages(home, {**OPTIONS, "epochs": 2.0})
    elif change == "config":
        stages = Stages(load_settings(home.home, None, [("home.deadline_ms", "77")]))
    elif change == "erased":
        forget_training(home)
    elif change == "marker":
        (home.training_dir / "unfinished" / "run.json").write_text("{")
    elif change == "log":
        for path in home.data_dir.glob("log.db*"):
            path.unlink()
    stages.go(begins_anew=change == "asked")
    assert stages.ran == ["ranker", "retrieval", "pre_ranker"]


@pytest.mark.parametrize(("error", "is_kept"), [(SourceDataError, False), (StoreError, False), (MemoryError, True)])
def test_what_was_too_little_to_learn_from_is_not_kept(
    home: Settings, error: Callable[..., Exception], is_kept: bool
) -> None:
    with contextlib.suppress(SourceDataError, StoreError, MemoryError), training_run(home, OPTIONS) as run:
        kept_samples(run, lambda: planted_samples(5))
        raise error("samples", problem="too few", remedy="wait") if error is not MemoryError else MemoryError
    assert (home.training_dir / "unfinished" / "samples").exists() == is_kept


@pytest.mark.parametrize(("error", "is_kept"), [(SourceDataError, False), (StoreError, True)])
def test_a_finished_model_is_kept_unless_there_was_too_little(
    home: Settings, error: Callable[..., Exception], is_kept: bool
) -> None:
    stages = Stages(home)
    with (
        contextlib.suppress(SourceDataError, StoreError, Killed),
        training_run(home, OPTIONS) as run,
    ):
        run.stage("social", int, lambda: 1)
        run.stage("ranker", Told, stages._making("ranker", ""), home.training_dir / "ranker")
        raise error("registry", problem="the disk is full", remedy="make room")
    stages.go()
    assert ("ranker" not in stages.ran) == is_kept


def test_a_run_that_had_finished_nothing_begins_on_the_log_as_it_is_now(home: Settings) -> None:
    with pytest.raises(Killed):
        Stages(home).go(killed_in="ranker")
    with Intake(home, SystemClock()) as intake:
        intake.take([a_post_created("p", "ann")])
    with training_run(home, OPTIONS) as run:
        assert run.log_end == 1


def test_another_port_is_the_same_run_and_files_that_somebody_changed_are_made_again(home: Settings) -> None:
    with pytest.raises(Killed):
        Stages(home).go(killed_in="pre_ranker")
    (home.training_dir / "retrieval" / "model").write_text("of another training")
    stages = Stages(load_settings(home.home, None, [("server.port", "0")]))
    stages.go()
    assert stages.ran == ["retrieval", "pre_ranker"]
    assert (home.training_dir / "retrieval" / "model").read_text() == "retrieval"


def test_a_home_is_trained_by_one_process_at_a_time(home: Settings) -> None:
    with (
        training_run(home, OPTIONS),
        pytest.raises(StoreError, match="another process trains"),
        training_run(home, OPTIONS),
    ):
        pass


@pytest.mark.parametrize(
    ("first", "second", "refused"),
    [
        (None, "home/ranker", "another process trains this home's models"),
        ("home/ranker", None, "another process trains this home's models"),
        ("home/ranker", "home/social", "another process trains this home's models"),
        ("twins/like", "twins/like", "another process trains into this folder"),
        ("twins/like", "twins/reply", ""),
        ("twins/like", None, ""),
    ],
)
def test_two_trainings_do_not_write_one_folder(
    home: Settings, tmp_path: Path, first: str | None, second: str | None, refused: str
) -> None:
    places = {"home": home.training_dir, "twins": tmp_path / "twins"}
    one, other = (None if at is None else places[at.split("/")[0]] / at.split("/")[1] for at in (first, second))
    with training_lock(home, one):
        expected = pytest.raises(StoreError, match=refused) if refused else contextlib.nullcontext()
        with expected, training_lock(home, other):
            pass


def test_a_training_by_name_goes_on_with_what_it_had_read_while_the_log_goes_on(home: Settings, tmp_path: Path) -> None:
    def read(n: int, writes: Path, name: str = "ranker", epochs: float = 3.0) -> int:
        """Return how many pages a training learns from that finds so many, and is killed then."""
        found = []
        options = {**OPTIONS, "epochs": epochs, "reads": ("post", "author")}  # read again, a tuple is a list
        with contextlib.suppress(Killed), training_run(home, options, name=name, writes=writes) as run:
            found.append((len(kept_samples(run, lambda: planted_samples(n))), run.log_end))
            raise Killed
        ((n_pages, ends_at),) = found
        assert ends_at == (0 if n_pages == 5 else 1)
        return n_pages

    own, twin = home.training_dir / "ranker", tmp_path / "twin"
    assert read(5, own) == 5
    with Intake(home, SystemClock()) as intake:
        intake.take([a_post_created("p", "ann")])
    assert read(6, own) == 5
    assert read(6, twin) == 6
    assert read(6, own, name="retrieval") == 6
    assert read(7, own) == 5
    assert read(7, own, epochs=2.0) == 7
    assert len(list(home.training_dir.glob("unfinished-*/run.json"))) == 3
    forget_training(home)
    assert list(home.training_dir.glob("unfinished*")) == []


@pytest.mark.parametrize("name", ["", "ranker"])
def test_what_was_forgotten_meanwhile_is_not_published(home: Settings, name: str) -> None:
    def train() -> None:
        with training_run(home, OPTIONS, name=name) as run:
            samples = kept_samples(run, lambda: planted_samples(5))
            run.stage("ranker", int, lambda: 1)
            forget_training(home)
            let_serve(home, run, "ranker", home.training_dir / "ranker", samples, {}, EntropyGain(0.5, 0.1))

    with pytest.raises(StoreError, match="was forgotten meanwhile"):
        train()
    assert not any(path.is_file() for path in home.models_dir.rglob("*"))
    assert list(home.training_dir.glob("unfinished*")) == []


def test_a_stage_that_was_at_work_when_somebody_was_erased_leaves_nothing(home: Settings) -> None:
    def read() -> Any:
        forget_training(home)
        return planted_samples(5)

    with pytest.raises(StoreError, match="train again"), training_run(home, OPTIONS) as run:
        kept_samples(run, read)
    assert list(home.training_dir.glob("unfinished*")) == []


def test_a_run_is_bound_to_the_log_as_it_was_when_it_began(home: Settings) -> None:
    with training_run(home, OPTIONS) as run:
        log = wiring.build_log(home)
        assert run.log_end == sum(log.end())
        log.close()


def test_samples_and_candidates_are_read_once(home: Settings) -> None:
    samples = planted_samples(5)
    n, n_actions = samples.n_rows, samples.labels.shape[1]
    candidates = LoggedCandidates(
        samples=planted_samples(5, seed=2),
        teacher=np.full((n, n_actions), np.nan, dtype=np.float32),
        scores=np.arange(n, dtype=np.float32),
        has_labels=np.arange(n) % 2 == 0,
        is_served=np.zeros(n, dtype=np.bool_),
        is_cut=np.ones(n, dtype=np.bool_),
    )

    def never() -> None:
        raise AssertionError("read again")

    with contextlib.suppress(Killed), training_run(home, OPTIONS) as run:
        kept_samples(run, lambda: samples)
        kept_candidates(run, lambda: candidates)
        raise Killed
    with training_run(home, OPTIONS) as run:
        np.testing.assert_array_equal(kept_samples(run, never).labels, samples.labels)  # type: ignore[arg-type]
        found = kept_candidates(run, never)
        assert found is not None
        np.testing.assert_array_equal(found.scores, candidates.scores)
        np.testing.assert_array_equal(found.has_labels, candidates.has_labels)
        np.testing.assert_array_equal(found.samples.post_ids, candidates.samples.post_ids)
    with training_run(home, OPTIONS) as run:
        assert kept_candidates(run, lambda: None) is None
