"""`TrainingLog`: what a training run tells, as JSON lines, and to TensorBoard where it is installed."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import msgspec

from millrace.base.atomic_file import replacing

LOG_NAME: Final = "log.jsonl"


class TrainingLog:
    """Lines of one run. No times are in them: a run that was interrupted and resumed leaves the same lines.

    Parameters
    ----------
    folder
        Where ``log.jsonl`` is, and the folder ``tensorboard``.
    first_step
        Where the run goes on: lines of later steps, told before it was interrupted, are taken back.
    """

    def __init__(self, folder: Path, first_step: int) -> None:
        path = folder / LOG_NAME
        kept = [line for line in _lines(path) if msgspec.json.decode(line)["step"] <= first_step]
        with replacing(path) as file:
            file.writelines(line + b"\n" for line in kept)
        self._file = path.open("ab")
        self._board = _board(folder / "tensorboard", first_step)

    def write(self, step: int, values: dict[str, float]) -> None:
        """Tell the values of a step."""
        self._file.write(msgspec.json.encode({"step": step, **values}) + b"\n")
        self._file.flush()
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(name, value, step)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if self._board is not None:
            self._board.close()


def _lines(path: Path) -> list[bytes]:
    """Return the whole lines of a file; a process that is killed may leave half of one."""
    if not path.exists():
        return []
    return path.read_bytes().split(b"\n")[:-1]


def _board(folder: Path, first_step: int) -> Any:
    # Semantic ids are learned without torch.
    if any(importlib.util.find_spec(needed) is None for needed in ("tensorboard", "torch")):
        return None
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder), purge_step=first_step + 1 if first_step else None)
