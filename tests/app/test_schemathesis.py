"""The OpenAPI document and the server agree, whatever is sent: a real server in each mode, as each kind of caller."""

from __future__ import annotations

import json
import urllib.request
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from millrace.app import wiring
from millrace.app.commands.init import make_home
from millrace.app.settings import CONFIG_NAME
from millrace.testing.server_process import ServerProcess

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what its imports think of each other is not our business
    import schemathesis
    from schemathesis.checks import load_all_checks
    from schemathesis.generation import GenerationMode
    from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

pytestmark = pytest.mark.slow

N_EXAMPLES = 20
CALLERS = [("development", ""), ("tokens", "vic"), ("tokens", "ingest"), ("tokens", "admin")]
CONFIG = "[home]\ndeadline_ms = 20_000\nclaim_timeout_ms = 20_000\n"
# Ids are bounded in bytes, a cursor is signed, an action is one of a list: a document cannot say all that.
UNSAID = [positive_data_acceptance]
# Events are refused one by one: a batch with a good one among them is answered with 200 and a result for each.
ONE_BY_ONE = [*UNSAID, negative_data_rejection]


class Server:
    """A server in one mode, its document, and credentials."""

    def __init__(self, home: Path, mode: str) -> None:
        make_home(home)
        (home / CONFIG_NAME).write_text(f'{CONFIG}[auth]\nmode = "{mode}"\n')
        made, _ = make_home(home)
        self.key_by_role = {
            role: wiring.build_api_keys(made).add(role, role, 1)  # type: ignore[arg-type]
            for role in ("ingest", "admin")
        }
        self.tokens = wiring.build_tokens(made)
        self.process = ServerProcess(home, n_workers=1)
        self.process.wait_ready()
        wanted = urllib.request.Request(f"{self.process.url}/schema/openapi.json", headers=self.headers("admin"))
        with urllib.request.urlopen(wanted) as answer:
            self.document = json.load(answer)

    def headers(self, who: str) -> dict[str, str]:
        if not who:
            return {}
        return {"Authorization": f"Bearer {self.key_by_role.get(who) or self.tokens.make(who, 600)}"}


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Server]]:
    load_all_checks()
    made = {mode: Server(tmp_path_factory.mktemp(mode), mode) for mode in ("development", "tokens")}
    yield made
    for server in made.values():
        assert server.process.stop() == 0


def operations(document: dict[str, Any]) -> list[Any]:
    # One credential a request: the generator would add a made-up key to ours, and two are refused.
    schemes = document.get("components", {}).get("securitySchemes", {})
    schemes.pop("key", None)
    for item in document["paths"].values():
        for operation in item.values():
            operation["security"] = [need for need in operation.get("security", []) if "key" not in need]
    return [found.ok() for found in schemathesis.openapi.from_dict(document).get_all_operations()]


def send_anything(operation: Any, server: Server, who: str) -> list[int]:
    """Send requests that fit an operation's schema and such that do not; return the statuses of the answers."""
    excluded = ONE_BY_ONE if operation.method == "post" else UNSAID
    kinds = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
    cases = st.one_of(*(operation.as_strategy(kind) for kind in kinds if has_input(operation) or kind is kinds[0]))
    statuses = []

    @settings(
        max_examples=N_EXAMPLES,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases)
    def send(case: Any) -> None:
        url, headers = server.process.url, server.headers(who)
        statuses.append(case.call_and_validate(base_url=url, headers=headers, excluded_checks=excluded).status_code)

    send()
    return statuses


def has_input(operation: Any) -> bool:
    return bool(operation.body or operation.query)


@pytest.mark.parametrize(("mode", "who"), CALLERS)
def test_nothing_that_is_sent_breaks_the_server_or_the_document(
    servers: dict[str, Server], mode: str, who: str
) -> None:
    server = servers[mode]
    statuses = {
        operation.label: send_anything(operation, server, who)
        for operation in operations(json.loads(json.dumps(server.document)))
    }
    assert {"GET /healthz", "GET /metrics", "GET /api/v1/viewers", "POST /api/v1/events"} < statuses.keys()
    assert statuses["GET /healthz"] == [200]
    assert {200, 422} <= set(statuses["POST /api/v1/events"])
    is_allowed = who in {"", "admin"}
    assert ({200, 400} if is_allowed else {403}) <= set(statuses["GET /api/v1/viewers"])
    assert {"ingest": 403, "": 200, "vic": 200, "admin": 400}[who] in statuses["GET /api/v1/timeline/home"]
    log = (server.process.home / "server.log").read_text()
    assert f"{mode} mode: " in log
    assert "Traceback" not in log
