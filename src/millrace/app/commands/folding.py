"""What commands that look at the state have in common: a progress bar while the log is folded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from millrace.base.progress import moving


@contextmanager
def folding() -> Iterator[Callable[[int, int], None]]:
    """Give a callback of (records folded, records to fold) that moves a progress bar on stderr."""
    from millrace.app.commands.printing import progress

    with progress("folding the log") as step:
        yield moving(step)
