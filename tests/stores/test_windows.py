"""Sliding windows: exact sums by minute, whatever comes late, twice or is taken back."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.base.actions import Action
from millrace.base.errors import ConfigError
from millrace.base.ids import IdHasher, IdKind, hash_id
from millrace.events.envelope import AnyEvent
from millrace.stores.codes import CodeTables
from millrace.stores.engagement_config import HOUR_MS, EngagementConfig
from millrace.stores.engagements import EngagementStore
from millrace.stores.window_kernels import MINUTE_MS, N_FIELDS
from millrace.stores.windows import Windows
from millrace.testing import strategies as events_st
from millrace.testing.builders import (
    NOW_MS,
    a_batch_of,
    a_post_created,
    a_post_deleted,
    a_user_erased,
    an_engagement,
    an_impression,
)

WINDOWS_MS = (5 * MINUTE_MS, 60 * MINUTE_MS)
LIKE = int(Action.LIKE)
HASHER = IdHasher()

Effect = tuple[int, int, int, int, int, int]
"""Post, author (0: not known), user, column, thousandths, minute."""

effects = st.lists(
    st.tuples(
        st.integers(1, 3),
        st.integers(0, 2),
        st.integers(1, 3),
        st.sampled_from([0, 1, -1]),
        st.sampled_from([1_000, -1_000, 2_345]),
        st.integers(1_000, 1_150),
    ),
    max_size=80,
)


def add(windows: Windows, found: Sequence[Effect]) -> None:
    rows = [(*row[:5], row[5] * MINUTE_MS, 1) for row in found]
    windows.add(np.array(rows, dtype=np.int64).reshape(-1, N_FIELDS))


def minute_after(found: Sequence[Effect]) -> int:
    """The minute that windows end with: that of the first effect, later the one that 16 have reached."""
    end, times = 0, []
    for effect in found:
        end = end or effect[5]
        times.append(effect[5])
        if len(times) >= 16:
            end = max(end, sorted(times)[-16])
    return end


def want(found: Sequence[Effect], place: int, key: int, minutes: int, end: int) -> list[float]:
    sums = np.zeros(3)
    for effect in found:
        if effect[place] == key and end - effect[5] < minutes:
            sums[effect[3]] += effect[4]
    return (np.maximum(sums, 0) / 1_000).round(6).tolist()


@given(effects, st.integers(0, 130))
@settings(max_examples=150, deadline=None)
def test_sums_are_those_of_the_minutes_in_the_window(found: list[Effect], ahead: int) -> None:
    windows = Windows(WINDOWS_MS, 3)
    add(windows, found)
    end = minute_after(found)
    assert windows.minute == end
    reader = end + ahead if ahead > 2 else end
    for place, kind in enumerate(("posts", "authors", "users")):
        got = windows.read(kind, np.array([1, 2, 3, 2]), (end + ahead) * MINUTE_MS)  # type: ignore[arg-type]
        for row, key in enumerate((1, 2, 3, 2)):
            for w, ms in enumerate(WINDOWS_MS):
                assert got[row, w].round(6).tolist() == pytest.approx(want(found, place, key, ms // MINUTE_MS, reader))


@given(effects, st.integers(0, 80))
@settings(max_examples=80, deadline=None)
def test_however_effects_are_cut_into_batches_the_arrays_are_the_same(found: list[Effect], cut: int) -> None:
    whole, parts = Windows(WINDOWS_MS, 3), Windows(WINDOWS_MS, 3)
    add(whole, found)
    add(parts, found[:cut])
    add(parts, found[cut:])
    other = parts.arrays("w")
    assert all(array.tobytes() == other[name].tobytes() for name, array in whole.arrays("w").items())


def test_what_has_left_the_longest_window_takes_no_room() -> None:
    windows = Windows(WINDOWS_MS, 3)
    add(windows, [(post, 1, 1, 0, 1_000, 1_000) for post in range(1, 101)])
    assert (windows.n_effects, int(windows.sums("posts").n_keys[0])) == (100, 100)
    add(windows, [(7, 1, 1, 0, 1_000, 2_000)] * 17)
    assert int(windows.sums("posts").n_keys[0]) == 1
    assert not windows.sums("posts").sums[:, 1:].any()
    assert windows.read("posts", np.array([1]), 2_000 * MINUTE_MS).tolist() == [[[0, 0, 0]] * 2]


def test_a_checkpoint_goes_on_as_if_nothing_had_been() -> None:
    first = [(1, 2, 3, 0, 1_000, 1_000 + k) for k in range(30)]
    live = Windows(WINDOWS_MS, 3)
    add(live, first)
    restored = Windows(WINDOWS_MS, 3)
    restored.load("w", {name: array.copy() for name, array in live.arrays("w").items()})
    for windows in (live, restored):
        add(windows, [(2, 2, 3, 0, 1_000, 1_090)] * 20)
    mine, other = live.arrays("w"), restored.arrays("w")
    assert all(array.tobytes() == other[name].tobytes() for name, array in mine.items())


class Store:
    """An engagement store, and its windows of one hour and one day."""

    def __init__(self, windows_ms: tuple[int, ...] = (HOUR_MS, 24 * HOUR_MS)) -> None:
        codes = CodeTables()
        self.engagements = EngagementStore(EngagementConfig(windows_ms=windows_ms), HASHER, codes)

    def take(self, *events: AnyEvent) -> "Store":
        self.engagements.apply(a_batch_of(events))
        return self

    def likes(self, kind: str, name: object, at_ms: int = NOW_MS) -> list[float]:
        of = IdKind.POST if kind == "posts" else IdKind.USER
        ids = np.array([hash_id(of, str(name))])
        return self.engagements.windows.read(kind, ids, at_ms)[0, :, LIKE].tolist()  # type: ignore[arg-type]


def test_a_like_counts_for_the_post_its_author_and_the_viewer_once() -> None:
    like = an_engagement(20, 1, action="like")
    store = Store().take(a_post_created(1, author_id=10), like, like)
    assert [store.likes(*of) for of in (("posts", 1), ("authors", 10), ("users", 20))] == [[1, 1]] * 3


def test_an_undo_takes_a_like_back_from_the_minute_in_which_it_was_counted() -> None:
    store = Store().take(
        a_post_created(1, author_id=10, at_ms=NOW_MS - 3 * HOUR_MS),
        an_engagement(20, 1, action="like", at_ms=NOW_MS - 2 * HOUR_MS),
        an_engagement(21, 1, action="like", at_ms=NOW_MS),
    )
    assert store.likes("posts", 1) == [1, 2]
    store.take(an_engagement(20, 1, action="like", is_undo=True, at_ms=NOW_MS))
    assert store.likes("posts", 1) == [1, 1]


def test_what_is_deleted_or_erased_is_unknown_at_once() -> None:
    store = Store().take(a_post_created(1, author_id=10), an_engagement(20, 1, action="like"), a_post_deleted(1))
    assert store.likes("posts", 1) == [0, 0]
    assert store.likes("users", 20) == [1, 1]
    store.take(a_user_erased(20), a_user_erased(10))
    assert store.likes("users", 20) == store.likes("authors", 10) == [0, 0]


def test_windows_agree_with_counters_that_count_for_ever_where_nothing_has_left_them() -> None:
    store = Store().take(
        a_post_created(1, author_id=10),
        *(an_impression(viewer, 1, dwell_ms=1_000 * viewer) for viewer in range(1, 9)),
        *(an_engagement(viewer, 1, action="reply") for viewer in range(1, 5)),
    )
    ids = np.array([hash_id(IdKind.POST, "1")])
    counts = store.engagements.counters.post_counts(ids, NOW_MS)[0, 1]
    np.testing.assert_allclose(store.engagements.windows.read("posts", ids, NOW_MS)[0, 1], counts, rtol=1e-6)


def test_without_windows_nothing_is_kept() -> None:
    store = Store(()).take(a_post_created(1, author_id=10), an_engagement(20, 1, action="like"))
    assert store.likes("posts", 1) == []
    assert not [name for name in store.engagements.arrays() if name.startswith("windows")]


def test_windows_out_of_order_are_refused() -> None:
    with pytest.raises(ConfigError, match="windows_ms"):
        Store((24 * HOUR_MS, HOUR_MS))


sequences = events_st.event_sequences(EngagementStore.handles, max_size=60)


@given(sequences, st.data())
@settings(max_examples=60, deadline=None)
def test_however_the_log_is_cut_the_store_with_windows_is_the_same(found: list[AnyEvent], data: st.DataObject) -> None:
    whole, parts = Store().take(*found), Store()
    events_st.apply_cut(parts.engagements.apply, found, data.draw(events_st.cuts(len(found))))
    mine, other = whole.engagements.arrays(), parts.engagements.arrays()
    assert all(array.tobytes() == other[name].tobytes() for name, array in mine.items() if name.startswith("windows"))
