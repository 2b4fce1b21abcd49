"""What `millrace import` and `millrace ingest` have in common: how they end, early or with a lot taken in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from millrace.base.errors import MillraceError
from millrace.base.progress import moving

if TYPE_CHECKING:
    from millrace.app.settings import Settings

FOLDED_AHEAD_FROM: Final = 50_000
"""So many new events are folded at once: whoever looks at a feed next would have to wait for it."""


@contextmanager
def telling_interruptions(n_taken: Callable[[], int], advice: str) -> Iterator[None]:
    """Say on stderr, if Ctrl-C ends the block, how many events are in and what running the command again does."""
    from millrace.app.commands.printing import count, notes

    try:
        yield
    except KeyboardInterrupt:
        notes().print(f"Interrupted: {count(n_taken(), 'event')} taken in. {advice}", markup=False, soft_wrap=True)
        raise


def fold_ahead(settings: Settings, n_new: int) -> int | None:
    """Fold what is in the log and write a checkpoint, if much is new and no server is there to do it.

    Parameters
    ----------
    settings
        The home.
    n_new
        Events that were taken in just now.

    Returns
    -------
    int or None
        Log position of the checkpoint; None if none was written. Failing is no error: the events are in the log.
    """
    from millrace.app.checkpoints import write_now
    from millrace.app.commands.printing import count, notes, plain, progress
    from millrace.app.keeper_lock import running_keeper
    from millrace.stream.log import total

    if n_new <= FOLDED_AHEAD_FROM or running_keeper(settings.data_dir) is not None:
        return None
    console = notes()
    console.print(f"[dim]{count(n_new, 'event')} are in; folding them, so that the first page does not have to …[/]")
    with telling_interruptions(lambda: n_new, "They are not folded yet: the next server does that as it starts."):
        try:
            with progress("folding (records)") as step:
                position = total(write_now(settings, on_progress=moving(step)))
        except MillraceError as error:
            console.print(f"Could not fold ahead: {plain(str(error))}", markup=False, soft_wrap=True)
            return None
    console.print(f"[dim]checkpoint written at log position {position:,}[/]")
    return position
