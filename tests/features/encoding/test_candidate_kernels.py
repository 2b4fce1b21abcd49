"""The kernels write what the definitions of buckets say, to the last bit."""

import numpy as np

from millrace.features.encoding.buckets import log_buckets, minute_buckets, second_buckets
from millrace.features.encoding.candidate_kernels import LEVELS, Facts, write_facts, write_log_buckets

NOW_MS = 1_800_000_000_000


def written(amounts: np.ndarray) -> np.ndarray:
    out = np.full((len(amounts), 1), 77, dtype=np.uint8)
    write_log_buckets(amounts.astype(np.float32)[:, None].view(np.int32), LEVELS, out)
    return out[:, 0]


def test_amounts_become_the_buckets_of_the_definition() -> None:
    assert written(np.array([-3.0, -0.0, 0.0, 1.0, 3.0, 1e30])).tolist() == [0, 0, 0, 8, 16, 255]


def test_floats_on_either_side_of_every_boundary_fall_where_the_definition_says() -> None:
    least = LEVELS.least[1:-1].astype(np.int32)
    for bits in (least - 1, least, least + 1):
        amounts = bits.astype(np.int32).view(np.float32)
        assert (written(amounts) == log_buckets(amounts)).all()


def test_any_amount_falls_where_the_definition_says() -> None:
    amounts = np.exp2(np.random.default_rng(3).uniform(-20, 40, 20_000)).astype(np.float32)
    assert (written(amounts) == log_buckets(amounts)).all()


def test_facts_become_their_buckets_and_flags() -> None:
    facts = Facts(
        created_ms=np.array([NOW_MS - 60_000, NOW_MS - 600_000]),
        content_created_ms=np.array([NOW_MS - 6_000_000, 0]),
        is_in_network=np.array([True, False]),
        is_mutual=np.array([False, True]),
        is_verified=np.array([True, False]),
        is_sensitive=np.array([False, True]),
        n_proofs=np.array([3, 0], dtype=np.int32),
        affinity=np.array([0.5, 0.0], dtype=np.float32),
        followers=np.array([1_000, 0], dtype=np.int32),
        duration_ms=np.array([7_000, 0], dtype=np.int32),
        kinds=np.array([1, 3], dtype=np.int8),
        traits=np.array([1 | 8, 2], dtype=np.uint8),
    )
    out = np.empty((2, 20), dtype=np.uint8)
    kinds, traits = np.array([1, 2, 3], dtype=np.uint8), np.array([1, 2, 4, 8], dtype=np.uint8)
    write_facts(facts, NOW_MS, np.array([9, 8, 7], dtype=np.uint8), 32, kinds, traits, 8.0, out)
    age, share = minute_buckets(np.array([6_000_000, 600_000])), minute_buckets(np.array([60_000, 600_000]))
    proofs, affinity, followers = (log_buckets(np.array([of])) for of in (3, 4.0, 1_000))
    first = [age[0], share[0], 9, 8, 7, 32, 0, proofs[0], affinity[0], followers[0], 32, 32, 0, 0, 32, 0, 0, 32]
    assert out[0].tolist() == [*first, second_buckets(np.array([7_000]))[0], 0]
    assert out[1].tolist() == [age[1], share[1], 9, 8, 7, 0, 32, 0, 0, 0, 0, 0, 0, 32, 0, 32, 0, 0, 0, 32]
