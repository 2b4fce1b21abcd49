"""Vectors of a bare `millrace train`: which are made, what a home too small for them does, what a ranker may read."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from millrace.app import wiring
from millrace.app.commands.init import make_home
from millrace.app.home_vectors import READS, make_vectors, sources_for, wanted_vectors, without_unfair
from millrace.app.intake import Intake
from millrace.app.settings import Settings
from millrace.app.training_run import training_run
from millrace.app.vector_training import social_moments, train_home_semantic_ids
from millrace.base.clock import ManualClock
from millrace.base.errors import ConfigError, StoreError
from millrace.events.envelope import AnyEvent
from millrace.features.social_graph import SocialGraph
from millrace.features.social_history import SocialHistory
from millrace.features.social_network import SocialNetwork, SocialShape
from millrace.flywheel.train_semantic_ids import SemanticIdConfig
from millrace.registry.manifest import KINDS
from millrace.testing.builders import NOW_MS, a_follow, a_post_created, an_impression
from millrace.testing.progress import in_silence
from millrace.testing.sample_builders import HOUR_MS, planted_samples


@pytest.fixture
def home(tmp_path: Path) -> Settings:
    return make_home(tmp_path / "home")[0]


def put(home: Settings, events: list[AnyEvent]) -> None:
    with Intake(home, ManualClock(NOW_MS)) as intake:
        intake.take(events)


def texts(first: int, end: int) -> list[AnyEvent]:
    return [
        a_post_created(f"p{n}", "ann", text=f"word{n} and word{n * 7 % 31} in a sentence") for n in range(first, end)
    ]


def test_what_models_read_is_made_unless_it_is_left_out() -> None:
    assert set(READS) <= set(KINDS)
    # No ranker reads social vectors by itself: what nobody reads is not made.
    assert wanted_vectors(()) == ("semantic-ids",)
    assert wanted_vectors(("social",)) == ("semantic-ids",)
    assert wanted_vectors(("social", "semantic-ids")) == ()
    with pytest.raises(ConfigError, match="--without 'media': not what models read; use some of semantic-ids, social"):
        wanted_vectors(("media",))


def test_a_home_too_small_for_vectors_says_so_in_a_line_each_and_goes_on(
    home: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    put(home, texts(0, 3))
    with training_run(home, {}) as run, caplog.at_level(logging.WARNING):
        assert make_vectors(run, home, ("semantic-ids", "social"), in_silence, hours=None, seed=1) == {}
        # Asked again, as by a run that goes on, it is known.
        assert make_vectors(run, home, ("semantic-ids", "social"), in_silence, hours=None, seed=1) == {}
    told = [record.getMessage() for record in caplog.records if record.name == "millrace.app.home_vectors"]
    assert [line.split(":")[0] for line in told] == ["no semantic-ids", "no social"]


def test_vectors_are_of_the_log_where_the_run_began(home: Settings, tmp_path: Path) -> None:
    put(home, [*texts(0, 40), a_follow("ann", "bob")])
    with training_run(home, {}) as run:
        end = run.log_end
    put(home, [*texts(40, 60), a_follow("bob", "ann")])
    config = SemanticIdConfig(n_levels=1, n_codes=4)
    told = train_home_semantic_ids(home, config, tmp_path / "then", in_silence, until=end)
    assert told.learned.n_posts + told.held_out.n_posts == 40
    told = train_home_semantic_ids(home, config, tmp_path / "now", in_silence)
    assert told.learned.n_posts + told.held_out.n_posts == 60
    assert social_moments(home, in_silence, until=end).now.edges.n_edges == 1
    assert social_moments(home, in_silence).now.edges.n_edges == 2


def take_hours(home: Settings, first: int, end: int) -> None:
    """Let somebody be followed, and then a page be looked at, in each of some hours."""
    events: list[AnyEvent] = []
    for hour in range(first, end):
        at_ms = NOW_MS + hour * HOUR_MS
        events.append(a_follow("ann", f"author{hour}", at_ms=at_ms))
        events.append(an_impression(f"viewer{hour}", 1, request_id=f"r{hour}", position=0, at_ms=at_ms))
    with Intake(home, ManualClock(NOW_MS + end * HOUR_MS)) as intake:
        intake.take(events)


def trim(home: Settings, before: int) -> None:
    """Write a checkpoint of all that there is, and forget the log's first records."""
    log = wiring.build_log(home)
    replica = wiring.build_replica(home, log, has_content_reads=False)
    replica.catch_up()
    replica.write_checkpoint(NOW_MS)
    log.trim((before,))
    replica.close()
    log.close()


def test_where_the_log_was_trimmed_moments_begin_at_the_oldest_checkpoint(
    home: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    take_hours(home, 0, 10)
    trim(home, 2 * 5)  # the log goes back to the fifth hour, the checkpoint knows ten follows
    take_hours(home, 10, 40)
    with caplog.at_level(logging.WARNING):
        moments = social_moments(home, in_silence, held_out_frac=0.5)
    hours = [round((at_ms - NOW_MS) / HOUR_MS) for at_ms in moments.as_of_ms]
    assert hours[:5] == [10, 12, 13, 15, 16]
    # Each graph knows the follows of before its page began, one an hour, and no later one.
    n_follows = [graph.edges.n_edges for graph in moments.graphs]
    assert n_follows[: moments.learned + 1] == hours[: moments.learned + 1]
    assert all(n <= hour for n, hour in zip(n_follows, hours, strict=True))
    assert moments.now.edges.n_edges == 40
    assert hours[moments.learned] == 5 + 35 // 2
    assert "the oldest 4 cannot be had; earlier pages are read without social vectors" in caplog.text


def test_no_graph_that_knows_the_pages_held_out_is_learned_from_and_that_is_not_kept(
    home: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    take_hours(home, 0, 40)
    trim(home, 2 * 5)
    with pytest.raises(StoreError, match="no checkpoint is from before the newest pages") as raised:
        social_moments(home, in_silence)
    assert "--without social" in str(raised.value)
    with training_run(home, {}) as run, caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert make_vectors(run, home, ("social",), in_silence, hours=None, seed=1) == {}
        assert not run.has_finished("social")
        # A ranker that was trained without them is not told to have read them by whoever goes on.
        run.stage("ranker", int, lambda: 1)
        assert make_vectors(run, home, ("social",), in_silence, hours=None, seed=1) == {}
    told = [record.getMessage() for record in caplog.records if record.name == "millrace.app.home_vectors"]
    assert [line.split(":")[0] for line in told] == ["social cannot be made now, models go without"] * 2


def test_towers_read_no_social_vectors(home: Settings, tmp_path: Path) -> None:
    put(home, texts(0, 40))
    train_home_semantic_ids(home, SemanticIdConfig(n_levels=1, n_codes=4), tmp_path, in_silence)
    folders = {"semantic-ids": tmp_path, "social": tmp_path / "nowhere"}
    towers = sources_for("retrieval", folders)  # type: ignore[arg-type]
    assert towers.codebooks is not None
    assert towers.social is None
    assert sources_for("ranker", {}).codebooks is None


@pytest.mark.parametrize(("learned_until_ms", "is_fair"), [(90 * HOUR_MS, True), (90 * HOUR_MS + 1, False)])
def test_an_encoder_that_knows_follows_of_the_pages_held_out_is_not_read(
    tmp_path: Path, learned_until_ms: int, is_fair: bool
) -> None:
    shape = SocialShape(n_layers=1, dim=4, hidden=4, n_signature=64)
    weights = {name: np.zeros(size, dtype=np.float32) for name, size in shape.weight_shapes().items()}
    moments: list[tuple[int, SocialGraph]] = []
    SocialHistory.of(SocialNetwork(shape, weights), learned_until_ms, moments).save(tmp_path)
    found = without_unfair(
        {"social": tmp_path}, planted_samples(100), 0.1
    )  # of 100 pages, an hour apart, the newest ten
    assert ("social" in found) == is_fair
