"""Records in a file, one a line: what a kill leaves of one is none, and reading the newest reads the end."""

from pathlib import Path

import msgspec
import pytest

from millrace.base.errors import StoreError
from millrace.registry import json_lines
from millrace.registry.json_lines import JsonLines


class Said(msgspec.Struct, frozen=True):
    number: int
    words: str = ""


def a_log(folder: Path) -> JsonLines[Said]:
    return JsonLines(folder / "said" / "said.jsonl", Said, what="what was said", error=StoreError)


def test_a_log_that_nothing_was_written_to_is_empty(tmp_path: Path) -> None:
    log = a_log(tmp_path)
    assert log.all() == []
    assert log.newest(3) == []


@pytest.mark.parametrize("block_bytes", [1, 7, 64, 1 << 16])
@pytest.mark.parametrize("torn", [b"", b'{"numb'])
def test_the_newest_are_the_last_of_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block_bytes: int, torn: bytes
) -> None:
    monkeypatch.setattr(json_lines, "_BLOCK_BYTES", block_bytes)
    log = a_log(tmp_path)
    made = [Said(number, "é" * number) for number in range(7)]
    for said in made:
        log.append(said)
        with log.path.open("ab") as file:
            file.write(torn)
    assert log.all() == made
    monkeypatch.setattr(log, "all", lambda: pytest.fail("the whole file was read"))
    assert [log.newest(n) for n in range(9)] == [made[len(made) - min(n, 7) :] for n in range(9)]
    assert log.path.read_bytes().count(b'{"numb') == 7 + (torn != b"")  # what was half written was cut off each time


@pytest.mark.parametrize("block_bytes", [3, 1 << 16])
def test_half_of_the_first_line_is_cut_off_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block_bytes: int
) -> None:
    monkeypatch.setattr(json_lines, "_BLOCK_BYTES", block_bytes)
    log = a_log(tmp_path)
    log.path.parent.mkdir()
    log.path.write_bytes(b'{"number":1,"wor')
    assert log.all() == log.newest(1) == []
    log.append(Said(2))
    assert log.all() == log.newest(2) == [Said(2)]


def test_a_file_that_did_not_change_is_not_read_again_and_one_that_did_is(tmp_path: Path) -> None:
    log, writer = a_log(tmp_path), a_log(tmp_path)
    writer.append(Said(1))
    (first,) = log.all()
    assert log.all()[0] is first
    writer.append(Said(2))
    assert log.all() == [Said(1), Said(2)]
    other = log.path.with_name("restored")
    other.write_bytes(log.path.read_bytes().replace(b"2", b"3"))  # as long as it was, put in its place
    other.replace(log.path)
    assert log.all() == [Said(1), Said(3)]
    log.path.unlink()
    assert log.all() == []


def test_what_a_caller_does_to_its_list_is_its_own(tmp_path: Path) -> None:
    log = a_log(tmp_path)
    log.append(Said(1))
    log.all().clear()
    assert log.all() == [Said(1)]


@pytest.mark.parametrize("damage", [b"no JSON\n", b'{"number":"\xff"}\n', b'{"number":1,"words":"\xff"}\n'])
def test_a_damaged_line_is_named_by_whoever_reads_it(tmp_path: Path, damage: bytes) -> None:
    log = a_log(tmp_path)
    log.append(Said(1))
    with log.path.open("ab") as file:
        file.write(damage)
    with pytest.raises(StoreError, match="line 2 of what was said"):
        log.all()
    with pytest.raises(StoreError, match="line 2 of what was said"):
        log.newest(1)
    log.append(Said(3))
    assert log.newest(1) == [Said(3)]  # the end is whole
