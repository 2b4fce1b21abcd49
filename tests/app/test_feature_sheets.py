"""Feature sheets: over HTTP for those who may, and as of a log position, which nothing from later can reach."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from millrace.app import wiring
from millrace.app.commands.init import make_home
from millrace.app.feature_sheets import sheets_as_of
from millrace.base.clock import ManualClock
from millrace.base.errors import NotFoundError
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
