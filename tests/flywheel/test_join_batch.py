"""The newest revisions of the streaming join are the rows of the batch join, whatever order the log came in."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.base.actions import ActionSpace
from millrace.events.envelope import AnyEvent
from millrace.events.feature_events import FeaturesLogged
from millrace.flywheel.join import StreamJoin
from millrace.flywheel.join_config import JoinConfig
from millrace.testing.join_builders import (
    HASHER,
    MINUTE_MS,
    Row,
    Told,
    batch_rows,
    closing_ticks,
    in_log_order,
    newest_rows,
    random_told,
)

HOUR_MS = 60 * MINUTE_MS
SEEDS = st.integers(0, 1 << 32)

Log = Sequence[tuple[int, int, AnyEvent]]


def streamed(log: Log, config: JoinConfig, *, every: int = 7) -> dict[tuple[int, int, int], Row]:
    join = StreamJoin(HASHER, ActionSpace(), config=config)
    found = []
    for i, record in enumerate(log):
        join.hear(*record)
        if i % every == 0:
            found.append(join.let_out())
    for record in closing_ticks(log, config.n_witnesses, 2 * HOUR_MS):
        join.hear(*record)
    return newest_rows([*found, join.let_out()])


@given(SEEDS, st.sampled_from((1, 16)))
@settings(max_examples=40, deadline=None)
def test_newest_revisions_are_the_batch_joins_rows(seed: int, n_witnesses: int) -> None:
    log = in_log_order(random_told(seed))
    assert streamed(log, JoinConfig(n_witnesses=n_witnesses)) == batch_rows(log, window_ms=24 * HOUR_MS)


@given(SEEDS)
@settings(max_examples=40, deadline=None)
def test_they_are_where_the_log_is_much_longer_than_what_is_remembered(seed: int) -> None:
    log = in_log_order(random_told(seed, span_ms=8 * HOUR_MS, n_events=100))
    config = JoinConfig(n_witnesses=1, window_ms=MINUTE_MS, late_ms=HOUR_MS)
    assert streamed(log, config) == batch_rows(log, window_ms=HOUR_MS)


@given(SEEDS)
@settings(max_examples=20, deadline=None)
def test_labels_do_not_depend_on_the_order_of_the_log(seed: int) -> None:
    told: list[Told] = []
    pages = set()
    for one in random_told(seed):
        payload = one.event.payload
        if isinstance(payload, FeaturesLogged):  # of two pages of one request the log's first counts, by intent
            if (payload.viewer_id, payload.request_id) in pages:
                continue
            pages.add((payload.viewer_id, payload.request_id))
        told.append(one)

    def labels(ordered: Sequence[Told]) -> dict[tuple[int, int, int], tuple[object, ...]]:
        log = [(i, one.event.event_time_ms, one.event) for i, one in enumerate(ordered)]
        return {key: row[1:5] for key, row in batch_rows(log, window_ms=24 * HOUR_MS).items()}

    shuffled = told.copy()
    random.Random(seed).shuffle(shuffled)
    assert labels(shuffled + told[:3]) == labels(told)


@pytest.mark.parametrize("every", [1, 1_000])
def test_what_goes_out_does_not_depend_on_when_it_is_fetched(every: int) -> None:
    log = in_log_order(random_told(11, n_events=200))
    config = JoinConfig(n_witnesses=1, window_ms=MINUTE_MS)
    assert streamed(log, config, every=every) == streamed(log, config)
