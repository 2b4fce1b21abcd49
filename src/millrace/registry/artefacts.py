"""The artefacts on disk: published whole or not at all, never changed, checked sum by sum.

A version is written under a hidden name, flushed, given its manifest last and renamed. What a killed process leaves
behind is hidden, and removed by the next one that publishes or prunes.
"""

from __future__ import annotations

import logging
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import msgspec

from millrace.registry import files
from millrace.registry.errors import ArtefactError
from millrace.registry.manifest import (
    MANIFEST_FILE,
    Description,
    FileEntry,
    Kind,
    Manifest,
    checked,
    damaged,
    decode_manifest,
    digest_of,
    is_version,
)

_LOCK_FILE: Final = ".lock"
_DRAFT: Final = ".draft-"
_GONE: Final = ".gone-"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_STAMP: Final = "%Y%m%dT%H%M%S"
_STAMP_CHARS: Final = 15

logger = logging.getLogger(__name__)


class ArtefactStore:
    """The versions of every kind in one folder; any number of processes may read and publish.

    Parameters
    ----------
    root
        Made when it is first written to.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def folder(self, kind: Kind, version: str) -> Path:
        """Return where a version's files lie."""
        return self.root / kind / version

    def versions(self, kind: Kind) -> tuple[str, ...]:
        """Return the names of all versions of a kind, in the order in which they were published."""
        folder = self.root / kind
        return tuple(sorted(path.name for path in folder.iterdir() if is_version(path.name))) if folder.is_dir() else ()

    def manifest(self, kind: Kind, version: str) -> Manifest:
        """Return a version's manifest; its files are not looked at.

        Raises
        ------
        ArtefactError
            If there is no such version, or its manifest is damaged.
        """
        folder = self.folder(kind, version)
        try:
            if not is_version(version):
                raise FileNotFoundError(version)
            manifest = decode_manifest((folder / MANIFEST_FILE).read_bytes(), folder)
        except (FileNotFoundError, NotADirectoryError):
            raise ArtefactError(
                f"version of kind {kind}", value=version, problem="is not there", remedy="see `millrace models list`"
            ) from None
        if (manifest.kind, manifest.version) != (kind, version):
            raise damaged(folder, MANIFEST_FILE, f"belongs to {manifest.kind} {manifest.version}")
        return manifest

    def publish(self, folder: Path, description: Description, *, now_ms: int) -> Manifest:
        """Copy a folder into the registry as a new version; nothing serves it yet.

        Parameters
        ----------
        folder
            All files below it are taken; it may be removed afterwards.
        description
            What it is.
        now_ms
            Epoch milliseconds; names the version. Where it is not later than the newest version of the kind, the name
            is a second after that one's, so that names sort in the order of publishing.

        Returns
        -------
        Manifest
            Of the new version, or of the one that has the same description and files already.

        Raises
        ------
        RegistryError
            If the folder or the description cannot be published.
        """
        description = checked(description)
        names = files.list_files(folder)
        with self._draft(description.kind) as draft:
            entries = tuple(files.copy_durably(folder, draft, name) for name in names)
            files.sync_tree(draft)
            digest = digest_of(description, entries)
            with self.alone():
                twin = self._twin(description.kind, digest)
                return twin or self._settle(draft, description, entries, digest, now_ms)

    def verify(self, kind: Kind, version: str) -> Manifest:
        """Read every byte of a version and compare it with its manifest, which is returned.

        Raises
        ------
        ArtefactError
            Naming the first file that is damaged, missing or not in the manifest.
        """
        manifest = self.manifest(kind, version)
        folder = self.folder(kind, version)
        for entry in manifest.files:
            files.check_file(folder, entry)
        known = {MANIFEST_FILE, *(entry.path for entry in manifest.files)}
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder).as_posix()
            if not path.is_dir() and name not in known:
                raise damaged(folder, name, "is not in the manifest")
        return manifest

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other writers of this registry out meanwhile; not to be nested."""
        with files.locked(self.root / _LOCK_FILE):
            yield

    def remove(self, old: Iterable[tuple[Kind, str]]) -> None:
        """Remove versions; for callers that are `alone`."""
        for kind, version in old:
            self._sweep(kind)
            # Renamed first: a folder half removed must never look like a version.
            self.folder(kind, version).rename(self.root / kind / f"{_GONE}{version}")
            self._sweep(kind)

    def _twin(self, kind: Kind, digest: str) -> Manifest | None:
        """Return the manifest of a whole version of the same content."""
        for version in reversed(self.versions(kind)):
            if not version.endswith(f"-{digest[:8]}"):
                continue
            try:
                manifest = self.verify(kind, version)
            except ArtefactError as error:
                logger.warning("published again, for the version of the same content is no good: %s", error)
                continue
            if manifest.digest == digest:
                return manifest
        return None

    def _settle(
        self, draft: Path, description: Description, entries: tuple[FileEntry, ...], digest: str, now_ms: int
    ) -> Manifest:
        """Give a draft its manifest and its name."""
        moment = _EPOCH + timedelta(milliseconds=now_ms)
        newest = next(reversed(self.versions(description.kind)), None)
        if newest is not None and newest[:_STAMP_CHARS] >= moment.strftime(_STAMP):
            moment = datetime.strptime(newest[:_STAMP_CHARS], _STAMP).replace(tzinfo=UTC) + timedelta(seconds=1)
        manifest = Manifest(
            **{name: getattr(description, name) for name in Description.__struct_fields__},
            version=f"{moment.strftime(_STAMP)}-{digest[:8]}",
            published_at_ms=now_ms,
            files=entries,
            digest=digest,
        )
        data = msgspec.json.format(msgspec.json.encode(manifest, order="deterministic"), indent=2) + b"\n"
        files.write_durably(draft / MANIFEST_FILE, data)
        files.sync_folder(draft)
        draft.rename(self.folder(manifest.kind, manifest.version))
        files.sync_folder(self.root / manifest.kind)
        return manifest

    @contextmanager
    def _draft(self, kind: Kind) -> Iterator[Path]:
        """Give a hidden folder on the same file system, held against `_sweep` while this process lives."""
        draft = self.root / kind / f"{_DRAFT}{secrets.token_hex(8)}"
        with self.alone():
            self._sweep(kind)
            draft.mkdir(parents=True)
            held = files.hold_folder(draft)
        try:
            yield draft
        finally:
            shutil.rmtree(draft, ignore_errors=True)  # not there any more if all went well
            os.close(held)

    def _sweep(self, kind: Kind) -> None:
        """Remove what killed processes left behind."""
        for path in (self.root / kind).glob(".*"):
            if path.name.startswith(_GONE) or (path.name.startswith(_DRAFT) and not files.is_held(path)):
                shutil.rmtree(path, ignore_errors=True)
