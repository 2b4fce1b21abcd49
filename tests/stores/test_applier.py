from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.base.errors import StoreError
from millrace.events.codec import EventCodec
from millrace.events.registry import EventRegistry
from millrace.stores.applier import Applier, decode_records
from millrace.stores.watermark import MIN_EVENTS_PER_TICK
from millrace.stream.log import RecordBatch
from millrace.testing.builders import NOW_MS, a_post_created, an_engagement
from millrace.testing.small_state import SmallState

CODEC = EventCodec(EventRegistry())


def records_of(data: list[bytes], first: int = 0) -> RecordBatch:
    n = len(data)
    return RecordBatch(
        offsets=np.arange(first, first + n),
        appended_ms=np.full(n, NOW_MS * 2),
        topics=np.zeros(n, dtype=np.int16),
        topic_names=("events.post",),
        data=tuple(data),
        end=(first + n,),
    )


def applier_of(state: SmallState) -> Applier:
    return Applier(state.folds(), state.watermark, CODEC.decode)


def test_purged_records_are_skipped_and_undecodable_ones_reported() -> None:
    data = [CODEC.encode(a_post_created(1)), b"", b"nonsense", CODEC.encode(a_post_created(2))]
    batch, refused = decode_records(records_of(data, first=10), CODEC.decode)
    assert batch.offsets.tolist() == [10, 13]
    assert [r.row for r in refused] == [2]
    assert "logged event" in refused[0].reason


def test_a_failing_fold_is_named_with_its_offsets() -> None:
    state = SmallState()
    state.posts.rows = None  # type: ignore[assignment]
    with pytest.raises(StoreError, match=r"store post_log \(5, 5\)"):
        applier_of(state).apply(records_of([CODEC.encode(a_post_created(1))], first=5))


def test_listeners_hear_every_event_after_the_folds() -> None:
    state = SmallState()
    heard: list[tuple[int, int]] = []

    class Listener:
        def hear(self, batch) -> None:  # type: ignore[no-untyped-def]
            heard.append((len(batch), int(state.posts.n[0])))

    applier = Applier(state.folds(), state.watermark, CODEC.decode, (Listener(),))
    applier.apply(records_of([CODEC.encode(a_post_created(i)) for i in range(3)]))
    assert heard == [(3, 3)]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 600), st.booleans()), max_size=400),
    st.lists(st.integers(1, 90), max_size=30),
)
def test_how_the_log_is_cut_into_batches_leaves_no_trace(plan: list[tuple[bool, int, bool]], cuts: list[int]) -> None:
    data = []
    for number, (is_post, second, is_bad) in enumerate(plan):
        at_ms = NOW_MS + second * 1000
        event = a_post_created(number, at_ms=at_ms) if is_post else an_engagement(at_ms=at_ms)
        data.append((b"\xc1", b"")[number % 2] if is_bad and number % 5 == 0 else CODEC.encode(event))
    whole, cut = SmallState(), SmallState()
    applier_of(whole).apply(records_of(data))
    applier = applier_of(cut)
    start = 0
    for stop in [*np.cumsum(cuts).tolist(), len(data)]:
        stop = min(stop, len(data))
        if stop > start:
            applier.apply(records_of(data[start:stop], first=start))
            start = stop
    for a, b in zip((*whole.folds(), whole.watermark), (*cut.folds(), cut.watermark), strict=True):
        for name, array in a.arrays().items():
            assert array.tobytes() == b.arrays()[name].tobytes(), (a.name, name)


def test_purged_records_count_towards_ticks_so_that_a_replay_ticks_where_it_did_before() -> None:
    n = 3 * MIN_EVENTS_PER_TICK
    data = [CODEC.encode(a_post_created(i, at_ms=NOW_MS + i * 1_000)) for i in range(n)]
    purged = [b"" if i % 7 == 3 else item for i, item in enumerate(data)]
    before, after = SmallState(), SmallState()
    assert (
        applier_of(before).apply(records_of(data)).n_ticks == applier_of(after).apply(records_of(purged)).n_ticks == 3
    )


def test_a_tick_may_fall_on_records_that_hold_nothing() -> None:
    state = SmallState()
    applier = applier_of(state)
    applier.apply(records_of([CODEC.encode(a_post_created(i)) for i in range(100)]))
    applied = applier.apply(records_of([b""] * MIN_EVENTS_PER_TICK, first=100))
    assert (applied.n_events, applied.n_ticks) == (0, 1)
    assert int(state.tally.ticks[0]) == 1
