"""Viewers of a `SampleSet` as models that serve read them."""

from __future__ import annotations

import numpy as np

from millrace.features.encoding.history import HistoryTokens
from millrace.features.encoding.viewers import ViewerInputs
from millrace.flywheel.sample_set import SampleSet


def viewer_of(samples: SampleSet, slate: int) -> ViewerInputs:
    """Return the viewer of a slate, as the encoder gave them."""
    tokens = slice(*samples.history_starts[slate : slate + 2].tolist())
    history = HistoryTokens(
        np.asarray(samples.history_posts[tokens]),
        np.asarray(samples.history_authors[tokens]),
        np.asarray(samples.history_actions[tokens]),
        np.asarray(samples.history_dense[tokens]),
        np.asarray(samples.history_surfaces[tokens]),
        int(samples.newest_ms[slate]),
    )
    return ViewerInputs(
        int(samples.viewers[slate]),
        history,
        np.asarray(samples.languages[slate]),
        np.asarray(samples.bios[slate]),
        np.asarray(samples.profile_dense[slate]),
    )
