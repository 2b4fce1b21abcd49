"""Social vectors are written anew by the keeper and taken over by workers, whatever is damaged in between."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from millrace.app.commands.init import make_home
from millrace.app.settings import Settings
from millrace.app.social_refresh import (
    SocialFollower,
    SocialFollowers,
    SocialRefresher,
    configured_encoders,
    live_encoders,
    newest_vectors,
)
from millrace.base.errors import SchemaError, StoreError
from millrace.features.social_lookup import SocialLookup
from millrace.features.social_network import SocialNetwork, SocialShape
from millrace.features.social_vectors import FILE_NAME, SocialVectors
from millrace.mixer.feed_state import FeedState
from millrace.models.config import RankerConfig
from millrace.registry.manifest import Description
from millrace.registry.registry import Registry
from millrace.stores.config import StoresConfig

SHAPE = SocialShape(n_layers=2, dim=4, hidden=6, n_signature=64)


def network(seed: int = 0) -> SocialNetwork:
    rng = np.random.default_rng(seed)
    return SocialNetwork(
        SHAPE, {name: rng.normal(size=shape).astype(np.float32) for name, shape in SHAPE.weight_shapes().items()}
    )


DIGEST = network().digest()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return make_home(tmp_path / "home")[0]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The exported folder of a model that reads vectors of the encoder, of whose training nobody is left."""
    SocialVectors(network()).save(tmp_path / "model")
    return tmp_path / "model"


def a_state(*edges: tuple[int, int]) -> FeedState:
    state = FeedState(StoresConfig())
    pairs = np.array(edges, dtype=np.int64)
    state.follow_graph.ingest(pairs[:, 0].copy(), pairs[:, 1].copy())
    return state


def test_what_the_keeper_writes_is_what_a_new_worker_begins_with(settings: Settings, model: Path) -> None:
    refresher = SocialRefresher(lambda: {DIGEST: model}, settings.social_dir)
    before = newest_vectors(settings, model, DIGEST)
    assert before is not None
    assert len(before.user_ids) == 0
    assert refresher.refresh(a_state((1, 2), (2, 3))) == 1
    after = newest_vectors(settings, model, DIGEST)
    assert after is not None
    assert after.user_ids.tolist() == [1, 2, 3]
    assert newest_vectors(settings, model, "") is None


def test_a_running_worker_takes_newer_vectors_over_once(settings: Settings, model: Path) -> None:
    refresher = SocialRefresher(lambda: {DIGEST: model}, settings.social_dir)
    state = a_state((1, 2), (2, 3))
    lookup = SocialLookup(SocialVectors.load(model), state.follow_graph)
    follower = SocialFollower(lookup, settings.social_dir / DIGEST, DIGEST)
    version = lookup.version()
    assert not follower.poll()
    refresher.refresh(state)
    assert follower.poll()
    assert lookup.version() != version
    expected = SocialVectors.load(settings.social_dir / DIGEST).vectors(np.array([1, 2, 3]))[0]
    assert np.array_equal(lookup.vectors(np.array([1, 2, 3]))[0], expected)
    assert not follower.poll()


def test_a_damaged_refresh_is_not_taken_over_and_the_next_one_is(settings: Settings, model: Path) -> None:
    refresher = SocialRefresher(lambda: {DIGEST: model}, settings.social_dir)
    state = a_state((1, 2))
    lookup = SocialLookup(SocialVectors.load(model), state.follow_graph)
    follower = SocialFollower(lookup, settings.social_dir / DIGEST, DIGEST)
    (settings.social_dir / DIGEST).mkdir(parents=True)
    (settings.social_dir / DIGEST / FILE_NAME).write_bytes(b"half of a file")
    with pytest.raises(StoreError, match="social"):
        follower.poll()
    begun_with = newest_vectors(settings, model, DIGEST)
    assert begun_with is not None
    assert len(begun_with.user_ids) == 0  # those of the training
    refresher.refresh(state)
    assert follower.poll()


def test_encoders_that_no_model_has_any_more_leave_nothing_behind(settings: Settings, model: Path) -> None:
    encoders = {DIGEST: model}
    refresher = SocialRefresher(lambda: encoders, settings.social_dir)
    assert refresher.refresh(a_state((1, 2))) == 1
    encoders.clear()
    assert refresher.refresh(a_state((1, 2))) == 0
    assert not any(settings.social_dir.iterdir())
    assert configured_encoders(settings) == {}


def test_the_encoders_of_all_that_serves_are_refreshed(settings: Settings, model: Path) -> None:
    registry = Registry(settings.models_dir)
    assert live_encoders(settings) == {}
    said = Description(kind="ranker", feature_schema_hash="f", from_ms=0, until_ms=1)
    (model / "ranker.json").write_bytes(msgspec.json.encode(RankerConfig(social=DIGEST)))
    reads = registry.publish(model, said, now_ms=1_000)
    registry.promote({"ranker": reads.version}, now_ms=1_000)
    (model / "ranker.json").write_bytes(msgspec.json.encode(RankerConfig()))
    reads_none = registry.publish(model, said, now_ms=2_000)
    (model / "ranker.json").write_bytes(b"{")
    damaged = registry.publish(model, said, now_ms=3_000)
    registry.promote({"ranker": reads_none.version}, lane="b", now_ms=3_000)
    registry.promote({"ranker": damaged.version}, lane="c", now_ms=3_000)
    assert live_encoders(settings) == {DIGEST: registry.folder("ranker", reads.version)}


def test_a_worker_follows_for_all_its_models_and_forgets_those_that_are_gone(settings: Settings, model: Path) -> None:
    state = a_state((1, 2), (2, 3))
    followers = SocialFollowers(settings.social_dir)
    kept, gone = (SocialLookup(SocialVectors.load(model), state.follow_graph) for _ in range(2))
    followers.follow(kept, DIGEST)
    followers.follow(gone, DIGEST)
    del gone
    SocialRefresher(lambda: {DIGEST: model}, settings.social_dir).refresh(state)
    assert followers.poll() == 1
    assert followers.poll() == 0
    (settings.social_dir / DIGEST / FILE_NAME).write_bytes(b"half of a file")
    assert followers.poll() == 0  # told in the log; the old vectors go on
    assert kept.vectors(np.array([1, 2, 3]))[1].all()


def test_a_model_without_its_own_encoder_is_refused(settings: Settings, model: Path) -> None:
    SocialVectors(network(1)).save(model)
    with pytest.raises(SchemaError, match="trained with"):
        newest_vectors(settings, model, DIGEST)
