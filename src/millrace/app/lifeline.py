"""`Lifeline`: what ties a child process to its supervisor.

The child holds the reading end of a pipe that only the supervisor can write to, and never does: it comes to its
end when the supervisor is gone, however it went. On a second pipe the child says that it is ready.
"""

from __future__ import annotations

import os
import select
import signal
from types import FrameType


class Lifeline:
    """The child's ends of both pipes, and the signals that reach it.

    Parameters
    ----------
    parent_fd
        Readable (at its end) when the supervisor is gone.
    ready_fd
        Written to once, when the child is ready.
    """

    def __init__(self, parent_fd: int, ready_fd: int) -> None:
        self.parent_fd = parent_fd
        self._ready_fd = ready_fd
        self._is_stopping = False
        self._is_checkpoint_wanted = False

    def catch_signals(self) -> None:
        """Take SIGTERM as "end", SIGUSR1 as "write a checkpoint"; SIGINT is the supervisor's business."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, self._on_stop)
        signal.signal(signal.SIGUSR1, self._on_checkpoint)

    def should_stop(self) -> bool:
        """Whether the process was told to end or its supervisor is gone."""
        return self._is_stopping

    def should_checkpoint(self) -> bool:
        """Whether a checkpoint was asked for since the last call."""
        wanted, self._is_checkpoint_wanted = self._is_checkpoint_wanted, False
        return wanted

    def wait(self, seconds: float) -> None:
        """Sleep, but wake up when the supervisor is gone."""
        if select.select([self.parent_fd], [], [], seconds)[0]:
            self._is_stopping = True

    def say_ready(self) -> None:
        """Tell the supervisor that this process does its work."""
        try:
            os.write(self._ready_fd, b"r")
        except BrokenPipeError:
            self._is_stopping = True

    def _on_stop(self, _number: int, _frame: FrameType | None) -> None:
        self._is_stopping = True

    def _on_checkpoint(self, _number: int, _frame: FrameType | None) -> None:
        self._is_checkpoint_wanted = True
