"""Sample sets: what is written is what is read, and taking slates takes what belongs to them."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from millrace.base.errors import SchemaError, StoreError
from millrace.flywheel.sample_set import SampleSet, ranges
from millrace.testing.sample_builders import HOUR_MS, planted_samples


def same(one: SampleSet, other: SampleSet) -> bool:
    names = [field.name for field in fields(SampleSet) if field.name != "meta"]
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in names)


def test_what_is_written_is_read_and_replaces_what_was_there(tmp_path: Path) -> None:
    planted_samples(5).save(tmp_path / "samples")
    whole = planted_samples(7)
    whole.save(tmp_path / "samples")
    read = SampleSet.load(tmp_path / "samples", schema=whole.meta.schema)
    assert same(read, whole)
    assert read.meta == whole.meta
    assert [path.name for path in tmp_path.iterdir()] == ["samples"]


def test_taking_slates_takes_their_rows_and_histories_in_order() -> None:
    whole = planted_samples(6, n_rows=3, n_history=2)
    some = whole.take(np.array([4, 1]))
    assert some.viewers.tolist() == whole.viewers[[4, 1]].tolist()
    assert some.post_ids.tolist() == [*whole.post_ids[12:15], *whole.post_ids[3:6]]
    assert some.history_posts.tolist() == [*whole.history_posts[8:10], *whole.history_posts[2:4]]
    assert some.starts.tolist() == [0, 3, 6]
    assert whole.between(HOUR_MS, 3 * HOUR_MS).now_ms.tolist() == [HOUR_MS, 2 * HOUR_MS]


def test_two_sets_become_one_whose_first_texts_count() -> None:
    whole = planted_samples(6, n_rows=3, n_history=2)
    one, other = whole.take(np.array([0, 1])), whole.take(np.array([5, 2]))
    kept, others = np.arange(0, len(whole.text_posts), 2), np.arange(len(whole.text_posts))
    one = replace(one, **{name: getattr(one, name)[kept] for name in ("text_posts", "text_tokens", "text_vectors")})
    other = replace(other, text_tokens=other.text_tokens[others] + np.uint16(1))
    joined = one.joined(other)
    assert same(joined.take(np.array([0, 1])), replace(one, **texts(joined)))
    assert same(joined.take(np.array([2, 3])), replace(other, **texts(joined)))
    assert joined.text_posts.tolist() == whole.text_posts.tolist()
    assert (joined.text_tokens[kept] == whole.text_tokens[kept]).all()
    assert (joined.text_tokens[1::2] == whole.text_tokens[1::2] + 1).all()
    with pytest.raises(SchemaError, match="other features"):
        one.joined(replace(other, meta=msgspec.structs.replace(other.meta, schema="another")))


def texts(samples: SampleSet) -> dict[str, Any]:
    return {name: getattr(samples, name) for name in ("text_posts", "text_tokens", "text_vectors")}


def test_other_features_are_refused_and_damage_is_named(tmp_path: Path) -> None:
    planted_samples(2).save(tmp_path / "samples")
    with pytest.raises(SchemaError, match="other features"):
        SampleSet.load(tmp_path / "samples", schema="something else")
    (tmp_path / "samples" / "labels.npy").write_bytes(b"")
    with pytest.raises(StoreError, match="samples"):
        SampleSet.load(tmp_path / "samples")


def test_texts_are_found_by_post() -> None:
    samples = planted_samples(2)
    assert samples.texts_of(samples.text_posts[[3, 0]]).tolist() == [3, 0]
    assert samples.texts_of(np.array([-5, 2**62 + 1])).tolist() == [-1, -1]


def test_ranges_go_one_after_the_other() -> None:
    assert ranges(np.array([3, 9, 9]), np.array([5, 9, 11])).tolist() == [3, 4, 9, 10]
