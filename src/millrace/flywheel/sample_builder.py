"""`SampleBuilder`: collects samples slate by slate and puts them together."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from millrace.base.actions import ActionSpace
from millrace.base.ids import NO_ID, Int64Array
from millrace.content.ngrams import MAX_TOKENS, UInt16Array
from millrace.content.text_index import TextIndex
from millrace.content.vectors import N_DIMS
from millrace.features.encoding.candidates import CandidateInputs, dense_fields, schema_hash
from millrace.features.encoding.viewers import PROFILE_DENSE, ViewerInputs
from millrace.flywheel.sample_set import SET_VERSION, Float32Array, SampleMeta, SampleSet, starts_of
from millrace.stores.profiles import MAX_LANGUAGES


class SampleBuilder:
    """Collects slates.

    Parameters
    ----------
    actions
        The known actions: label columns.
    source
        Where the samples are from, for people.
    """

    def __init__(self, actions: ActionSpace, source: str = "") -> None:
        self._actions = actions
        self._source = source
        self._viewers: list[ViewerInputs] = []
        self._now_ms: list[int] = []
        self._requests: list[int] = []
        self._candidates: list[CandidateInputs] = []
        self._labels: list[Float32Array] = []
        self._positions: list[Int64Array] = []
        self._weights: list[Float32Array] = []
        self._baselines: list[Float32Array] = []
        self._texts: dict[int, tuple[UInt16Array, npt.NDArray[np.int8]]] = {}

    def __len__(self) -> int:
        return len(self._viewers)

    def add(
        self,
        viewer: ViewerInputs,
        now_ms: int,
        candidates: CandidateInputs,
        labels: Float32Array,
        baseline: Float32Array,
        positions: Int64Array,
        *,
        request: int = NO_ID,
        weights: Float32Array | None = None,
    ) -> None:
        """Take a slate: one viewer's candidates at one moment."""
        self._viewers.append(viewer)
        self._now_ms.append(now_ms)
        self._requests.append(request)
        self._candidates.append(candidates)
        self._labels.append(labels)
        self._baselines.append(baseline)
        self._positions.append(positions)
        self._weights.append(np.ones(candidates.n, dtype=np.float32) if weights is None else weights)

    def read_texts(self, texts: TextIndex, post_ids: Int64Array) -> None:
        """Keep the texts of posts as they are now; a post's first text here counts.

        To be called while the state stands at the slate's cut: a text is never newer than the first sample that reads
        it.
        """
        wanted = np.array([post for post in np.unique(post_ids).tolist() if post not in self._texts], dtype=np.int64)
        if not len(wanted):
            return
        tokens, _ = texts.content(wanted)
        whole = texts.whole_vectors(wanted)
        for row, post in enumerate(wanted.tolist()):
            if tokens[row].any():  # of a post that has left the index its text may be found out later, or never
                self._texts[post] = (tokens[row], whole[row])

    def finished(self) -> SampleSet:
        """Return everything, as one set."""
        n = len(self._viewers)
        histories = [viewer.history for viewer in self._viewers]
        posts = np.array(sorted(self._texts), dtype=np.int64)
        n_actions = len(self._actions)
        n_dense = len(dense_fields(self._actions))
        meta = SampleMeta(
            version=SET_VERSION,
            schema=schema_hash(self._actions),
            actions=self._actions.names,
            dense=dense_fields(self._actions),
            from_ms=min(self._now_ms, default=0),
            until_ms=max(self._now_ms, default=-1) + 1,
            source=self._source,
        )
        return SampleSet(
            meta=meta,
            starts=starts_of(np.array([c.n for c in self._candidates], dtype=np.int64)),
            viewers=np.array([viewer.viewer_id for viewer in self._viewers], dtype=np.int64),
            now_ms=np.array(self._now_ms, dtype=np.int64),
            newest_ms=np.array([history.newest_ms for history in histories], dtype=np.int64),
            requests=np.array(self._requests, dtype=np.int64),
            history_starts=starts_of(np.array([history.n for history in histories], dtype=np.int64)),
            history_posts=_joined([h.post_ids for h in histories], np.int64),
            history_authors=_joined([h.author_ids for h in histories], np.int64),
            history_actions=_joined([h.actions for h in histories], np.uint64),
            history_dense=_joined([h.dense for h in histories], np.uint8, 3),
            history_surfaces=_joined([h.surfaces for h in histories], np.uint8),
            languages=np.array([viewer.languages for viewer in self._viewers], dtype=np.uint8).reshape(
                n, MAX_LANGUAGES
            ),
            bios=np.array([viewer.bio for viewer in self._viewers], dtype=np.uint16).reshape(n, MAX_TOKENS),
            profile_dense=np.array([viewer.dense for viewer in self._viewers], dtype=np.uint8).reshape(
                n, len(PROFILE_DENSE)
            ),
            post_ids=_joined([c.post_ids for c in self._candidates], np.int64),
            author_ids=_joined([c.author_ids for c in self._candidates], np.int64),
            row_languages=_joined([c.languages for c in self._candidates], np.uint8),
            dense=_joined([c.dense for c in self._candidates], np.uint8, n_dense),
            positions=_joined(self._positions, np.int16),
            labels=_joined(self._labels, np.float32, n_actions),
            weights=_joined(self._weights, np.float32),
            baseline=_joined(self._baselines, np.float32, n_actions),
            text_posts=posts,
            text_tokens=_joined([self._texts[p][0][None] for p in posts.tolist()], np.uint16, MAX_TOKENS),
            text_vectors=_joined([self._texts[p][1][None] for p in posts.tolist()], np.int8, N_DIMS),
        )


def _joined(parts: list[npt.NDArray[Any]], dtype: type, width: int = 0) -> npt.NDArray[Any]:
    if not parts:
        return np.empty((0, width) if width else 0, dtype=dtype)
    return np.concatenate(parts).astype(dtype, copy=False)
