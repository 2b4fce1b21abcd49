"""`mapping_of`: what the system says of the memory that an array lies in; Linux only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy.typing as npt


def mapping_of(array: npt.NDArray[Any]) -> dict[str, str]:
    """Return the lines of ``/proc/self/smaps`` for the mapping in which an array begins, by name."""
    facts: dict[str, str] = {}
    is_it = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        name, _, value = line.partition(" ")
        if not name.endswith(":"):
            begin, end = (int(part, 16) for part in name.split("-"))
            is_it = begin <= array.ctypes.data < end
        elif is_it:
            facts[name.rstrip(":")] = value.strip()
    return facts
