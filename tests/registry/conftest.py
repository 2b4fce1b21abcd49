"""Small artefacts: two files each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from millrace.registry.manifest import Description, Kind, Manifest
from millrace.registry.registry import Registry

Publish = Callable[..., Manifest]


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "models")


@pytest.fixture
def publish(registry: Registry, tmp_path: Path) -> Publish:
    def publish(content: str = "weights", *, kind: Kind = "ranker", now_ms: int = 0, **more: object) -> Manifest:
        folder = tmp_path / "trained"
        (folder / "tables").mkdir(parents=True, exist_ok=True)
        (folder / "net.onnx").write_text(content)
        (folder / "tables" / "ids.bin").write_bytes(b"\0" * 16)
        said = {"feature_schema_hash": "f1", "from_ms": 10, "until_ms": 20, **more}
        return registry.publish(folder, Description(kind=kind, **said), now_ms=now_ms)  # type: ignore[arg-type]

    return publish
