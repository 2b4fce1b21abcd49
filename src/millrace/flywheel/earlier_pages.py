"""`EarlierPages`: which pages of before a round learns from again, which stay unlearned, and which of these calibrate.

A page that has judged is on one side for good. Judged ones stay unlearned from a moment on that only moves forward
(`Decision.trusted_from_ms`), whatever is withdrawn, flagged or erased meanwhile: what once left them may have been
learned from. Of those that stay, half calibrate and choose, told by a hash of the page: by their places among the
newest, every odd shift would swap the halves, and what calibrated the ranker that serves would judge the next one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from millrace.base.ids import Int64Array
from millrace.flywheel.decisions import Decision
from millrace.flywheel.join_rules import draw
from millrace.flywheel.learning_config import LearningConfig
from millrace.flywheel.round_pages import drawn_older, is_within, judged_spans, untrusted_spans

BoolArray = npt.NDArray[np.bool_]


class EarlierPages:
    """Parts the pages from before a round.

    Parameters
    ----------
    decisions
        All that were made, oldest first.
    withdrawn
        Rankers that were taken back.
    until_ms
        Where the round's own pages begin.
    config
        How many there may be of each kind.
    rng
        Of those that are drawn.

    Attributes
    ----------
    trusted_from_ms
        Judged pages from here on are not learned from; known once `keep` has seen the times.
    """

    def __init__(
        self,
        decisions: Sequence[Decision],
        withdrawn: frozenset[str],
        until_ms: int,
        config: LearningConfig,
        rng: np.random.Generator,
    ) -> None:
        self._judged, self._untrusted = judged_spans(decisions), untrusted_spans(decisions, withdrawn)
        self._until_ms = until_ms
        self._config = config
        self._rng = rng
        self.trusted_from_ms = max((each.trusted_from_ms for each in decisions if each.verdict != "void"), default=0)

    def keep(self, now_ms: Int64Array) -> Int64Array:
        """Return the places of the pages that a round reads, ascending, by the times at which pages were made."""
        is_sound = ~is_within(now_ms, self._untrusted)
        newest = np.sort(now_ms[is_sound & is_within(now_ms, self._judged)])[-self._config.max_trusted_pages :]
        if len(newest):
            self.trusted_from_ms = max(self.trusted_from_ms, int(newest[0]))
        is_trusted = self.is_trusted(now_ms)
        others = np.flatnonzero(is_sound & ~is_trusted)
        drawn = others[drawn_older(now_ms[others], self._until_ms, self._config, self._rng)]
        return np.union1d(np.flatnonzero(is_trusted), drawn)

    def is_trusted(self, now_ms: Int64Array) -> BoolArray:
        """Tell which pages were judged on and are not learned from yet, shape (n,)."""
        is_sound = ~is_within(now_ms, self._untrusted)
        found: BoolArray = is_sound & is_within(now_ms, self._judged) & (now_ms >= self.trusted_from_ms)
        return found


def calibrates(viewers: Int64Array, now_ms: Int64Array) -> BoolArray:
    """Tell which judged pages calibrate and choose in later rounds, about every second, shape (n,).

    By whose page it is and when it was made, which each page has and which never change.
    """
    sides = [draw(viewer, at) < 0.5 for viewer, at in zip(viewers.tolist(), now_ms.tolist(), strict=True)]
    return np.array(sides, dtype=np.bool_)
