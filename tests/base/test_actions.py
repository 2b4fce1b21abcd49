"""Actions: one order, three families, business actions at the end."""

from __future__ import annotations

import pytest

from millrace.base.actions import (
    CONTINUOUS,
    DERIVED,
    N_ACTIONS,
    NEGATIVE,
    POSITIVE,
    SOCIAL_PROOF,
    Action,
    ActionSpace,
)
from millrace.base.errors import ConfigError, SchemaError

ORDER = [
    "like",
    "reply",
    "repost",
    "quote",
    "share",
    "share_dm",
    "copy_link",
    "bookmark",
    "click",
    "profile_click",
    "link_open",
    "photo_expand",
    "video_view",
    "quote_click",
    "dwell",
    "dwell_time",
    "complete",
    "follow_author",
    "not_interested",
    "mute_author",
    "block_author",
    "report",
    "not_dwelled",
]


def test_the_order_is_a_format_and_never_changes() -> None:
    assert [action.label for action in Action] == ORDER
    assert [int(action) for action in Action] == list(range(N_ACTIONS))


def test_every_action_is_positive_negative_or_continuous() -> None:
    assert set(Action) == POSITIVE | NEGATIVE | CONTINUOUS
    assert not POSITIVE & NEGATIVE
    assert not CONTINUOUS & (POSITIVE | NEGATIVE)
    assert SOCIAL_PROOF < POSITIVE


def test_business_actions_stand_at_the_end_in_their_order() -> None:
    space = ActionSpace(("purchase", "gift"))
    assert space.names[-2:] == ("purchase", "gift")
    assert space.code("purchase") == N_ACTIONS
    assert space.sendable_code("gift") == N_ACTIONS + 1
    assert len(space) == N_ACTIONS + 2


@pytest.mark.parametrize("name", ["like", "Purchase", "two words", "", "9lives"])
def test_a_business_action_needs_a_new_lower_case_name(name: str) -> None:
    with pytest.raises(ConfigError, match="business action"):
        ActionSpace((name,))


def test_a_business_action_is_declared_once() -> None:
    with pytest.raises(ConfigError, match="business action 'gift'"):
        ActionSpace(("gift", "gift"))


@pytest.mark.parametrize("action", sorted(DERIVED))
def test_derived_actions_are_refused_with_the_remedy(action: Action) -> None:
    with pytest.raises(SchemaError, match="derived from impressions"):
        ActionSpace().sendable_code(action.label)


def test_an_unknown_action_is_refused_with_the_known_ones() -> None:
    with pytest.raises(SchemaError, match="action 'applaud': not known; use one of like, reply"):
        ActionSpace().sendable_code("applaud")
    with pytest.raises(SchemaError, match="not known"):
        ActionSpace().code("applaud")
