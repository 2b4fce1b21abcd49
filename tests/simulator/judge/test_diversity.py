from __future__ import annotations

import math

import pytest

from millrace.simulator.judge.diversity import diversity
from millrace.testing.run_plan import HOUR_MS
from millrace.testing.run_tables import small_run


def test_what_a_page_is_made_of() -> None:
    items = [
        {"page": 0, "viewer": 1, "topic": 0, "author": 1, "sources": 1, "age_ms": 0, "is_followed": True},
        {"page": 0, "viewer": 1, "topic": 0, "author": 2, "sources": 3, "age_ms": 2 * HOUR_MS},
        {"page": 0, "viewer": 1, "topic": 1, "author": 3, "sources": 4, "age_ms": 4 * HOUR_MS},
        {"page": 0, "viewer": 1, "topic": 1, "author": 3, "sources": 2, "age_ms": 6 * HOUR_MS},
        {"page": 1, "viewer": 2, "topic": 2, "author": 3, "sources": 2, "age_ms": 8 * HOUR_MS},
    ]
    pages = [
        {"page": 0, "viewer": 1, "n_items": 4, "n_repeated": 1, "n_blocked": 2},
        {"page": 1, "viewer": 2, "n_items": 1},
        {"page": 2, "viewer": 2, "n_items": 0, "n_outcomes": 1},
    ]
    got = diversity(small_run(items=items, pages=pages))
    assert got.topic_entropy_bits.value == 0.5
    assert got.distinct_topics.value == 1.5
    assert got.distinct_authors.value == 2.0
    assert got.author_frac.value == 0.8
    assert got.in_network_frac.value == 0.2
    assert got.source_frac == {"in_network": 0.4, "popular": 0.6, "topical": 0.2}
    assert got.age_h["0.5"] == 4.0
    assert got.repeated_frac.value == 0.2
    assert got.empty_frac.value == pytest.approx(1 / 3)
    assert got.degraded_frac.value == pytest.approx(1 / 3)
    assert got.items_per_page.value == pytest.approx(5 / 3)
    blocked = got.rules["blocked"]
    assert (blocked.n_posts, blocked.n_pages, blocked.per_1000.value) == (2, 1, 400.0)
    assert got.rules["own"].n_posts == 0


def test_of_an_empty_run_nothing_is_said() -> None:
    got = diversity(small_run())
    assert math.isnan(got.topic_entropy_bits.value)
    assert (got.age_h, got.source_frac) == ({}, {})
