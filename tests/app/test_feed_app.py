"""One worker's service over a real home: pages, the door, readiness, served events."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from litestar.testing import TestClient

from millrace.app import wiring
from millrace.app.commands.init import make_home
from millrace.app.flywheel_parts import join_warnings
from millrace.app.settings import CONFIG_NAME, load_settings
from millrace.events.feature_events import FeaturesLogged
from millrace.events.feed_events import Served
from millrace.flywheel.join_stats import JoinStats
from millrace.flywheel.join_status import JoinStatus, keep_status
from millrace.flywheel.join_watch import JoinRate
from millrace.mixer.feed import FeedResponse

PATIENT = "[home]\ndeadline_ms = 20_000\nclaim_timeout_ms = 20_000\n"
"""The first page of a process may compile kernels; that must not decide what these tests see."""


def event(event_id: str, /, **payload: Any) -> dict[str, Any]:
    return {"event_id": event_id, "payload": payload}


def a_post(name: str, author: str, text: str = "hello") -> dict[str, Any]:
    return event(f"create-{name}", type="PostCreated", post_id=name, author_id=author, text=text)


def follow(follower: str, followee: str) -> dict[str, Any]:
    return event(f"{follower}-{followee}", type="FollowChanged", follower_id=follower, followee_id=followee)


def a_join_status(alarm: str) -> JoinStatus:
    rate = JoinRate(n_looks=80, n_deeds=9, looks_frac=0.4, deeds_frac=1.0, late_frac=0.0, before_frac=None, alarm=alarm)
    return JoinStatus(
        epoch=3, position=(90,), told_ms=9, watermark_ms=8, lag_ms=0, lag_records=4, records_per_s=1.0, n_records=90,
        n_pages=5, n_samples=61, n_corrections=2, n_unreadable=0, page_bytes=1, mean_page_bytes=1.0, negative_rate=1.0,
        rate=rate, stats=JoinStats(),
    )  # fmt: skip


class Worker:
    """A worker in this process: log, replica, service, client."""

    def __init__(self, home: Path, *, follows: bool = True, config: str = PATIENT) -> None:
        (home / CONFIG_NAME).write_text(config)
        settings, _ = make_home(home)
        self.settings = settings
        self.log = wiring.build_log(settings)
        self.codec = wiring.build_codec(settings)
        self.replica = wiring.build_replica(settings, self.log)
        app = wiring.build_http_app(settings, self.replica)
        if follows:
            app.on_startup.append(self._follow)
            app.on_shutdown.append(self._stop)
        self.client = TestClient(app, base_url="http://127.0.0.1")

    async def _follow(self) -> None:
        self.replica.restore()
        self.following = asyncio.create_task(self.replica.follow())

    async def _stop(self) -> None:
        self.following.cancel()

    def send(self, *events: dict[str, Any]) -> list[int]:
        answer = self.client.post("/api/v1/events", content=msgspec.json.encode(events))
        assert answer.json()["n_refused"] == 0, answer.text
        return list(answer.json()["state_offset"])

    def page(self, viewer: str, **params: Any) -> FeedResponse:
        answer = self.client.get("/api/v1/timeline/home", params={"viewer": viewer, **params})
        assert answer.status_code == 200, answer.text
        return msgspec.json.decode(answer.content, type=FeedResponse)

    def wait(self, condition: Callable[[], bool]) -> None:
        deadline_s = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < deadline_s

    def wait_for(self, offset: list[int]) -> None:
        self.wait(lambda: self.client.get("/readyz").json()["state_offset"] >= offset)

    def served(self) -> list[Served]:
        consumer = self.log.subscribe("test", start=self.log.begin(), topics=["events.served"])
        return [self.codec.decode(data).payload for data in consumer.poll(1_000).data]


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    worker = Worker(tmp_path)
    with worker.client:
        worker.wait(lambda: worker.client.get("/readyz").status_code == 200)
        yield worker
    worker.replica.close()
    worker.log.close()


def test_a_page_holds_what_the_viewer_follows_with_the_reason(worker: Worker) -> None:
    name = event("n", type="ProfileUpdated", user_id="ada", name="Ada")
    worker.wait_for(worker.send(name, follow("vic", "ada"), a_post("p1", "ada", "The wheel turns.")))
    page = worker.page("vic")
    assert [post.post_id for post in page.posts] == ["p1"]
    post = page.posts[0]
    assert (post.author.name, post.text, post.sources[0]) == ("Ada", "The wheel turns.", "in_network")
    assert post.reason == "You follow Ada"
    assert page.end_of_feed
    assert page.debug_info is not None
    assert page.debug_info.candidate_count == 1
    assert not page.degraded


def test_a_page_is_logged_as_served_once_it_has_left(worker: Worker) -> None:
    worker.wait_for(worker.send(follow("vic", "ada"), a_post("p1", "ada")))
    page = worker.page("vic")
    worker.wait(lambda: len(worker.served()) == 1)
    served = worker.served()[0]
    assert served.request_id == page.request_id
    assert served.viewer_id == "vic"
    assert [item.post_id for item in served.items] == ["p1"]
    assert page.debug_info is not None
    assert served.state_offset == page.debug_info.state_offset


def test_a_served_post_does_not_come_again(worker: Worker) -> None:
    worker.wait_for(worker.send(follow("vic", "ada"), a_post("p1", "ada"), a_post("p2", "ada")))
    first = worker.page("vic", limit=1)
    second = worker.page("vic", limit=1)
    assert {post.post_id for post in (*first.posts, *second.posts)} == {"p1", "p2"}
    assert worker.page("vic").posts == ()


def test_a_cursor_and_a_request_id_give_the_same_page_again_byte_for_byte(worker: Worker) -> None:
    worker.wait_for(worker.send(*(a_post(f"p{n}", f"a{n}") for n in range(30))))

    def get(correlation_id: str = "", **params: Any) -> bytes:
        headers = {"x-request-id": correlation_id} if correlation_id else {}
        answer = worker.client.get("/api/v1/timeline/home", params={"viewer": "vic", **params}, headers=headers)
        assert answer.status_code == 200, answer.text
        assert answer.headers.get("x-request-id", "") == correlation_id
        return answer.content

    first = get("tab", limit=10)
    cursor = msgspec.json.decode(first, type=FeedResponse).cursor
    second = get("tab", limit=10, cursor=cursor)
    assert get("tab", limit=10) == first
    assert get("other", limit=10, cursor=cursor) == second
    pages = [msgspec.json.decode(page, type=FeedResponse) for page in (first, second)]
    assert len({post.post_id for page in pages for post in page.posts}) == 20
    last = worker.page("vic", limit=20, cursor=pages[1].cursor)
    assert (len(last.posts), last.end_of_feed, last.cursor) == (10, True, None)
    assert msgspec.json.decode(get("tab", debug=False), type=FeedResponse).debug_info is None


def test_served_events_are_written_before_the_server_ends(tmp_path: Path) -> None:
    worker = Worker(tmp_path)
    with worker.client:
        worker.wait(lambda: worker.client.get("/readyz").status_code == 200)
        worker.wait_for(worker.send(a_post("p1", "ada")))
        request_id = worker.page("vic").request_id
    assert len(worker.served()) == 1
    consumer = worker.log.subscribe("test", start=worker.log.begin(), topics=["events.features"])
    logged = [worker.codec.decode(data).payload for data in consumer.poll(10).data]
    consumer.close()
    assert [type(payload) for payload in logged][:1] == [FeaturesLogged]
    assert {payload.request_id for payload in logged} == {request_id}
    worker.replica.close()
    worker.log.close()


def test_a_viewer_whom_nobody_knows_gets_a_page(worker: Worker) -> None:
    like = event("l", type="Engagement", viewer_id="bob", post_id="p1", action="like")
    worker.wait_for(worker.send(a_post("p1", "ada"), like))
    assert [post.post_id for post in worker.page("stranger").posts] == ["p1"]


def test_debug_information_can_be_left_out(worker: Worker) -> None:
    assert worker.page("vic", debug=False).debug_info is None


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({}, "viewer"),
        ({"viewer": ""}, "viewer '': 0 bytes long"),
        ({"viewer": "x" * 200}, "200 bytes long"),
        ({"viewer": "a\nb"}, "control characters"),
        ({"viewer": "v", "limit": 0}, "limit"),
        ({"viewer": "v", "limit": 51}, "limit"),
        ({"viewer": "v", "limit": "many"}, "limit"),
        ({"viewer": "v", "debug": "perhaps"}, "debug"),
        ({"viewer": "v", "cursor": "garbage"}, "cursor 'garbage': not a cursor that this server gave out"),
        ({"viewer": "v", "cursor": ""}, "cursor"),
    ],
)
def test_a_wrong_parameter_is_refused_with_its_name(worker: Worker, params: dict[str, Any], message: str) -> None:
    answer = worker.client.get("/api/v1/timeline/home", params=params)
    assert answer.status_code == 400
    assert message in answer.json()["error"]["message"]
    assert worker.served() == []


def test_active_viewers_are_named(worker: Worker) -> None:
    likes = [
        event(f"l{n}", type="Engagement", viewer_id=viewer, post_id="p1", action=action)
        for n, (viewer, action) in enumerate((("bob", "like"), ("bob", "share"), ("cyd", "like")))
    ]
    worker.wait_for(worker.send(a_post("p1", "ada"), follow("bob", "ada"), *likes))
    found = worker.client.get("/api/v1/viewers", params={"limit": 2}).json()
    assert [viewer["user_id"] for viewer in found] == ["bob", "cyd"]
    assert found[0] == {"user_id": "bob", "name": "", "n_actions": 2, "n_following": 1}


def test_a_state_that_has_not_caught_up_serves_no_page(tmp_path: Path) -> None:
    worker = Worker(tmp_path, follows=False)
    with worker.client as client:
        assert client.get("/healthz").status_code == 200
        ready = client.get("/readyz")
        assert ready.status_code == 503
        assert "not caught up" in ready.json()["reason"]
        answer = client.get("/api/v1/timeline/home", params={"viewer": "v"})
        assert answer.status_code == 503
        assert "/readyz" in answer.json()["error"]["remedy"]
        assert client.get("/api/v1/viewers").status_code == 503
    worker.replica.close()
    worker.log.close()


def test_a_join_rate_that_has_fallen_is_told_where_readiness_is_asked_for_and_keeps_nobody_from_serving(
    worker: Worker,
) -> None:
    assert worker.client.get("/readyz").json()["warnings"] == []
    alarm = "of the newest 80 looks 40.0% found their page"
    worker.settings.samples_dir.mkdir(parents=True, exist_ok=True)
    keep_status(worker.settings.samples_dir, a_join_status(alarm))
    worker.wait(lambda: worker.client.get("/readyz").json()["warnings"] == [f"join rate: {alarm}"])
    assert worker.client.get("/readyz").status_code == 200
    keep_status(worker.settings.samples_dir, a_join_status(""))
    worker.wait(lambda: worker.client.get("/readyz").json()["warnings"] == [])


def test_a_home_that_joins_nothing_has_no_old_alarm(tmp_path: Path) -> None:
    settings, _ = make_home(tmp_path / "home")
    settings.samples_dir.mkdir(parents=True)
    keep_status(settings.samples_dir, a_join_status("too few"))
    assert join_warnings(settings) == ("join rate: too few",)
    assert join_warnings(load_settings(settings.home, {}, [("flywheel.joins", "false")])) == ()


def test_metrics_tell_of_pages_components_and_lag(worker: Worker) -> None:
    worker.wait_for(worker.send(a_post("p1", "ada")))
    worker.page("vic", limit=1)
    text = worker.client.get("/metrics").text
    assert 'millrace_pages_total{kind="full",pipeline="home"} 1.0' in text
    assert 'component="in_network"' in text
    assert "millrace_replica_lag_records" in text


def test_the_openapi_document_describes_the_page(worker: Worker) -> None:
    document = worker.client.get("/schema/openapi.json").json()
    home = document["paths"]["/api/v1/timeline/home"]["get"]
    assert [parameter["name"] for parameter in home["parameters"]] == ["viewer", "limit", "cursor", "debug"]
    assert {"FeedResponse", "FeedPost", "EventsAnswer"} <= set(document["components"]["schemas"])


def test_a_claim_store_that_hangs_keeps_a_worker_from_folding_only_for_a_moment(tmp_path: Path) -> None:
    worker = Worker(tmp_path, config="[home]\ndeadline_ms = 20_000\nclaim_timeout_ms = 250\n")

    def ask_for(viewer: str) -> Any:
        return worker.client.get("/api/v1/timeline/home", params={"viewer": viewer})

    with worker.client:
        worker.wait(lambda: worker.client.get("/readyz").status_code == 200)
        worker.wait_for(worker.send(follow("vic", "ada"), a_post("p0", "ada")))
        worker.wait(lambda: ask_for("warm").status_code == 200)  # its first claim makes the file
        with contextlib.closing(sqlite3.connect(worker.settings.claims_path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            worker.replica.take_lag_ms()
            answers: list[Any] = []
            asking = threading.Thread(target=lambda: answers.extend(ask_for(f"v{n}") for n in range(5)))
            asking.start()
            for n in range(1, 6):
                worker.wait_for(worker.send(a_post(f"p{n}", "ada")))
            asking.join()
            other.execute("ROLLBACK")
        assert [answer.status_code for answer in answers] == [503] * 5
        assert {answer.headers["retry-after"] for answer in answers} == {"1"}
        error = answers[0].json()["error"]
        assert "claims: the store does not do its work" in error["message"]
        assert error["remedy"] == "nothing was sent; ask again in a moment"
        # What did not leave is not lost: with the store back, everybody gets it.
        worker.wait(lambda: len((ask_for("v0").json()).get("posts", ())) > 0)
        text = worker.client.get("/metrics").text
    assert 'component="claims",fate="late"' in text
    worker.replica.close()
    worker.log.close()


def test_a_worker_tells_how_old_events_were_when_it_folded_them(worker: Worker) -> None:
    worker.wait_for(worker.send(a_post("p1", "ada")))
    worker.wait(lambda: 'millrace_replica_lag_seconds{role="worker"}' in worker.client.get("/metrics").text)


def test_an_edit_of_the_params_takes_effect_without_a_restart_and_is_stamped(worker: Worker) -> None:
    worker.wait_for(worker.send(a_post("p1", "ada")))
    viewers = map(str, itertools.count())

    def weight() -> float:
        """Return the weight of likes of a page made now, 0.5 by X's profile."""
        page = worker.page(next(viewers))
        why = worker.client.get(f"/api/v1/requests/{page.request_id}/why/p1").json()
        return next(part["weight"] for part in why["actions"] if part["name"] == "like")

    assert weight() == pytest.approx(0.5)
    file = worker.settings.config_path
    file.write_text(f'{PATIENT}value_profile = "classic"\n[params]\n"value.weight_like" = 0.75\n')
    worker.wait(lambda: weight() == pytest.approx(0.75))
    worker.wait(lambda: any(served.params for served in worker.served()))
    before, after = worker.served()[0], worker.served()[-1]
    assert before.params == {}
    assert (after.params["value.weight_like"], after.params["value.weight_click"]) == (0.75, 0.3)
    assert set(after.param_levels.values()) == {"config"}
    file.write_text(f"{PATIENT}[params]\nvalue.weight_like = 'much'\n")
    worker.wait(lambda: "millrace_params_rejected 1.0" in worker.client.get("/metrics").text)
    assert weight() == pytest.approx(0.75)
