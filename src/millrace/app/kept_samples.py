"""What an unfinished training keeps beside its stages: samples, and candidates of sampled requests, as they were read.

The log goes on while a training stands still: read anew, it would give others.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from millrace.flywheel.sample_set import SampleSet

if TYPE_CHECKING:
    from millrace.app.training_run import TrainingRun
    from millrace.flywheel.logged_samples import LoggedCandidates

_COLUMNS: Final = ("teacher", "scores", "has_labels", "is_served", "is_cut")
_SAMPLES: Final = "samples"


def kept_samples(run: TrainingRun, read: Callable[[], SampleSet]) -> SampleSet:
    """Return the samples of a run, mapped; they are read once, however often it is interrupted."""
    folder = run.folder / _SAMPLES

    def keep() -> int:
        samples = read()
        samples.save(folder)
        return len(samples)

    run.stage("samples", int, keep, folder)
    return SampleSet.load(folder)


def kept_candidates(run: TrainingRun, read: Callable[[], LoggedCandidates | None]) -> LoggedCandidates | None:
    """Return the candidates of a run, mapped; they are read once, however often it is interrupted."""
    folder = run.folder / "candidates"

    def keep() -> bool:
        candidates = read()
        if candidates is not None:
            save_candidates(candidates, folder)
        return candidates is not None

    return load_candidates(folder) if run.stage("candidates", bool, keep, folder) else None


def save_candidates(candidates: LoggedCandidates, folder: Path) -> None:
    """Write candidates into a folder."""
    candidates.samples.save(folder / _SAMPLES)
    for name in _COLUMNS:
        np.save(folder / f"{name}.npy", getattr(candidates, name))


def load_candidates(folder: Path) -> LoggedCandidates:
    """Return the candidates that `save_candidates` wrote, their columns mapped.

    Raises
    ------
    StoreError
        If their samples cannot be read.
    """
    from millrace.flywheel.logged_samples import LoggedCandidates

    columns = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in _COLUMNS}
    return LoggedCandidates(samples=SampleSet.load(folder / _SAMPLES), **columns)
