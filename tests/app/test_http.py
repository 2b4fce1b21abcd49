"""The HTTP service around a memory log: the door, health, metrics, the OpenAPI page, who may ask."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from litestar.testing import TestClient

from millrace.app.access import Gate
from millrace.app.api.events import event_routes
from millrace.app.api.health import Readiness, health_routes
from millrace.app.api.timeline import timeline_routes
from millrace.app.door import DoorThread
from millrace.app.http import make_app
from millrace.app.metrics import Metrics
from millrace.app.viewers import ActiveViewer
from millrace.base.clock import ManualClock
from millrace.base.errors import LogFullError
from millrace.events.codec import EventCodec
from millrace.events.registry import EventRegistry
from millrace.mixer.config import HomeConfig
from millrace.mixer.feed import FeedRequest, FeedResponse
from millrace.registry.lanes import LANE_HEADER, LaneReader, sign_lane
from millrace.stream.collector import Collector
from millrace.stream.log import AppendResult
from millrace.stream.memory_log import MemoryLog

NOW_MS = 1_700_000_000_000


class World:
    """A service, its log, and a switch for its readiness."""

    def __init__(self) -> None:
        self.clock = ManualClock(NOW_MS)
        self.codec = EventCodec(EventRegistry())
        self.log = MemoryLog(self.clock)
        self.door = DoorThread(Collector(self.log, self.codec, self.clock))
        self.metrics = Metrics()
        self.is_ready = True
        self.asked: list[tuple[str, FeedRequest]] = []
        gate = Gate()
        routes = [
            *event_routes(
                lambda lines, _caller, _sent_ms: self.door.submit_json(lines),
                self.metrics,
                gate,
                10,
                self.codec.json_schema(),
            ),
            *timeline_routes(
                self.page("home"),
                self.page("following"),
                self.viewers,
                self.next_request_id,
                gate,
                HomeConfig(),
                LaneReader(b"key", self.clock),
            ),
            *health_routes(self.readiness, self.metrics, gate),
        ]
        app = make_app(routes, self.metrics, gate, self.clock, max_body_bytes=20_000)
        self.client = TestClient(app, base_url="http://127.0.0.1:8000")

    def next_request_id(self) -> str:
        return f"request-{len(self.asked)}"

    def page(self, which: str) -> Any:
        async def serve(request: FeedRequest) -> FeedResponse:
            self.asked.append((which, request))
            if request.viewer_id == "bug":
                raise RuntimeError("a secret of the house")
            return FeedResponse(
                request_id=request.request_id,
                generated_at="",
                viewer_id=request.viewer_id,
                posts=(),
                degraded=False,
                end_of_feed=True,
                cursor="next",
            )

        return serve

    async def viewers(self, n: int) -> list[ActiveViewer]:
        return [ActiveViewer(user_id="vic", name="", n_actions=n, n_following=0)]

    def readiness(self) -> Readiness:
        return Readiness(
            is_ready=self.is_ready,
            lag=0 if self.is_ready else 7,
            state_offset=self.log.end(),
            now_ms=self.clock.now_ms(),
            is_time_virtual=False,
        )

    def send(self, body: bytes, **kwargs: Any) -> Any:
        return self.client.post("/api/v1/events", content=body, **kwargs)

    def logged(self) -> list[Any]:
        consumer = self.log.subscribe("test", start=self.log.begin())
        return [self.codec.decode(data) for data in consumer.poll(1_000).data]


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    with world.client:
        yield world
    world.door.close()


def post_event(name: str, **envelope: Any) -> dict[str, Any]:
    return {**envelope, "payload": {"type": "PostCreated", "post_id": name, "author_id": "ada", "text": "hi"}}


def as_array(*events: dict[str, Any]) -> bytes:
    return msgspec.json.encode(events)


def as_lines(*events: dict[str, Any]) -> bytes:
    return b"".join(msgspec.json.encode(event) + b"\n" for event in events)


@pytest.mark.parametrize("encode", [as_array, as_lines])
def test_accepted_events_are_in_the_log(world: World, encode: Any) -> None:
    answer = world.send(encode(post_event("p1"), post_event("p2", event_id="e2", event_time_ms=5)))
    assert answer.status_code == 200
    found = answer.json()
    assert (found["n_accepted"], found["n_duplicates"], found["n_refused"]) == (2, 0, 0)
    assert found["results"][1] == {"status": "accepted", "event_id": "e2", "error": ""}
    assert found["state_offset"] == [2]
    events = world.logged()
    assert [event.payload.post_id for event in events] == ["p1", "p2"]
    assert [event.event_time_ms for event in events] == [NOW_MS, 5]
    assert [event.source for event in events] == ["http", "http"]


def test_sending_a_batch_again_changes_nothing(world: World) -> None:
    body = as_array(post_event("p1", event_id="e1"), post_event("p2", event_time_ms=5))
    world.send(body)
    again = world.send(body)
    assert again.status_code == 200
    assert [result["status"] for result in again.json()["results"]] == ["duplicate", "duplicate"]
    assert len(world.logged()) == 2


def test_a_bad_event_is_refused_by_itself_with_its_reason(world: World) -> None:
    bad = {"payload": {"type": "Engagement", "viewer_id": "v", "post_id": "p", "action": "applaud"}}
    answer = world.send(as_array(post_event("p1"), bad))
    assert answer.status_code == 200
    result = answer.json()["results"][1]
    assert result["status"] == "refused"
    assert "action 'applaud': not known" in result["error"]
    assert len(world.logged()) == 1
    assert [letter.origin for letter in world.log.dead_letters()] == ["door/http"]


def test_served_events_are_the_servers_own(world: World) -> None:
    served = {"payload": {"type": "Served", "request_id": "r", "viewer_id": "v", "pipeline": "home"}}
    answer = world.send(as_array(served))
    assert answer.status_code == 422
    assert "written by the server only" in answer.json()["results"][0]["error"]
    assert world.logged() == []


def test_a_body_that_is_no_json_array_is_refused_as_a_whole(world: World) -> None:
    answer = world.send(b'[{"payload": {}},')
    assert answer.status_code == 400
    assert "not a valid JSON array" in answer.json()["error"]["message"]
    assert "send NDJSON" in answer.json()["error"]["remedy"]
    assert world.logged() == []


def test_too_many_events_are_refused_as_a_whole(world: World) -> None:
    answer = world.send(as_array(*(post_event(f"p{i}") for i in range(11))))
    assert answer.status_code == 413
    assert answer.json()["error"]["message"] == "11 events in one request"
    assert world.logged() == []


def test_too_large_a_body_is_refused(world: World) -> None:
    answer = world.send(b" " * 20_001)
    assert answer.status_code == 413
    assert "error" in answer.json()


def test_no_events_are_fine(world: World) -> None:
    assert world.send(b"[]").json()["results"] == []
    assert world.send(b"").status_code == 200


def test_a_full_disk_acknowledges_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_messages: object) -> AppendResult:
        raise LogFullError("log", value="data/log.db", problem="no room", remedy="free some disk space")

    monkeypatch.setattr(world.log, "append", refuse)
    answer = world.send(as_array(post_event("p1")))
    assert answer.status_code == 507
    assert answer.json()["error"] == {
        "status": 507,
        "message": "log 'data/log.db': no room",
        "remedy": "free some disk space",
    }


def test_health_and_readiness(world: World) -> None:
    assert world.client.get("/healthz").json() == {"status": "ok"}
    assert world.client.get("/readyz").status_code == 200
    world.is_ready = False
    answer = world.client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json() == {
        "is_ready": False,
        "lag": 7,
        "state_offset": [0],
        "now_ms": NOW_MS,
        "is_time_virtual": False,
        "reason": "",
        "warnings": [],
    }


def test_metrics_count_routes_and_events(world: World) -> None:
    world.send(as_array(post_event("p1")))
    text = world.client.get("/metrics").text
    assert 'millrace_requests_total{route="/api/v1/events",status="200"} 1.0' in text
    assert 'millrace_events_total{result="accepted"} 1.0' in text


def test_an_unknown_path_is_answered_in_the_same_shape(world: World) -> None:
    answer = world.client.get("/nowhere")
    assert answer.status_code == 404
    assert answer.json()["error"]["status"] == 404
    assert world.client.get("/api/v1/events").status_code == 405


def test_the_clients_request_id_is_echoed(world: World) -> None:
    assert world.client.get("/healthz", headers={"X-Request-ID": "abc"}).headers["x-request-id"] == "abc"
    assert "x-request-id" not in world.client.get("/healthz").headers
    assert "x-request-id" not in world.client.get("/healthz", headers={"X-Request-ID": "x" * 200}).headers


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},
        {"host": "127.0.0.1.evil.example"},
        {"origin": "https://evil.example"},
        {"origin": "null"},
    ],
)
def test_pages_of_other_sites_are_kept_out(world: World, headers: dict[str, str]) -> None:
    answer = world.send(as_array(post_event("p1")), headers=headers)
    assert answer.status_code == 403
    assert "this machine only" in answer.json()["error"]["message"]
    assert world.logged() == []


def test_pages_of_this_machine_are_let_in(world: World) -> None:
    assert world.client.get("/healthz", headers={"origin": "http://localhost:3000"}).status_code == 200


def test_the_openapi_page_loads_nothing_from_anywhere(world: World) -> None:
    document = world.client.get("/schema/openapi.json").json()
    assert {"/api/v1/events", "/healthz", "/readyz", "/metrics"} <= set(document["paths"])
    body = document["paths"]["/api/v1/events"]["post"]["requestBody"]
    assert set(body["content"]) == {"application/json", "application/x-ndjson"}
    page = world.client.get("/schema")
    assert page.headers["content-type"].startswith("text/html")
    assert "/api/v1/events" in page.text
    assert "<script" not in page.text
    assert "http://" not in page.text
    assert "https://" not in page.text


@pytest.mark.parametrize("which", ["home", "following"])
def test_a_page_is_asked_for_with_everything_that_the_client_said(world: World, which: str) -> None:
    answer = world.client.get(
        f"/api/v1/timeline/{which}",
        params={"viewer": 42, "limit": 7, "cursor": "c.1-x_y=", "debug": "false"},
        headers={"X-Request-ID": "tab-1"},
    )
    assert answer.status_code == 200
    assert answer.json()["cursor"] == "next"
    ((timeline, request),) = world.asked
    assert timeline == which
    assert (request.viewer_id, request.limit, request.cursor, request.debug) == ("42", 7, "c.1-x_y=", False)
    assert request.correlation_id == "tab-1"
    assert request.request_id == answer.json()["request_id"] != "tab-1"


def test_a_signed_header_asks_for_a_lane_of_models_and_one_of_somebody_else_is_refused(world: World) -> None:
    header = {LANE_HEADER: sign_lane("sandbox", "vic", NOW_MS + 1_000, b"key")}
    assert world.client.get("/api/v1/timeline/home", params={"viewer": "vic"}, headers=header).status_code == 200
    assert world.client.get("/api/v1/timeline/home", params={"viewer": "vic"}).status_code == 200
    assert [request.lane for _, request in world.asked] == ["sandbox", "default"]
    refused = world.client.get("/api/v1/timeline/home", params={"viewer": "bob"}, headers=header)
    assert (refused.status_code, len(world.asked)) == (403, 2)


def test_a_first_page_has_no_cursor_and_in_development_mode_says_how_it_was_made(world: World) -> None:
    world.client.get("/api/v1/timeline/home", params={"viewer": "vic"}, headers={"X-Request-ID": "x" * 129})
    ((_, request),) = world.asked
    assert (request.limit, request.cursor, request.correlation_id, request.debug) == (35, None, "", True)


def test_the_servers_own_failure_tells_the_log_and_not_the_client(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    answer = world.client.get("/api/v1/timeline/home", params={"viewer": "bug"})
    assert answer.status_code == 500
    assert answer.json()["error"]["message"] == "the server failed"
    assert "secret" not in answer.text
    assert "a secret of the house" in caplog.text


@pytest.mark.parametrize("path", ["/healthz", "/schema", "/nowhere", "/api/v1/viewers", "/api/v1/timeline/home"])
def test_every_answer_keeps_browsers_from_mischief(world: World, path: str) -> None:
    headers = world.client.get(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "script-src 'self'" in headers["content-security-policy"]
    assert headers.get("cache-control") == ("no-store" if path.startswith("/api/") else None)
