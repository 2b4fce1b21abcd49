"""What came of a home's last training: kept in a small file, so that who asks why counters still rank is told."""

from __future__ import annotations

import contextlib
from typing import Final

import msgspec

from millrace.app.settings import Settings
from millrace.base.atomic_file import replacing

_NAME: Final = "last_training.json"


class TrainingOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a training of all models.

    Attributes
    ----------
    ended_ms
        When, real time.
    n_pages
        How many it learned from.
    asked_to_serve
        Whether what is worth it was to serve (``--promote``).
    promoted
        Kinds that serve since.
    refused
        Why a kind is not to serve, by kind.
    problem
        Why it failed; empty if it came to its end.
    n_records
        How long the log was that it learned from; 0: not told.
    n_logged
        How many pages were logged when it began; 0: not told.
    """

    ended_ms: int
    n_pages: int = 0
    asked_to_serve: bool = True
    promoted: tuple[str, ...] = ()
    refused: dict[str, str] = {}
    problem: str = ""
    n_records: int = 0
    n_logged: int = 0

    def words(self, *, is_virtual: bool = False) -> str:
        """Return in short why no ranker of it serves, empty where one does; of a home in virtual time, or not."""
        from millrace.app.human_time import real_time

        last = f"the last training ({real_time(self.ended_ms, is_virtual=is_virtual)})"
        if self.problem:
            return f"{last} failed: {self.problem}"
        if "ranker" in self.promoted:
            return ""
        if "ranker" in self.refused:
            return f"{last} was refused: knows no more than counters"
        return "" if self.asked_to_serve else f"{last} was not to serve: millrace train --promote"


def keep_outcome(settings: Settings, outcome: TrainingOutcome) -> None:
    """Keep what came of a training, in place of what came of the one before."""
    path = settings.run_dir / _NAME
    with contextlib.suppress(OSError):  # a full disk must not end a training for it
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            file.write(msgspec.json.encode(outcome))


def last_outcome(settings: Settings) -> TrainingOutcome | None:
    """Return what came of the last training; None where there was none, or its file cannot be read."""
    try:
        return msgspec.json.decode((settings.run_dir / _NAME).read_bytes(), type=TrainingOutcome)
    except (OSError, msgspec.DecodeError):
        return None
