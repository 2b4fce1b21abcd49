"""What the whole home makes of its settings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from millrace.app import wiring
from millrace.app.checkpoints import write_now
from millrace.app.commands.init import make_home
from millrace.app.settings import Settings
from millrace.base.errors import CheckpointError
from millrace.testing.builders import a_post_created, an_engagement, an_impression


@pytest.fixture
def home(tmp_path: Path) -> Settings:
    settings, _ = make_home(tmp_path / "home")
    return with_actions(settings, "purchase")


def with_actions(settings: Settings, *names: str) -> Settings:
    events = msgspec.structs.replace(settings.config.events, business_actions=names)
    return replace(settings, config=msgspec.structs.replace(settings.config, events=events))


def test_a_home_starts_again_after_a_business_action_was_appended(home: Settings) -> None:
    log = wiring.build_log(home)
    collector = wiring.build_collector(home, log, wiring.build_codec(home))
    collector.submit([a_post_created(1), an_impression(), an_engagement(20, 1, "purchase")])
    log.trim(write_now(home))  # from now on the state can be had from the checkpoint alone
    for names, n_columns in ((("purchase", "gift"), 26), (("purchase",), 25)):
        later = with_actions(home, *names)
        replica = wiring.build_replica(later, log, has_content_reads=False)
        assert replica.restore() is not None
        state = replica.state
        counts = state.engagements.counters.post_counts(state.hasher.posts(["1"]), 0)
        assert counts.shape[-1] == n_columns
        assert counts[0, 1, 23] == 1
        assert counts[0, 1, -1] == 1
        replica.close()
    reordered: list[tuple[str, ...]] = [(), ("gift", "purchase")]
    for other in reordered:
        refused = wiring.build_replica(with_actions(home, *other), log, has_content_reads=False)
        with pytest.raises(CheckpointError, match="none can be used"):
            refused.restore()
        assert "business actions" in str(refused.refused[0])
        refused.close()
    log.close()
