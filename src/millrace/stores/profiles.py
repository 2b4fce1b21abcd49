"""`ProfileStore`: what ranking may know of a user: languages, interests, settings, since when.

Names and biographies are the content store's; age and gender are kept in the log only, for operators who switch
their use on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from millrace.base.ids import IdHasher, IdKind, Int64Array
from millrace.base.int_table import Int32Array, IntTable, table_find, table_put
from millrace.base.kernels import njit
from millrace.events.content_events import PostCreated
from millrace.events.envelope import Payload
from millrace.events.feed_events import Engagement, Impression
from millrace.events.user_events import FollowChanged, ProfileUpdated, UserErased
from millrace.stores.codes import CodeTables
from millrace.stores.fold import Arrays, EventBatch
from millrace.stores.slab_lists import doubled

BoolArray = npt.NDArray[np.bool_]

MAX_LANGUAGES: Final = 4
MAX_INTERESTS: Final = 16

IS_VERIFIED: Final = np.uint8(1)
_SHOWS_SENSITIVE: Final = np.uint8(2)
_SHOWS_ALL_LANGUAGES: Final = np.uint8(4)
_FLAG_BY_SETTING: Final = {"sensitive_media": _SHOWS_SENSITIVE, "other_languages": _SHOWS_ALL_LANGUAGES}
_COLUMNS: Final = ("user_ids", "created_ms", "languages", "interests", "flags")


class Profile(NamedTuple):
    """One user's profile.

    Attributes
    ----------
    languages, interests
        Codes of ``codes.languages`` and ``codes.topics``, as given, at most `MAX_LANGUAGES` and `MAX_INTERESTS`.
    is_verified
        The account is verified.
    shows_sensitive
        The user's setting ``sensitive_media`` is ``"show"``.
    shows_all_languages
        The user's setting ``other_languages`` is ``"show"``.
    created_ms
        The time of the first event of this user, in epoch milliseconds; 0 for unknown users.
    is_known
        Whether any event ever named this user as acting or followed.
    """

    languages: Int32Array
    interests: Int32Array
    is_verified: bool
    shows_sensitive: bool
    shows_all_languages: bool
    created_ms: int
    is_known: bool


class ProfileArrays(NamedTuple):
    """What kernels of features read: the table from user to row, and two of the columns."""

    keys: Int64Array
    values: Int32Array
    created_ms: Int64Array
    flags: npt.NDArray[np.uint8]


class ProfileStore:
    """Fold of who exists and what their profiles say.

    A user is known from the first event in which they act or are followed.

    Parameters
    ----------
    hasher
        Ids to inside ids.
    codes
        Names to codes; applied before this fold.
    """

    name = "profiles"
    handles: tuple[type[Payload], ...] = (
        ProfileUpdated,
        PostCreated,
        FollowChanged,
        Engagement,
        Impression,
        UserErased,
    )

    def __init__(self, hasher: IdHasher, codes: CodeTables) -> None:
        self._hasher = hasher
        self._codes = codes
        self._table = IntTable(1024)
        self._make_rows(512)

    @property
    def n_users(self) -> int:
        """How many users are known."""
        return len(self._table)

    @property
    def user_ids(self) -> Int64Array:
        """The known users, shape (n_users,), int64, in the order of their rows."""
        return self._user_ids[: self.n_users]

    @property
    def kernel(self) -> ProfileArrays:
        """The arrays, for kernels that read them (`millrace.features.store.post_kernels`)."""
        return ProfileArrays(self._table.keys, self._table.values, self._created_ms, self._flags)

    def known(self, user_ids: Int64Array) -> BoolArray:
        """Return which users are known, shape (n,), bool."""
        is_known: BoolArray = self._table.get_many(user_ids) >= 0
        return is_known

    def is_verified(self, user_ids: Int64Array) -> BoolArray:
        """Return which users are verified, shape (n,), bool."""
        rows = self._table.get_many(user_ids)
        verified: BoolArray = (rows >= 0) & (self._flags[np.maximum(rows, 0)] & IS_VERIFIED != 0)
        return verified

    def created_ms(self, user_ids: Int64Array) -> Int64Array:
        """Return when users were first seen, shape (n,), int64 epoch milliseconds; 0 for unknown ones."""
        rows = self._table.get_many(user_ids)
        return np.where(rows >= 0, self._created_ms[np.maximum(rows, 0)], 0)

    def profile(self, user_id: int) -> Profile:
        """Return one user's profile; an empty one for a user who is not known."""
        row = self._table.get(user_id)
        if row < 0:
            none = np.zeros(0, dtype=np.int32)
            return Profile(
                none,
                none,
                is_verified=False,
                shows_sensitive=False,
                shows_all_languages=False,
                created_ms=0,
                is_known=False,
            )
        languages, interests, flags = self._languages[row], self._interests[row], self._flags[row]
        return Profile(
            languages[languages > 0],
            interests[interests > 0],
            is_verified=bool(flags & IS_VERIFIED),
            shows_sensitive=bool(flags & _SHOWS_SENSITIVE),
            shows_all_languages=bool(flags & _SHOWS_ALL_LANGUAGES),
            created_ms=int(self._created_ms[row]),
            is_known=True,
        )

    def apply(self, batch: EventBatch) -> None:
        """Apply the events it handles, in log order."""
        one, user = self._hasher.one, IdKind.USER
        ids: list[int] = []
        times: list[int] = []
        updates: list[tuple[int, ProfileUpdated]] = []
        times_ms = batch.appended_ms.tolist()
        for row in batch.rows_of(self.handles):
            event = batch.events[row]
            payload = event.payload
            at_ms = min(event.event_time_ms, times_ms[row])
            kind = type(payload)
            if kind is Impression or kind is Engagement:
                ids.append(one(user, payload.viewer_id))
            elif kind is PostCreated:
                ids.append(one(user, payload.author_id))
            elif kind is FollowChanged:
                ids.append(one(user, payload.follower_id))
                times.append(at_ms)
                ids.append(one(user, payload.followee_id))
            elif kind is ProfileUpdated:
                user_id = one(user, payload.user_id)
                ids.append(user_id)
                updates.append((user_id, payload))
            else:
                self._take_in(ids, times, updates)
                ids, times, updates = [], [], []
                self._erase(one(user, payload.user_id))
                continue
            times.append(at_ms)
        self._take_in(ids, times, updates)

    def tick(self, watermark_ms: int) -> None:
        """Nothing runs out: users stay until they are erased."""

    def arrays(self) -> Arrays:
        """Return the whole state; the arrays are the live ones."""
        return {**self._table.arrays("users"), **{name: getattr(self, f"_{name}") for name in _COLUMNS}}

    def load(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Take over a state written by `arrays`."""
        self._table.load("users", arrays)
        for name in _COLUMNS:
            setattr(self, f"_{name}", arrays[name])

    def _take_in(self, ids: list[int], times: list[int], updates: list[tuple[int, ProfileUpdated]]) -> None:
        if not ids:
            return
        id_array = np.array(ids, dtype=np.int64)
        time_array = np.array(times, dtype=np.int64)
        done = 0
        while True:
            done = _add_missing(
                self._table.keys,
                self._table.values,
                self._table.n,
                self._user_ids,
                self._created_ms,
                id_array,
                time_array,
                done,
            )
            if done == len(id_array):
                break
            if self._table.is_full():
                self._table.grow()
            if len(self._table) == len(self._user_ids):
                self._grow_rows()
        for user_id, payload in updates:
            self._update(self._table.get(user_id), payload)

    def _update(self, row: int, payload: ProfileUpdated) -> None:
        if payload.languages is not None:
            _put_codes(self._languages[row], [self._codes.languages.code(tag) for tag in payload.languages])
        if payload.interests is not None:
            _put_codes(self._interests[row], [self._codes.topics.code(name) for name in payload.interests])
        if payload.is_verified is not None:
            self._set_flag(row, IS_VERIFIED, is_set=payload.is_verified)
        for setting, flag in _FLAG_BY_SETTING.items():
            if payload.settings is not None and setting in payload.settings:
                self._set_flag(row, flag, is_set=payload.settings[setting] == "show")

    def _set_flag(self, row: int, flag: np.uint8, *, is_set: bool) -> None:
        self._flags[row] = self._flags[row] | flag if is_set else self._flags[row] & ~flag

    def _erase(self, user_id: int) -> None:
        row = self._table.get(user_id)
        if row < 0:
            return
        self._table.remove(user_id)
        last = len(self._table)
        for name in _COLUMNS:
            column = getattr(self, f"_{name}")
            column[row] = column[last]
            column[last] = 0
        if row != last:
            self._table.put(int(self._user_ids[row]), row)

    def _make_rows(self, n_rows: int) -> None:
        self._user_ids: Int64Array = np.zeros(n_rows, dtype=np.int64)
        self._created_ms: Int64Array = np.zeros(n_rows, dtype=np.int64)
        self._languages: Int32Array = np.zeros((n_rows, MAX_LANGUAGES), dtype=np.int32)
        self._interests: Int32Array = np.zeros((n_rows, MAX_INTERESTS), dtype=np.int32)
        self._flags: npt.NDArray[np.uint8] = np.zeros(n_rows, dtype=np.uint8)

    def _grow_rows(self) -> None:
        for name in _COLUMNS:
            column = getattr(self, f"_{name}")
            setattr(self, f"_{name}", doubled(column))


def _put_codes(row: Int32Array, codes: list[int]) -> None:
    """Write known codes, first ones first, without repeats; the rest becomes 0."""
    kept = list(dict.fromkeys(code for code in codes if code > 0))[: len(row)]
    row[: len(kept)] = kept
    row[len(kept) :] = 0


@njit(cache=True)
def _add_missing(
    keys: Int64Array,
    values: Int32Array,
    n: Int64Array,
    user_ids: Int64Array,
    created_ms: Int64Array,
    ids: Int64Array,
    times: Int64Array,
    start: int,
) -> int:
    """Give each new id the next row; return where it stopped for want of room, or ``len(ids)``."""
    for i in range(start, len(ids)):
        if table_find(keys, ids[i]) >= 0:
            continue
        row = n[0]
        if (row + 1) * 2 > len(keys) or row == len(user_ids):
            return i
        table_put(keys, values, ids[i], row)
        user_ids[row] = ids[i]
        created_ms[row] = times[i]
        n[0] += 1
    return len(ids)
