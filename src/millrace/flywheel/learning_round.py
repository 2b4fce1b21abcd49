"""A round of learning on disk: what it is of, the pages that it learns from and is judged on, what it decided.

::

    unfinished-flywheel/
      new/              pages of the round's hours
      older/            pages of before, to be learned from again
      trusted/          judged pages of before, that nobody has learned from; half of them calibrate
      round.json        what the round is of; written behind the pages: without it nothing is gone on with
      candidate/        how far learning has come, then what it made
      decision.json     what was decided; from here on it is only carried out
      learner/          how the learner stands after the last round that did no harm: weights before calibration,
                        their mean, optimisers. Worth nothing beside another version than the one that it names

A folder that is removed meanwhile, as an erasure must, makes the round void.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol, TypeVar

import msgspec
import numpy as np

from millrace.base.atomic_file import replacing
from millrace.base.ids import Int64Array
from millrace.flywheel.decisions import Decision
from millrace.flywheel.earlier_pages import calibrates
from millrace.flywheel.learning_config import LearningConfig
from millrace.flywheel.round_pages import RoundPages, parted, with_earlier
from millrace.flywheel.sample_set import SampleSet

_ROUND: Final = "round.json"
_DECIDED: Final = "decision.json"
_NEW: Final = "new"
_OLDER: Final = "older"
_TRUSTED: Final = "trusted"
LEARNER_FILE: Final = "learner.pt"
_LEARNER: Final = "learner"
_LEARNER_NOTE: Final = "learner.json"

T = TypeVar("T")
Keep = Callable[[Int64Array], Int64Array]
"""From the times at which pages were made, (n,), to the places of those that are wanted, ascending."""


class SampleSource(Protocol):
    """Where pages come from, with what the model saw and what people did."""

    @property
    def known_until_ms(self) -> int:
        """The moment before which pages must have been made for their labels to be known."""

    def n_pages(self, from_ms: int, until_ms: int) -> int:
        """Return how many pages were made within a span, at most: some may turn out not to be readable."""

    def samples(self, from_ms: int, until_ms: int, keep: Keep | None = None) -> SampleSet:
        """Return the pages that were made within a span, those alone that ``keep`` chooses: nothing else is read.

        Raises
        ------
        NoSamplesError
            If there are none.
        """


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


class Learner(msgspec.Struct, frozen=True, kw_only=True):
    """What a kept learner goes with.

    Attributes
    ----------
    number
        The round that left it.
    version
        What served behind that round: what it made, or what it was refused beside.
    n_carried
        How many rounds it has learned since that version was made, and none of which serves.
    """

    number: int
    version: str
    n_carried: int


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
    trusted_from_ms
        As of `Decision`.
    learner
        The learner that it goes on from; none: it begins with what serves.
    """

    number: int
    from_version: str
    from_ms: int
    until_ms: int
    skipped_ms: int
    settings: str
    trusted_from_ms: int = 0
    learner: Learner | None = None


class RoundFolder:
    """What an unfinished round keeps, and what the last one left.

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

    @property
    def learner_path(self) -> Path:
        """The file in which the learner is kept between rounds."""
        return self.path / _LEARNER / LEARNER_FILE

    def begin(self, this: Round, new: SampleSet, older: SampleSet | None, trusted: SampleSet | None) -> None:
        """Keep what a round is of, and its pages; whatever was there is gone, but for the learner."""
        self.clear()
        self.path.mkdir(parents=True, exist_ok=True)
        new.save(self.path / _NEW)
        if older is not None:
            older.save(self.path / _OLDER)
        if trusted is not None:
            trusted.save(self.path / _TRUSTED)
        with replacing(self.path / _ROUND) as file:
            file.write(msgspec.json.encode(this))

    def begun(self) -> Round | None:
        """Return what the round is of that was begun; None if there is none."""
        return _read(self.path / _ROUND, Round)

    def pages(self, config: LearningConfig) -> tuple[SampleSet, RoundPages]:
        """Return a round's pages, and how they are parted."""
        samples = SampleSet.load(self.path / _NEW)
        pages = parted(samples.now_ms, config.chosen_by_frac, config.judged_frac)
        older = self._earlier(_OLDER)
        trusted = self._earlier(_TRUSTED)
        n_older, none = 0 if older is None else len(older), np.empty(0, dtype=np.int64)
        viewers, made_ms = (none, none) if trusted is None else (trusted.viewers, trusted.now_ms)
        pages = with_earlier(pages, n_older, made_ms, calibrates(viewers, made_ms), config.min_judged_pages)
        for earlier in (older, trusted):
            samples = samples if earlier is None else samples.joined(earlier)
        return samples, pages

    def _earlier(self, name: str) -> SampleSet | None:
        return SampleSet.load(self.path / name) if (self.path / name).exists() else None

    def learner_of(self, version: str) -> Learner | None:
        """Return what learner goes with a version that serves, if one is kept."""
        found = _read(self.path / _LEARNER / _LEARNER_NOTE, Learner)
        return found if found is not None and found.version == version else None

    def keep_learner(self, learner: Learner) -> None:
        """Keep the learner as the round has left it; said twice, it is done once."""
        left, note = self.candidate / LEARNER_FILE, self.path / _LEARNER / _LEARNER_NOTE
        if not left.exists():
            return
        note.unlink(missing_ok=True)  # killed from here on, the next round begins with what serves
        self.learner_path.parent.mkdir(exist_ok=True)
        left.replace(self.learner_path)
        with replacing(note) as file:
            file.write(msgspec.json.encode(learner))

    def drop_learner(self) -> None:
        """Forget the learner: the next round begins with what serves."""
        shutil.rmtree(self.path / _LEARNER, ignore_errors=True)

    def decide(self, decision: Decision) -> None:
        """Keep what was decided, unless the round was to be forgotten."""
        if self.is_there:
            with replacing(self.path / _DECIDED) as file:
                file.write(msgspec.json.encode(decision))

    def decided(self) -> Decision | None:
        """Return what was decided and is not carried out yet; None if nothing is."""
        return _read(self.path / _DECIDED, Decision)

    def clear(self) -> None:
        """Let go of the round, not of the learner."""
        (self.path / _ROUND).unlink(missing_ok=True)
        if not self.path.exists():
            return
        for each in self.path.iterdir():
            if each.name != _LEARNER:
                shutil.rmtree(each) if each.is_dir() else each.unlink()


def _read(path: Path, kind: type[T]) -> T | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None
