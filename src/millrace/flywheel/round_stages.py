"""Stages of a round: each is shown to the person waiting, and its seconds are kept."""

from __future__ import annotations

from contextlib import AbstractContextManager

from millrace.base.clock import Clock
from millrace.base.progress import Shown, ShowStage


class Timed(AbstractContextManager[Shown]):
    """A stage that is shown, and whose seconds are kept by its name.

    Parameters
    ----------
    what
        Its name, and in brackets what its progress counts.
    show
        Shows it.
    clock
        Takes its time.
    seconds
        Where that goes.
    """

    def __init__(self, what: str, show: ShowStage, clock: Clock, seconds: dict[str, float]) -> None:
        self._name = what.partition(" (")[0]
        self._shown = show(what)
        self._clock = clock
        self._seconds = seconds
        self._begun_s = 0.0

    def __enter__(self) -> Shown:
        self._begun_s = self._clock.monotonic_s()
        return self._shown.__enter__()

    def __exit__(self, *error: object) -> None:
        self._seconds[self._name] = round(self._clock.monotonic_s() - self._begun_s, 3)
        self._shown.__exit__(*error)  # type: ignore[arg-type] # as they were given
