"""How a home's pages are parted for a training: the newest share is held out, half to choose by, half to measure on."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from millrace.base.ids import Int64Array
from millrace.flywheel.sample_set import SampleSet


class HeldOut(NamedTuple):
    """Slates of samples, oldest first; what is learned from is all of ``older`` but the ``chosen_by``.

    Attributes
    ----------
    older
        What a training is given: it holds out its own newest ``frac``, which are ``chosen_by``.
    chosen_by
        By their loss weights are chosen, and on them heads are calibrated.
    newest
        What nothing was chosen by: figures are of these.
    frac
        ``chosen_by`` as a share of ``older``: the training's ``validation_frac``.
    """

    older: Int64Array
    chosen_by: Int64Array
    newest: Int64Array
    frac: float


def held_out(samples: SampleSet, frac: float) -> HeldOut:
    """Return how samples are parted when their newest ``frac`` is held out; at least one slate for each half."""
    order = np.argsort(samples.now_ms, kind="stable")
    n_half = max(int(len(samples) * frac / 2), 1)
    older = order[:-n_half]
    # A training rounds down: half a slate more makes it just as many.
    return HeldOut(older, older[-n_half:], order[-n_half:], (n_half + 0.5) / max(len(older), 1))
