"""`Samples`: predictions beside labels, and the facts that slices are made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from millrace.flywheel.metrics import BoolArray, FloatArray, IntArray


@dataclass(frozen=True, slots=True)
class SampleFacts:
    """What is known of each row, as of the moment of its prediction; every array has shape (n,).

    Attributes
    ----------
    viewers, slates
        int64: whose page it was, and which.
    languages
        int64 codes of the posts' languages.
    is_in_network
        By somebody the viewer follows.
    is_new_viewer
        Little was known of the viewer yet.
    """

    viewers: IntArray
    slates: IntArray
    languages: IntArray
    is_in_network: BoolArray
    is_new_viewer: BoolArray

    def __len__(self) -> int:
        return len(self.viewers)

    def take(self, rows: IntArray) -> SampleFacts:
        """Return the facts of some rows."""
        return SampleFacts(
            self.viewers[rows],
            self.slates[rows],
            self.languages[rows],
            self.is_in_network[rows],
            self.is_new_viewer[rows],
        )


@dataclass(frozen=True, slots=True)
class Head:
    """One thing that is predicted.

    Attributes
    ----------
    name
        The action's.
    labels
        Shape (n,): 0 or 1; amounts where it is continuous.
    scores
        Shape (n,): what it is ranked by.
    is_probability
        Whether scores are probabilities (for a continuous one: expected amounts), so that entropy and calibration
        mean something.
    is_continuous
        Whether labels are amounts: then only calibration is told.
    """

    name: str
    labels: FloatArray
    scores: FloatArray
    is_probability: bool = True
    is_continuous: bool = False


def slices_of(facts: SampleFacts, language_names: Mapping[int, str]) -> dict[str, IntArray]:
    """Return the rows of every slice by its name, ``all`` first; languages by their number of rows.

    Parameters
    ----------
    facts
        Of all rows.
    language_names
        Code to name; a code without one is told as unknown.
    """
    slices = {
        "all": np.arange(len(facts)),
        "new users": np.flatnonzero(facts.is_new_viewer),
        "known users": np.flatnonzero(~facts.is_new_viewer),
        "in-network": np.flatnonzero(facts.is_in_network),
        "out-of-network": np.flatnonzero(~facts.is_in_network),
    }
    codes, counts = np.unique(facts.languages, return_counts=True)
    for code in codes[np.lexsort((codes, -counts))].tolist():
        slices[f"language {language_names.get(code) or 'unknown'}"] = np.flatnonzero(facts.languages == code)
    return {name: rows for name, rows in slices.items() if len(rows)}
