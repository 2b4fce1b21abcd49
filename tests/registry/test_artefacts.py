"""Publishing, verifying, pruning: what a version is, and that it stays what it was."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from millrace.registry.errors import ArtefactError, RegistryError
from millrace.registry.manifest import Description, FileEntry
from millrace.registry.registry import Registry

JAN_5 = 1_767_571_200_000  # 2026-01-05, midnight UTC
ORDINARY: dict[str, Any] = {"kind": "ranker", "feature_schema_hash": "f1", "from_ms": 10, "until_ms": 20}


def test_a_version_names_its_time_and_content_and_its_manifest_every_file(registry: Registry, publish: Any) -> None:
    made = publish("weights", now_ms=JAN_5, metrics={"auc": 0.75}, settings={"d": 128, "lr": 0.1}, data="world 1")
    assert made.version == f"20260105T000000-{made.digest[:8]}"
    assert [(entry.path, entry.n_bytes) for entry in made.files] == [("net.onnx", 7), ("tables/ids.bin", 16)]
    assert made.files[0].blake2b == hashlib.blake2b(b"weights", digest_size=32).hexdigest()
    assert registry.manifest("ranker", made.version) == registry.verify("ranker", made.version) == made
    assert (made.metrics, made.settings, made.n_bytes) == ({"auc": 0.75}, {"d": 128, "lr": 0.1}, 23)
    assert registry.serving() == {}  # published is not promoted


def test_what_is_published_can_be_written_by_nobody(registry: Registry, publish: Any) -> None:
    folder = registry.folder("ranker", publish().version)
    assert stat.S_IMODE((folder / "net.onnx").stat().st_mode) == 0o444


def test_equal_content_is_published_once_and_any_difference_makes_another_version(
    registry: Registry, publish: Any
) -> None:
    first = publish("a", now_ms=JAN_5)
    assert publish("a", now_ms=JAN_5 + 5_000) == first
    others = [
        publish("b", now_ms=JAN_5 + 6_000),
        publish("a", now_ms=JAN_5 + 7_000, metrics={"auc": 0.5}),
        publish("a", now_ms=JAN_5 + 8_000, feature_schema_hash="f2"),
    ]
    assert registry.versions("ranker") == (first.version, *(other.version for other in others))
    assert publish("a", kind="social", now_ms=JAN_5).kind == "social"


def test_versions_sort_as_they_were_published_whatever_the_clock_says(registry: Registry, publish: Any) -> None:
    made = [publish(text, now_ms=now_ms).version for text, now_ms in (("a", JAN_5), ("b", JAN_5), ("c", 0))]
    assert registry.versions("ranker") == tuple(made)
    assert [version[:15] for version in made] == ["20260105T000000", "20260105T000001", "20260105T000002"]


def test_a_damaged_version_is_no_reason_not_to_publish_again(registry: Registry, publish: Any) -> None:
    first = publish("a")
    spoil(registry.folder("ranker", first.version) / "net.onnx", b"b")
    again = publish("a")
    assert again.version != first.version
    assert again.files == registry.verify("ranker", again.version).files == first.files


def spoil(path: Path, data: bytes | None) -> None:
    path.unlink(missing_ok=True)
    if data is not None:
        path.write_bytes(data)


@pytest.mark.parametrize(
    ("name", "data", "problem"),
    [
        ("net.onnx", b"weightS", r"net\.onnx.*does not fit its sum"),
        ("net.onnx", b"weight", r"net\.onnx.*6 bytes instead of 7"),
        ("tables/ids.bin", None, r"ids\.bin.*is missing"),
        ("more.bin", b"", r"more\.bin.*not in the manifest"),
        ("manifest.json", b"{}", r"manifest\.json.*damaged"),
        ("manifest.json", b"\xff", r"manifest\.json.*damaged"),
        ("manifest.json", None, "is not there"),
    ],
)
def test_damage_names_the_file(registry: Registry, publish: Any, name: str, data: bytes | None, problem: str) -> None:
    version = publish("weights").version
    spoil(registry.folder("ranker", version) / name, data)
    with pytest.raises(ArtefactError, match=problem):
        registry.verify("ranker", version)
    with pytest.raises(ArtefactError, match=problem):
        registry.promote({"ranker": version}, now_ms=0)
    assert registry.pointer() is None


def test_a_manifest_that_was_changed_by_hand_shows(registry: Registry, publish: Any) -> None:
    version = publish(metrics={"auc": 0.5}).version
    path = registry.folder("ranker", version) / "manifest.json"
    spoil(path, path.read_bytes().replace(b"0.5", b"0.9"))
    with pytest.raises(ArtefactError, match="does not fit its own sum"):
        registry.manifest("ranker", version)


def test_a_folder_under_another_name_is_not_that_version(registry: Registry, publish: Any) -> None:
    version = publish().version
    (registry.root / "ranker").rename(registry.root / "social")
    with pytest.raises(ArtefactError, match=f"belongs to ranker {version}"):
        registry.verify("social", version)


@pytest.mark.parametrize("version", ["", "..", "../ranker", "20260105T000000-00000000", "newest"])
def test_a_version_that_is_not_there_is_named(registry: Registry, publish: Any, version: str) -> None:
    publish()
    with pytest.raises(ArtefactError, match="is not there; see `millrace models list`"):
        registry.verify("ranker", version)


def test_only_plain_files_are_published(registry: Registry, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()

    def publish() -> None:
        registry.publish(folder, Description(**ORDINARY), now_ms=0)

    with pytest.raises(RegistryError, match="holds no files"):
        publish()
    (folder / "net.onnx").write_bytes(b"x")
    (folder / "link").symlink_to("/etc/passwd")
    with pytest.raises(RegistryError, match="link"):
        publish()
    (folder / "link").rename(folder / ".hidden")
    with pytest.raises(RegistryError, match="hidden"):
        publish()
    (folder / ".hidden").unlink()
    (folder / "manifest.json").write_bytes(b"{}")
    with pytest.raises(RegistryError, match=r"a manifest\.json of its own"):
        publish()
    assert registry.versions("ranker") == ()
    assert not list(registry.root.rglob(".draft*"))


@pytest.mark.parametrize("path", ["", "/etc/passwd", "../secret.key", "a/../b", "a//b", ".hidden", "a/", "a\\b", "ä"])
def test_a_manifest_cannot_name_a_file_elsewhere(path: str) -> None:
    with pytest.raises(ValueError, match="not the path of a file"):
        FileEntry(path=path, n_bytes=0, blake2b="0" * 64)


@pytest.mark.parametrize(
    "wrong", [{"until_ms": 9}, {"metrics": {"auc": float("nan")}}, {"metrics": {"auc": float("inf")}}]
)
def test_a_description_must_make_sense(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"before it begins|metric 'auc' is"):
        Description(**{**ORDINARY, **wrong})


def test_settings_that_json_cannot_say_are_refused(publish: Any) -> None:
    with pytest.raises(RegistryError, match="cannot be written"):
        publish(settings={"f": print})


def test_settings_read_back_as_they_are_kept(registry: Registry, publish: Any) -> None:
    made = publish(settings={"sizes": (1, 2), "by_id": {3: 0.1}})
    assert made.settings == {"sizes": [1, 2], "by_id": {"3": 0.1}}
    assert registry.verify("ranker", made.version) == made


def test_prune_keeps_the_newest_and_all_that_serves_or_served(registry: Registry, publish: Any) -> None:
    versions = [publish(f"w{i}").version for i in range(7)]
    for version in (versions[0], versions[1]):  # 1 serves, 0 is there for a rollback
        registry.promote({"ranker": version}, now_ms=0)
    registry.promote({"ranker": versions[3]}, "sandbox", now_ms=0)
    pruned = [("ranker", versions[2]), ("ranker", versions[4])]
    assert registry.prune(2, is_dry=True) == pruned
    assert registry.versions("ranker") == tuple(versions)
    assert registry.prune(2) == pruned
    assert registry.versions("ranker") == tuple(versions[i] for i in (0, 1, 3, 5, 6))
    assert registry.prune(0) == [("ranker", versions[5]), ("ranker", versions[6])]
    assert not list((registry.root / "ranker").glob(".*"))


def test_prune_refuses_where_nobody_knows_what_serves(registry: Registry, publish: Any) -> None:
    publish()
    (registry.root / "live.json").write_bytes(b"{")
    with pytest.raises(RegistryError, match=r"live\.json.*damaged.*restore it"):
        registry.prune(0)
    assert len(registry.versions("ranker")) == 1
    with pytest.raises(RegistryError, match="negative"):
        registry.prune(-1)


def test_the_draft_of_a_living_process_stays_and_that_of_a_dead_one_goes(registry: Registry, publish: Any) -> None:
    publish("a")
    folder = registry.root / "ranker"
    for name in (".draft-dead", ".draft-alive", ".gone-half"):
        (folder / name).mkdir()
        (folder / name / "net.onnx").write_bytes(b"half")
    from millrace.registry.files import hold_folder

    held = hold_folder(folder / ".draft-alive")
    publish("b")
    assert [path.name for path in folder.glob(".*")] == [".draft-alive"]
    os.close(held)
    publish("c")
    assert not list(folder.glob(".*"))
