"""How long texts are, in characters (code points) and words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from millrace.simulator.marginals.collected import UNSPACED
from millrace.simulator.marginals.statistics import Int64Array, Marginals, spread


def lengths(kind: str, n_chars: Int64Array, n_words: Int64Array, language: str = "") -> Marginals:
    """Return the marginals of texts that are not empty; words only where the language separates them."""
    written = n_chars > 0
    if not written.any():
        return {}
    name = f"{kind} text, {language}" if language else f"{kind} text"
    found: Marginals = {f"{name}, characters": spread(n_chars[written])}
    if language not in UNSPACED:
        found[f"{name}, words"] = spread(n_words[written])
    return found


def lengths_of(kind: str, texts: Sequence[str], language: str = "") -> Marginals:
    """Return the marginals of these texts."""
    n_chars = np.fromiter(map(len, texts), dtype=np.int64, count=len(texts))
    n_words = np.fromiter((len(text.split()) for text in texts), dtype=np.int64, count=len(texts))
    return lengths(kind, n_chars, n_words, language)
