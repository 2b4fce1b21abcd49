"""What joins, and what reads samples: built of settings. A part of `millrace.app.wiring`, which gives all of it on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from millrace.app.settings import Settings
from millrace.app.store_wiring import build_actions, build_codec, build_log
from millrace.base.clock import Clock
from millrace.base.ids import IdHasher

if TYPE_CHECKING:
    from millrace.flywheel.join_process import Epoch, JoinProcess
    from millrace.flywheel.sample_compaction import SampleCompaction
    from millrace.flywheel.sample_files import SampleFiles
    from millrace.flywheel.sample_store import SampleStore
    from millrace.stream.log import Log


def build_sample_files(settings: Settings) -> SampleFiles:
    """Return the home's files of samples."""
    from millrace.flywheel.sample_files import SampleFiles

    return SampleFiles(settings.samples_dir)


def build_sample_compaction(settings: Settings) -> SampleCompaction:
    """Return what merges the home's files of samples."""
    from millrace.flywheel.sample_compaction import SampleCompaction

    return SampleCompaction(build_sample_files(settings), settings.config.flywheel.join.late_ms)


def build_join_process(
    settings: Settings, log: Log, clock: Clock, on_epoch: Callable[[Epoch], None] = lambda _epoch: None
) -> JoinProcess:
    """Return the durable join of a home, not started yet; hold `millrace.app.join_role.join_lock`."""
    from millrace.flywheel.join import StreamJoin
    from millrace.flywheel.join_checkpoint import JoinCheckpoints
    from millrace.flywheel.join_process import JoinProcess
    from millrace.flywheel.join_records import JoinRecords

    actions, hasher, codec = build_actions(settings), IdHasher(), build_codec(settings)
    config, dwell = settings.config.flywheel, settings.config.stores.engagements.dwell
    files = build_sample_files(settings)
    layout = hashlib.blake2b(msgspec.json.encode((config.join, dwell)), digest_size=8).hexdigest()
    return JoinProcess(
        log,
        StreamJoin(hasher, actions, dwell, config.join),
        JoinRecords(codec, hasher, actions),
        files,
        JoinCheckpoints(files.state_folder, layout),
        codec,
        clock,
        config.samples,
        actions=actions.names,
        hold_ms=config.join.late_ms,
        on_epoch=on_epoch,
    )


def build_sample_store(settings: Settings, hasher: IdHasher | None = None) -> SampleStore:
    """Return what reads the samples that the join of a home has committed."""
    from millrace.flywheel.sample_store import SampleStore
    from millrace.flywheel.warehouse import Warehouse

    codec = build_codec(settings)
    warehouse = Warehouse(settings.warehouse_dir, codec)

    def export() -> None:
        log = build_log(settings)
        try:
            warehouse.export(log)
        finally:
            log.close()

    return SampleStore(
        build_sample_files(settings),
        warehouse,
        codec,
        hasher or IdHasher(),
        settings.config.content,
        str(settings.home),
        export,
    )
