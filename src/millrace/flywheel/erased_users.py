"""Samples forget a user: what is written is rewritten, and what the join still holds never gets out.

The keeper erases (`SampleErasure.erase`) while the join goes on in a process of its own. Under the lock of the files it
notes first whom to forget (inside ids, in ``erased.json``), then rewrites every file. The join reads the note under the
same lock before it commits an epoch, and leaves out what it names: so no epoch brings anything back, whatever the order
of the two. A name is taken off the note when the join can hold nothing of them any more.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from millrace.base.atomic_file import replacing
from millrace.base.errors import SchemaError, StoreError
from millrace.base.ids import IdKind, Int64Array, hash_id
from millrace.events.feature_events import AUTHORS, POSTS, FeaturesLogged, without
from millrace.events.packed import unpack_arrays
from millrace.flywheel.join_rows import JoinedRows
from millrace.flywheel.sample_files import LABELS, PAGES, SampleFiles, read_tables
from millrace.flywheel.sample_tables import BoolArray, LoggedPages

_NOTE: Final = "erased.json"
_ALL: Final = 2**62

logger = logging.getLogger(__name__)


class ErasedUser(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody of whom nothing may get out any more.

    Attributes
    ----------
    user, posts
        Inside ids.
    before
        Log offset of the erasure: what was made after it belongs to somebody who has come back.
    rows_before
        Labels of pages logged before this offset go: beyond ``before`` lie pages that were being made at the moment.
    until_ms
        Event time from which the join holds nothing from before the erasure; 0 as long as it has not read this.
    """

    user: int
    posts: tuple[int, ...]
    before: int
    rows_before: int = 0
    until_ms: int = 0


class ErasedUsers:
    """The note, read and written under the lock of the files.

    Parameters
    ----------
    files
        Whose folder it is in.
    """

    def __init__(self, files: SampleFiles) -> None:
        self._path: Path = files.folder / _NOTE

    def read(self) -> tuple[ErasedUser, ...]:
        """Return whom to forget."""
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=tuple[ErasedUser, ...])
        except FileNotFoundError:
            return ()
        except msgspec.DecodeError as error:
            raise StoreError(
                "note of erased users",
                value=str(self._path),
                problem=f"is damaged ({error})",
                remedy="restore it from a backup; without it samples of erased users may be written",
            ) from error

    def add(self, user: ErasedUser) -> None:
        """Note one more; somebody noted before counts from then on as told now."""
        self.replace((*(known for known in self.read() if known.user != user.user), user))

    def seen(self, watermark_ms: int, hold_ms: int) -> None:
        """Take off the note whom the join can hold nothing of any more.

        Parameters
        ----------
        watermark_ms
            How far the join has come.
        hold_ms
            How long it holds a row.
        """
        known = self.read()
        dated = [
            user if user.until_ms else msgspec.structs.replace(user, until_ms=watermark_ms + hold_ms) for user in known
        ]
        kept = tuple(user for user in dated if user.until_ms > watermark_ms)
        if kept != known:
            self.replace(kept)

    def replace(self, users: tuple[ErasedUser, ...]) -> None:
        """Note these and nobody else."""
        if not users:
            self._path.unlink(missing_ok=True)
            return
        with replacing(self._path) as file:
            file.write(msgspec.json.encode(users))


class SampleErasure:
    """Removes users from the files of samples.

    Parameters
    ----------
    files
        All of them.
    """

    def __init__(self, files: SampleFiles) -> None:
        self._files = files

    def erase(self, user: str, posts: Collection[str] = (), *, before: int) -> int:
        """Rewrite every file that holds something of a user; return how many rows were removed or changed.

        Files of an epoch that is being written are left to the join, which reads the note before it commits.

        Parameters
        ----------
        user, posts
            Outside ids: the user, and posts known to be theirs.
        before
            Log offset of the erasure.
        """
        if not self._files.folder.is_dir():
            return 0
        with self._files.locked():
            for kind in (LABELS, PAGES):
                # Of a merge that was killed: they do not count, but would if nothing were left of the merged file.
                for folder in self._files.partitions(kind):
                    self._files.remove_parts(folder)
            known = ErasedUser(
                user=hash_id(IdKind.USER, user),
                posts=tuple(sorted(hash_id(IdKind.POST, post) for post in posts)),
                before=before,
            )
            # Twice, a file at a time: thirty days of pages are no process's to hold. The first pass learns all their
            # posts, whichever file tells of them, and the last of their pages.
            for pages in self._pages():
                _, _, (known,) = pages_without(pages, (_with_posts_of(known, pages),))
            ErasedUsers(self._files).add(known)  # before any file: what a killed erasure has not come to is filtered
            n_changed = 0
            for path in self._files.paths(PAGES, up_to=_ALL):
                for _, table in read_tables([path]):
                    kept, n, _ = pages_without(LoggedPages.of_table(table), (known,))
                    n_changed += n
                    if n:
                        self._files.replace(path, kept.table())
            for path in self._files.paths(LABELS, up_to=_ALL):
                for _, table in read_tables([path]):
                    viewers, on_page, offsets = (table[name].to_numpy() for name in ("viewer", "post", "page_offset"))
                    keeps = _keeps(viewers, on_page, offsets, (known,))
                    if not keeps.all():
                        self._files.replace(path, table.filter(keeps))
                        n_changed += int((~keeps).sum())
        return n_changed

    def _pages(self) -> Iterator[LoggedPages]:
        for path in self._files.paths(PAGES, up_to=_ALL):
            for _, table in read_tables([path]):
                yield LoggedPages.of_table(table)


def rows_without(rows: JoinedRows, erased: Collection[ErasedUser]) -> JoinedRows:
    """Return joined rows without what is about erased users, or their posts."""
    keeps = _keeps(rows.viewers, rows.posts, rows.page_offsets, erased)
    return rows if keeps.all() else rows.take(np.flatnonzero(keeps))


def pages_without(
    pages: LoggedPages, erased: tuple[ErasedUser, ...]
) -> tuple[LoggedPages, int, tuple[ErasedUser, ...]]:
    """Take erased users out of logged pages.

    Returns
    -------
    pages
        Without those of erased users, and without their posts.
    n_changed
        How many went or changed.
    erased
        The same users, with ``rows_before`` behind all pages of theirs.
    """
    if not erased or not len(pages):
        return pages, 0, erased
    viewers, cuts = np.array(pages.viewers, dtype=np.int64), np.array(pages.cuts, dtype=np.int64)
    is_theirs = np.zeros(len(pages), dtype=np.bool_)
    told = []
    for known in erased:
        is_known = (viewers == known.user) & (cuts <= known.before)
        last = max((pages.offsets[i] + 1 for i in np.flatnonzero(is_known).tolist()), default=0)
        told.append(msgspec.structs.replace(known, rows_before=max(known.rows_before, known.before, last)))
        is_theirs |= is_known
    kept = pages.take(np.flatnonzero(~is_theirs).tolist())
    users = np.array([known.user for known in erased], dtype=np.int64)
    posts = np.array([post for known in erased for post in known.posts], dtype=np.int64)
    newest = max(known.before for known in erased)
    n_changed = int(is_theirs.sum())
    for number, arrays in enumerate(kept.arrays):
        authors = users if kept.cuts[number] <= newest else users[:0]
        fresh = without(_event_of(arrays), authors, posts).arrays
        if fresh is not arrays:
            kept.arrays[number] = fresh
            n_changed += 1
    return kept, n_changed, tuple(told)


def _keeps(
    viewers: Int64Array, posts: Int64Array, page_offsets: Int64Array, erased: Collection[ErasedUser]
) -> BoolArray:
    goes = np.zeros(len(viewers), dtype=np.bool_)
    for known in erased:
        goes |= (viewers == known.user) & (page_offsets < max(known.rows_before, known.before))
        goes |= np.isin(posts, np.array(known.posts, dtype=np.int64))
    return ~goes


def _with_posts_of(known: ErasedUser, pages: LoggedPages) -> ErasedUser:
    """Return the same user with the posts, too, that pages from before name them as the author of."""
    found = [np.array(known.posts, dtype=np.int64)]
    for cut, packed in zip(pages.cuts, pages.arrays, strict=True):
        if cut > known.before:
            continue
        try:
            arrays = unpack_arrays(packed)
        except SchemaError:
            continue
        is_theirs = arrays[AUTHORS] == known.user
        if is_theirs.any():
            found.append(arrays[POSTS][is_theirs])
    return msgspec.structs.replace(known, posts=tuple(np.unique(np.concatenate(found)).tolist()))


def _event_of(arrays: bytes) -> Any:
    return FeaturesLogged(request_id="-", viewer_id="-", pipeline="-", schema="-", arrays=arrays)
