"""Config: layers, origins, all problems at once."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import pytest
from msgspec import Meta

from millrace.base.config import Entry, Layer, entries, from_pairs, load, read_toml
from millrace.base.errors import ConfigError


class Inner(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[inner]``: a section."""

    port: Annotated[int, Meta(ge=1, le=9, description="Where")] = 3
    names: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if self.low > self.high:
            msg = "low is above high"
            raise ValueError(msg)


class Outer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All of it."""

    inner: Inner = Inner()
    params: dict[str, int | float | bool] = {}
    profiles: dict[str, dict[str, float]] = {}


class Color(enum.Enum):
    """What there is."""

    RED = "red"


class Spelled(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Fields whose types spell their values out."""

    size: Annotated[Literal["s", "m"], Meta(description="How large")] | None = None
    color: Color = Color.RED


def problems_of(*tables: dict[str, object]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(Outer, [Layer("millrace.toml", table) for table in tables])
    return list(caught.value.problems)


def test_no_layer_gives_the_defaults() -> None:
    loaded = load(Outer, [])
    assert loaded.config == Outer()
    assert loaded.origin("inner.port") == "default"


def test_a_later_layer_wins_and_every_origin_is_known() -> None:
    layers = [
        Layer("millrace.toml", {"inner": {"port": 4, "names": ["a"]}}),
        Layer("environment", {"inner": {"port": 5}}),
    ]
    loaded = load(Outer, layers)
    assert loaded.config == Outer(inner=Inner(port=5, names=("a",)))
    assert loaded.origin("inner.port") == "environment"
    assert loaded.origin("inner.names") == "millrace.toml"
    assert loaded.origin("inner.low") == "default"


def test_an_unknown_key_is_refused_and_the_nearest_one_is_named() -> None:
    assert problems_of({"inner": {"prot": 4}}) == [
        "config key inner.prot (millrace.toml): not known; did you mean inner.port?"
    ]
    assert problems_of({"zzz": 4}) == ["config key zzz (millrace.toml): not known; known here: inner, params, profiles"]


def test_all_problems_of_all_layers_are_reported_at_once() -> None:
    found = problems_of({"inner": {"port": 10, "names": 3}}, {"inner": 7}, {"params": {"x": "fast"}})
    assert found == [
        "config key inner.port 10 (millrace.toml): expected int <= 9",
        "config key inner.names 3 (millrace.toml): expected array, got int",
        "config key inner 7 (millrace.toml): not a table; write [inner]",
        "config key params.x 'fast' (millrace.toml): expected bool | int | float, got str",
    ]


def test_a_section_may_refuse_a_combination() -> None:
    assert problems_of({"inner": {"low": 2.0}}) == ["config section inner: low is above high"]


def test_dotted_names_in_a_mapping_stay_flat_and_add_up() -> None:
    layers = [
        Layer("millrace.toml", {"params": {"a": {"b": 1, "c": 2}}}),
        from_pairs("command line", [("params.a.b", "5")]),
    ]
    loaded = load(Outer, layers)
    assert loaded.config.params == {"a.b": 5, "a.c": 2}
    assert loaded.origin("params.a.b") == "command line"
    assert loaded.origin("params.a.c") == "millrace.toml"


def test_pairs_are_toml_values_or_bare_words() -> None:
    pairs = [("a.n", "4"), ("a.on", "true"), ("a.list", '["x"]'), ("a.word", "hello there")]
    assert from_pairs("x", pairs).table == {"a": {"n": 4, "on": True, "list": ["x"], "word": "hello there"}}


def test_entries_list_every_value_with_its_description() -> None:
    found = list(entries(Outer(params={"a.b": 1})))
    assert found[0] == Entry("inner.port", 3, "Where")
    assert [entry.key for entry in found] == [
        "inner.port",
        "inner.names",
        "inner.low",
        "inner.high",
        "params.a.b",
        "profiles",
    ]


def test_a_file_that_is_not_toml_is_refused_with_the_line(tmp_path: Path) -> None:
    path = tmp_path / "millrace.toml"
    path.write_text("port = = 3")
    with pytest.raises(ConfigError, match=r"not valid TOML .*line 1"):
        read_toml(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_toml(tmp_path / "none.toml")


def test_a_value_that_is_none_of_those_spelled_out_is_told_which_there_are() -> None:
    with pytest.raises(ConfigError) as caught:
        load(Spelled, [Layer("x", {"size": "huge", "color": "blue"})])
    assert list(caught.value.problems) == [
        "config key size 'huge' (x): expected one of 's', 'm'",
        "config key color 'blue' (x): expected one of 'red'",
    ]


def test_further_problems_are_reported_with_the_others() -> None:
    def check(config: Outer) -> list[str]:
        return [f"{name} is bad" for name in config.params]

    layers = [Layer("x", {"inner": {"port": 10}, "params": {"a": "fast", "b": 1}})]
    with pytest.raises(ConfigError) as caught:
        load(Outer, layers, check)
    assert [problem.partition(":")[0] for problem in caught.value.problems] == [
        "config key inner.port 10 (x)",
        "config key params.a 'fast' (x)",
        "b is bad",
    ]
    assert load(Outer, [], check).config == Outer()


def test_a_mapping_of_mappings_is_a_table_of_tables_of_dotted_names() -> None:
    first = {"profiles": {"calm": {"a": {"rate": 1}, "b.n": 2}, "bare": {}}}
    second = {"profiles": {"calm": {"a.rate": 3}, "wild": {"b": {"n": 4}}}}
    loaded = load(Outer, [Layer("millrace.toml", first), Layer("environment", second)])
    assert loaded.config.profiles == {"calm": {"a.rate": 3, "b.n": 2}, "bare": {}, "wild": {"b.n": 4}}
    assert loaded.origin("profiles.calm.a.rate") == "environment"
    assert loaded.origin("profiles.calm.b.n") == "millrace.toml"
    shown = {entry.key: entry.value for entry in entries(loaded.config) if entry.key.startswith("profiles")}
    assert shown == {"profiles.calm.a.rate": 3, "profiles.calm.b.n": 2, "profiles.bare": {}, "profiles.wild.b.n": 4}
    assert Outer().profiles == {}


def test_a_profile_that_is_no_table_and_a_value_of_a_wrong_type_are_refused() -> None:
    assert problems_of({"profiles": {"calm": 3, "wild": {"a": {"rate": "fast"}}}}) == [
        "config key profiles.calm 3 (millrace.toml): not a table; write [profiles.calm]",
        "config key profiles.wild.a.rate 'fast' (millrace.toml): expected float, got str",
    ]
