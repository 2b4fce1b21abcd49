"""What commands that look at the state have in common: a progress bar while the log is folded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def folding() -> Iterator[Callable[[int, int], None]]:
    """Give a callback of (records folded, records to fold) that moves a progress bar on stderr."""
    from millrace.app.commands.printing import progress

    with progress("folding the log") as step:
        n_done = 0

        def on_progress(done: int, total: int) -> None:
            nonlocal n_done
            step.total(total)
            step.advance(done - n_done)
            n_done = done

        yield on_progress
