"""`ViewerCache`: encoded viewers, kept until they act, or until others take their place.

What a ranker makes of a viewer depends on nothing that the time of a request changes
(`millrace.features.encoding.viewers.ViewerInputs`). The key is the version of those inputs and of the texts they name,
so that what is out of date is never found. One cache belongs to one version of a model.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict

from millrace.features.encoding.vector_inputs import NOTHING, VectorInputs
from millrace.features.encoding.viewers import ViewerInputs
from millrace.inference.assembler import TokensOf
from millrace.inference.content_cache import CacheCounts
from millrace.inference.runner import EncodedViewers


def viewer_version(viewer: ViewerInputs, tokens_of: TokensOf, vectors: VectorInputs = NOTHING) -> bytes:
    """Return 32 bytes that change with anything that a model reads of a viewer: the key of whatever it makes of them.

    Parameters
    ----------
    viewer
        The inputs, no more tokens than the model reads.
    tokens_of, vectors
        Where the texts and vectors of the history's posts are. They are no part of the inputs' own version: a text may
        be edited, deleted or forgotten while the viewer rests.
    """
    post_ids = viewer.history.post_ids
    digest = hashlib.blake2b(tokens_of(post_ids).tobytes(), digest_size=16)
    digest.update(vectors.key(post_ids).tobytes())
    digest.update(vectors.version())
    return viewer.version() + digest.digest()


class ViewerCache:
    """Encoded viewers by viewer and version of inputs; those not asked for longest are given up first.

    Of one viewer the newest version is kept, only.

    Parameters
    ----------
    max_bytes
        Of the kept arrays; 0 keeps nothing.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._kept: OrderedDict[int, tuple[bytes, EncodedViewers]] = OrderedDict()
        self._n_bytes = 0
        self._n_hits = 0
        self._n_misses = 0
        self._lock = threading.Lock()

    @property
    def counts(self) -> CacheCounts:
        """How it fares."""
        return CacheCounts(self._n_hits, self._n_misses, self._n_bytes, self._max_bytes)

    def find(self, viewer_id: int, version: bytes) -> EncodedViewers | None:
        """Return what was kept of a viewer in this version, or None."""
        with self._lock:
            kept = self._kept.get(viewer_id)
            if kept is None or kept[0] != version:
                self._n_misses += 1
                return None
            self._kept.move_to_end(viewer_id)
            self._n_hits += 1
            return kept[1]

    def keep(self, viewer_id: int, version: bytes, encoded: EncodedViewers) -> None:
        """Keep one viewer, in place of an older version; one larger than the whole cache is not kept."""
        with self._lock:
            older = self._kept.pop(viewer_id, None)
            if older is not None:
                self._n_bytes -= older[1].nbytes
            if encoded.nbytes > self._max_bytes:
                return
            self._kept[viewer_id] = version, encoded
            self._n_bytes += encoded.nbytes
            while self._n_bytes > self._max_bytes:
                _, (_, oldest) = self._kept.popitem(last=False)
                self._n_bytes -= oldest.nbytes
