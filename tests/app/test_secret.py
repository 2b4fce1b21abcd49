"""The home's secret: made once, by whoever comes first, readable by nobody else."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from millrace.app.secret import SECRET_BYTES, load_or_make_secret, subkey
from millrace.app.settings import Settings
from millrace.base.errors import ConfigError


def test_it_is_made_once_and_stays(tmp_path: Path) -> None:
    settings = Settings(tmp_path)
    made = load_or_make_secret(settings)
    assert len(made) == SECRET_BYTES
    assert load_or_make_secret(settings) == made
    assert settings.secret_path.stat().st_mode & 0o777 == 0o600


def test_all_who_ask_at_once_get_the_same(tmp_path: Path) -> None:
    settings = Settings(tmp_path)
    with ThreadPoolExecutor(8) as threads:
        found = set(threads.map(lambda _: load_or_make_secret(settings), range(32)))
    assert len(found) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["secret.key"]


def test_another_home_has_another(tmp_path: Path) -> None:
    homes = [tmp_path / name for name in ("one", "two")]
    for home in homes:
        home.mkdir()
    assert len({load_or_make_secret(Settings(home)) for home in homes}) == 2


@pytest.mark.parametrize("data", [b"", b"short", b"x" * 33])
def test_a_file_of_another_length_is_refused_and_left_alone(tmp_path: Path, data: bytes) -> None:
    settings = Settings(tmp_path)
    settings.secret_path.write_bytes(data)
    with pytest.raises(ConfigError, match=f"{len(data)} bytes long instead of 32"):
        load_or_make_secret(settings)
    assert settings.secret_path.read_bytes() == data


def test_each_purpose_and_each_secret_has_a_key_of_its_own() -> None:
    keys = {subkey(secret, purpose) for secret in (b"a" * 32, b"b" * 32) for purpose in ("tokens", "cursors")}
    assert len(keys) == 4
    assert {len(key) for key in keys} == {32}
    assert subkey(b"a" * 32, "tokens") in keys
