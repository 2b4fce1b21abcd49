"""What every `KeyValueStore` must do: subclass, and give ``store`` and ``clock`` (for shared ones ``open_another``)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from hypothesis import strategies as st

from millrace.base.clock import ManualClock
from millrace.stores.key_value import Change, KeyValueStore

OpenAnother = Callable[[], KeyValueStore]
Step = tuple[str, bytes, bytes | None, bytes | None, int | None, int]
"""What, key, value, expected, ttl_ms, milliseconds until the next."""

_KEYS = (b"", b"a", b"ab", b"b", b"\x00", b"\xff\xff", b"a*[?]\\")


class KeyValueContract:
    """Behaviour shared by all key-value stores."""

    def test_what_was_set_is_got_in_the_order_asked(self, store: KeyValueStore) -> None:
        """A key that holds nothing answers None; one asked for twice answers twice."""
        store.set_many({b"a": b"1", b"b": b"", b"\x00\xff": b"\x00bytes\xff"})
        assert store.get_many([b"b", b"x", b"a", b"\x00\xff", b"a"]) == [b"", None, b"1", b"\x00bytes\xff", b"1"]
        assert store.get_many([]) == []

    def test_the_last_value_stands(self, store: KeyValueStore) -> None:
        """Setting again replaces it."""
        store.set_many({b"a": b"1"})
        store.set_many({b"a": b"2"})
        store.set_many({})
        assert store.get_many([b"a"]) == [b"2"]

    def test_keys_end_where_they_end(self, store: KeyValueStore) -> None:
        """One that begins like another is another; the empty one is one too."""
        store.set_many({b"": b"empty", b"a": b"short", b"aa": b"long"})
        assert store.delete_many([b"a"]) == 1
        assert store.get_many([b"", b"a", b"aa"]) == [b"empty", None, b"long"]

    def test_deleting_tells_how_many_were_there(self, store: KeyValueStore) -> None:
        """One that was not there does no harm."""
        store.set_many({b"a": b"1", b"b": b"2"})
        assert store.delete_many([b"a", b"x"]) == 1
        assert store.delete_many([b"a"]) == 0
        assert store.delete_many([]) == 0
        assert store.get_many([b"a", b"b"]) == [None, b"2"]

    def test_a_value_lives_up_to_its_last_millisecond(self, store: KeyValueStore, clock: ManualClock) -> None:
        """And is not there afterwards, for any method."""
        store.set_many({b"short": b"1"}, ttl_ms=100)
        store.set_many({b"long": b"2"})
        clock.advance_ms(99)
        assert store.get_many([b"short", b"long"]) == [b"1", b"2"]
        clock.advance_ms(1)
        assert store.get_many([b"short", b"long"]) == [None, b"2"]
        assert sorted(store.scan()) == [(b"long", b"2")]
        assert store.compare_and_set([Change(b"short", b"1", b"x")]) == [False]
        assert store.delete_many([b"short"]) == 0

    def test_setting_again_begins_a_new_life(self, store: KeyValueStore, clock: ManualClock) -> None:
        """A longer, a shorter or an endless one."""
        store.set_many({b"a": b"1", b"b": b"1", b"c": b"1"}, ttl_ms=100)
        clock.advance_ms(50)
        store.set_many({b"a": b"2"}, ttl_ms=100)
        store.set_many({b"b": b"2"}, ttl_ms=10)
        store.set_many({b"c": b"2"})
        clock.advance_ms(50)
        assert store.get_many([b"a", b"b", b"c"]) == [b"2", None, b"2"]
        clock.advance_ms(1_000_000)
        assert store.get_many([b"a", b"b", b"c"]) == [None, None, b"2"]

    def test_a_change_needs_what_it_expects(self, store: KeyValueStore) -> None:
        """None expects nothing, and sets nothing: a deletion on condition."""
        set_if = store.compare_and_set
        assert set_if([Change(b"a", None, b"1"), Change(b"b", b"1", b"2")]) == [True, False]
        assert set_if([Change(b"a", None, b"2"), Change(b"a", b"0", b"2")]) == [False, False]
        assert set_if([Change(b"a", b"1", b""), Change(b"a", b"", b"3")]) == [True, True]
        assert store.get_many([b"a", b"b"]) == [b"3", None]
        assert set_if([Change(b"a", b"2", None), Change(b"a", b"3", None), Change(b"x", None, None)]) == [
            False,
            True,
            True,
        ]
        assert store.get_many([b"a", b"x"]) == [None, None]
        assert set_if([]) == []

    def test_a_changed_value_has_the_life_of_the_change(self, store: KeyValueStore, clock: ManualClock) -> None:
        """A refused change leaves the old one's."""
        store.set_many({b"a": b"1", b"b": b"1"}, ttl_ms=100)
        assert store.compare_and_set([Change(b"a", b"1", b"2"), Change(b"b", b"0", b"2")], ttl_ms=1_000) == [
            True,
            False,
        ]
        clock.advance_ms(100)
        assert store.get_many([b"a", b"b"]) == [b"2", None]
        assert store.compare_and_set([Change(b"b", None, b"new")], ttl_ms=10) == [True]
        clock.advance_ms(10)
        assert store.get_many([b"b"]) == [None]

    def test_a_scan_finds_the_keys_with_a_prefix(self, store: KeyValueStore) -> None:
        """Literally: no byte of it means anything else. An empty one finds everything."""
        keys = [b"user:1", b"user:22", b"user*", b"user[1]", b"use", b"\xff", b"\xff\xff\x00", b"\\"]
        store.set_many({key: b"v" + key for key in keys})
        assert sorted(store.scan(b"user:")) == [(b"user:1", b"vuser:1"), (b"user:22", b"vuser:22")]
        for prefix in (b"user*", b"user[", b"\xff", b"\xff\xff", b"\\", b"?", b""):
            assert sorted(key for key, _ in store.scan(prefix)) == sorted(k for k in keys if k.startswith(prefix))

    def test_a_scan_finds_each_of_thousands_once(self, store: KeyValueStore) -> None:
        """Even while they are deleted."""
        store.set_many({b"k%05d" % number: b"%d" % number for number in range(2_500)})
        found = []
        for key, _ in store.scan(b"k"):
            found.append(key)
            store.delete_many([key])
        assert sorted(found) == [b"k%05d" % number for number in range(2_500)]
        assert list(store.scan()) == []

    def test_threads_that_race_for_a_change_win_it_once(self, store: KeyValueStore) -> None:
        """However the calls interleave."""
        check_race([store] * 4)


class SharedKeyValueContract(KeyValueContract):
    """Further behaviour of stores that several processes share."""

    def test_another_process_sees_it_at_once(
        self, store: KeyValueStore, open_another: OpenAnother, clock: ManualClock
    ) -> None:
        """Values, ends and deletions."""
        other = open_another()
        try:
            store.set_many({b"a": b"1", b"b": b"2"}, ttl_ms=50)
            assert other.get_many([b"a", b"b"]) == [b"1", b"2"]
            other.delete_many([b"a"])
            assert store.get_many([b"a", b"b"]) == [None, b"2"]
            clock.advance_ms(50)
            assert other.get_many([b"b"]) == [None]
        finally:
            other.close()

    def test_values_outlive_the_process(self, store: KeyValueStore, open_another: OpenAnother) -> None:
        """Closed and opened again, everything is there."""
        store.set_many({b"a": b"1"})
        store.close()
        other = open_another()
        try:
            assert list(other.scan()) == [(b"a", b"1")]
        finally:
            other.close()

    def test_processes_that_race_for_a_change_win_it_once(
        self, store: KeyValueStore, open_another: OpenAnother
    ) -> None:
        """Each with its own connection."""
        others = [open_another() for _ in range(3)]
        try:
            check_race([store, *others])
        finally:
            for other in others:
                other.close()


def check_race(stores: Sequence[KeyValueStore]) -> None:
    """Count to 50 through every store at once, by compare-and-set: no count is lost."""
    start = threading.Barrier(len(stores))

    def run(store: KeyValueStore) -> None:
        start.wait()
        for _ in range(50):
            while True:
                (held,) = store.get_many([b"count"])
                after = b"%d" % (int(held or b"0") + 1)
                if store.compare_and_set([Change(b"count", held, after)]) == [True]:
                    break

    threads = [threading.Thread(target=run, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert stores[0].get_many([b"count"]) == [b"%d" % (50 * len(stores))]


def steps() -> st.SearchStrategy[list[Step]]:
    """Return sequences of calls that meet: few keys, few values, time that passes."""
    value = st.sampled_from((None, b"", b"1", b"2"))
    what = st.sampled_from(("set", "delete", "change"))
    ttl_ms = st.sampled_from((None, 5, 50))
    return st.lists(st.tuples(what, st.sampled_from(_KEYS), value, value, ttl_ms, st.sampled_from((0, 4, 5, 60))))


def check_against_model(store: KeyValueStore, clock: ManualClock, calls: Sequence[Step]) -> None:
    """Apply calls to a store, emptied before, and to a dictionary; they must agree after each."""
    store.delete_many(_KEYS)
    model: dict[bytes, tuple[bytes, float]] = {}
    for what, key, value, expected, ttl_ms, after_ms in calls:
        ends = float("inf") if ttl_ms is None else clock.now_ms() + ttl_ms
        held = model.get(key, (None, 0.0))[0]
        if what == "set":
            store.set_many({key: value or b""}, ttl_ms=ttl_ms)
            model[key] = (value or b"", ends)
        elif what == "delete":
            assert store.delete_many([key]) == (model.pop(key, None) is not None)
        else:
            assert store.compare_and_set([Change(key, expected, value)], ttl_ms=ttl_ms) == [held == expected]
            if held == expected and value is None:
                model.pop(key, None)
            elif held == expected and value is not None:
                model[key] = (value, ends)
        clock.advance_ms(after_ms)
        model = {key: entry for key, entry in model.items() if entry[1] > clock.now_ms()}
        assert store.get_many(_KEYS) == [model.get(key, (None,))[0] for key in _KEYS]
        assert dict(store.scan(b"a")) == {key: entry[0] for key, entry in model.items() if key.startswith(b"a")}
