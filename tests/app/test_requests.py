"""``/api/v1/requests``: how a page was made and why, from any worker, for whoever may know."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
from litestar.testing import TestClient

from millrace.app import wiring
from millrace.app.api.requests import request_routes
from millrace.app.commands.init import make_home
from millrace.app.http import make_app
from millrace.app.settings import CONFIG_NAME, load_settings
from millrace.base.clock import ManualClock
from millrace.mixer.feed import FeedResponse
from millrace.mixer.trace import Trace
from millrace.mixer.trace_answers import PostWhy, RequestTrace

PATIENT = "[home]\ndeadline_ms = 20_000\nclaim_timeout_ms = 20_000\n"
STRANGE = "a//b/ ?#%/é/../"


def event(event_id: str, /, **payload: Any) -> dict[str, Any]:
    return {"event_id": event_id, "payload": payload}


def a_post(name: str, author: str) -> dict[str, Any]:
    return event(f"create-{name}", type="PostCreated", post_id=name, author_id=author, text="hello")


def follow(follower: str, followee: str) -> dict[str, Any]:
    return event(f"{follower}-{followee}", type="FollowChanged", follower_id=follower, followee_id=followee)


class Worker:
    """One worker's service in this process."""

    def __init__(self, home: Path, *, follows: bool = True, config: str = PATIENT) -> None:
        (home / CONFIG_NAME).write_text(config)
        self.settings, _ = make_home(home)
        self.log = wiring.build_log(self.settings)
        self.replica = wiring.build_replica(self.settings, self.log)
        app = wiring.build_http_app(self.settings, self.replica)
        if follows:
            app.on_startup.append(self._follow)
            app.on_shutdown.append(self._stop)
        self.client = TestClient(app, base_url="http://127.0.0.1")

    async def _follow(self) -> None:
        self.replica.restore()
        self.following = asyncio.create_task(self.replica.follow())

    async def _stop(self) -> None:
        self.following.cancel()

    def close(self) -> None:
        self.replica.close()
        self.log.close()

    def wait(self, condition: Callable[[], bool]) -> None:
        deadline_s = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < deadline_s

    def take_in(self, *events: dict[str, Any]) -> None:
        """Send events, and wait until pages are made with them."""
        answer = self.client.post("/api/v1/events", content=msgspec.json.encode(events))
        assert answer.json()["n_refused"] == 0, answer.text
        offset = answer.json()["state_offset"]
        self.wait(lambda: self.client.get("/readyz").json()["state_offset"] >= offset)

    def page(self, viewer: str, **params: Any) -> FeedResponse:
        answer = self.client.get("/api/v1/timeline/home", params={"viewer": viewer, **params})
        assert answer.status_code == 200, answer.text
        return msgspec.json.decode(answer.content, type=FeedResponse)


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    worker = Worker(tmp_path)
    with worker.client:
        worker.wait(lambda: worker.client.get("/readyz").status_code == 200)
        posts = [a_post(f"p{n}", "ada") for n in range(6)]
        like = event("l", type="Engagement", viewer_id="bob", post_id=STRANGE, action="like")
        worker.take_in(follow("vic", "ada"), *posts, a_post(STRANGE, "bob"), a_post("own", "vic"), like)
        yield worker
    worker.close()


def get(worker: Worker, path: str, status: int = 200) -> Any:
    answer = worker.client.get(f"/api/v1/requests/{path}")
    assert answer.status_code == status, answer.text
    return answer.json() if status == 200 else answer.json()["error"]


def why(worker: Worker, request_id: str, post: str) -> PostWhy:
    return msgspec.convert(get(worker, f"{request_id}/why/{quote(post, safe='')}"), PostWhy)


def test_a_page_can_be_asked_about_at_once(worker: Worker) -> None:
    page = worker.page("vic")
    trace = msgspec.convert(get(worker, page.request_id), RequestTrace)
    assert (trace.request_id, trace.viewer_id) == (page.request_id, "vic")
    assert list(trace.posts) == [post.post_id for post in page.posts]
    assert trace.generated_at == page.generated_at
    assert page.debug_info is not None
    assert trace.n_candidates == page.debug_info.candidate_count
    assert {source.name: source.n_found for source in trace.sources if source.n_found} == {
        name: n for name, n in page.debug_info.retrieved.items() if n
    }
    assert {found.name: found.n_dropped for found in trace.filters if found.n_dropped} == page.debug_info.dropped
    assert "stages" not in get(worker, page.request_id)


def test_every_post_can_be_asked_about(worker: Worker) -> None:
    page = worker.page("vic")
    shown = {post.post_id: post for post in page.posts}
    verdicts = {
        post: why(worker, page.request_id, post).verdict for post in ("own", STRANGE, *(f"p{n}" for n in range(6)))
    }
    assert {post for post, verdict in verdicts.items() if verdict == "shown"} == set(shown)
    assert verdicts["own"] == "dropped"
    assert sorted(verdicts.values()) == ["dropped", *["ranked_below"] * 3, *["shown"] * 4]
    found = why(worker, page.request_id, STRANGE)
    assert found.post_id == STRANGE
    assert found.score == pytest.approx(shown[STRANGE].score, rel=1e-6)


@pytest.mark.parametrize("post", ["/", "//x//", "why/", "/why/x", "...", "ﷺ", "+ &="])
def test_post_ids_may_be_any_text(worker: Worker, post: str) -> None:
    worker.take_in(event("any", type="PostCreated", post_id=post, author_id="ada", text="odd"))
    page = worker.page("wim")
    assert why(worker, page.request_id, post).post_id == post
    assert why(worker, page.request_id, post).verdict in ("shown", "ranked_below")


def test_ids_after_every_stage_are_told_where_asked_for(worker: Worker) -> None:
    page = worker.page("vic", limit=2)
    trace = msgspec.convert(get(worker, f"{page.request_id}?ids=1"), RequestTrace)
    assert trace.stages is not None
    assert [stage.stage for stage in trace.stages] == ["retrieved", "ranked", "page"]
    assert {post.post_id for post in trace.stages[0].posts} >= {STRANGE, "own", "p0"}
    assert [post.post_id for post in trace.stages[2].posts] == [post.post_id for post in page.posts]


def test_another_worker_finds_it_too(worker: Worker) -> None:
    page = worker.page("vic")
    other = wiring.build_traces(worker.settings)
    assert Trace(other.read(page.request_id)).head.viewer_id == "vic"


@pytest.mark.parametrize(
    "request_id", ["nonsense", "0-0000000000001-00000000", "7-0184d1e2a000-00000000", "%00", "a b"]
)
def test_requests_that_never_were_are_not_found(worker: Worker, request_id: str) -> None:
    worker.page("vic")
    for path in (request_id, f"{request_id}/why/p1"):
        assert "never heard of here" in get(worker, path, 404)["message"]


def test_a_trace_that_was_overwritten_is_gone_with_the_reason(tmp_path: Path) -> None:
    worker = Worker(tmp_path, config=f"{PATIENT}[traces]\nmax_mb = 1\n")
    with worker.client:
        worker.wait(lambda: worker.client.get("/readyz").status_code == 200)
        worker.take_in(a_post("p1", "ada"))
        first = worker.page("vic").request_id
        traces = wiring.build_traces(worker.settings)
        size = len(traces.read(first))
        for number in range(1_000_000 // size + 2):
            worker.page(f"v{number}", limit=1)
        answer = get(worker, first, 410)
        assert "each process keeps the newest 1 MB" in answer["message"]
        assert "traces.max_mb" in answer["remedy"]
        assert get(worker, f"{first}/why/p1", 410)["message"] == answer["message"]
    worker.close()


def test_posts_that_nobody_knows_and_ids_that_cannot_be_are_refused(worker: Worker) -> None:
    request_id = worker.page("vic").request_id
    assert "was no candidate of this request" in get(worker, f"{request_id}/why/nope", 404)["message"]
    assert "post id ''" in get(worker, f"{request_id}/why/", 400)["message"]
    assert "128 bytes" in get(worker, f"{request_id}/why/{'x' * 200}", 400)["remedy"]
    assert "ids" in get(worker, f"{request_id}?ids=perhaps", 400)["message"]


def test_without_traces_pages_go_on_and_nothing_is_found(tmp_path: Path) -> None:
    worker = Worker(tmp_path, config=f"{PATIENT}[traces]\nis_on = false\n")
    with worker.client:
        worker.wait(lambda: worker.client.get("/readyz").status_code == 200)
        page = worker.page("vic")
        assert "no traces are kept" in get(worker, page.request_id, 404)["message"]
    assert not worker.settings.traces_dir.exists()
    worker.close()


def test_a_state_that_has_not_caught_up_explains_nothing(tmp_path: Path) -> None:
    worker = Worker(tmp_path, follows=False)
    with worker.client:
        for path in ("0-0184d1e2a000-00000000", "0-0184d1e2a000-00000000/why/p1"):
            assert "not caught up" in get(worker, path, 503)["message"]
    worker.close()


def test_with_tokens_viewers_ask_about_their_own_pages_only_and_never_for_ids(worker: Worker) -> None:
    page = worker.page("vic")
    settings = load_settings(worker.settings.home, overrides=[("auth.mode", "tokens")])
    traces, gate, tokens = (build(settings) for build in (wiring.build_traces, wiring.build_gate, wiring.build_tokens))
    routes = request_routes(lambda name: Trace(traces.read(name)), lambda: None, gate)  # type: ignore[arg-type, return-value]
    app = make_app(routes, wiring.build_metrics(settings), gate, ManualClock(5), max_body_bytes=1_000)

    def asks(viewer: str, path: str) -> tuple[int, str]:
        answer = client.get(f"/api/v1/requests/{path}", headers={"Authorization": f"Bearer {tokens.make(viewer, 60)}"})
        return answer.status_code, answer.json().get("error", {}).get("message", "")

    with TestClient(app, base_url="http://127.0.0.1") as client:
        for path in (page.request_id, f"{page.request_id}/why/p1"):
            status, message = asks("bob", path)
            assert (status, "is somebody else's" in message) == (403, True)
            assert client.get(f"/api/v1/requests/{path}").status_code == 401
        status, message = asks("vic", f"{page.request_id}?ids=true")
        assert (status, message) == (403, "ids: is for operators")


def test_with_tokens_what_an_error_says_is_for_operators(worker: Worker) -> None:
    page = worker.page("vic")
    settings = load_settings(worker.settings.home, overrides=[("auth.mode", "tokens")])
    traces, gate, tokens = (build(settings) for build in (wiring.build_traces, wiring.build_gate, wiring.build_tokens))
    told: list[bool] = []

    class Noting:
        async def request(self, *_: Any, with_errors: bool, **_more: Any) -> None:
            told.append(with_errors)

        why = request

    routes = request_routes(lambda name: Trace(traces.read(name)), Noting, gate)  # type: ignore[arg-type]
    app = make_app(routes, wiring.build_metrics(settings), gate, ManualClock(5), max_body_bytes=1_000)
    credentials = (tokens.make("vic", 60), wiring.build_api_keys(settings).add("ada", "admin", 0))
    with TestClient(app, base_url="http://127.0.0.1") as client:
        for credential in credentials:
            for path in (page.request_id, f"{page.request_id}/why/p1"):
                headers = {"Authorization": f"Bearer {credential}"}
                assert client.get(f"/api/v1/requests/{path}", headers=headers).status_code == 200
    assert told == [False, False, True, True]


def test_the_openapi_document_describes_both(worker: Worker) -> None:
    document = worker.client.get("/schema/openapi.json").json()
    assert {"RequestTrace", "PostWhy", "StepInfo"} <= set(document["components"]["schemas"])
    paths = [path for path in document["paths"] if path.startswith("/api/v1/requests/")]
    assert sorted(paths) == [
        "/api/v1/requests/{request_id}",
        "/api/v1/requests/{request_id}/why",
        "/api/v1/requests/{request_id}/why/{post_id}",
    ]
    for path in paths:
        assert {"200", "400", "403", "404", "410", "503"} <= set(document["paths"][path]["get"]["responses"])


def test_traces_are_counted(worker: Worker) -> None:
    worker.page("vic")
    worker.wait(lambda: 'millrace_traces_total{result="written"} 1.0' in worker.client.get("/metrics").text)
