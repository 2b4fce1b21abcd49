"""`WantedTopics`: which topics a consumer reads, the same rule for every log."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt


class WantedTopics:
    """Topics by name.

    Parameters
    ----------
    topics, without
        Those wanted, None for all; and those that are not, even so.
    """

    def __init__(self, topics: Iterable[str] | None, without: Iterable[str]) -> None:
        self._topics = None if topics is None else frozenset(topics)
        self._without = frozenset(without)

    def __contains__(self, name: str) -> bool:
        """Return whether a topic is wanted."""
        return (self._topics is None or name in self._topics) and name not in self._without

    def mask(self, names: Sequence[str]) -> npt.NDArray[np.bool_]:
        """Return which of some topics are wanted, shape (n,)."""
        return np.array([name in self for name in names], dtype=np.bool_)
