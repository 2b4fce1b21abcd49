"""What a candidate's facts become in bytes, in one pass over thousands of rows.

`millrace.features.encoding.buckets` says what a bucket is; tests hold the two against each other.
"""

# Kernels: Numba knows one kind of 64-bit integer where NumPy's types know two.
# mypy: disable-error-code="no-any-return,assignment"

from __future__ import annotations

import math
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from millrace.base.ids import Int64Array
from millrace.base.int_table import Int32Array
from millrace.base.kernels import njit
from millrace.features.encoding.buckets import BUCKETS_PER_DOUBLING, UInt8Array, log_buckets

BoolArray = npt.NDArray[np.bool_]
Float32Array = npt.NDArray[np.float32]

_MINUTE_MS: Final = 60_000.0
_SECOND_MS: Final = 1_000.0
_LAST: Final = 255
_PREFIX_BITS: Final = 19  # floats that agree above these are within a sixteenth: less than a bucket
_N_PREFIXES: Final = 1 << 12
_NEAR: Final = 64


class Levels(NamedTuple):
    """Where buckets of float32 begin, as the bits of the floats: of positive ones, these are in the same order.

    Attributes
    ----------
    least
        Shape (257,), int32: the least number of each bucket; behind the last one, more than any.
    starts
        Shape (4096,), uint8: the bucket of the least number with these highest bits.
    """

    least: Int32Array
    starts: UInt8Array


class Facts(NamedTuple):
    """Columns of candidates that become a byte each, shape (n,)."""

    created_ms: Int64Array
    content_created_ms: Int64Array
    is_in_network: BoolArray
    is_mutual: BoolArray
    is_verified: BoolArray
    is_sensitive: BoolArray
    n_proofs: npt.NDArray[Any]
    affinity: Float32Array
    followers: npt.NDArray[Any]
    duration_ms: npt.NDArray[Any]
    kinds: npt.NDArray[Any]
    traits: UInt8Array


def _found_levels() -> Levels:
    """Ask `log_buckets` itself where its buckets begin: which float rounds up, no formula tells to the last bit."""
    buckets = np.arange(1, _LAST + 1)
    about = (2.0 ** ((buckets - 0.5) / BUCKETS_PER_DOUBLING) - 1.0).astype(np.float32)
    near = about.view(np.int32)[:, None] + np.arange(-_NEAR, _NEAR, dtype=np.int32)
    is_in = log_buckets(near.view(np.float32)) >= buckets[:, None]
    first = np.take_along_axis(near, is_in.argmax(axis=1)[:, None], axis=1)[:, 0]
    least = np.concatenate([[0], first, [np.iinfo(np.int32).max]]).astype(np.int32)
    prefixes = np.arange(_N_PREFIXES, dtype=np.int32) << np.int32(_PREFIX_BITS)
    return Levels(least, (np.searchsorted(least, prefixes, side="right") - 1).astype(np.uint8))


LEVELS: Final = _found_levels()


@njit(cache=True)
def write_log_buckets(amounts: Int32Array, levels: Levels, out: UInt8Array) -> None:
    """Write `log_buckets` of float32 amounts, given as their bits, shape (n, k), to ``out``."""
    for i in range(amounts.shape[0]):
        for j in range(amounts.shape[1]):
            bits = max(amounts[i, j], np.int32(0))  # negative numbers have the highest bit
            bucket = np.int64(levels.starts[bits >> _PREFIX_BITS])
            # No branch: which way it went, nobody could foretell.
            out[i, j] = bucket + np.int64(bits >= levels.least[bucket + 1])


@njit(cache=True)
def write_facts(
    facts: Facts,
    now_ms: int,
    alike: UInt8Array,
    yes: int,
    flag_of_kind: UInt8Array,
    flag_of_trait: UInt8Array,
    affinity_scale: float,
    out: UInt8Array,
) -> None:
    """Write the bytes of `millrace.features.encoding.candidates.SCALARS`, in their order.

    Parameters
    ----------
    facts
        The candidates.
    now_ms
        The time of the request.
    alike
        What is the same for all: ``since_newest``, ``hour_sin``, ``hour_cos``.
    yes
        A flag that is set.
    flag_of_kind, flag_of_trait
        Which kinds of post and which traits have a flag, in order.
    affinity_scale
        Times which an affinity becomes a bucket.
    out
        Shape (n, n_fields) or wider.
    """
    for i in range(len(facts.created_ms)):
        created_ms = facts.created_ms[i]
        content_ms = facts.content_created_ms[i]
        row = out[i]
        row[0] = _bucket((now_ms - (content_ms if content_ms > 0 else created_ms)) / _MINUTE_MS)
        row[1] = _bucket((now_ms - created_ms) / _MINUTE_MS)
        row[2], row[3], row[4] = alike[0], alike[1], alike[2]
        row[5] = yes if facts.is_in_network[i] else 0
        row[6] = yes if facts.is_mutual[i] else 0
        row[7] = _bucket(float(facts.n_proofs[i]))
        row[8] = _bucket(float(np.float32(facts.affinity[i] * np.float32(affinity_scale))))
        row[9] = _bucket(float(facts.followers[i]))
        row[10] = yes if facts.is_verified[i] else 0
        at = 11
        for kind in flag_of_kind:
            row[at] = yes if facts.kinds[i] == kind else 0
            at += 1
        for trait in flag_of_trait:
            row[at] = yes if facts.traits[i] & trait else 0
            at += 1
        row[at] = _bucket(facts.duration_ms[i] / _SECOND_MS)
        row[at + 1] = yes if facts.is_sensitive[i] else 0


@njit(cache=True)
def _bucket(amount: float) -> int:
    if amount <= 0.0:
        return 0
    return int(min(np.rint(math.log2(1.0 + amount) * BUCKETS_PER_DOUBLING), 255.0))
