"""A round of learning on disk: what it is of, the pages that it learns from and is judged on, what it decided.

::

    unfinished-flywheel/
      new/              pages of the round's hours
      older/            pages of before: to be learned from again, and to judge what was forgotten
      round.json        what the round is of; written behind the pages: without it nothing is gone on with
      candidate/        how far learning has come, then what it made
      decision.json     what was decided; from here on it is only carried out

A folder that is removed meanwhile, as an erasure must, makes the round void.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final, Protocol, TypeVar

import msgspec
import numpy as np

from millrace.base.atomic_file import replacing
from millrace.base.ids import Int64Array
from millrace.flywheel.decisions import Decision
from millrace.flywheel.round_pages import RoundPages, Span, is_within, parted
from millrace.flywheel.sample_set import SampleSet

_ROUND: Final = "round.json"
_DECIDED: Final = "decision.json"
_NEW: Final = "new"
_OLDER: Final = "older"

T = TypeVar("T")


class SampleSource(Protocol):
    """Where pages come from, with what the model saw and what people did."""

    @property
    def known_until_ms(self) -> int:
        """The moment before which pages must have been made for their labels to be known."""

    def samples(self, from_ms: int, until_ms: int) -> SampleSet:
        """Return the pages that were made within a span; raises `StoreError` if there are none."""


class Shown(Protocol):
    """A line of progress."""

    def total(self, n: int | None) -> None: ...  # noqa: D102 - as a progress bar has them
    def advance(self, n: int = 1) -> None: ...  # noqa: D102


ShowStage = Callable[[str], AbstractContextManager[Shown]]


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """Nothing to learn from yet.

    Attributes
    ----------
    until_ms
        Event time before which nobody need ask again.
    why
        In words.
    """

    until_ms: int
    why: str


class Round(msgspec.Struct, frozen=True, kw_only=True):
    """What a round is of.

    Attributes
    ----------
    number, from_version, from_ms, until_ms
        As of `Decision`.
    skipped_ms
        How much time before it nobody learns from: more had gathered than one round takes.
    settings
        Digest of the config: a round that is asked for otherwise begins anew.
    """

    number: int
    from_version: str
    from_ms: int
    until_ms: int
    skipped_ms: int
    settings: str


class RoundFolder:
    """What an unfinished round keeps.

    Parameters
    ----------
    path
        The folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def candidate(self) -> Path:
        """Where learning keeps how far it has come, and what it makes."""
        return self.path / "candidate"

    @property
    def is_there(self) -> bool:
        """Whether a round has begun whose pages nobody has had to forget."""
        return (self.path / _ROUND).exists()

    def begin(self, this: Round, new: SampleSet, older: SampleSet | None) -> None:
        """Keep what a round is of, and its pages; whatever was there is gone."""
        self.clear()
        self.path.mkdir(parents=True)
        new.save(self.path / _NEW)
        if older is not None:
            older.save(self.path / _OLDER)
        with replacing(self.path / _ROUND) as file:
            file.write(msgspec.json.encode(this))

    def begun(self) -> Round | None:
        """Return what the round is of that was begun; None if there is none."""
        return _read(self.path / _ROUND, Round)

    def pages(self, judged: list[Span], chosen_by_frac: float, judged_frac: float) -> tuple[SampleSet, RoundPages]:
        """Return a round's pages, and how they are parted.

        Parameters
        ----------
        judged
            Hours that earlier rounds were judged on.
        chosen_by_frac, judged_frac
            Shares of the new pages.
        """
        samples = SampleSet.load(self.path / _NEW)
        n_new = len(samples)
        fresh, chosen_by, newest = parted(samples.now_ms, chosen_by_frac, judged_frac)
        older: Int64Array = np.empty(0, dtype=np.int64)
        trusted = older
        if (self.path / _OLDER).exists():
            earlier = SampleSet.load(self.path / _OLDER)
            samples = samples.joined(earlier)
            is_judge = is_within(earlier.now_ms, judged)
            older, trusted = n_new + np.flatnonzero(~is_judge), n_new + np.flatnonzero(is_judge)
        return samples, RoundPages(np.concatenate([fresh, chosen_by, newest]), fresh, chosen_by, newest, older, trusted)

    def decide(self, decision: Decision) -> None:
        """Keep what was decided, unless the round was to be forgotten."""
        if self.is_there:
            with replacing(self.path / _DECIDED) as file:
                file.write(msgspec.json.encode(decision))

    def decided(self) -> Decision | None:
        """Return what was decided and is not carried out yet; None if nothing is."""
        return _read(self.path / _DECIDED, Decision)

    def clear(self) -> None:
        """Let go of the round."""
        (self.path / _ROUND).unlink(missing_ok=True)
        shutil.rmtree(self.path, ignore_errors=True)


def _read(path: Path, kind: type[T]) -> T | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None
