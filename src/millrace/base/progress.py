"""`Shown`: a line of progress, as whoever waits for long work sees it; `moving` carries counts to one."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol


class Shown(Protocol):
    """A line of progress."""

    def total(self, n: int | None) -> None: ...  # noqa: D102 - as a progress bar has them
    def advance(self, n: int = 1) -> None: ...  # noqa: D102


ShowStage = Callable[[str], AbstractContextManager[Shown]]
"""Shows a stage by its name, and in brackets what its progress counts, while it is open."""


def moving(step: Shown) -> Callable[[int, int], None]:
    """Return what moves a line of progress, called with how many are done and how many there are."""
    n_done = 0

    def move(done: int, all_: int) -> None:
        nonlocal n_done
        step.total(all_)
        step.advance(done - n_done)
        n_done = done

    return move
