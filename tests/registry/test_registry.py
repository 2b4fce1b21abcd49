"""The pointer: any sequence of changes equals a dictionary, and processes lose no change of each other."""

from __future__ import annotations

import copy
import multiprocessing
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from millrace.registry.errors import RegistryError
from millrace.registry.manifest import Description, Kind
from millrace.registry.pointer import MAX_PREVIOUS
from millrace.registry.registry import Registry

KINDS: tuple[Kind, ...] = ("ranker", "pre_ranker")
LANES = ("default", "arm", "sandbox")


def published(root: Path, n: int) -> tuple[Registry, dict[Kind, list[str]]]:
    registry = Registry(root / "models")
    (root / "trained").mkdir()
    found: dict[Kind, list[str]] = {}
    for kind in KINDS:
        said = Description(kind=kind, feature_schema_hash="f", from_ms=0, until_ms=1)
        for i in range(n):
            (root / "trained" / "net").write_text(f"{kind} {i}")
            found.setdefault(kind, []).append(registry.publish(root / "trained", said, now_ms=i).version)
    return registry, found


class Model:
    """What the registry should do, in a dictionary."""

    def __init__(self) -> None:
        self.names: dict[str, dict[str, str]] = {}
        self.before: dict[str, list[dict[str, str]]] = {}

    def serving(self, lane: str) -> dict[str, str]:
        return {**self.names.get("default", {}), **self.names.get(lane, {})}

    def promote(self, lane: str, changes: dict[Any, str | None]) -> None:
        old = self.names.get(lane, {})
        new = {kind: version for kind, version in {**old, **changes}.items() if version is not None}
        if new != old:
            self.before[lane] = [old, *self.before.get(lane, [])][:MAX_PREVIOUS]
        self.before.setdefault(lane, [])
        self.names[lane] = new

    def rollback(self, lane: str) -> bool:
        if not self.before.get(lane):
            return False
        self.names[lane] = self.before[lane].pop(0)
        return True

    def drop(self, lane: str) -> bool:
        self.before.pop(lane, None)
        return self.names.pop(lane, None) is not None


steps = st.lists(
    st.tuples(
        st.sampled_from(["promote", "promote", "promote", "rollback", "rollback", "drop", "prune"]),
        st.sampled_from(LANES),
        st.dictionaries(st.sampled_from(KINDS), st.none() | st.integers(0, 2), min_size=1),
    ),
    max_size=14,
)


@given(steps)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_sequence_of_changes_equals_a_dictionary(sequence: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        registry, versions = published(Path(folder), 3)
        model, n_changes = Model(), 0
        for now_ms, (what, lane, picks) in enumerate(sequence):
            is_done = True
            before = copy.deepcopy(registry.pointer())
            try:
                if what == "promote":
                    changes = {kind: None if i is None else versions[kind][i] for kind, i in picks.items()}
                    registry.promote(changes, lane, now_ms=now_ms)
                    model.promote(lane, changes)
                elif what == "rollback":
                    is_done = model.rollback(lane)
                    registry.rollback(lane, now_ms=now_ms)
                elif what == "drop":
                    is_done = lane != "default" and model.drop(lane)
                    registry.drop_lane(lane, now_ms=now_ms)
                else:
                    is_done = False
                    registry.prune(3)
            except RegistryError:
                assert not is_done
                assert registry.pointer() == before
            n_changes += is_done
            for asked in (*LANES, "unknown"):
                assert registry.serving(asked) == model.serving(asked)
            changes_told = registry.history()
            assert [change.serial for change in changes_told] == list(range(1, n_changes + 1))
            if is_done:
                assert (changes_told[-1].lane, changes_told[-1].at_ms) == (lane, now_ms)
                assert changes_told[-1].versions == model.names.get(lane, {})


def test_a_set_changes_as_one_and_goes_back_as_one(tmp_path: Path) -> None:
    registry, v = published(tmp_path, 2)
    registry.promote({"ranker": v["ranker"][0], "pre_ranker": v["pre_ranker"][0]}, now_ms=1)
    registry.promote({"ranker": v["ranker"][1], "pre_ranker": v["pre_ranker"][1]}, now_ms=2, note="better")
    registry.rollback(now_ms=3, note="worse")
    assert registry.serving() == {"ranker": v["ranker"][0], "pre_ranker": v["pre_ranker"][0]}
    told = [(change.what, change.at_ms, change.note) for change in registry.history()]
    assert told == [("promoted", 1, ""), ("promoted", 2, "better"), ("rolled back", 3, "worse")]


def test_a_lane_takes_from_the_default_what_it_does_not_name(tmp_path: Path) -> None:
    registry, v = published(tmp_path, 3)
    registry.promote({"ranker": v["ranker"][0], "pre_ranker": v["pre_ranker"][0]}, now_ms=0)
    registry.promote({"ranker": v["ranker"][1]}, "arm", now_ms=0)
    registry.promote({"pre_ranker": v["pre_ranker"][2]}, now_ms=0)
    assert registry.serving("arm") == {"ranker": v["ranker"][1], "pre_ranker": v["pre_ranker"][2]}


def test_promoting_what_serves_leaves_the_way_back_and_still_changes_the_pointer(tmp_path: Path) -> None:
    registry, v = published(tmp_path, 2)
    for i in (0, 1, 1):
        before = registry.pointer_bytes()
        registry.promote({"ranker": v["ranker"][i]}, now_ms=0)
        assert registry.pointer_bytes() != before
    registry.rollback(now_ms=0)
    assert registry.serving() == {"ranker": v["ranker"][0]}


@pytest.mark.parametrize("lane", ["", ".", "../x", "a b", "x" * 65, "ä"])
def test_a_lane_needs_a_name(registry: Registry, lane: str) -> None:
    with pytest.raises(RegistryError, match="not a name"):
        registry.promote({}, lane, now_ms=0)


def test_a_damaged_pointer_says_what_to_do_and_removing_it_is_enough(tmp_path: Path) -> None:
    registry, v = published(tmp_path, 1)
    registry.promote({"ranker": v["ranker"][0]}, now_ms=0)
    pointer = registry.root / "live.json"
    for damage in (b"", b"{", b"\xff\xfe", b"[]", pointer.read_bytes().replace(b"lanes", b"lames")):
        pointer.write_bytes(damage)
        with pytest.raises(RegistryError, match=r"live\.json.*restore it from a backup; or remove it and promote"):
            registry.serving()
        with pytest.raises(RegistryError, match="damaged"):
            registry.promote({"ranker": v["ranker"][0]}, now_ms=1)
    pointer.unlink()
    assert registry.promote({"ranker": v["ranker"][0]}, now_ms=1).change.serial == 2  # the history counts on


def test_a_refusal_is_written_once_and_a_torn_line_is_cut_off(tmp_path: Path) -> None:
    registry, v = published(tmp_path, 1)
    versions = registry.promote({"ranker": v["ranker"][0]}, now_ms=0).serving()
    with (registry.root / "history.jsonl").open("ab") as file:
        file.write(b'{"serial": 9, "at')  # killed in the middle of a line
    for now_ms in (5, 6):
        registry.record_refusal(1, "default", versions, "no memory", now_ms=now_ms)
    assert [(change.what, change.note) for change in registry.history()] == [("promoted", ""), ("refused", "no memory")]


def test_a_change_whose_writer_was_killed_before_the_history_is_told_all_the_same(tmp_path: Path) -> None:
    registry, v = published(tmp_path, 1)
    registry.promote({"ranker": v["ranker"][0]}, now_ms=1)
    (registry.root / "history.jsonl").write_bytes(b"")
    assert [change.at_ms for change in registry.history()] == [1]
    registry.promote({"pre_ranker": v["pre_ranker"][0]}, now_ms=2)
    assert [change.at_ms for change in registry.history()] == [1, 2]


def test_a_damaged_history_is_named_and_stops_no_promotion(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    registry, v = published(tmp_path, 1)
    registry.promote({"ranker": v["ranker"][0]}, now_ms=1)
    with (registry.root / "history.jsonl").open("ab") as file:
        file.write(b"scribble\n")
    with pytest.raises(RegistryError, match=r"line 2 of the models' history.*is damaged.*mend or remove that line"):
        registry.history()
    registry.promote({"pre_ranker": v["pre_ranker"][0]}, now_ms=2)
    assert registry.serving().keys() == {"ranker", "pre_ranker"}
    assert "line 2 of the models' history" in caplog.text


def promote_many(root: Path, lane: str, kind: Kind, versions: list[str], start: Any) -> None:
    start.wait()
    for version in versions:
        Registry(root).promote({kind: version}, lane, now_ms=0)


def test_processes_that_promote_at_once_lose_no_change_of_each_other(tmp_path: Path) -> None:
    registry, v = published(tmp_path, 2)
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(2)
    turns = 10
    processes = [
        context.Process(target=promote_many, args=(registry.root, "default", kind, v[kind] * turns, start))
        for kind in KINDS
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert registry.serving() == {kind: v[kind][-1] for kind in KINDS}
    assert [change.serial for change in registry.history()] == list(range(1, 4 * turns + 1))
