"""Every bad input: the status, a message that says what is wrong, and nothing changed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import jwt
import msgspec
import pytest

from millrace.app.tokens import AUDIENCE

HOME = "/api/v1/timeline/home"
FOLLOWING = "/api/v1/timeline/following"
EVENTS = "/api/v1/events"
VIEWERS = "/api/v1/viewers"
FAR_S = 4_000_000_000


@dataclass(frozen=True)
class Bad:
    """A request that cannot be answered with what it asks for."""

    what: str
    status: int
    message: str
    method: str = "GET"
    path: str = HOME
    params: dict[str, Any] | bytes = field(default_factory=dict)
    headers: dict[str, str | bytes] = field(default_factory=dict)
    body: bytes = b""


def search(viewer: str = "vic", **more: Any) -> dict[str, Any]:
    return {"payload": {"type": "Search", "user_id": viewer, "query": "wheels", **more}}


def array(*events: Any) -> bytes:
    return msgspec.json.encode(events)


VIC = {"viewer": "vic"}

# In development mode, where nobody has to say who they are.
WRONG = [
    *(
        Bad(f"{method} of a page", 405, "Method Not Allowed", method=method, path=path, params=VIC)
        for method in ("POST", "PUT", "PATCH", "DELETE")
        for path in (HOME, FOLLOWING, VIEWERS, "/healthz", "/readyz", "/metrics")
    ),
    *(
        Bad(f"{method} of events", 405, "Method Not Allowed", method=method, path=EVENTS)
        for method in ("GET", "PUT", "DELETE")
    ),
    Bad("a method that is none", 405, "Method Not Allowed", method="BREW"),
    Bad("unknown path", 404, "Not Found", path="/nowhere"),
    Bad("unknown version", 404, "Not Found", path="/api/v2/timeline/home"),
    Bad("path with NUL", 404, "Not Found", path="/api/v1/timeline/%00"),
    Bad("path that climbs", 404, "Not Found", path="/api/v1/timeline/%2e%2e/%2e%2e/secret.key"),
    Bad("unknown document", 404, "Not Found", path="/schema/nothing.json"),
    *(
        bad
        for path in (HOME, FOLLOWING)
        for bad in (
            Bad("nobody named", 400, "viewer: missing", path=path),
            Bad("empty viewer", 400, "viewer '': 0 bytes long", path=path, params={"viewer": ""}),
            Bad("long viewer", 400, "200 bytes long", path=path, params={"viewer": "x" * 200}),
            Bad("wide viewer", 400, "150 bytes long", path=path, params={"viewer": "人" * 50}),
            Bad("huge viewer", 400, "viewer", path=path, params={"viewer": "x" * 20_000}),
            Bad("viewer with a line break", 400, "control characters", path=path, params={"viewer": "a\nb"}),
            Bad("viewer with NUL", 400, "control characters", path=path, params={"viewer": "a\0b"}),
            Bad("limit 0", 400, "limit", path=path, params={**VIC, "limit": 0}),
            Bad("limit below 0", 400, "limit", path=path, params={**VIC, "limit": -1}),
            Bad("limit above the most", 400, "limit", path=path, params={**VIC, "limit": 51}),
            Bad("limit beyond 64 bits", 400, "limit", path=path, params={**VIC, "limit": 10**30}),
            Bad("limit that is no number", 400, "limit", path=path, params={**VIC, "limit": "many"}),
            Bad("limit with a fraction", 400, "limit", path=path, params={**VIC, "limit": "1.5"}),
            Bad("empty limit", 400, "limit", path=path, params={**VIC, "limit": ""}),
            Bad("limit null", 400, "limit", path=path, params={**VIC, "limit": "null"}),
            Bad("debug null", 400, "debug", path=path, params={**VIC, "debug": "null"}),
            Bad("limit not a number", 400, "limit", path=path, params={**VIC, "limit": "NaN"}),
            Bad("debug that is no switch", 400, "debug", path=path, params={**VIC, "debug": "perhaps"}),
            Bad("misspelt limit", 400, "query parameter 'limits': not known", path=path, params={**VIC, "limits": 5}),
            Bad("two viewers", 400, "viewer: given 2 times", path=path, params=b"viewer=vic&viewer=bob"),
            Bad("two limits", 400, "limit: given 3 times", path=path, params=b"viewer=vic&limit=1&limit=2&limit="),
            Bad("huge cursor", 400, "cursor", path=path, params={**VIC, "cursor": "x" * 5_000}),
            Bad("cursor longer than any", 400, "length <= 256", path=path, params={**VIC, "cursor": "x" * 257}),
            Bad("cursor with NUL", 400, "cursor", path=path, params={**VIC, "cursor": "a\0b"}),
            Bad("empty cursor", 400, "cursor", path=path, params={**VIC, "cursor": ""}),
            Bad("cursor of other letters", 400, "cursor", path=path, params={**VIC, "cursor": "人"}),
        )
    ),
    Bad(
        "events take none", 400, "query parameter 'dry_run'", "POST", EVENTS, params=b"dry_run=1", body=array(search())
    ),
    Bad("viewers, too many", 400, "limit", path=VIEWERS, params={"limit": 101}),
    Bad("viewers, none", 400, "limit", path=VIEWERS, params={"limit": 0}),
    Bad("not an array as a whole", 400, "not a valid JSON array", "POST", EVENTS, body=b"[{},"),
    Bad("array with NUL", 400, "not a valid JSON array", "POST", EVENTS, body=b"[\0]"),
    Bad("array that is no UTF-8", 400, "not a valid JSON array", "POST", EVENTS, body=b'["\xff"'),
    Bad("bottomless array", 400, "not a valid JSON array", "POST", EVENTS, body=b"[" * 50_000),
    Bad("more after the array", 400, "not a valid JSON array", "POST", EVENTS, body=b"[] []"),
    Bad("too many events", 413, "10,001 events", "POST", EVENTS, body=b"[" + b"1," * 10_000 + b"1]"),
    Bad("too large a body", 413, "", "POST", EVENTS, body=b" " * 100_001),
    Bad("too large, says the header", 413, "", "POST", EVENTS, headers={"Content-Length": "9" * 12}),
    Bad("no length, says the header", 400, "content-length", "POST", EVENTS, headers={"Content-Length": "many"}),
    Bad("another host", 403, "this machine only", params=VIC, headers={"Host": "evil.example"}),
    Bad("a host that is none", 403, "this machine only", params=VIC, headers={"Host": "[::1"}),
    Bad("another site's page", 403, "this machine only", "POST", EVENTS, headers={"Origin": "https://evil.example"}),
    Bad("a page from nowhere", 403, "this machine only", params=VIC, headers={"Origin": "null"}),
    Bad("an origin that is none", 403, "this machine only", params=VIC, headers={"Origin": "http://[::1"}),
]


def request(service: Any, bad: Bad) -> Any:
    return service.client.request(
        bad.method, bad.path, params=bad.params, headers=bad.headers, content=bad.body or None
    )


def check(answer: Any, bad: Bad) -> None:
    assert answer.status_code == bad.status, answer.text
    if "html" in answer.headers["content-type"]:
        return
    error = answer.json()["error"]
    assert error["status"] == bad.status
    assert bad.message.lower() in error["message"].lower()
    assert error["message"]
    assert error["remedy"]
    assert "Traceback" not in answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("bad", WRONG, ids=lambda bad: f"{bad.what} {bad.path.rpartition('/')[2]}")
def test_a_wrong_request_is_told_what_is_wrong_and_changes_nothing(make_service: Any, bad: Bad) -> None:
    service = make_service("development")
    before = service.written()
    check(request(service, bad), bad)
    assert service.written() == before


@pytest.mark.parametrize(
    ("path", "message", "remedy"),
    [
        (
            f"{HOME}?viewer=vic&limit=0",
            "query parameter limit '0': not a whole number >= 1",
            "give a whole number >= 1, or leave it out",
        ),
        (
            f"{HOME}?viewer=vic&limit=99999",
            "query parameter limit '99999': not a whole number <= 50",
            "give a whole number <= 50, or leave it out",
        ),
        (
            f"{FOLLOWING}?viewer=vic&limit=abc",
            "query parameter limit 'abc': not a whole number",
            "give a whole number, or leave it out",
        ),
        (
            f"{HOME}?viewer=vic&debug=maybe",
            "query parameter debug 'maybe': not true or false",
            "give true or false, or leave it out",
        ),
        ("/nowhere", "path '/nowhere': Not Found", "see /schema for the paths that there are"),
        (EVENTS, f"method 'GET' of path '{EVENTS}': Method Not Allowed", "see /schema for the methods of each path"),
    ],
)
def test_what_the_framework_refuses_is_said_in_the_form_of_the_house(
    make_service: Any, path: str, message: str, remedy: str
) -> None:
    error = make_service("development").client.get(path).json()["error"]
    assert (error["message"], error["remedy"]) == (message, remedy)


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Request-ID": "x" * 100_000},
        {"X-Request-ID": "a\tb"},
        {"X-Request-ID": b"\xff\xfe"},
        {"Accept": "application/xml"},
        {"Content-Type": "text/plain; charset=nonsense"},
        {"Cookie": "a=" + "b" * 50_000},
        {"Authorization": "Bearer " + "x" * 100_000},
    ],
    ids=lambda headers: next(iter(headers)),
)
def test_odd_headers_do_no_harm(make_service: Any, headers: dict[str, Any]) -> None:
    service = make_service("development")
    assert service.client.get("/healthz", headers=headers).status_code == 200
    assert service.client.get(VIEWERS, headers=headers).status_code == 200


# One event each: refused by itself, with its reason.
BAD_EVENTS = [
    (b"7", "not a JSON object"),
    (b"null", "not a JSON object"),
    (b'"text"', "not a JSON object"),
    (b"{}", "event field payload"),
    (b'{"payload": 1}', "event field payload"),
    (b'{"payload": {}}', "event type: not known"),
    (b'{"payload": {"type": ["Search"]}}', "not known"),
    (b'{"payload": {"type": "Nonsense"}}', "event type 'Nonsense': not known"),
    (b'{"payload": {"type": "Served", "request_id": "r", "viewer_id": "v", "pipeline": "home"}}', "server only"),
    (b'{"payload": {"type": "Search", "user_id": "v"}}', "query"),
    (array(search(user_id=""))[1:-1], "0 bytes long"),
    (array(search(user_id="x" * 129))[1:-1], "129 bytes long"),
    (array(search(user_id="a\0b"))[1:-1], "control characters"),
    (array(search(user_id=1.5))[1:-1], "user_id"),
    (array(search(user_id=None))[1:-1], "user_id"),
    (array(search(n_results=-1))[1:-1], "n_results"),
    (array({**search(), "event_time_ms": -1})[1:-1], "event_time_ms"),
    (array({**search(), "event_time_ms": 10**17})[1:-1], "event_time_ms"),
    (array({**search(), "event_time_ms": "now"})[1:-1], "event_time_ms"),
    (array({**search(), "event_id": ""})[1:-1], "event_id"),
    (array({**search(), "event_id": "x" * 500})[1:-1], "event_id"),
    (array({**search(), "source": ""})[1:-1], "source"),
    (array({**search(), "schema_version": 0})[1:-1], "schema_version"),
    (array({**search(), "surprise": 1})[1:-1], "surprise"),
    (array(search(query="x" * 2_000))[1:-1], "query"),
    (
        b'{"payload": {"type": "Search", "user_id": "v", "query": "q", "n_results": 1' + b"0" * 40 + b"}}",
        "numbers of 64 bits",
    ),
    (b'{"payload": {"type": "Engagement", "viewer_id": "v", "post_id": "p", "action": "applaud"}}', "applaud"),
    (b'{"payload": {"type": "MuteChanged", "muter_id": "v"}}', "muted_id or keyword"),
]


@pytest.mark.parametrize(
    ("event", "reason"), BAD_EVENTS, ids=lambda part: str(part)[:40] if isinstance(part, str) else ""
)
@pytest.mark.parametrize("form", ["array", "lines"])
def test_a_bad_event_is_refused_by_itself(make_service: Any, event: bytes, reason: str, form: str) -> None:
    service = make_service("development")
    good = array({**search(), "event_id": "good"})[1:-1]
    body = b"[" + event + b"," + good + b"]" if form == "array" else event + b"\n" + good
    end, letters = service.log.end(), service.written()[1]
    answer = service.client.post(EVENTS, content=body)
    assert answer.status_code == 200, answer.text
    first, second = answer.json()["results"]
    assert first["status"] == "refused"
    assert reason in first["error"]
    assert second["status"] in {"accepted", "duplicate"}
    assert service.log.end()[0] - end[0] == (second["status"] == "accepted")
    assert len(service.written()[1]) == len(letters) + 1


@pytest.mark.parametrize(
    "line", [b"\xff\xfe", b"{", b"\0", b'{"payload": "\xc3"}', b"{" * 20_000, b"not json", b'{"a": "\\ud800"}']
)
def test_a_line_that_is_no_json_is_refused_by_itself(make_service: Any, line: bytes) -> None:
    service = make_service("development")
    answer = service.client.post(EVENTS, content=line + b"\n" + line)
    assert answer.status_code == 422
    assert [result["status"] for result in answer.json()["results"]] == ["refused", "refused"]
    assert all("not valid JSON" in result["error"] for result in answer.json()["results"])


@pytest.mark.parametrize(
    "content_type", ["text/plain", "image/png", "application/xml", "nonsense", "multipart/form-data"]
)
def test_what_a_body_is_shows_in_its_first_byte_and_not_in_its_content_type(
    make_service: Any, content_type: str
) -> None:
    service = make_service("development")
    body = array({**search(), "event_id": content_type})
    answer = service.client.post(EVENTS, content=body, headers={"Content-Type": content_type})
    assert answer.json()["n_accepted"] == 1


def signed(key: bytes, **changes: Any) -> str:
    return jwt.encode({"sub": "vic", "aud": AUDIENCE, "exp": FAR_S, **changes}, key, algorithm="HS256")


def credentials(service: Any) -> dict[str, dict[str, Any]]:
    """Return headers that open nothing, by what is wrong with them."""
    good = service.tokens.make("vic", 600)
    head, claims, signature = good.split(".")
    _, other_claims, _ = service.tokens.make("bob", 600).split(".")
    admin = service.key_by_role["admin"]
    bearer = {
        "forged claims": f"{head}.{other_claims}.{signature}",
        "no signature": f"{head}.{claims}.",
        "alg none": jwt.encode({"sub": "vic", "aud": AUDIENCE, "exp": FAR_S}, None, algorithm="none"),
        "another key": signed(b"another key of the right length!"),
        "the secret itself as key": signed(service.settings.secret_path.read_bytes()),
        "expired": service.tokens.make("vic", -3_600),
        "nonsense": "nonsense",
        "three dots": "...",
        "huge": "x" * 60_000,
        "huge key": "mr_admin_" + "x" * 60_000,
        "unknown key": "mr_admin_" + "x" * 43,
        "a key's hash": service.keys.all()[0].hash,
        "a shortened key": admin[:-1],
        "another role's prefix": admin.replace("admin", "ingest"),
    }
    return {
        "nothing": {},
        "empty": {"Authorization": ""},
        "basic": {"Authorization": "Basic dmljOnZpYw=="},
        "bearer and nothing": {"Authorization": "Bearer"},
        "bytes": {"Authorization": b"Bearer \xff\xfe"},
        "a token as a key": {"X-API-Key": good},
        "no key": {"X-API-Key": ""},
        "two at once": {"Authorization": f"Bearer {good}", "X-API-Key": admin},
        **{what: {"Authorization": f"Bearer {text}"} for what, text in bearer.items()},
    }


def test_no_credentials_that_are_wrong_open_anything(make_service: Any) -> None:
    service = make_service("tokens")
    before = service.written()
    for what, headers in credentials(service).items():
        for method, path, body in (
            ("GET", HOME, None),
            ("GET", FOLLOWING, None),
            ("GET", VIEWERS, None),
            ("GET", "/metrics", None),
            ("GET", "/schema/openapi.json", None),
            ("POST", EVENTS, array(search())),
        ):
            answer = service.client.request(method, path, headers=headers, content=body)
            assert answer.status_code == 401, (what, path, answer.text)
            assert answer.headers["www-authenticate"].startswith("Bearer"), what
            assert answer.json()["error"]["remedy"], what
    assert service.written() == before


def test_a_token_for_another_audience_opens_nothing(make_service: Any) -> None:
    from millrace.app.secret import load_or_make_secret, subkey
    from millrace.app.tokens import PURPOSE

    service = make_service("tokens")
    key = subkey(load_or_make_secret(service.settings), PURPOSE)
    for claims, status in (
        ({}, 200),
        ({"aud": "other"}, 401),
        ({"exp": 5}, 401),
        ({"sub": ""}, 401),
        ({"sub": 7}, 401),
    ):
        headers = {"Authorization": f"Bearer {signed(key, **claims)}"}
        assert service.get_with(headers, HOME).status_code == status, claims


def test_who_may_not_is_told_so_before_the_request_is_read(make_service: Any) -> None:
    service = make_service("tokens")
    before = service.written()
    assert service.client.get(HOME, params={"limit": "many"}).status_code == 401
    assert service.client.post(EVENTS, content=b"[{},").status_code == 401
    assert service.get(VIEWERS, "vic", limit="many").status_code == 403
    assert service.written() == before


def test_keys_that_cannot_be_read_open_nothing_and_say_so(make_service: Any) -> None:
    service = make_service("tokens")
    good = service.settings.keys_path.read_bytes()
    service.settings.keys_path.write_bytes(b"{")
    try:
        answer = service.get(VIEWERS, "admin")
        assert answer.status_code == 503
        assert "API keys: cannot be read" in answer.json()["error"]["message"]
        assert str(service.settings.home) not in answer.text
        assert service.get(HOME, "vic", limit=1).status_code == 200
    finally:
        service.settings.keys_path.write_bytes(good)
    assert service.get(VIEWERS, "admin").status_code == 200
