"""From a training folder into the registry: published with what it learned from and how good it is; promoted."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from millrace.app import wiring
from millrace.app.settings import Settings
from millrace.flywheel.sample_set import SampleMeta
from millrace.registry.manifest import Description, Kind, Manifest


def publish(
    settings: Settings,
    kind: Kind,
    folder: Path,
    meta: SampleMeta,
    *,
    metrics: Mapping[str, float],
    training: Any,
) -> Manifest:
    """Return the manifest of a new version; nothing serves it yet.

    Parameters
    ----------
    settings
        The home.
    kind
        What it is for.
    folder
        The exported form, as it is served.
    meta
        Of the samples that it learned from.
    metrics
        Figures of its evaluation; those that are not finite are left out.
    training
        How it was trained, whatever JSON can say.

    Raises
    ------
    RegistryError
        If the folder cannot be published.
    """
    description = Description(
        kind=kind,
        feature_schema_hash=meta.schema,
        from_ms=meta.from_ms,
        until_ms=meta.until_ms,
        data=meta.source,
        metrics={name: value for name, value in metrics.items() if abs(value) < float("inf")},
        settings=msgspec.to_builtins(training),
    )
    return wiring.build_registry(settings).publish(folder, description, now_ms=wiring.build_clock().now_ms())


def promote(settings: Settings, versions: Mapping[Kind, str], note: str) -> None:
    """Let versions serve everybody, all from the same moment; running servers follow by themselves."""
    wiring.build_registry(settings).promote(dict(versions), now_ms=wiring.build_clock().now_ms(), note=note)
