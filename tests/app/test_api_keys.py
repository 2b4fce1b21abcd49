"""API keys: only hashes are kept, changes are seen at once, a damaged file lets nobody in."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from millrace.app.api_keys import ApiKeys
from millrace.base.errors import ConfigError, NotReadyError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def test_a_key_is_known_by_name_and_role_and_is_written_nowhere(path: Path) -> None:
    keys = ApiKeys(path)
    key = keys.add("shop", "ingest", 5)
    found = keys.find(key)
    assert found is not None
    assert (found.name, found.role, found.created_at_ms) == ("shop", "ingest", 5)
    assert key.startswith("mr_ingest_")
    assert key not in path.read_text()
    assert key.removeprefix("mr_ingest_") not in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("key", ["", "mr_", "mr_ingest_", "mr_admin_AAAA", "\xff", "\udcff"])
def test_any_other_text_is_nobodys(path: Path, key: str) -> None:
    keys = ApiKeys(path)
    assert keys.find(key) is None
    made = keys.add("shop", "ingest", 5)
    assert keys.find(key) is None
    assert keys.find(made + " ") is None
    assert keys.find(made.upper()) is None
    assert keys.find(made.replace("ingest", "admin")) is None


def test_other_processes_see_a_change_at_once(path: Path) -> None:
    here, there = ApiKeys(path), ApiKeys(path)
    assert there.all() == ()
    first, second = here.add("one", "ingest", 1), here.add("two", "admin", 2)
    assert [there.find(key).name for key in (first, second)] == ["one", "two"]  # type: ignore[union-attr]
    here.remove("one")
    assert there.find(first) is None
    assert there.find(second) is not None
    path.unlink()
    assert there.find(second) is None


def test_keys_made_at_the_same_time_are_all_kept(path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(lambda n: ApiKeys(path).add(f"key{n}", "ingest", n), range(16)))
    keys = ApiKeys(path)
    assert {keys.find(key).name for key in made} == {f"key{n}" for n in range(16)}  # type: ignore[union-attr]
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("name", ["", "-x", "a b", "a\n", "x" * 65, "Ä"])
def test_a_name_that_is_none_is_refused(path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="not a name"):
        ApiKeys(path).add(name, "ingest", 1)
    assert not path.exists()


def test_a_name_is_used_once(path: Path) -> None:
    keys = ApiKeys(path)
    key = keys.add("shop", "ingest", 1)
    with pytest.raises(ConfigError, match="`millrace keys remove shop`"):
        keys.add("shop", "admin", 2)
    assert keys.find(key) == keys.all()[0]
    assert len(keys.all()) == 1


def test_removing_what_is_not_there_says_so(path: Path) -> None:
    with pytest.raises(ConfigError, match="no key of that name"):
        ApiKeys(path).remove("shop")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        '{"keys": 3}',
        '{"version": 2}',
        '{"keys": [{"name": "x", "role": "king", "hash": "", "created_at_ms": 1}]}',
    ],
)
def test_a_damaged_file_lets_nobody_in_until_it_is_mended(path: Path, text: str) -> None:
    keys = ApiKeys(path)
    key = keys.add("shop", "ingest", 1)
    good = path.read_text()
    path.write_text(text)
    with pytest.raises(NotReadyError, match="cannot be read"):
        keys.find(key)
    with pytest.raises(ConfigError, match="mend the file"):
        keys.add("other", "ingest", 2)
    assert path.read_text() == text
    path.write_text(good + "\n")
    assert keys.find(key) is not None
