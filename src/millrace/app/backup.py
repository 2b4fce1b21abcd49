"""Backup and restore of a home, while it serves or while it stands still.

A backup is a folder: the settings, the newest good checkpoint, the content store, the warehouse, the samples, the log
and the claims, with a list of their sums. They are copied in this order, so that the log is never behind the content
and the content never behind the checkpoint; SQLite's own backup gives consistent copies of files that are being
written. Claims in Redis are the server's to back up, and so is a log on Redis or Kafka: a backup of such a home holds
all but the log, and is restored beside the same log. Not kept are pages that were kept to be sent again, which live for
minutes, and the secret: a copy of it could sign tokens.
"""

from __future__ import annotations

import itertools
import os
import shutil
import sqlite3
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from millrace.app import wiring
from millrace.app.join_copy import copy_samples
from millrace.app.keeper_lock import LOCK_FILE, keeper_lock
from millrace.app.settings import CONFIG_NAME, Settings
from millrace.base.errors import CheckpointError, StoreError
from millrace.flywheel.file_snapshot import take
from millrace.stream.log import total

FORMAT_VERSION: Final = 1
_MANIFEST: Final = "backup.json"
_CHUNK_BYTES: Final = 1 << 20
_ATTEMPTS: Final = 5

OnFile = Callable[[str], None]
"""Told the name of each file as it is taken up."""


class BackupManifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a backup holds: file to (bytes, CRC-32), by paths relative to it."""

    format_version: int
    created_at_ms: int
    log_begin: int
    log_end: int
    files: dict[str, tuple[int, int]]


class BackupReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was copied, and up to which log position.

    Attributes
    ----------
    path, n_files, n_bytes, log_end
        Where it is, how much it is, and the end of its log.
    replaced_data
        Where a restore has put the data that was there; None if there was none.
    """

    path: str
    n_files: int
    n_bytes: int
    log_end: int
    replaced_data: str | None = None


def make_backup(settings: Settings, target: Path, on_file: OnFile = lambda _name: None) -> BackupReport:
    """Copy a home to a new folder; it may go on serving meanwhile.

    Raises
    ------
    StoreError
        If the target exists, or no consistent copy could be had.
    """
    if target.exists():
        raise StoreError("backup", value=str(target), problem="exists already", remedy="name a new folder")
    unfinished = target.with_name(f"{target.name}.unfinished-{os.getpid()}")
    try:
        for attempt in range(_ATTEMPTS):
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir(parents=True)
            begin, end, is_whole = _copy_home(settings, unfinished, on_file)
            if is_whole:
                break
            if attempt == _ATTEMPTS - 1:
                raise StoreError(
                    "backup",
                    value=str(target),
                    problem="the home changed faster than it could be copied",
                    remedy="try again, or raise replica.log_retention_ms",
                )
        files = {str(path.relative_to(unfinished)): _sum(path) for path in _files_in(unfinished)}
        manifest = BackupManifest(
            format_version=FORMAT_VERSION,
            created_at_ms=wiring.build_clock().now_ms(),
            log_begin=begin,
            log_end=end,
            files=files,
        )
        (unfinished / _MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=1))
        for path in _files_in(unfinished):
            _sync(path)
        unfinished.rename(target)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    n_bytes = sum(size for size, _ in files.values())
    return BackupReport(path=str(target), n_files=len(files), n_bytes=n_bytes, log_end=end)


def restore_backup(
    settings: Settings, source: Path, *, replaces: bool = False, on_file: OnFile = lambda _name: None
) -> BackupReport:
    """Put a backup in the place of a home's data; nothing may be running there.

    Parameters
    ----------
    settings
        The home. Its own ``millrace.toml`` stays if it has one.
    source
        A folder that `make_backup` wrote.
    replaces
        Whether data that is there may be replaced; it is kept beside, as ``data-before-restore-1``, ``-2`` and so on.

    Raises
    ------
    StoreError
        If the backup is damaged, the home has data, or a server runs there.
    """
    manifest = verify(source, on_file)
    is_embedded = settings.config.log.backend == "sqlite"
    has_data = settings.log_path.exists() if is_embedded else settings.checkpoints_dir.exists()
    if has_data and not replaces:
        raise StoreError(
            "home",
            value=str(settings.home),
            problem="has data already",
            remedy="restore into another home, or say that it may be replaced (--replace)",
        )
    tries = iter((False, True))
    with keeper_lock(settings.data_dir, lambda: next(tries, True)) as is_mine:
        if not is_mine:
            raise StoreError(
                "home", value=str(settings.home), problem="a server runs there", remedy="stop it before restoring"
            )
        incoming = settings.home / f"data-incoming-{os.getpid()}"
        shutil.rmtree(incoming, ignore_errors=True)
        shutil.copytree(source / "data", incoming)
        before = None
        if _holds_files(settings.data_dir):  # also what is left of a home that has lost its log
            before = _free_name(settings.home)
            settings.data_dir.rename(before)
        else:
            shutil.rmtree(settings.data_dir)
        incoming.rename(settings.data_dir)
    if not settings.config_path.exists() and (source / CONFIG_NAME).exists():
        shutil.copyfile(source / CONFIG_NAME, settings.config_path)
    n_bytes = sum(size for size, _ in manifest.files.values())
    return BackupReport(
        path=str(settings.data_dir),
        n_files=len(manifest.files),
        n_bytes=n_bytes,
        log_end=manifest.log_end,
        replaced_data=None if before is None else str(before),
    )


def verify(source: Path, on_file: OnFile = lambda _name: None) -> BackupManifest:
    """Check a backup file by file and return its manifest.

    Raises
    ------
    StoreError
        If it is no backup, incomplete or damaged.
    """
    try:
        manifest = msgspec.json.decode((source / _MANIFEST).read_bytes(), type=BackupManifest)
    except (OSError, msgspec.DecodeError) as error:
        raise _unusable(source, f"has no readable {_MANIFEST} ({error})") from error
    if manifest.format_version != FORMAT_VERSION:
        raise _unusable(source, f"has format {manifest.format_version}, this version reads {FORMAT_VERSION}")
    for name, expected in manifest.files.items():
        on_file(name)
        path = source / name
        if not path.is_file():
            raise _unusable(source, f"misses {name}")
        if _sum(path) != expected:
            raise _unusable(source, f"holds a damaged {name}")
    return manifest


def _holds_files(data_dir: Path) -> bool:
    """Whether a data folder holds anything but the lock that is being held on it."""
    return any(path.name != LOCK_FILE for path in _files_in(data_dir))


def _free_name(home: Path) -> Path:
    """Return the first ``data-before-restore-N`` that does not exist: what was replaced earlier is never removed."""
    names = (home / f"data-before-restore-{number}" for number in itertools.count(1))
    return next(path for path in names if not path.exists())


def _copy_home(settings: Settings, target: Path, on_file: OnFile) -> tuple[int, int, bool]:
    """Copy once; return the copied log's begin and end, and whether checkpoint, content and log fit together."""
    data = target / "data"
    data.mkdir()
    if settings.config_path.exists():
        shutil.copyfile(settings.config_path, target / CONFIG_NAME)
    if settings.virtual_time_path.exists():
        shutil.copyfile(settings.virtual_time_path, data / settings.virtual_time_path.name)
    position = _copy_checkpoint(settings, data / settings.checkpoints_dir.name, on_file)
    content = 0
    if settings.content_path.exists():
        on_file(settings.content_path.name)
        _copy_database(settings.content_path, data / settings.content_path.name)
        reader = wiring.build_content_reader(settings)
        content = total(reader.position())  # at least what the copy holds
        reader.close()
    if settings.warehouse_dir.exists():
        _copy_warehouse(settings.warehouse_dir, data / settings.warehouse_dir.name, on_file)
    joined = copy_samples(settings.samples_dir, data / settings.samples_dir.name, on_file)
    is_embedded = settings.config.log.backend == "sqlite"
    if not wiring.has_log(settings):
        raise StoreError(
            "home", value=str(settings.home), problem="has no log yet", remedy="take events in before backing up"
        )
    if is_embedded:
        on_file(settings.log_path.name)
        _copy_database(settings.log_path, data / settings.log_path.name)
    if settings.claims_path.exists():
        on_file(settings.claims_path.name)
        _copy_database(settings.claims_path, data / settings.claims_path.name)
    has_models = _copy_models(settings, data / settings.models_dir.name, on_file)
    begin, end = _range_of_log(settings, target)
    if is_embedded:
        _forget_wal(data / settings.log_path.name)
    is_whole = begin <= (position or 0) <= end and content <= end and has_models
    if settings.config.flywheel.joins:  # else nobody keeps the log for it
        is_whole = is_whole and (joined is None or begin <= joined <= end)
    return begin, end, is_whole


def _copy_models(settings: Settings, target: Path, on_file: OnFile) -> bool:
    """Copy the registry of models, its pointer first: versions are not changed once they are there.

    Returns False where one that the pointer names was removed meanwhile.
    """
    if not settings.models_dir.is_dir():
        return True
    target.mkdir()
    on_file(settings.models_dir.name)
    for path in sorted(settings.models_dir.iterdir(), key=Path.is_dir):
        try:
            if path.is_dir():
                shutil.copytree(path, target / path.name, ignore=shutil.ignore_patterns(".*"))
            else:
                shutil.copyfile(path, target / path.name)
        except (OSError, shutil.Error):  # pruned while it was read
            return False
    return True


def _range_of_log(settings: Settings, copied_home: Path) -> tuple[int, int]:
    log = wiring.build_log(Settings(copied_home, settings.config))
    try:
        return total(log.begin()), total(log.end())
    finally:
        log.close()


def _copy_checkpoint(settings: Settings, target: Path, on_file: OnFile) -> int | None:
    checkpoints = wiring.build_checkpoints(settings)
    for path in reversed(checkpoints.paths()):
        try:
            on_file(path.name)
            shutil.copytree(path, target / path.name)
            return total(checkpoints.load(target / path.name).position)
        except (CheckpointError, OSError):
            shutil.rmtree(target / path.name, ignore_errors=True)  # damaged, or replaced while it was copied
    return None


def _copy_database(source: Path, target: Path) -> None:
    with sqlite3.connect(f"file:{source}?mode=ro", uri=True) as before, sqlite3.connect(target) as after:
        before.backup(after)  # in one go: a snapshot that neither waits for writers nor hinders them
    before.close()
    after.close()
    _forget_wal(target)


def _forget_wal(path: Path) -> None:
    """Leave a database that is one file: the backup is copied and summed file by file."""
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.execute("PRAGMA journal_mode = DELETE")
    connection.close()


def _copy_warehouse(source: Path, target: Path, on_file: OnFile) -> None:
    on_file(source.name)
    # The position first: files beyond it are removed, and exported again, by the next export.
    target.mkdir(parents=True)
    for path in source.glob("*.json"):
        shutil.copyfile(path, target / path.name)
    # Files that are merged or rewritten meanwhile are copied as they are now. Tables are made again of them.
    snapshot, paths = take(source, lambda: sorted(source.glob("topic=*/dt=*/*.parquet")))
    for path in paths:
        copy = target / path.relative_to(snapshot.folder)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    snapshot.close()


def _files_in(folder: Path) -> Iterator[Path]:
    yield from sorted(path for path in folder.rglob("*") if path.is_file())


def _sum(path: Path) -> tuple[int, int]:
    crc32 = n_bytes = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            crc32 = zlib.crc32(chunk, crc32)
            n_bytes += len(chunk)
    return n_bytes, crc32


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _unusable(source: Path, problem: str) -> StoreError:
    return StoreError("backup", value=str(source), problem=problem, remedy="use another backup")
