"""Which versions were taken back."""

from pathlib import Path

import pytest

from millrace.registry.errors import RegistryError
from millrace.registry.manifest import Description
from millrace.registry.registry import Registry
from millrace.registry.rollbacks import taken_back


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    registry = Registry(tmp_path / "models")
    for name in ("a", "b", "c"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "net").write_text(name)
        registry.publish(
            folder, Description(kind="ranker", feature_schema_hash="x", from_ms=0, until_ms=1), now_ms=1_000
        )
    return registry


def test_what_was_rolled_back_or_taken_out_is_withdrawn_until_it_is_promoted_again(registry: Registry) -> None:
    a, b, c = registry.versions("ranker")

    def found() -> frozenset[str]:
        return taken_back(registry.history(), "ranker")

    for version in (a, b, c):
        registry.promote({"ranker": version}, now_ms=1)
    assert found() == frozenset()  # what was followed by a better one is no worse for it
    registry.rollback(now_ms=2)
    assert found() == {c}
    registry.rollback(now_ms=3)
    assert found() == {b, c}
    registry.promote({"ranker": c}, now_ms=4)
    assert found() == {b}
    registry.promote({"ranker": None}, now_ms=5)
    assert found() == {b, c}
    registry.promote({"ranker": a}, lane="blue", now_ms=6)
    registry.record_refusal(9, "default", {"ranker": a}, "no", now_ms=7)
    assert found() == {b, c}


def test_who_judged_beside_another_version_changes_nothing(registry: Registry) -> None:
    a, b, c = registry.versions("ranker")
    registry.promote({"ranker": a}, now_ms=1)
    registry.promote({"ranker": b}, now_ms=2, instead_of={"ranker": a})
    with pytest.raises(RegistryError, match=f"serves in the place of {a}"):
        registry.promote({"ranker": c}, now_ms=3, instead_of={"ranker": a})
    assert registry.serving() == {"ranker": b}
