"""A process that joins for ever. Run, and killed, by tests."""

from __future__ import annotations

import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

from millrace.flywheel.sample_config import SampleConfig
from millrace.testing.join_house import JoinHouse
from millrace.testing.join_traffic import Traffic, traffic


def join_for_ever(said: Connection, folder: Path, window: int) -> None:
    """Join what comes until killed: the target of a process.

    Parameters
    ----------
    said
        The other end hears the epoch that it begins after, then each that it commits, and -1 at the log's end.
    folder, window
        Of the house.
    """
    house = JoinHouse(folder, SampleConfig(epoch_records=40, epoch_every_s=0.2), duplicate_window=window)
    process = house.process()
    said.send(process.epoch)
    told = process.epoch
    is_at_end = False
    while True:
        if not process.turn():
            if not is_at_end:
                is_at_end = True
                said.send(-1)
            time.sleep(0.002)
        if process.epoch != told:
            told = process.epoch
            said.send(told)


def _load_kernels() -> None:
    """Join something, twice: what is forked off the one that has imported this need not load a kernel."""
    with tempfile.TemporaryDirectory() as folder:
        house = JoinHouse(Path(folder))
        house.put(traffic(Traffic(n_pages=3)))
        for _ in range(2):
            house.join_all()
        house.close()


_load_kernels()
