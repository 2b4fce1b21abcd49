"""Takes the traces of one viewer out of a home's trace files, while processes write to them."""

from __future__ import annotations

import mmap
from pathlib import Path

import numpy as np

from millrace.stores.trace_store import INDEX_ENTRY, INDEX_START, read_shape


def forget_traces(folder: Path, mark: bytes) -> int:
    """Overwrite with zeros every record that holds some bytes; whoever asks for one afterwards is told that it is gone.

    A process that overwrites such a record with a new one at this very moment may lose the new one: a trace, no page.

    Parameters
    ----------
    folder
        Where the slots' files are; it need not exist.
    mark
        What only the viewer's records hold, in one piece.

    Returns
    -------
    int
        How many records were overwritten.
    """
    n_forgotten = 0
    for path in sorted(folder.glob("slot-*.traces")):
        with path.open("r+b") as file:
            shape = read_shape(file.fileno())
            if shape is None:
                continue
            with mmap.mmap(file.fileno(), 0) as data:
                index = np.frombuffer(data[INDEX_START : shape.ring_start], dtype=INDEX_ENTRY)
                starts = shape.ring_start + (index["place"] % np.uint64(shape.ring_bytes)).astype(np.int64)
                for start, length in zip(starts.tolist(), index["length"].tolist(), strict=True):
                    if length and data.find(mark, start, start + length) >= 0:
                        data[start : start + length] = bytes(min(length, len(data) - start))
                        n_forgotten += 1
                # Parts of older records that no entry leads to any more.
                at = data.find(mark, shape.ring_start)
                while at >= 0:
                    data[at : at + len(mark)] = bytes(len(mark))
                    at = data.find(mark, at)
    return n_forgotten
