"""`RankBatches`: requests to one ranker, of other shapes each, joined into few runs; answers are those of single runs.

Histories and candidates are padded to the longest of a run. Masks keep padded tokens out, and a score depends on its
own candidate alone, so padding changes the last bits at most. Padding is work all the same: a request that would be
mostly padding runs beside others of its size (`groups`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from millrace.inference.kept_viewers import KeptViewers
from millrace.inference.runner import EncodedViewers, Float32Array, RankRunner, Room, Viewers, joined

MAX_ROWS: Final = 16_384
"""Rows (viewers times candidates, or times tokens) of one run, which bounds its memory."""

_CACHED_ROWS: Final = 512
"""Candidates of one run beyond which what they become falls out of the processor's caches: more cost more each."""

_FREE_PADDING: Final = 32  # rows that cost about what a run of their own would


class RankJob(NamedTuple):
    """One request: viewers to encode, or encoded ones; and candidates to score, unless encoding is all.

    Attributes
    ----------
    viewers, encoded
        One of them is given.
    candidates
        Shape (viewers, n, scored_width); None asks for the encoded viewers.
    key
        Under which encoded viewers are kept; empty: not kept.
    """

    viewers: Viewers | None = None
    encoded: EncodedViewers | None = None
    candidates: Float32Array | None = None
    key: bytes = b""


class RankAnswer(NamedTuple):
    """What a job asked for: predictions where it had candidates, else the encoded viewers."""

    encoded: EncodedViewers | None = None
    predictions: Float32Array | None = None


class RankBatches:
    """Runs batches of jobs, one at a time; jobs have been checked (`check_viewers`, `check_candidates`).

    Parameters
    ----------
    runner
        Runs them.
    kept
        Where encoded viewers with keys are put.
    max_rows
        Rows of one run.
    """

    def __init__(self, runner: RankRunner, kept: KeptViewers, max_rows: int = MAX_ROWS) -> None:
        self._runner = runner
        self._kept = kept
        self._max_rows = max_rows
        self._room = Room()

    def run(self, jobs: list[RankJob]) -> list[RankAnswer]:
        """Return the answers, in the order of the jobs."""
        encoded = self._encode(jobs)
        predictions = self._score(jobs, encoded)
        return [
            RankAnswer(encoded=one) if job.candidates is None else RankAnswer(predictions=scores)
            for job, one, scores in zip(jobs, encoded, predictions, strict=True)
        ]

    def _encode(self, jobs: list[RankJob]) -> list[EncodedViewers]:
        found = {number: job.encoded for number, job in enumerate(jobs) if job.encoded is not None}
        first_by_key: dict[bytes, int] = {}
        wanted: list[tuple[int, Viewers]] = []
        same: list[tuple[int, int]] = []
        for number, job in enumerate(jobs):
            if job.encoded is None and job.viewers is not None:
                first = first_by_key.setdefault(job.key, number) if job.key else number
                if first == number:
                    wanted.append((number, job.viewers))
                else:
                    same.append((number, first))
        sizes = [viewers.mask.shape for _, viewers in wanted]
        for group in groups([n for _, n in sizes], [b for b, _ in sizes], self._max_rows):
            alike = [wanted[i] for i in group]
            whole = self._runner.encode(joined_viewers([viewers for _, viewers in alike]))
            for (number, _), one in zip(alike, split_encoded(whole, [v for _, v in alike]), strict=True):
                found[number] = one
                if jobs[number].key:
                    self._kept.put(jobs[number].key, one)
        for number, first in same:
            found[number] = found[first]
        return [found[number] for number in range(len(jobs))]

    def _score(self, jobs: list[RankJob], encoded: list[EncodedViewers]) -> list[Float32Array | None]:
        scores: list[Float32Array | None] = [None] * len(jobs)
        wanted = [(number, job.candidates) for number, job in enumerate(jobs) if job.candidates is not None]
        sizes = [candidates.shape for _, candidates in wanted]
        max_rows = min(self._max_rows, _CACHED_ROWS)
        for group in groups([size[1] for size in sizes], [size[0] for size in sizes], max_rows):
            alike = [wanted[i] for i in group]
            whole = self._runner.score(
                joined_candidates([candidates for _, candidates in alike]),
                joined([encoded[number] for number, _ in alike], self._room),
            )
            row = 0
            for number, candidates in alike:
                n_viewers, n = candidates.shape[:2]
                scores[number] = whole[row : row + n_viewers, :n]
                row += n_viewers
        return scores


def groups(lengths: Sequence[int], widths: Sequence[int], max_rows: int) -> list[list[int]]:
    """Return which requests run together: shortest first, none together with much padding.

    Parameters
    ----------
    lengths
        Of the axis that is padded.
    widths
        Rows of that length that each request has.
    max_rows
        Of a group with its padding; a request that is larger by itself is a group of its own.
    """
    found: list[list[int]] = []
    n_rows = n_own = 0  # rows of the group's requests; cells of them without padding
    for at in sorted(range(len(lengths)), key=lengths.__getitem__):
        rows, own = n_rows + widths[at], n_own + widths[at] * lengths[at]
        padded = rows * lengths[at]
        if found and padded <= max_rows and padded - own <= max(own // 4, _FREE_PADDING):
            found[-1].append(at)
            n_rows, n_own = rows, own
        else:
            found.append([at])
            n_rows, n_own = widths[at], widths[at] * lengths[at]
    return found


def joined_viewers(many: list[Viewers]) -> Viewers:
    """Return several viewers as one batch, shorter histories padded in front with masked zeros."""
    if len(many) == 1:
        return many[0]
    n, n_tokens = sum(len(one.profile) for one in many), max(one.history.shape[1] for one in many)
    history = np.zeros((n, n_tokens, many[0].history.shape[2]), dtype=np.float32)
    mask = np.zeros((n, n_tokens + 1), dtype=np.bool_)
    row = 0
    for one in many:
        rows, tokens = slice(row, row + len(one.profile)), slice(n_tokens - one.history.shape[1], None)
        history[rows, tokens] = one.history
        mask[rows, 0] = one.mask[:, 0]
        mask[rows, 1:][:, tokens] = one.mask[:, 1:]
        row += len(one.profile)
    return Viewers(np.concatenate([one.profile for one in many]), history, mask)


def joined_candidates(many: list[Float32Array]) -> Float32Array:
    """Return several requests' candidates as one batch, fewer ones padded behind with zeros."""
    if len(many) == 1:
        return many[0]
    n = max(one.shape[1] for one in many)
    whole = np.zeros((sum(len(one) for one in many), n, many[0].shape[2]), dtype=np.float32)
    row = 0
    for one in many:
        whole[row : row + len(one), : one.shape[1]] = one
        row += len(one)
    return whole


def split_encoded(whole: EncodedViewers, many: list[Viewers]) -> list[EncodedViewers]:
    """Return each one's encoding out of that of `joined_viewers`: without padding, in arrays of its own."""
    if len(many) == 1:
        return [whole]
    found = []
    row, n_tokens = 0, whole.mask.shape[1]
    for one in many:
        rows = slice(row, row + len(one.profile))
        tokens = np.r_[0, n_tokens - one.history.shape[1] : n_tokens]  # the profile, then the history at the end
        keys, values, mask = whole.keys[rows], whole.values[rows], whole.mask[rows]
        found.append(
            EncodedViewers(
                np.take(keys, tokens, axis=3), np.take(values, tokens, axis=3), np.take(mask, tokens, axis=1)
            )
        )
        row += len(one.profile)
    return found
