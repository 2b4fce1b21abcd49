"""`njit`: Numba's, with a kernel cache that cannot go stale; `kernel`: the same for what only kernels call.

Numba keeps compiled kernels on disk and checks each against its own file only. Kernels here call kernels of other
files, so after an edit (or an upgrade by ``git pull``) old machine code could live on in a caller. The cache is
therefore kept in a folder named after the sources of the whole package: any change begins a new one.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import numba
from numba import njit as njit

import millrace

_PREFIX: Final = "kernels-"
_KEPT_S: Final = 86_400.0
_MARKS: Final = (b"njit", b"@kernel")
"""What a file of kernels names, one or the other."""

_INNER: Final[dict[str, Any]] = {"cache": True, "_nrt": False, "no_cpython_wrapper": True}

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])


def kernel(function: FunctionT) -> FunctionT:
    """Compile what only kernels call, without counting references of the arrays that it is given.

    Whoever calls it from Python, or returns an array that it was given, needs `njit`.
    """
    compiled: FunctionT = njit(**_INNER)(function)
    return compiled


def source_stamp(package: Path) -> str:
    """Return a short name for the package's sources as they are: paths, sizes and times of change."""
    digest = hashlib.blake2b(numba.__version__.encode(), digest_size=6)
    for path in sorted(package.rglob("*.py")):
        source = path.read_bytes()
        if any(mark in source for mark in _MARKS):
            stat = path.stat()
            digest.update(f"{path.relative_to(package)} {stat.st_size} {stat.st_mtime_ns};".encode())
    return digest.hexdigest()


def cache_folder(package: Path) -> Path:
    """Return where this package's kernels are kept: beside the sources, or else in the user's temporary folder."""
    name = _PREFIX + source_stamp(package)
    beside = package / "__pycache__"
    try:
        (beside / name).mkdir(parents=True, exist_ok=True)
    except OSError:
        folder = Path(tempfile.gettempdir()) / f"millrace-{os.getuid()}" / name
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return folder
    for old in beside.glob(f"{_PREFIX}*"):
        # Not at once: a process that began under the older source may still be saving kernels there.
        if old.name != name and old.stat().st_mtime < time.time() - _KEPT_S:
            shutil.rmtree(old, ignore_errors=True)
    return beside / name


if not numba.config.CACHE_DIR:  # type: ignore[attr-defined] # the operator's own choice stands
    numba.config.CACHE_DIR = str(cache_folder(Path(millrace.__path__[0])))  # type: ignore[attr-defined]
