"""Two sets of samples become one, as if they had been read in the order of their slates."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from millrace.base.ids import Int64Array
from millrace.flywheel.sample_merging import merged
from millrace.flywheel.sample_set import SampleSet
from millrace.testing.sample_builders import planted_samples

ODD, EVEN = np.array([1, 3, 5]), np.array([0, 2, 4])


def part(samples: SampleSet, slates: Int64Array) -> SampleSet:
    """Return some slates with the texts that they read, no others."""
    taken = samples.take(slates)
    at = np.unique(taken.texts_of(np.concatenate([taken.post_ids, taken.history_posts])))
    return replace(
        taken,
        text_posts=samples.text_posts[at],
        text_tokens=samples.text_tokens[at],
        text_vectors=samples.text_vectors[at],
    )


@pytest.mark.parametrize("is_odd_first", [True, False])
def test_what_was_parted_is_whole_again(*, is_odd_first: bool) -> None:
    whole = planted_samples(6)
    whole = part(whole, np.arange(6))
    first, second = (ODD, EVEN) if is_odd_first else (EVEN, ODD)
    found = merged(part(whole, first), first, part(whole, second), second)
    for field in fields(SampleSet):
        if field.name != "meta":
            assert np.array_equal(getattr(found, field.name), getattr(whole, field.name)), field.name
    assert found.meta == whole.meta


@pytest.mark.parametrize("is_odd_first", [True, False])
def test_the_text_counts_that_the_earlier_slate_has_read(*, is_odd_first: bool) -> None:
    whole = planted_samples(6)
    odd, even = part(whole, ODD), part(whole, EVEN)
    odd = replace(odd, text_tokens=np.full_like(odd.text_tokens, 7), text_vectors=np.full_like(odd.text_vectors, 7))
    even = replace(even, text_tokens=np.full_like(even.text_tokens, 8), text_vectors=np.full_like(even.text_vectors, 8))
    found = merged(odd, ODD, even, EVEN) if is_odd_first else merged(even, EVEN, odd, ODD)
    expected = []
    for post in found.text_posts.tolist():
        for slate in range(6):
            tokens = slice(*whole.history_starts[slate : slate + 2].tolist())
            if post in whole.history_posts[tokens] or post in whole.post_ids[whole.rows_of(np.array([slate]))]:
                expected.append(7 if slate in ODD else 8)
                break
    assert set(expected) == {7, 8}
    assert found.text_tokens[:, 0].tolist() == expected
    assert found.text_vectors[:, 0].tolist() == expected
