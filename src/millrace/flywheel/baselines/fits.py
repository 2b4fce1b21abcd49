"""All baselines by name, and the way to fit several."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from millrace.base.errors import ConfigError
from millrace.base.ids import Int64Array
from millrace.flywheel.baselines.als import Als, fit_als
from millrace.flywheel.baselines.contract import Fit, Predict, Scorer
from millrace.flywheel.baselines.counters import fit_counters
from millrace.flywheel.baselines.interactions import Interactions
from millrace.flywheel.baselines.item_knn import ItemKnn, fit_item_knn
from millrace.flywheel.baselines.popularity import Popularity, fit_popularity
from millrace.flywheel.baselines.trees import fit_trees
from millrace.flywheel.sample_set import SampleSet

FITS: Final[dict[str, Fit]] = {
    "popularity": fit_popularity,
    "item_knn": fit_item_knn,
    "als": fit_als,
    "counters_calibrated": fit_counters,
    "lightgbm": fit_trees,
}
"""Name to what fits it."""

SCORERS: Final[dict[str, Callable[[Interactions], Scorer]]] = {
    "popularity": Popularity,
    "item_knn": ItemKnn,
    "als": Als,
}
"""Those that retrieve, too."""


def fit_baselines(
    names: Iterable[str], samples: SampleSet, learned: Int64Array, validated: Int64Array
) -> dict[str, Predict]:
    """Return predictions by name of baseline, fitted on some slates and calibrated on later ones.

    Raises
    ------
    ConfigError
        If a name is not known, or what a baseline needs is not installed.
    """
    wanted = tuple(names)
    for name in wanted:
        if name not in FITS:
            raise ConfigError("baseline", value=name, problem="not known", remedy=f"use some of {', '.join(FITS)}")
    return {name: FITS[name](samples, learned, validated) for name in wanted}
