"""`SampleVectors`: semantic ids and social vectors of a `SampleSet`, looked up for its batches."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from millrace.base.errors import SchemaError
from millrace.base.ids import Int64Array
from millrace.content.semantic_ids import table_rows
from millrace.features.encoding.vector_inputs import Float32Array, VectorsOf, masked
from millrace.features.encoding.vector_sources import VectorSources
from millrace.flywheel.sample_set import SampleSet
from millrace.models.config import RankerConfig, TrunkConfig


class SampleVectors:
    """Gives what a model reads of the samples' posts and users beside what the samples hold.

    Parameters
    ----------
    samples
        Whose posts' text vectors become codes, once.
    sources
        Codebooks, and social vectors: of each user those of before the slate.
    media_of
        Media vectors of posts, by post id; None: there are none, and their place is masked.
    """

    def __init__(self, samples: SampleSet, sources: VectorSources, media_of: VectorsOf | None = None) -> None:
        self.sources = sources
        self._media_of = media_of
        books = sources.codebooks
        rows = np.zeros((len(samples.text_posts), 0), dtype=np.int64)
        if books is not None:
            rows = table_rows(books.encode(np.asarray(samples.text_vectors)), books.settings.n_codes)
        self._sid_rows: npt.NDArray[np.int64] = rows

    def check(self, config: RankerConfig) -> None:
        """Raise `SchemaError` unless these are the artefacts that a model was made for."""
        read = (config.semantic_ids, config.social)
        given = (self.sources.semantic_ids_digest, self.sources.social_digest)
        if read != given:
            raise SchemaError(
                "codebooks and social encoder",
                value=given,
                problem=f"not those that the model reads, {read}",
                remedy="give the artefacts that it was trained with: they lie in its folder",
            )

    def semantic_ids(self, texts: npt.NDArray[np.intp]) -> npt.NDArray[np.int64]:
        """Return rows of the table of semantic ids, shape (n, n_levels), for rows of the samples' table of texts."""
        rows: npt.NDArray[np.int64] = self._sid_rows[texts]
        return rows

    def social(self, user_ids: Int64Array, now_ms: Int64Array) -> Float32Array:
        """Return users' vectors as they were at some times, shape (n, social width); zeros for who had none."""
        history = self.sources.social_history
        if history is None:
            return np.zeros((len(user_ids), 0), dtype=np.float32)
        return history.vectors(user_ids, now_ms)[0]

    def media(self, post_ids: Int64Array, width: int) -> Float32Array:
        """Return media vectors and which posts have one, shape (n, width + 1)."""
        return masked(self._media_of, post_ids, width)


def sized(trunk: TrunkConfig, sources: VectorSources) -> TrunkConfig:
    """Return a trunk with the places that some artefacts need, no more and no less."""
    from msgspec.structs import replace

    books = sources.codebooks
    sizes = {} if books is None else {"n_sid_codes": books.settings.n_codes}
    tables = replace(trunk.tables, n_sid_levels=books.settings.n_levels if books else 0, **sizes)
    return replace(trunk, tables=tables, social_width=sources.social_width)
