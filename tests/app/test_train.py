"""`millrace train ranker` on the tiny world: from a log to samples, to a model, to a page that it ranks."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest

from millrace.app import cli, wiring
from millrace.app.as_of import predict_as_of
from millrace.app.commands.init import make_home
from millrace.app.evaluation import hear_log
from millrace.app.intake import Intake, batches
from millrace.app.settings import Settings, load_settings
from millrace.app.social_refresh import configured_encoders
from millrace.app.training import home_samples, train_home_ranker
from millrace.app.vector_training import N_MOMENTS
from millrace.base.actions import Action, ActionSpace
from millrace.base.clock import ManualClock
from millrace.base.errors import MillraceError
from millrace.base.ids import IdHasher, IdKind, hash_id
from millrace.events.envelope import AnyEvent
from millrace.events.feed_events import Engagement, Impression
from millrace.features.encoding.candidates import schema_hash
from millrace.features.social_history import SocialHistory
from millrace.flywheel.maturity import mature
from millrace.flywheel.sample_set import SampleSet
from millrace.flywheel.train_ranker import RankerTraining, load_ranker, predicted
from millrace.models.config import TableConfig, TrunkConfig
from millrace.simulator.config import HOUR_MS, WorldConfig
from millrace.simulator.world import simulate_history
from millrace.testing.builders import a_post_created, an_event
from millrace.testing.progress import in_silence
from millrace.testing.sample_builders import planted_samples

KILLED = """
import os, signal, sys
from millrace.app import cli
from millrace.app.commands import printing
from millrace.testing.progress import in_silence

def until(what):
    if what == "training the ranker (steps)":
        os.kill(os.getpid(), signal.SIGKILL)
    return in_silence(what)

printing.progress = until
cli.run(sys.argv[1:])
"""

pytestmark = [pytest.mark.timeout(300)]

NOW_MS = 1_795_000_000_000


@pytest.fixture(scope="module")
def world() -> list[AnyEvent]:
    return list(simulate_history(WorldConfig(size="tiny", history_ms=30 * HOUR_MS), NOW_MS))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, world: list[AnyEvent]) -> Settings:
    settings, _ = make_home(tmp_path_factory.mktemp("home"))
    with Intake(settings, ManualClock(NOW_MS)) as intake:
        for batch in batches(world):
            intake.take(batch)
    return settings


@pytest.fixture(scope="module")
def samples(home: Settings) -> SampleSet:
    return home_samples(home, in_silence)


def test_samples_hold_what_was_seen_and_what_came_of_it(world: list[AnyEvent], samples: SampleSet) -> None:
    looks = [event.payload for event in world if isinstance(event.payload, Impression)]
    likes = {
        (event.payload.viewer_id, event.payload.post_id)
        for event in world
        if isinstance(event.payload, Engagement) and event.payload.action == "like" and not event.payload.is_undo
    }
    assert 0.9 * len({(look.viewer_id, look.post_id) for look in looks}) < samples.n_rows <= len(looks)
    liked = {(hash_id(IdKind.USER, viewer), hash_id(IdKind.POST, post)) for viewer, post in likes}
    is_like = np.asarray(samples.labels[:, Action.LIKE] > 0)
    viewers = np.asarray(samples.viewers)[samples.slate_of]
    found = set(zip(viewers[is_like].tolist(), np.asarray(samples.post_ids)[is_like].tolist(), strict=True))
    assert found
    assert len(found - liked) <= 0.2 * len(found)  # a repost was liked as itself, and is read as what it carries
    assert samples.meta.schema == schema_hash(ActionSpace())


def test_no_sample_knows_of_anything_later(samples: SampleSet) -> None:
    assert (samples.newest_ms <= samples.now_ms).all()
    lengths = np.diff(samples.history_starts)
    first_of_viewer = np.unique(samples.viewers, return_index=True)[1]
    assert (lengths[first_of_viewer] <= lengths.max()).all()
    assert lengths[first_of_viewer].mean() < lengths.mean()


def test_the_command_trains_and_what_it_wrote_serves_the_same_predictions(
    home: Settings, samples: SampleSet, capsys: pytest.CaptureFixture[str]
) -> None:
    at = ["--home", str(home.home), "--json"]
    assert cli.run(["train", "semantic-ids", "--levels", "2", "--codes", "8", *at]) == 0
    semantic_ids = msgspec.json.decode(capsys.readouterr().out)
    assert semantic_ids["learned"]["levels"][0]["n_dead_codes"] == 0
    assert 0.0 < semantic_ids["learned"]["relative_mse"] < 1.0
    code = cli.run(["train", "ranker", "--semantic-ids", semantic_ids["folder"], "--epochs", "0.3", "--replay", *at])
    told = msgspec.json.decode(capsys.readouterr().out)
    assert code == 0
    assert told["n_steps"] >= 1
    folder = Path(told["folder"])
    settings = load_settings(home.home, None, [("home.ranker", str(folder / "served"))])
    stages = wiring.build_home_pipeline(settings, wiring.build_state(settings)).stages
    assert [ranker.name for ranker in stages.rankers[:2]] == ["counters", "model"]
    # The home pipeline with the model in it, replayed over the log, beside the network as it was trained.
    hasher, log = IdHasher(), wiring.build_log(settings)
    join = wiring.build_slate_join(settings, hasher, window_ms=24 * HOUR_MS, takes_all=True)
    hear_log(settings, log, join, in_silence)
    slates = mature(join.join(), join.last_ms)
    none = np.empty(0, dtype=np.int64)
    found = predict_as_of(settings, log, hasher, slates, none, behind_ms=0, on_progress=lambda _done, _all: None)
    log.close()
    model, report = load_ranker(folder)
    assert report.ranker.trunk.tables.n_sid_levels == 2
    assert model.tables.sids.num_embeddings == 17
    learned = predicted(model, samples, np.arange(len(samples)))
    served = found.probs[found.is_live]
    assert served.shape == learned.shape
    is_same = np.abs(served - learned).max(axis=1) < 1e-4
    assert is_same.mean() > 0.9  # the others read a post that was edited or deleted meanwhile


def test_social_vectors_are_trained_read_by_a_ranker_and_served(
    home: Settings, samples: SampleSet, capsys: pytest.CaptureFixture[str]
) -> None:
    at = ["--home", str(home.home), "--json"]
    assert cli.run(["train", "social", "--steps", "8", "--width", "6", *at]) == 0
    social = msgspec.json.decode(capsys.readouterr().out)
    assert {"social_encoder", "adamic_adar"} <= social["test"].keys() & social["newcomers"].keys()
    history = SocialHistory.load(Path(social["folder"]))
    assert len(history.as_of_ms) == social["n_moments"] > N_MOMENTS
    share = (samples.now_ms <= history.learned_until_ms).mean()
    assert 0.8 < share < 0.87  # of the pages, the newest of which the ranker is judged on
    out = Path(social["folder"]).with_name("social-ranker")
    assert cli.run(["train", "ranker", "--social", social["folder"], "--out", str(out), "--epochs", "0.1", *at]) == 0
    model, report = load_ranker(out)
    assert report.ranker.trunk.social_width == 6
    assert model.sources.social_digest == report.ranker.social == history.encoder
    settings = load_settings(home.home, None, [("home.ranker", str(out / "served"))])
    assert configured_encoders(settings) == {history.encoder: out / "served"}
    log = wiring.build_log(settings)
    replica = wiring.build_replica(settings, log, has_content_reads=False)
    replica.catch_up()
    viewers = np.unique(samples.viewers)
    with wiring.build_models(settings).lease("default") as models:
        assert models.ranker is not None
        served = wiring.build_vectors(settings, replica.state)(models.ranker).social(viewers, 6)
    has_vector = np.abs(np.linalg.norm(served, axis=1) - 1.0) < 1e-5
    assert has_vector.mean() > 0.9  # all but those who follow nobody, whom nobody follows and who wrote nothing
    replica.close()
    log.close()


def test_the_command_learns_the_heads_that_are_named_by_the_loss_that_is(
    home: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    at = ["--home", str(home.home), "--out", str(tmp_path), "--epochs", "0.1", "--json"]
    assert cli.run(["train", "ranker", "--loss", "uncertainty", "--heads", "not_dwelled, like", *at]) == 0
    capsys.readouterr()
    _, report = load_ranker(tmp_path)
    assert report.config.heads == ("like", "not_dwelled")
    assert report.config.is_uncertainty_weighted


def test_of_a_single_task_twin_its_own_head_is_told(tmp_path: Path) -> None:
    trunk = TrunkConfig(d=16, n_layers=1, n_heads=2, max_history=8, tables=TableConfig(width=8, n_post_rows=64))
    training = RankerTraining(trunk=trunk, n_epochs=1, n_slates=20, validation_frac=0.4)
    told = {
        heads: train_home_ranker(
            planted_samples(200), msgspec.structs.replace(training, heads=heads), tmp_path, in_silence
        )
        for heads in ((), ("like",))
    }
    assert [head.action for head in told[()].held_out] == ["like", "not_dwelled"]
    assert [head.action for head in told[("like",)].held_out] == ["like"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--heads", "lick"], "'lick': not an action"),
        (["--heads", "like", "--promote"], "leave out --promote"),
        (["--heads", "like"], "give it a folder of its own: --out twins/like"),
    ],
)
def test_heads_that_cannot_be_learned_or_must_not_serve_are_refused_before_anything_is_read(
    home: Settings, options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["train", "ranker", *options, "--home", str(home.home)]) != 0
    assert said in " ".join(capsys.readouterr().err.split())


def test_options_before_the_name_of_a_model_are_refused(home: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    for before in (["--hours", "24"], ["--promote"], ["--home", str(home.home)]):
        assert cli.run(["train", *before, "ranker"]) == 2
        told = " ".join(capsys.readouterr().err.split())
        assert f"option {before[0]}: stands before ranker" in told
        assert f"write it behind: millrace train ranker {before[0]}" in told


def test_a_training_by_name_that_is_killed_learns_from_what_it_had_read(
    world: list[AnyEvent], home: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(home.home, tmp_path / "home")
    killed = load_settings(tmp_path / "home")
    command = ["train", "ranker", "--epochs", "0.1", "--hours", "12", "--json"]
    run = subprocess.run([sys.executable, "-c", KILLED, *command, "--home", str(killed.home)], check=False)
    assert run.returncode == -signal.SIGKILL
    looks = [event for event in world if isinstance(event.payload, Impression)][-40:]
    later_ms = NOW_MS + HOUR_MS
    with Intake(killed, ManualClock(later_ms)) as intake:  # the log goes on
        for n, look in enumerate(looks):
            again = msgspec.structs.replace(look.payload, request_id=f"later{n}")
            intake.take([an_event(again, at_ms=later_ms - HOUR_MS // 2 + n)])
        intake.take([a_post_created("late", "late", at_ms=later_ms)])
    assert cli.run([*command, "--home", str(home.home), "--out", str(tmp_path / "in one go")]) == 0
    in_one_go = msgspec.json.decode(capsys.readouterr().out)
    assert cli.run([*command, "--home", str(killed.home)]) == 0
    in_two = msgspec.json.decode(capsys.readouterr().out)
    one, two = (Path(told.pop("folder")) / "model.pt" for told in (in_one_go, in_two))
    assert in_two == in_one_go
    assert two.read_bytes() == one.read_bytes()
    assert cli.run([*command, "--home", str(killed.home), "--fresh"]) == 0
    assert msgspec.json.decode(capsys.readouterr().out)["n_slates"] != in_one_go["n_slates"]
    assert not list(killed.training_dir.glob("unfinished*"))


def test_a_model_that_is_not_there_is_named(home: Settings) -> None:
    settings = load_settings(home.home, None, [("home.ranker", "nowhere")])
    with pytest.raises(MillraceError, match="nowhere"):
        wiring.build_models(settings)
