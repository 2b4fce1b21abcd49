from __future__ import annotations

import tomllib

import msgspec
import pytest

from millrace.simulator.config import WorldConfig


def test_every_field_can_be_set_in_toml() -> None:
    text = 'size = "tiny"\nseed = 4\nn_users = 50\nsilent_frac = 0.5\n[language_shares]\nde = 0.5\nen = 0.5\n'
    config = msgspec.convert(tomllib.loads(text), WorldConfig)
    assert config.shape().n_users == 50
    assert config.language_shares == {"de": 0.5, "en": 0.5}
    assert msgspec.convert(msgspec.to_builtins(WorldConfig()), WorldConfig) == WorldConfig()


@pytest.mark.parametrize("text", ["colour = 1", "silent_frac = 1.5", 'size = "huge"', "n_users = 1"])
def test_unknown_keys_and_values_out_of_bounds_are_refused(text: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(tomllib.loads(text), WorldConfig)


def test_every_field_is_described() -> None:
    schema = msgspec.json.schema(WorldConfig)["$defs"]["WorldConfig"]["properties"]
    assert all("description" in str(field) for field in schema.values())


def test_the_size_decides_unless_overridden() -> None:
    assert WorldConfig(size="100k").shape().n_users == 100_000
    assert WorldConfig(size="100k", n_users=300).shape().n_users == 300


def test_people_join_for_a_week_after_the_history() -> None:
    assert WorldConfig(n_users=1_000).n_people() == 1_140
    assert WorldConfig(n_users=1_000, joins_per_day_frac=0.0).n_people() == 1_000
    assert WorldConfig(n_users=1_000, joins_per_day_frac=1.0).n_people() == 2_000
