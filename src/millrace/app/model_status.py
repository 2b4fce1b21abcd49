"""What of a home's models serves, and what is being trained: for people, in one line."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Final

import msgspec

from millrace.app import wiring
from millrace.app.human_time import real_time
from millrace.app.settings import Settings
from millrace.app.training_outcome import TrainingOutcome, last_outcome
from millrace.app.training_status import TrainingStatus, training_status
from millrace.app.virtual_time import has_virtual_time
from millrace.base.errors import MillraceError
from millrace.registry.pointer import DEFAULT_LANE
from millrace.registry.registry import Registry

_SERVED: Final = ("ranker", "pre_ranker", "retrieval")
_N_KEPT: Final = 8


class ModelStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Models of everybody's lane.

    Attributes
    ----------
    words
        All of it in one line.
    serving
        Versions that pages are made with, by kind; of a folder that the config names, the folder's name.
    since_ms
        When the registry began to name these, real time; None where no registry says.
    training
        What a trainer is at; None: nobody trains.
    last_training
        What came of the training before; None: there was none.
    """

    words: str
    serving: dict[str, str]
    since_ms: int | None = None
    training: TrainingStatus | None = None
    last_training: TrainingOutcome | None = None


def model_status(settings: Settings) -> ModelStatus:
    """Return what serves and what is being trained; reads a few small files.

    The registry's history, which only grows, is read once for each change of what serves.
    """
    training, last = training_status(settings), last_outcome(settings)
    since_ms: int | None = None
    if folders := wiring.model_folders(settings):
        serving: dict[str, str] = {kind: folder.name for kind, folder in folders.items()}
    else:
        serving, since_ms = _of_registry(settings)
    return ModelStatus(
        words=status_words(serving, since_ms, training, last, is_virtual=has_virtual_time(settings)),
        serving=serving,
        since_ms=since_ms,
        training=training,
        last_training=last,
    )


def status_words(
    serving: dict[str, str],
    since_ms: int | None,
    training: TrainingStatus | None,
    last: TrainingOutcome | None = None,
    *,
    is_virtual: bool = False,
) -> str:
    """Return a status as a line: ``"models: ranker 00000003 serves since Mon 5 Jan, 09:05 UTC"``.

    Where time is virtual it says that this moment is of real time.
    """
    named = ", ".join(f"{kind.replace('_', '-')} {serving[kind]}" for kind in _SERVED if kind in serving)
    parts = []
    if named:
        since = "" if since_ms is None else f" since {real_time(since_ms, is_virtual=is_virtual)}"
        parts.append(f"{named} {'serves' if len(serving) == 1 else 'serve'}{since}")
    if training is not None:
        parts.append(training.words())
    if (
        training is None
        and "ranker" not in serving
        and last is not None
        and (words := last.words(is_virtual=is_virtual))
    ):
        parts.append(f"{'no ranker' if named else 'none'} yet; {words}")
    return f"models: {'; '.join(parts) or 'none, counters rank'}"


def _of_registry(settings: Settings) -> tuple[dict[str, str], int | None]:
    """Return what everybody's lane serves, and since when it is just that."""
    registry = wiring.build_registry(settings)
    try:
        data = registry.pointer_bytes()
        serving, since_ms = ({}, None) if data is None else _told(registry.root, data)
    except MillraceError:  # doctor tells what is wrong with it
        return {}, None
    return dict(serving), since_ms


@lru_cache(maxsize=_N_KEPT)
def _told(root: Path, data: bytes) -> tuple[dict[str, str], int | None]:
    """Return what a registry's pointer says, which differs after every change, and its history of when.

    Refusals alone are added to the history without one, and they change nothing of what serves.
    """
    registry = Registry(root)
    pointer = registry.decode(data)
    serving: dict[str, str] = {kind: version for kind, version in pointer.serving().items() if kind in _SERVED}
    changes = registry.history() if serving else []
    own = [change for change in (*changes, pointer.change) if change.lane == DEFAULT_LANE and change.what != "refused"]
    return serving, max((change.at_ms for change in own), default=None) if serving else None
