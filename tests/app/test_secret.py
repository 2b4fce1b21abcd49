"""The home's secret: made once, by one of those who need it, readable by its owner alone."""

import stat
import threading
from pathlib import Path

import pytest

from millrace.app.secret import SECRET_BYTES, load_or_make_secret, subkey
from millrace.app.settings import Settings
from millrace.base.errors import ConfigError


def test_whoever_is_first_makes_it_and_all_get_the_same(tmp_path: Path) -> None:
    settings = Settings(tmp_path / "home")
    found: list[bytes] = []
    start = threading.Barrier(8)

    def load() -> None:
        start.wait()
        found.append(load_or_make_secret(settings))

    threads = [threading.Thread(target=load) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1
    assert len(found[0]) == SECRET_BYTES
    assert [path.name for path in settings.home.iterdir()] == ["secret.key"]  # no draft is left
    assert stat.S_IMODE(settings.secret_path.stat().st_mode) == 0o600
    assert load_or_make_secret(Settings(tmp_path / "other")) != found[0]


def test_a_file_that_is_no_secret_is_refused_without_saying_what_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "secret.key").write_bytes(b"hush")
    with pytest.raises(ConfigError, match=r"secret\.key.*4 bytes instead of 32") as caught:
        load_or_make_secret(Settings(tmp_path))
    assert "hush" not in str(caught.value)


def test_a_home_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "home").write_bytes(b"a file")
    with pytest.raises(ConfigError, match="check the permissions"):
        load_or_make_secret(Settings(tmp_path / "home"))


def test_keys_of_different_purposes_differ(tmp_path: Path) -> None:
    secret = load_or_make_secret(Settings(tmp_path))
    keys = {subkey(secret, purpose) for purpose in ("cursor", "token")}
    assert len(keys) == 2
    assert secret not in keys
    assert {len(key) for key in keys} == {32}
