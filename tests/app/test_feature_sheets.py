"""Feature sheets: over HTTP for those who may, and as of a log position, which nothing from later can reach."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from millrace.app import wiring
from millrace.app.commands.init import make_home
from millrace.app.feature_sheets import FeatureSheets, sheets_as_of
from millrace.app.local_feed import folded_replica
from millrace.app.settings import Settings
from millrace.base.clock import ManualClock
from millrace.base.errors import NotFoundError
from millrace.content.semantic_ids import Codebooks, SemanticIdSettings
from millrace.content.vectors import text_vectors
from millrace.registry.manifest import Description
from millrace.stream.log import Position, total
from millrace.testing.builders import NOW_MS, a_follow, a_post_created, an_engagement, an_impression

pytestmark = [pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def service(make_service: Any) -> Any:
    service = make_service("tokens")
    service.send_and_fold(
        "ingest",
        {"type": "FollowChanged", "follower_id": "vic", "followee_id": "ada"},
        {"type": "PostCreated", "post_id": "p1", "author_id": "ada", "text": "of mills", "language": "en"},
        {"type": "Engagement", "viewer_id": "vic", "post_id": "p1", "action": "like"},
    )
    return service


def test_a_viewer_reads_what_is_known_of_themself(service: Any) -> None:
    answer = service.get("/api/v1/users/vic/features", "vic")
    assert answer.status_code == 200
    found = answer.json()
    assert found["counts"]["user_counts_1h"] == {"like": 1.0}
    assert found["counts"]["history_counts_days_7"] == {"like": 1.0}
    assert found["numbers"]["n_following"] == 1
    assert [(entry["post_id"], entry["action"]) for entry in found["history"]] == [("p1", "like")]
    assert found["liked_authors"] == ["ada"]


def test_a_viewer_reads_nobody_elses_and_no_posts(service: Any) -> None:
    assert service.get("/api/v1/users/ada/features", "vic").status_code == 403
    assert service.get("/api/v1/posts/p1/features", "vic").status_code == 403
    assert service.get("/api/v1/users/vic/features", "ingest").status_code == 403
    assert service.get("/api/v1/users/vic/features").status_code == 401


def test_an_operator_reads_any_user_and_any_post(service: Any) -> None:
    found = service.get("/api/v1/posts/p1/features", "admin").json()
    assert found["semantic_id"] == [-1, -1, -1]
    assert (found["author_id"], found["content_id"]) == ("ada", "p1")
    assert found["counts"]["post_counts_1h"] == {"like": 1.0}
    assert service.get("/api/v1/users/ada/features", "admin", history="long_term").json()["history"] == []


def test_what_is_not_known_is_not_found_and_a_grain_that_is_none_is_refused(service: Any) -> None:
    assert service.get("/api/v1/posts/nobody/features", "admin").status_code == 404
    assert service.get("/api/v1/users/nobody/features", "admin").status_code == 404
    assert service.get("/api/v1/users/vic/features", "vic", history="a_century").status_code == 400


def test_as_of_a_position_nothing_from_later_is_known(tmp_path: Path) -> None:
    settings, _ = make_home(tmp_path / "home")
    clock = ManualClock(NOW_MS)
    log = wiring.build_log(settings, clock)
    collector = wiring.build_collector(settings, log, wiring.build_codec(settings), clock)
    before = [a_post_created(1, author_id=10), an_impression(20, 1, dwell_ms=9_000), an_engagement(20, 1, "like")]
    assert collector.submit(before).n_refused == 0
    position = log.end()
    # The leak that is planted: what comes later says that it was before.
    later = [an_engagement(21, 1, "like", at_ms=NOW_MS - 60_000), a_follow(22, 10), a_post_created(2, author_id=10)]
    assert collector.submit(later).n_refused == 0
    end = log.end()
    log.close()

    with sheets_as_of(settings, position) as sheets:
        then, author = asyncio.run(sheets.post("1")), asyncio.run(sheets.user("10"))
        with pytest.raises(NotFoundError):
            asyncio.run(sheets.post("2"))
    with sheets_as_of(settings, end) as sheets:
        now, author_now = asyncio.run(sheets.post("1")), asyncio.run(sheets.user("10"))
    assert then.state_offset == tuple(position)
    likes = [found.counts["post_counts_1h"]["like"] for found in (then, now)]
    likes += [found.counts["author_counts_total"]["like"] for found in (author, author_now)]
    assert likes == [1, 2, 1, 2]
    assert [found.numbers["n_followers"] for found in (author, author_now)] == [0, 1]
    assert [found.numbers["author_followers"] for found in (then, now)] == [0, 1]


def codes_of_mills(settings: Settings, learned_before: int) -> None:
    """Let towers serve whose codebooks have two codes: for what is about mills, and for the contrary."""
    (mills,) = text_vectors(["of mills"]).astype(np.float32)
    shape = SemanticIdSettings(n_levels=2, n_codes=2, n_dims=len(mills), learned_before=learned_before)
    unit = mills / np.linalg.norm(mills)
    level = np.stack([-unit, unit])
    folder = settings.home / f"towers-{learned_before}"
    Codebooks(shape, np.stack([level, 0.1 * level])).save(folder)
    registry = wiring.build_registry(settings)
    said = Description(kind="retrieval", feature_schema_hash="f", from_ms=0, until_ms=1)
    version = registry.publish(folder, said, now_ms=1_000 + learned_before).version
    registry.promote({"retrieval": version}, now_ms=1)


def test_a_posts_semantic_id_is_told_and_not_by_codes_that_know_what_came_later(tmp_path: Path) -> None:
    settings, _ = make_home(tmp_path / "home")
    clock = ManualClock(NOW_MS)
    log = wiring.build_log(settings, clock)
    collector = wiring.build_collector(settings, log, wiring.build_codec(settings), clock)
    posts = [a_post_created(1, author_id=10, text="of mills"), a_post_created(2, author_id=10, text="")]
    assert collector.submit(posts).n_refused == 0
    position = log.end()
    assert collector.submit([a_post_created(3, author_id=10, text="of mills")]).n_refused == 0
    end = log.end()
    log.close()

    def told(at: Position, post: str) -> tuple[int, ...]:
        with sheets_as_of(settings, at) as sheets:
            return asyncio.run(sheets.post(post)).semantic_id

    assert told(end, "1") == (-1, -1, -1)  # nothing serves that has codebooks
    codes_of_mills(settings, total(position))
    assert (told(position, "1"), told(end, "1"), told(end, "2")) == ((1, 0), (1, 0), (-1, -1))
    codes_of_mills(settings, total(end))
    assert (told(position, "1"), told(end, "1")) == ((-1, -1, -1), (1, 0))
    codes_of_mills(settings, 0)  # of before codebooks told: sure of nothing but now
    assert told(end, "1") == (-1, -1, -1)
    with folded_replica(settings) as replica:
        assert asyncio.run(FeatureSheets.of(settings, replica, NOW_MS).post("3")).semantic_id == (1, 0)
