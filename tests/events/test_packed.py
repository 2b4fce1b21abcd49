from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from millrace.base.errors import SchemaError
from millrace.events.packed import pack_arrays, unpack_arrays

dtypes = st.sampled_from(("bool", "uint8", "int16", "uint16", "int64", "uint64", "float32"))
arrays = dtypes.flatmap(lambda kind: arrays_of.arrays(kind, arrays_of.array_shapes(min_dims=0, max_dims=3, min_side=0)))


@given(st.dictionaries(st.text(max_size=8), arrays, max_size=4))
def test_arrays_come_back_as_they_were(given_: dict[str, np.ndarray]) -> None:  # type: ignore[type-arg]
    found = unpack_arrays(pack_arrays(given_))
    assert list(found) == list(given_)
    for name, array in given_.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        assert found[name].tobytes() == array.tobytes()


def test_the_same_arrays_are_the_same_bytes_and_what_is_read_cannot_be_changed() -> None:
    data = pack_arrays({"a": np.arange(5), "b": np.arange(10)[::2]})
    assert data == pack_arrays({"a": np.arange(5), "b": np.array([0, 2, 4, 6, 8])})
    with pytest.raises(ValueError, match="read-only"):
        unpack_arrays(data)["a"][0] = 1


@pytest.mark.parametrize("cut", [0, 1, 2, -1, -4])
def test_what_was_cut_short_is_refused(cut: int) -> None:
    with pytest.raises(SchemaError, match="packed arrays"):
        unpack_arrays(pack_arrays({"a": np.arange(100)})[:cut])


def test_bytes_of_another_version_are_refused() -> None:
    with pytest.raises(SchemaError, match="another version"):
        unpack_arrays(b"\x09" + pack_arrays({})[1:])
