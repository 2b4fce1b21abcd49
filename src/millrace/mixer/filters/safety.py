"""Safety labels and reputation: what moderation found out, and who is not trusted enough to be recommended."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from millrace.base.params import Param
from millrace.features.columns import (
    AUTHOR_REPUTATION,
    IS_IN_NETWORK,
    IS_UNSAFE,
    IS_UNSAFE_FOR_STRANGERS,
    SAFETY_LABELS,
)
from millrace.pipeline.batch import CandidateBatch
from millrace.pipeline.column import BoolArray
from millrace.pipeline.query import Query
from millrace.pipeline.stages import Filter, OnError

MIN_REPUTATION: Final = Param(
    "reputation.min_out_of_network",
    0.2,
    0.0,
    1.0,
    "posts by strangers whose reputation is below this are not recommended; 0 switches it off",
)


class UnsafeFilter(Filter):
    """Drops posts with a safety label that hides them from everybody, or from those who do not follow the author.

    Parameters
    ----------
    label_name
        Code to label, for explanations.
    """

    name = "unsafe"
    reads = (IS_UNSAFE, IS_UNSAFE_FOR_STRANGERS, IS_IN_NETWORK, SAFETY_LABELS)
    on_error = OnError.DROP_ALL

    def __init__(self, label_name: Callable[[int], str]) -> None:
        self._label_name = label_name

    def keep(self, query: Query, batch: CandidateBatch) -> BoolArray:
        """Return which posts carry no label that counts for this viewer."""
        return ~(batch[IS_UNSAFE] | (batch[IS_UNSAFE_FOR_STRANGERS] & ~batch[IS_IN_NETWORK]))

    def explain(self, query: Query, batch: CandidateBatch, row: int) -> str:
        """Name the labels."""
        mask = int(batch[SAFETY_LABELS][row])
        names = ", ".join(self._label_name(code) for code in range(mask.bit_length()) if mask >> code & 1)
        whom = "everybody" if batch[IS_UNSAFE][row] else "those who do not follow the author"
        return f"labelled {names or 'unsafe'} (the post, its author, or what it carries): hidden from {whom}"


class ReputationFilter(Filter):
    """Drops posts by strangers whose reputation is below ``reputation.min_out_of_network``.

    Followers still get them. An author who is held back can appeal to the operator: the rule is this line, its
    threshold a documented param, and both numbers are in the explanation.
    """

    name = "reputation"
    reads = (AUTHOR_REPUTATION, IS_IN_NETWORK)
    params = (MIN_REPUTATION,)
    on_error = OnError.KEEP_ALL

    def keep(self, query: Query, batch: CandidateBatch) -> BoolArray:
        """Return which posts are in-network, or by somebody who is trusted enough."""
        return (batch[AUTHOR_REPUTATION] >= query.params.get_float(MIN_REPUTATION)) | batch[IS_IN_NETWORK]

    def explain(self, query: Query, batch: CandidateBatch, row: int) -> str:
        """Say the reputation and the threshold."""
        reputation, least = float(batch[AUTHOR_REPUTATION][row]), query.params.get_float(MIN_REPUTATION)
        return f"by a stranger of reputation {reputation:.2f}; recommending starts at {least:g}"
