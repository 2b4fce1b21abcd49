"""Content vectors of users."""

import numpy as np

from millrace.features.user_content import mean_content


def test_a_users_content_is_the_mean_direction_of_what_is_theirs() -> None:
    vectors = np.zeros((4, 64), dtype=np.int8)
    vectors[0, 0] = vectors[1, 1] = vectors[2, 2] = vectors[3, 3] = 127
    content = mean_content(np.array([3, 5, 8]), np.array([5, 5, 3, 99]), vectors)
    assert content.dtype == np.float32
    assert content[0, 2] == 1.0
    assert np.allclose(content[1, :2], np.sqrt(0.5))
    assert not content[2].any()
    assert mean_content(np.empty(0, dtype=np.int64), np.array([5]), vectors[:1]).shape == (0, 64)
