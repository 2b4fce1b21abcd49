"""`KeptViewers`: encoded viewers of one model version by key, the longest unused let go first, bounded in bytes."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from typing import Final

from millrace.inference.runner import EncodedViewers, Viewers

KEY_BYTES: Final = 16
MAX_BYTES: Final = 256 << 20


def viewers_key(viewers: Viewers) -> bytes:
    """Return a digest of all that an encoder reads of viewers: equal viewers have one key, changed ones another."""
    digest = hashlib.blake2b(digest_size=KEY_BYTES)
    for array in viewers:
        digest.update(repr((array.dtype.str, array.shape)).encode())
        digest.update(array.tobytes())
    return digest.digest()


class KeptViewers:
    """Keeps encoded viewers; any thread may ask.

    Parameters
    ----------
    max_bytes
        Of all arrays together; what is larger than that by itself is not kept.
    """

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._by_key: OrderedDict[bytes, EncodedViewers] = OrderedDict()
        self.n_bytes = 0
        self.n_hits = 0
        self.n_misses = 0

    def __len__(self) -> int:
        return len(self._by_key)

    def get(self, key: bytes) -> EncodedViewers | None:
        """Return what is kept under a key, which is then the last to be let go."""
        with self._lock:
            found = self._by_key.get(key)
            if found is None:
                self.n_misses += 1
                return None
            self.n_hits += 1
            self._by_key.move_to_end(key)
            return found

    def put(self, key: bytes, encoded: EncodedViewers) -> None:
        """Keep encoded viewers, whose arrays must be their own (`EncodedViewers.take`)."""
        if encoded.nbytes > self._max_bytes:
            return
        with self._lock:
            before = self._by_key.pop(key, None)
            self.n_bytes += encoded.nbytes - (0 if before is None else before.nbytes)
            self._by_key[key] = encoded
            while self.n_bytes > self._max_bytes:
                _, oldest = self._by_key.popitem(last=False)
                self.n_bytes -= oldest.nbytes
