"""Sixteen bits for a prediction: kernel and reference agree, and little is lost."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from millrace.mixer.trace_codes import PRECISION, from_codes, to_codes, to_codes_reference

MATRICES = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 12), st.integers(1, 5)),
    elements=st.floats(0, 2.0**127, width=32) | st.floats(0, 1, width=32) | st.just(0.0),
)


@given(MATRICES, st.data())
def test_kernel_and_reference_agree_on_any_rows_and_columns(matrix: np.ndarray, data: st.DataObject) -> None:
    rows = np.array(data.draw(st.lists(st.integers(0, matrix.shape[0] - 1))), dtype=np.int64)
    columns = np.array(data.draw(st.lists(st.integers(0, matrix.shape[1] - 1), unique=True)), dtype=np.int64)
    codes, bases = to_codes(matrix, rows, columns)
    expected_codes, expected_bases = to_codes_reference(matrix, rows, columns)
    np.testing.assert_array_equal(codes, expected_codes)
    np.testing.assert_array_equal(bases, expected_bases)


@given(MATRICES)
def test_what_comes_back_is_close_and_what_is_far_below_the_largest_becomes_nothing(matrix: np.ndarray) -> None:
    rows, columns = (np.arange(n) for n in matrix.shape)
    back = from_codes(*to_codes(matrix, rows, columns)).astype(np.float64)
    exact = matrix.astype(np.float64)
    is_kept = (exact > exact.max(axis=0) * 2.0**-30) & (exact >= np.finfo(np.float32).tiny)
    np.testing.assert_allclose(back[is_kept], exact[is_kept], rtol=PRECISION)
    assert (np.abs(back - exact)[~is_kept] <= np.maximum(exact.max(axis=0) * 2.0**-30, 2e-38).max()).all()
    assert (back[exact == 0] == 0).all()
