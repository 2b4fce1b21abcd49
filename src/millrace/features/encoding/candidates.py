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
from millrace.features.encoding.buckets import UInt8Array, log_buckets, minute_buckets, second_buckets
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

_YES: Final = 32
_HALF: Final = 128
_DAY_MS: Final = 86_400_000
_REPLY: Final = 1
_REPOST: Final = 2
_QUOTE: Final = 3
_TRAITS: Final = (HAS_IMAGE, HAS_VIDEO, HAS_AUDIO, HAS_LINK)
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
        authors = batch[AUTHOR_ID]
        post_counts = np.add(batch[POST_COUNTS], batch[OBSERVED_COUNTS])
        n_counters = post_counts.shape[1]
        dense = np.empty((batch.n, len(SCALARS) + 2 * n_counters), dtype=np.uint8)
        for i, column in enumerate(self._scalars(batch, now_ms, newest_ms)):
            dense[:, i] = column
        # An author has many candidates: each author's counters become buckets once.
        dense[:, len(SCALARS) : len(SCALARS) + n_counters] = log_buckets(post_counts)
        _, firsts, place = np.unique(authors, return_index=True, return_inverse=True)
        dense[:, len(SCALARS) + n_counters :] = log_buckets(batch[AUTHOR_COUNTS][firsts])[place]
        return CandidateInputs(batch[CONTENT_ID], authors, self._languages.rows(batch[LANGUAGE]), dense)

    def _scalars(self, batch: CandidateBatch, now_ms: int, newest_ms: int) -> list[UInt8Array | int]:
        created_ms = batch[CONTENT_CREATED_MS]
        created_ms = np.where(created_ms > 0, created_ms, batch[CREATED_MS])
        angle = 2.0 * np.pi * (now_ms % _DAY_MS) / _DAY_MS
        kind, sensitive = batch[KIND], batch[IS_SENSITIVE]
        affinity = batch[AUTHOR_AFFINITY] * np.float32(_AFFINITY_SCALE)
        _, traits = self._texts.content(batch[CONTENT_ID])
        since_ms = np.array([now_ms - newest_ms if newest_ms else 2 * _DAY_MS * 365])
        return [
            minute_buckets(now_ms - created_ms),
            minute_buckets(now_ms - batch[CREATED_MS]),
            int(minute_buckets(since_ms)[0]),
            round(_HALF + 100 * np.sin(angle)),
            round(_HALF + 100 * np.cos(angle)),
            _flag(batch[IS_IN_NETWORK]),
            _flag(batch[IS_MUTUAL]),
            log_buckets(batch[N_PROOFS]),
            log_buckets(affinity),
            log_buckets(batch[AUTHOR_FOLLOWERS]),
            _flag(self._profiles.is_verified(batch[AUTHOR_ID])),
            _flag(kind == _REPLY),
            _flag(kind == _REPOST),
            _flag(kind == _QUOTE),
            *(_flag(traits & trait != 0) for trait in _TRAITS),
            second_buckets(batch[DURATION_MS]),
            _flag(sensitive),
        ]


def _flag(flags: npt.NDArray[np.bool_]) -> UInt8Array:
    return flags.astype(np.uint8) * np.uint8(_YES)
