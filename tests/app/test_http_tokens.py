"""Tokens mode over a real home: who gets what, and whose events are taken."""

from __future__ import annotations

from typing import Any

import pytest

# Each timeline has the same rules of access.
TIMELINES = [f"/api/v1/timeline/{name}" for name in ("home", "following")]


@pytest.fixture(scope="module")
def service(make_service: Any) -> Any:
    service = make_service("tokens")
    service.send_and_fold(
        "ingest",
        {"type": "FollowChanged", "follower_id": "vic", "followee_id": "ada"},
        {"type": "FollowChanged", "follower_id": "vic", "followee_id": "bob"},
        *(
            {"type": "PostCreated", "post_id": f"{author}{n}", "author_id": author}
            for author in ("ada", "bob")
            for n in range(9)
        ),
        {"type": "PostCreated", "post_id": "vics", "author_id": "vic", "text": "as it was"},
    )
    return service


def contents(service: Any, *post_ids: str) -> list[str | None]:
    from millrace.base.ids import IdKind

    ids = service.replica.state.hasher.many(IdKind.POST, post_ids)
    found = service.replica.content.posts(ids, service.replica.position)
    return [None if post is None else post.text for post in found]


@pytest.mark.parametrize("path", TIMELINES)
def test_a_token_gets_its_viewers_page_without_naming_anybody(service: Any, path: str) -> None:
    answer = service.get(path, "vic", limit=2)
    assert answer.status_code == 200
    assert answer.json()["viewer_id"] == "vic"
    assert answer.json()["posts"]
    assert answer.json()["debug_info"] is None
    assert answer.headers["cache-control"] == "no-store"
    assert service.get(path, "vic", limit=1, viewer="vic").status_code == 200


@pytest.mark.parametrize("path", TIMELINES)
def test_a_viewer_gets_nobody_elses_page(service: Any, path: str) -> None:
    before = service.written()
    answer = service.get(path, "vic", viewer="bob")
    assert answer.status_code == 403
    assert answer.json()["error"]["message"] == "viewer 'bob': is not you"
    assert service.get(path, "vic", debug="true").status_code == 403
    assert service.get(path, "ingest", viewer="vic").status_code == 403
    assert service.written() == before


@pytest.mark.parametrize("path", TIMELINES)
def test_an_operator_gets_anybodys_page_and_how_it_was_made(service: Any, path: str) -> None:
    answer = service.get(path, "admin", viewer="bob", debug="true", limit=1)
    assert answer.status_code == 200
    assert answer.json()["viewer_id"] == "bob"
    assert answer.json()["debug_info"]["candidate_count"] >= 0
    assert service.get(path, "admin", viewer="bob", limit=1).json()["debug_info"] is None
    assert service.get(path, "admin").status_code == 400


@pytest.mark.parametrize(
    ("path", "statuses"),
    [
        ("/healthz", {"": 200, "vic": 200, "ingest": 200, "admin": 200}),
        ("/readyz", {"": 200, "vic": 200, "ingest": 200, "admin": 200}),
        ("/metrics", {"": 401, "vic": 403, "ingest": 403, "admin": 200}),
        ("/schema", {"": 401, "vic": 403, "ingest": 403, "admin": 200}),
        ("/schema/openapi.json", {"": 401, "vic": 403, "ingest": 403, "admin": 200}),
        ("/api/v1/viewers", {"": 401, "vic": 403, "ingest": 403, "admin": 200}),
        ("/api/v1/models", {"": 401, "vic": 403, "ingest": 403, "admin": 200}),
        ("/api/v1/flywheel", {"": 401, "vic": 403, "ingest": 403, "admin": 200}),
        ("/api/v1/timeline/home", {"": 401, "vic": 200, "ingest": 403, "admin": 400}),
    ],
)
def test_every_route_is_for_whom_it_is_for(service: Any, path: str, statuses: dict[str, int]) -> None:
    assert {who: service.get(path, who).status_code for who in statuses} == statuses


def test_every_route_but_health_asks_who_calls(service: Any) -> None:
    paths = {
        (method, route.path)
        for route in service.app.routes
        for method in route.methods
        if service.client.request(method, route.path).status_code not in {401, 405}
    }
    # The page itself says nothing of anybody: it asks for a token, and the API for what the token may see.
    assert {path for _, path in paths} == {"/healthz", "/readyz", "/", "/web/{name:str}"}


def test_a_challenge_tells_what_is_missing_and_what_is_wrong(service: Any) -> None:
    path = "/api/v1/timeline/home"
    assert service.get(path).headers["www-authenticate"] == 'Bearer realm="millrace"'
    bad = service.client.get(path, headers={"Authorization": "Bearer x"})
    assert bad.headers["www-authenticate"] == 'Bearer realm="millrace", error="invalid_token"'
    assert "www-authenticate" not in service.get(path, "vic", viewer="bob").headers


def test_programs_on_this_machine_read_metrics_and_proxies_do_not(service: Any) -> None:
    from litestar.testing import TestClient

    async def from_here(scope: Any, receive: Any, send: Any) -> None:
        await service.app({**scope, "client": ("127.0.0.1", 50_000)}, receive, send)

    here = TestClient(from_here, base_url="http://127.0.0.1:8000")
    assert here.get("/metrics").status_code == 200
    for headers in ({"Host": "feed.example"}, {"X-Forwarded-For": "203.0.113.9"}, {"Forwarded": "for=203.0.113.9"}):
        assert here.get("/metrics", headers=headers).status_code == 401
    assert here.get("/metrics", headers=service.headers("vic")).status_code == 403


def test_no_other_sites_page_is_kept_out_by_name(service: Any) -> None:
    # Development mode goes by host names; here a page of another site has no token to send.
    headers = {**service.headers("vic"), "Origin": "https://app.example"}
    assert service.get_with(headers, "/api/v1/timeline/home", limit=1).status_code == 200


def test_a_viewer_sends_their_own_events_and_the_rest_is_refused_one_by_one(service: Any) -> None:
    letters = service.written()[1]
    answer = service.send(
        "vic",
        {"type": "Engagement", "viewer_id": "vic", "post_id": "ada1", "action": "like"},
        {"type": "Engagement", "viewer_id": "bob", "post_id": "ada1", "action": "like"},
        {"type": "UserErased", "user_id": "vic"},
        {"type": "Served", "request_id": "r", "viewer_id": "vic", "pipeline": "home"},
        {"type": "Search", "user_id": "vic", "query": "wheels"},
    )
    assert answer.status_code == 200
    results = answer.json()["results"]
    assert [result["status"] for result in results] == ["accepted", "refused", "refused", "refused", "accepted"]
    assert "somebody else's" in results[1]["error"]
    assert "not for viewers" in results[2]["error"]
    assert "written by the server only" in results[3]["error"]
    assert service.written()[1] == letters


def test_only_the_author_changes_a_post(service: Any) -> None:
    refused = service.send("bob", {"type": "PostEdited", "post_id": "vics", "text": "defaced"})
    assert refused.status_code == 422
    assert "somebody else's" in refused.json()["results"][0]["error"]
    assert service.send("bob", {"type": "PostDeleted", "post_id": "vics"}).status_code == 422
    assert service.send("vic", {"type": "PostDeleted", "post_id": "nobody knows"}).status_code == 422
    assert contents(service, "vics") == ["as it was"]
    service.send_and_fold("vic", {"type": "PostEdited", "post_id": "vics", "text": "as it is"})
    assert contents(service, "vics") == ["as it is"]
    service.send_and_fold("vic", {"type": "PostDeleted", "post_id": "vics"})
    assert contents(service, "vics") == [None]
    assert service.send("vic", {"type": "PostEdited", "post_id": "vics", "text": "again"}).status_code == 422


def test_a_post_is_not_taken_over_by_creating_it_again(service: Any) -> None:
    service.send_and_fold("ingest", {"type": "PostCreated", "post_id": "first", "author_id": "ada", "text": "mine"})
    theft = {"type": "PostCreated", "post_id": "first", "author_id": "bob", "text": "stolen"}
    edit = {"type": "PostEdited", "post_id": "first", "text": "stolen"}
    assert [r["status"] for r in service.send("bob", theft, edit).json()["results"]] == ["accepted", "refused"]
    service.send_and_fold("ingest", {"type": "Search", "user_id": "x", "query": "a later event"})
    assert contents(service, "first") == ["mine"]


def test_an_edit_waits_for_a_state_that_knows_the_author(make_service: Any) -> None:
    service = make_service("tokens", follows=False)
    search = {"type": "Search", "user_id": "vic", "query": "wheels"}
    before = service.written()
    answer = service.send("vic", search, {"type": "PostEdited", "post_id": "vics", "text": "x"})
    assert answer.status_code == 503
    assert "not caught up" in answer.json()["error"]["message"]
    assert service.written() == before
    assert service.send("vic", search).status_code == 200


@pytest.mark.parametrize("who", ["ingest", "admin"])
def test_keys_send_anybodys_events_but_not_served(service: Any, who: str) -> None:
    answer = service.send(
        who,
        {"type": "LabelChanged", "label": f"checked by {who}", "user_id": "ada"},
        {"type": "Search", "user_id": who, "query": "wheels"},
        {"type": "Served", "request_id": "r", "viewer_id": "vic", "pipeline": "home"},
    )
    assert [result["status"] for result in answer.json()["results"]] == ["accepted", "accepted", "refused"]


def test_a_key_opens_in_either_header(service: Any) -> None:
    headers = {"X-API-Key": service.key_by_role["admin"]}
    assert service.client.get("/api/v1/viewers", headers=headers).status_code == 200


def test_a_key_that_was_removed_opens_nothing_from_then_on(service: Any) -> None:
    service.key_by_role["guest"] = service.keys.add("guest", "admin", 1)
    assert service.get("/api/v1/viewers", "guest").status_code == 200
    service.keys.remove("guest")
    assert service.get("/api/v1/viewers", "guest").status_code == 401


def test_the_document_says_what_to_carry(service: Any, make_service: Any) -> None:
    document = service.get("/schema/openapi.json", "admin").json()
    assert set(document["components"]["securitySchemes"]) == {"token", "key"}
    secured = {
        path for path, item in document["paths"].items() for operation in item.values() if operation.get("security")
    }
    assert secured == set(document["paths"]) - {"/healthz", "/readyz"}
    assert "tokens" in document["info"]["description"]
    open_document = make_service("development").get("/schema/openapi.json").json()
    assert "securitySchemes" not in open_document.get("components", {})
    assert "Development mode" in open_document["info"]["description"]
    assert "Development mode" in make_service("development").get("/schema").text


@pytest.mark.parametrize("mode", ["development", "tokens"])
def test_the_page_is_told_the_mode(make_service: Any, mode: str) -> None:
    assert f'<html lang="en" data-mode="{mode}">' in make_service(mode).client.get("/").text
