"""What learning waits for: kept in a small file by whoever waits, so that the page can say why nothing happens.

It is of a process: where that is gone, nobody waits (`millrace.app.training_status` tells of one at work).
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final

import msgspec

from millrace.app.settings import Settings
from millrace.app.training_status import is_alive, process_begin
from millrace.base.atomic_file import replacing

_NAME: Final = "learning.json"


class LearningNote(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody waits.

    Attributes
    ----------
    pid, began
        The process, and when it began, as of `TrainingStatus`.
    why
        What it waits for, in words.
    """

    pid: int
    began: str
    why: str


def keep_waiting(settings: Settings, why: str) -> None:
    """Keep what this process waits for, in place of what anybody waited for before."""
    note = LearningNote(pid=os.getpid(), began=process_begin(os.getpid()), why=why)
    path = _path(settings)
    with contextlib.suppress(OSError):  # a full disk must not end learning for it
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            file.write(msgspec.json.encode(note))


def nothing_waits(settings: Settings) -> None:
    """Forget what was waited for."""
    _path(settings).unlink(missing_ok=True)


def waiting_words(settings: Settings) -> str:
    """Return what learning waits for; empty where nobody waits."""
    try:
        note = msgspec.json.decode(_path(settings).read_bytes(), type=LearningNote)
    except (OSError, msgspec.DecodeError):
        return ""
    return note.why if is_alive(note.pid, note.began) else ""


def _path(settings: Settings) -> Path:
    return settings.run_dir / _NAME
