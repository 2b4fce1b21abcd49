"""`CandidateInputs`: what models read of each candidate, the time of the request included."""

from __future__ import annotations

import hashlib
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from millrace.base.actions import ActionSpace
from millrace.base.ids import Int64Array
from millrace.content.text_index import TextIndex
from millrace.content.text_kernels import HAS_AUDIO, HAS_IMAGE, HAS_LINK, HAS_VIDEO
from millrace.features.columns import (
    AUTHOR_AFFINITY,
    AUTHOR_COUNTS,
    AUTHOR_FOLLOWERS,
    AUTHOR_ID,
    CONTENT_CREATED_MS,
    CONTENT_ID,
    CREATED_MS,
    DURATION_MS,
    IS_IN_NETWORK,
    IS_MUTUAL,
    IS_SENSITIVE,
    KIND,
    LANGUAGE,
    N_PROOFS,
    OBSERVED_COUNTS,
    POST_COUNTS,
    POST_ID,
)
from millrace.features.encoding.buckets import UInt8Array, minute_buckets
from millrace.features.encoding.candidate_kernels import LEVELS, Facts, write_facts, write_log_buckets
from millrace.features.encoding.languages import LanguageRows
from millrace.pipeline.batch import CandidateBatch
from millrace.pipeline.column import AnyColumn
from millrace.stores.profiles import ProfileStore

SCHEMA_VERSION: Final = 3
"""Raised when a field below begins to mean something else."""

READS: Final[tuple[AnyColumn, ...]] = (
    POST_ID,
    CONTENT_ID,
    AUTHOR_ID,
    CREATED_MS,
    CONTENT_CREATED_MS,
    KIND,
    DURATION_MS,
    IS_SENSITIVE,
    LANGUAGE,
    AUTHOR_FOLLOWERS,
    IS_IN_NETWORK,
    IS_MUTUAL,
    N_PROOFS,
    AUTHOR_AFFINITY,
    POST_COUNTS,
    AUTHOR_COUNTS,
    OBSERVED_COUNTS,
)
"""The columns that `CandidateEncoder` reads."""

SCALARS: Final = (
    "age",
    "share_age",
    "since_newest",
    "hour_sin",
    "hour_cos",
    "in_network",
    "mutual",
    "n_proofs",
    "affinity",
    "author_followers",
    "author_verified",
    "reply",
    "repost",
    "quote",
    "image",
    "video",
    "audio",
    "link",
    "duration",
    "sensitive",
)
"""The dense fields that are not counters, a byte each."""

_FIELDS: Final[dict[AnyColumn, tuple[str, ...]]] = {
    IS_IN_NETWORK: ("in_network",),
    IS_MUTUAL: ("mutual",),
    N_PROOFS: ("n_proofs",),
    AUTHOR_AFFINITY: ("affinity",),
    AUTHOR_FOLLOWERS: ("author_followers",),
}

_YES: Final = 32
_HALF: Final = 128
_DAY_MS: Final = 86_400_000
_KINDS: Final = np.array([1, 2, 3], dtype=np.uint8)  # reply, repost, quote
_TRAITS: Final = np.array([HAS_IMAGE, HAS_VIDEO, HAS_AUDIO, HAS_LINK], dtype=np.uint8)
_AFFINITY_SCALE: Final = 8.0


class CandidateInputs(NamedTuple):
    """Candidates, encoded; row by row, shape (n, ...).

    Attributes
    ----------
    post_ids, author_ids
        int64: the content (of a repost: the post that it carries), and who wrote or reposted it.
    languages
        uint8 rows (`LanguageRows`).
    dense
        Shape (n, n_fields), uint8: `SCALARS`, then the counters of the post and those of its author (per action, and
        impressions last), in buckets.
    """

    post_ids: Int64Array
    author_ids: Int64Array
    languages: UInt8Array
    dense: UInt8Array

    @property
    def n(self) -> int:
        """How many candidates."""
        return len(self.post_ids)

    def take(self, rows: npt.NDArray[np.intp]) -> CandidateInputs:
        """Return some of the rows."""
        return CandidateInputs(self.post_ids[rows], self.author_ids[rows], self.languages[rows], self.dense[rows])

    def joined(self, more: CandidateInputs) -> CandidateInputs:
        """Return these rows, and more behind them."""
        return CandidateInputs(
            np.concatenate([self.post_ids, more.post_ids]),
            np.concatenate([self.author_ids, more.author_ids]),
            np.concatenate([self.languages, more.languages]),
            np.concatenate([self.dense, more.dense]),
        )


def dense_fields(actions: ActionSpace) -> tuple[str, ...]:
    """Return the names of the dense fields, in order."""
    columns = (*actions.names, "impression")
    return (*SCALARS, *(f"post:{name}" for name in columns), *(f"author:{name}" for name in columns))


def fields_of(column: AnyColumn, actions: ActionSpace) -> tuple[str, ...] | None:
    """Return the dense fields that are made of a column; None for one that says which post it is, or of what."""
    names = (*actions.names, "impression")
    if column in (POST_COUNTS, OBSERVED_COUNTS):
        return tuple(f"post:{name}" for name in names)
    if column == AUTHOR_COUNTS:
        return tuple(f"author:{name}" for name in names)
    return _FIELDS.get(column)


def schema_hash(actions: ActionSpace) -> str:
    """Return a hash of all that a model's inputs depend on: equal hashes, equal meaning of every byte."""
    from millrace.content.ngrams import MAX_TOKENS, N_TOKEN_ROWS
    from millrace.features.encoding.viewers import PROFILE_DENSE

    parts = (SCHEMA_VERSION, dense_fields(actions), PROFILE_DENSE, MAX_TOKENS, N_TOKEN_ROWS, actions.names)
    return hashlib.blake2b(repr(parts).encode(), digest_size=8).hexdigest()


class CandidateEncoder:
    """Encodes hydrated candidates.

    Parameters
    ----------
    texts, profiles, languages
        Tell what is attached to posts, who is verified, and which language a code is.
    """

    def __init__(self, texts: TextIndex, profiles: ProfileStore, languages: LanguageRows) -> None:
        self._texts = texts
        self._profiles = profiles
        self._languages = languages

    def encode(self, batch: CandidateBatch, now_ms: int, newest_ms: int) -> CandidateInputs:
        """Return the inputs of a batch that has the columns of `READS`.

        Parameters
        ----------
        batch
            The candidates.
        now_ms
            The time of the request.
        newest_ms
            Time of the newest action in the viewer's history; 0 for none.
        """
        counts = (np.add(batch[POST_COUNTS], batch[OBSERVED_COUNTS]), batch[AUTHOR_COUNTS])
        dense = np.empty((batch.n, len(SCALARS) + sum(of.shape[1] for of in counts)), dtype=np.uint8)
        write_facts(
            self._facts(batch),
            now_ms,
            _alike(now_ms, newest_ms),
            _YES,
            _KINDS,
            _TRAITS,
            _AFFINITY_SCALE,
            dense,
        )
        at = len(SCALARS)
        for of in counts:
            amounts = np.ascontiguousarray(of, dtype=np.float32).view(np.int32)
            write_log_buckets(amounts, LEVELS, dense[:, at : at + of.shape[1]])
            at += of.shape[1]
        return CandidateInputs(batch[CONTENT_ID], batch[AUTHOR_ID], self._languages.rows(batch[LANGUAGE]), dense)

    def _facts(self, batch: CandidateBatch) -> Facts:
        return Facts(
            created_ms=batch[CREATED_MS],
            content_created_ms=batch[CONTENT_CREATED_MS],
            is_in_network=batch[IS_IN_NETWORK],
            is_mutual=batch[IS_MUTUAL],
            is_verified=self._profiles.is_verified(batch[AUTHOR_ID]),
            is_sensitive=batch[IS_SENSITIVE],
            n_proofs=batch[N_PROOFS],
            affinity=batch[AUTHOR_AFFINITY],
            followers=batch[AUTHOR_FOLLOWERS],
            duration_ms=batch[DURATION_MS],
            kinds=batch[KIND],
            traits=self._texts.traits(batch[CONTENT_ID]),
        )


def _alike(now_ms: int, newest_ms: int) -> UInt8Array:
    """Return what all candidates of a request have in common, in the order of `SCALARS`."""
    angle = 2.0 * np.pi * (now_ms % _DAY_MS) / _DAY_MS
    since_ms = np.array([now_ms - newest_ms if newest_ms else 2 * _DAY_MS * 365])
    hours = [round(_HALF + 100 * np.sin(angle)), round(_HALF + 100 * np.cos(angle))]
    return np.array([minute_buckets(since_ms)[0], *hours], dtype=np.uint8)
