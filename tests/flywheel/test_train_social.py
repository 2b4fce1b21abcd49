"""Learning the social encoder: it finds planted communities, and goes on after a kill as if nothing had been."""

import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from millrace.base.errors import SourceDataError  # noqa: E402 - after the check that torch is there
from millrace.features.follow_edges import FollowEdges  # noqa: E402
from millrace.features.social_network import UserContent  # noqa: E402
from millrace.features.social_vectors import SocialVectors  # noqa: E402
from millrace.flywheel.checkpointing import CHECKPOINT_NAME  # noqa: E402
from millrace.flywheel.train_social import (  # noqa: E402
    ENCODER,
    SocialReport,
    SocialTraining,
    train_social,
)
from millrace.models.social import SocialConfig  # noqa: E402

SHORT = SocialTraining(
    encoder=SocialConfig(dim=8, hidden=16, n_signature=64, fanouts=(4, 3, 2), seed=2),
    n_steps=12,
    n_edges=32,
    n_random=16,
    n_warm_up=3,
    report_every=4,
)
WRITTEN = ("social.npz", "report.json", "log.jsonl")


class KilledError(Exception):
    """Stands for the end of the process."""


def communities(n_users: int = 120, n_communities: int = 4, n_follows: int = 12) -> tuple[FollowEdges, np.ndarray]:
    """Users who follow mostly their own community, and which each is of."""
    rng = np.random.default_rng(7)
    community = np.arange(n_users) % n_communities
    followers = np.repeat(np.arange(n_users), n_follows)
    followees = rng.integers(n_users // n_communities, size=len(followers)) * n_communities + community[followers]
    is_stray = rng.random(len(followers)) < 0.1
    followees[is_stray] = rng.integers(n_users, size=int(is_stray.sum()))
    return FollowEdges.of(followers + 1, followees + 1), community


def test_users_of_one_community_come_to_be_alike_and_their_follows_are_found(tmp_path: Path) -> None:
    edges, community = communities()
    config = msgspec.structs.replace(
        SHORT, n_steps=120, report_every=40, encoder=SocialConfig(dim=8, hidden=32, fanouts=(6, 4, 3))
    )
    report = train_social(edges, UserContent(), config, folder=tmp_path, device="cpu")
    vectors = SocialVectors.load(tmp_path).vectors(edges.user_ids)[0].astype(np.float64)
    alike, same = vectors @ vectors.T, community[:, None] == community
    apart = ~np.eye(len(community), dtype=np.bool_)
    assert alike[same & apart].mean() > alike[~same].mean() + 0.3
    assert report.test[ENCODER].auc > 0.8 > 0.6 > report.test["degree"].auc
    assert report.newcomers[ENCODER].auc > 0.75
    assert report.newcomers[ENCODER].n_edges > 10
    assert msgspec.json.decode((tmp_path / "report.json").read_bytes(), type=SocialReport) == report
    lines = [msgspec.json.decode(line) for line in (tmp_path / "log.jsonl").read_bytes().splitlines()]
    assert [line["step"] for line in lines] == [40, 80, 120]
    assert lines[0]["loss"] > lines[2]["loss"]
    assert not (tmp_path / CHECKPOINT_NAME).exists()


@pytest.mark.parametrize("killed_at", [3, 4, 10, 12])
def test_a_run_that_is_cut_off_goes_on_to_the_same_bytes(tmp_path: Path, killed_at: int) -> None:
    edges, _ = communities()

    def stop(done: int, _all: int) -> None:
        if done == killed_at:
            raise KilledError

    train_social(edges, UserContent(), SHORT, folder=tmp_path / "whole", device="cpu")
    with pytest.raises(KilledError):
        train_social(edges, UserContent(), SHORT, folder=tmp_path / "cut", device="cpu", on_progress=stop)
    steps: list[int] = []
    train_social(
        edges,
        UserContent(),
        SHORT,
        folder=tmp_path / "cut",
        device="cpu",
        on_progress=lambda done, _: steps.append(done),
    )
    assert steps == list(range(killed_at // 4 * 4 + 1, 13))
    for name in WRITTEN:
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_a_constant_rate_is_as_the_cosine_until_it_is_reached_and_then_stays(tmp_path: Path) -> None:
    edges, _ = communities()
    for schedule in ("cosine", "constant"):
        for n_steps in (3, 12):  # with a warm-up of three steps
            config = msgspec.structs.replace(SHORT, schedule=schedule, n_steps=n_steps)
            train_social(edges, UserContent(), config, folder=tmp_path / f"{schedule}{n_steps}", device="cpu")
    files = {folder.name: (folder / "social.npz").read_bytes() for folder in tmp_path.iterdir()}
    assert files["cosine3"] == files["constant3"]
    assert files["cosine12"] != files["constant12"]


def test_a_checkpoint_of_other_inputs_is_not_gone_on_from(tmp_path: Path) -> None:
    edges, _ = communities()

    def stop(done: int, _all: int) -> None:
        if done == 6:
            raise KilledError

    with pytest.raises(KilledError):
        train_social(edges, UserContent(), SHORT, folder=tmp_path, device="cpu", on_progress=stop)
    steps: list[int] = []
    fewer = edges.only(np.arange(edges.n_edges) > 0)
    train_social(fewer, UserContent(), SHORT, folder=tmp_path, device="cpu", on_progress=lambda n, _: steps.append(n))
    assert steps == list(range(1, 13))


KILLED_RUN = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_train_social import SHORT, UserContent, communities, train_social

def stop(done, _all):
    if done == 6:
        os.kill(os.getpid(), signal.SIGKILL)

train_social(communities()[0], UserContent(), SHORT, folder=Path({folder!r}), device="cpu", on_progress=stop)
"""


@pytest.mark.slow
def test_a_process_that_is_killed_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    edges, _ = communities()
    script = KILLED_RUN.format(tests=str(Path(__file__).parent), folder=str(tmp_path / "cut"))
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True)
    assert done.returncode == -9, done.stderr
    for name in ("whole", "cut"):
        train_social(edges, UserContent(), SHORT, folder=tmp_path / name, device="cpu")
    for name in WRITTEN:
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_a_graph_without_follows_is_refused(tmp_path: Path) -> None:
    edges = FollowEdges.of(np.array([1]), np.array([2])).only(np.array([False]))
    with pytest.raises(SourceDataError, match="follow graph 0: has no follows to learn from"):
        train_social(edges, UserContent(), SHORT, folder=tmp_path, device="cpu")
