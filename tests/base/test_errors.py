"""Every message names the thing, its value, the problem and the remedy."""

from __future__ import annotations

import pytest

from millrace.base import errors
from millrace.base.errors import ConfigError, LogError, LogFullError, MillraceError, StoreError


def test_a_message_has_four_parts() -> None:
    error = MillraceError("post id", value="", problem="0 bytes long", remedy="use 1 to 128 bytes")
    assert str(error) == "post id '': 0 bytes long; use 1 to 128 bytes"
    assert (error.thing, error.value, error.problem) == ("post id", "", "0 bytes long")


def test_long_values_are_cut() -> None:
    assert len(str(MillraceError("text", value="x" * 9_999, problem="p", remedy="r"))) < 150


def test_a_value_that_is_absent_is_not_shown() -> None:
    assert str(MillraceError("feed", problem="not ready", remedy="wait")) == "feed: not ready; wait"
    assert str(MillraceError("limit", value=0, problem="too small", remedy="use 1")) == "limit 0: too small; use 1"


def test_a_config_error_carries_all_problems() -> None:
    assert ConfigError("c", problem="p", remedy="r", problems=("a", "b")).problems == ("a", "b")
    assert ConfigError("c", value=1, problem="p", remedy="r").problems == ("c 1: p; r",)


def test_there_is_one_hierarchy() -> None:
    found = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert len(found) >= 10
    assert all(issubclass(kind, MillraceError) for kind in found)
    assert issubclass(LogFullError, LogError)
    assert issubclass(errors.CheckpointError, StoreError)


def test_the_tree_in_the_docstring_names_every_class() -> None:
    names = [name for name, kind in vars(errors).items() if isinstance(kind, type)]
    missing = [name for name in names if name not in (errors.__doc__ or "")]
    assert not missing


def test_they_are_caught_as_one() -> None:
    with pytest.raises(MillraceError):
        raise LogFullError("log", problem="no room", remedy="free some")
