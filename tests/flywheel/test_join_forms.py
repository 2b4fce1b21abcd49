"""The compiled join gives out, holds and counts what the plain one does, record by record."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.base.actions import ActionSpace
from millrace.flywheel.join_columns import DEED, LOOK, OTHER, PAGE, JoinColumns
from millrace.flywheel.join_compiled import CompiledJoin
from millrace.flywheel.join_config import JoinConfig
from millrace.flywheel.join_parts import JoinForm, JoinShape
from millrace.flywheel.join_reference import ReferenceJoin
from millrace.stores.engagement_config import DwellThresholds
from millrace.testing.builders import NOW_MS

ACTIONS = ActionSpace()
HOUR_MS = 3_600_000

CONFIGS = {
    "plain": JoinConfig(n_witnesses=1),
    "short": JoinConfig(n_witnesses=3, window_ms=60_000, late_ms=HOUR_MS, out_of_order_ms=60_000),
    "sampled": JoinConfig(n_witnesses=1, window_ms=60_000, negative_rate=0.4),
    "dynamic": JoinConfig(n_witnesses=1, windows="dynamic", min_delays=5, delay_quantile=0.7),
    "tight": JoinConfig(
        n_witnesses=1,
        window_ms=60_000,
        out_of_order_ms=60_000,
        max_pages=3,
        max_looks=5,
        max_deeds=4,
        max_looks_of_post=2,
        max_deeds_on_post=3,
    ),
}


def random_columns(seed: int, n: int, *, span_ms: int = 6 * HOUR_MS, n_ids: int = 4) -> JoinColumns:
    """Records of few ids, roughly in order of time."""
    rng = np.random.default_rng(seed)
    kinds = rng.choice([OTHER, PAGE, LOOK, DEED], n, p=[0.05, 0.2, 0.45, 0.3]).astype(np.uint8)
    times_ms = NOW_MS + np.sort(rng.integers(0, span_ms, n)) - rng.integers(0, span_ms // 10, n)
    sizes = rng.integers(0, 4, int((kinds == PAGE).sum()))
    return JoinColumns(
        kinds=kinds,
        offsets=np.arange(n, dtype=np.int64),
        times_ms=times_ms,
        viewers=rng.integers(1, 3, n),
        requests=rng.integers(0, n_ids, n),
        posts=rng.integers(1, n_ids, n),
        dwells_ms=rng.choice([0, 1_000, 9_000, 700_000], n),
        positions=rng.integers(-1, 3, n),
        codes=rng.choice([0, 1, 14, 22], n).astype(np.int32),
        flags=rng.integers(0, 2, n).astype(np.uint8),
        page_starts=np.concatenate(([0], np.cumsum(sizes))).astype(np.int64),
        page_posts=rng.integers(1, n_ids, int(sizes.sum())),
    )


def forms(config: JoinConfig) -> tuple[JoinForm, JoinForm]:
    shape = JoinShape.of(ACTIONS, DwellThresholds(), config)
    return CompiledJoin(shape, config), ReferenceJoin(shape, config)


@pytest.mark.parametrize("name", CONFIGS)
@given(seed=st.integers(0, 1 << 32), cut=st.integers(0, 300))
@settings(max_examples=15, deadline=None)
def test_both_forms_give_out_and_count_the_same(name: str, seed: int, cut: int) -> None:
    columns = random_columns(seed, 300)
    compiled, plain = forms(CONFIGS[name])
    for start, stop in ((0, cut), (cut, 300)):
        compiled.hear(columns.slice(start, stop))
        plain.hear(columns.slice(start, stop))
        assert compiled.drain().tolist() == plain.drain().tolist()
        expected = plain.stats(ACTIONS.names)
        assert replace(compiled.stats(ACTIONS.names), state_bytes=0) == replace(expected, state_bytes=0)


@pytest.mark.parametrize("name", CONFIGS)
@given(seed=st.integers(0, 1 << 32), cut=st.integers(0, 300))
@settings(max_examples=6, deadline=None)
def test_a_restored_join_goes_on_as_if_nothing_had_been(name: str, seed: int, cut: int) -> None:
    columns = random_columns(seed, 300)
    for whole, fresh in zip(forms(CONFIGS[name]), forms(CONFIGS[name]), strict=True):
        whole.hear(columns.slice(0, cut))
        fresh.restore(whole.state())
        for join in (whole, fresh):
            join.hear(columns.slice(cut, 300))
        one, other = whole.state(), fresh.state()
        assert list(one) == list(other)
        assert [name for name in one if one[name].tobytes() != other[name].tobytes()] == []
        assert whole.drain().tolist() == fresh.drain().tolist()


@pytest.mark.parametrize("form", [CompiledJoin, ReferenceJoin])
def test_looks_with_made_up_requests_take_no_place_of_a_page(form: Callable[[JoinShape, JoinConfig], JoinForm]) -> None:
    config = JoinConfig(n_witnesses=1, max_pages=2)
    join = form(JoinShape.of(ACTIONS, DwellThresholds(), config), config)
    n = 200
    ids = np.arange(n, dtype=np.int64)
    kinds, requests = np.full(n, LOOK, dtype=np.uint8), ids + 1_000
    kinds[[0, 150]], requests[[0, 100, 150, 199]] = PAGE, (1, 2, 2, 1)
    # The looks at 2 come before their page, those at 1 after it; all others are at pages that never were.
    columns = replace(
        random_columns(1, n),
        kinds=kinds,
        times_ms=NOW_MS + ids,
        viewers=np.ones(n, dtype=np.int64),
        requests=requests,
        posts=np.where(requests < 1_000, 7, ids + 10),
        page_starts=np.array([0, 1, 2]),
        page_posts=np.array([7, 7]),
    )
    join.hear(columns)
    stats = join.stats(ACTIONS.names)
    assert (stats.n_open_pages, stats.n_looks_joined, stats.n_dropped_for_bounds) == (2, 2, 0)


@pytest.mark.slow
def test_what_grows_is_what_there_is_room_for() -> None:
    columns = random_columns(5, 20_000, n_ids=2_000, span_ms=24 * HOUR_MS)
    compiled, plain = forms(JoinConfig(n_witnesses=1, window_ms=12 * HOUR_MS))
    compiled.hear(columns)
    plain.hear(columns)
    assert compiled.drain().tolist() == plain.drain().tolist()


@pytest.mark.slow
def test_a_jump_of_time_lets_out_more_rows_than_there_is_room_for_at_once() -> None:
    n = 18_000
    columns = random_columns(6, n, n_ids=5, span_ms=HOUR_MS)
    kinds, requests = np.full(n, LOOK, dtype=np.uint8), np.arange(n) // 2 + 1
    kinds[::2], kinds[-1] = PAGE, OTHER
    times_ms = NOW_MS + np.arange(n) // 100
    times_ms[-1] += 500 * 24 * HOUR_MS
    columns = replace(
        columns,
        kinds=kinds,
        requests=requests,
        viewers=np.ones(n, dtype=np.int64),
        posts=requests,
        times_ms=times_ms,
        page_starts=np.arange(n // 2 + 1),
        page_posts=np.arange(n // 2) + 1,
    )
    compiled, plain = forms(JoinConfig(n_witnesses=1))
    compiled.hear(columns)
    plain.hear(columns)
    found = compiled.drain()
    assert len(found) == n // 2 - 1
    assert found.tolist() == plain.drain().tolist()
