"""`TimedPage`: one large page out of samples, with what a model asks for beside it: what scoring is timed on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from millrace.base.ids import Int64Array
from millrace.content.ngrams import UInt16Array
from millrace.features.encoding.candidates import CandidateInputs
from millrace.features.encoding.vector_inputs import Int8Array
from millrace.features.encoding.viewers import ViewerInputs
from millrace.flywheel.sample_set import SampleSet
from millrace.flywheel.sample_viewers import viewer_of


@dataclass(frozen=True, slots=True)
class TimedPage:
    """A viewer and candidates.

    Attributes
    ----------
    samples
        Where they are taken from.
    viewer
        The one of the slates with the longest history.
    candidates
        Those of all the slates, over and over until they are enough.
    """

    samples: SampleSet
    viewer: ViewerInputs
    candidates: CandidateInputs

    @classmethod
    def of(cls, samples: SampleSet, slates: Int64Array, n_candidates: int) -> TimedPage:
        """Return a page of so many candidates of some slates."""
        lengths = np.diff(samples.history_starts)[slates]
        rows = np.resize(samples.rows_of(slates), n_candidates)
        candidates = CandidateInputs(
            np.asarray(samples.post_ids[rows]),
            np.asarray(samples.author_ids[rows]),
            np.asarray(samples.row_languages[rows]),
            np.asarray(samples.dense[rows]),
        )
        return cls(samples, viewer_of(samples, int(slates[np.argmax(lengths)])), candidates)

    def tokens_of(self, post_ids: Int64Array) -> UInt16Array:
        """Return the texts of posts as tokens, zeros where there is none."""
        at = self.samples.texts_of(post_ids)
        tokens = np.asarray(self.samples.text_tokens[np.maximum(at, 0)])
        tokens[at < 0] = 0
        return tokens

    def texts_of(self, post_ids: Int64Array) -> Int8Array:
        """Return the text vectors of posts, zeros where there is none."""
        at = self.samples.texts_of(post_ids)
        return np.where((at >= 0)[:, None], self.samples.text_vectors[np.maximum(at, 0)], np.int8(0))
