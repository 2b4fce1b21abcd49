"""Who may do what, without HTTP."""

from __future__ import annotations

from pathlib import Path

import pytest

from millrace.app.access import DEVELOPER, Access, Caller, Gate
from millrace.app.api_keys import ApiKeys
from millrace.app.tokens import ViewerTokens
from millrace.base.errors import ForbiddenError, SchemaError, UnauthenticatedError

VIEWER, INGEST, ADMIN = Caller("viewer", "vic"), Caller("ingest", "shop"), Caller("admin", "ops")


@pytest.mark.parametrize(
    ("access", "allowed"),
    [
        (Access.OPEN, {"viewer", "ingest", "admin"}),
        (Access.READ, {"viewer", "admin"}),
        (Access.SEND, {"viewer", "ingest", "admin"}),
        (Access.METRICS, {"admin"}),
        (Access.ADMIN, {"admin"}),
    ],
)
def test_routes_are_for_roles(access: Access, allowed: set[str]) -> None:
    for caller in (VIEWER, INGEST, ADMIN, DEVELOPER):
        if caller.role in allowed:
            caller.check(access)
        else:
            with pytest.raises(ForbiddenError, match=f"it is for {access.value}"):
                caller.check(access)


def test_a_viewer_reads_their_own_timeline() -> None:
    assert VIEWER.viewer_of(None) == "vic"
    assert VIEWER.viewer_of("vic") == "vic"
    with pytest.raises(ForbiddenError, match="viewer 'bob': is not you"):
        VIEWER.viewer_of("bob")


@pytest.mark.parametrize("caller", [ADMIN, DEVELOPER])
def test_an_operator_names_whose(caller: Caller) -> None:
    assert caller.viewer_of("bob") == "bob"
    with pytest.raises(SchemaError, match="name one"):
        caller.viewer_of(None)
    with pytest.raises(SchemaError, match="viewer ''"):
        caller.viewer_of("")


def test_only_operators_see_how_a_page_was_made() -> None:
    ADMIN.check_debug()
    DEVELOPER.check_debug()
    for caller in (VIEWER, INGEST):
        with pytest.raises(ForbiddenError, match="debug: is for operators"):
            caller.check_debug()


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(ViewerTokens(b"k" * 32), ApiKeys(tmp_path / "keys.json"))


def test_credentials_say_who_asks(gate: Gate, tmp_path: Path) -> None:
    token = ViewerTokens(b"k" * 32).make("vic", 60)
    ingest, admin = (ApiKeys(tmp_path / "keys.json").add(role, role, 1) for role in ("ingest", "admin"))
    assert gate.mode == "tokens"
    assert gate.caller([f"Bearer {token}"]) == VIEWER
    assert gate.caller([f"bearer  {token} "]) == VIEWER
    assert gate.caller([f"Bearer {ingest}"]) == Caller("ingest", "ingest")
    assert gate.caller([], [admin]) == Caller("admin", "admin")


@pytest.mark.parametrize(
    ("authorizations", "api_keys", "problem"),
    [
        ([], [], "credentials: missing"),
        (["Bearer a", "Bearer b"], [], "2 are given"),
        (["Bearer a"], ["b"], "2 are given"),
        (["Basic dmljOng="], [], "not of the kind"),
        (["Bearer"], [], "not of the kind"),
        (["Bearer "], [], "not of the kind"),
        ([""], [], "not of the kind"),
        (["Bearer mr_admin_x"], [], "API key: not known"),
        ([], [""], "API key: not known"),
        (["Bearer x"], [], "neither a viewer's token nor an API key"),
    ],
)
def test_other_credentials_are_refused(
    gate: Gate, authorizations: list[str], api_keys: list[str], problem: str
) -> None:
    with pytest.raises(UnauthenticatedError, match=problem):
        gate.caller(authorizations, api_keys)


def test_a_token_is_no_api_key(gate: Gate) -> None:
    with pytest.raises(UnauthenticatedError, match="API key"):
        gate.caller([], [ViewerTokens(b"k" * 32).make("vic", 60)])


def test_development_mode_asks_nobody() -> None:
    assert Gate().mode == "development"
    assert Gate().caller([], []) is DEVELOPER
    assert Gate().caller(["Bearer x"], ["y"]) is DEVELOPER
