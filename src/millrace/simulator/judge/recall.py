"""What retrievers find against the truth: of all that people would act on, how much is among the posts found.

For one person at one moment every live post has a true chance that they would take up what it offers, were they to look
at it. Recall at k is the sum of the chances of a retriever's k best over the sum of all: no draw of clicks is in it.
Nobody can do better than the chances themselves, sorted: the Bayes retriever, whom the others are held against.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from millrace.base.actions import Action
from millrace.simulator.judge.intervals import NOTHING, Estimate, bootstrap_ratio
from millrace.simulator.mechanisms.law import Law
from millrace.simulator.mechanisms.situation import COLUMN, Response

BAYES: Final = "Bayes"
CUTOFFS: Final = (100, 500)

WANTED: Final = (
    Action.LIKE,
    Action.REPLY,
    Action.REPOST,
    Action.QUOTE,
    Action.SHARE,
    Action.SHARE_DM,
    Action.COPY_LINK,
    Action.BOOKMARK,
    Action.FOLLOW_AUTHOR,
)
"""Deliberate actions that say that a post was wanted; one of them is enough."""

_COLUMNS: Final = [COLUMN[action] for action in WANTED]
_N_DRAWS: Final = 2_000

Floats = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Corpus:
    """One person's live posts at one moment, m of them.

    Attributes
    ----------
    chance
        Shape (m,): the true chance of an action of `WANTED`.
    is_cold
        Shape (m,): hardly anybody has looked at the post yet.
    scores
        Retriever to its scores, shape (m,); what it does not know has minus infinity. Ties are broken by place.
    """

    chance: Floats
    is_cold: BoolArray
    scores: Mapping[str, npt.NDArray[np.floating]]


class RetrieverRecall(msgspec.Struct, frozen=True, kw_only=True):
    """One retriever at one cutoff.

    Attributes
    ----------
    recall
        Share of all chances that it finds; ``cold`` of those of cold posts alone.
    of_bayes, cold_of_bayes
        That over the Bayes retriever's.
    first_over, cold_first_over
        How many times as much the first retriever finds; of itself 1.
    """

    retriever: str
    cutoff: int
    recall: Estimate
    of_bayes: Estimate
    first_over: Estimate
    cold: Estimate
    cold_of_bayes: Estimate
    cold_first_over: Estimate


def chance_of_any(law: Law, response: Response) -> Floats:
    """Return P(any action of `WANTED` | looked), exactly, shape (n,): as `millrace.simulator.acts` draws them.

    Actions are independent given the mood that the viewer is in, and whoever dislikes a post does nothing friendly.
    """
    calm = 1.0 - response.annoyed
    p = response.probs[:, _COLUMNS] / calm[:, None]
    high = np.minimum(p * law.engaged_ratio, 1.0)
    low = np.maximum((p - law.engaged_frac * high) / (1.0 - law.engaged_frac), 0.0)
    nothing = law.engaged_frac * np.prod(1.0 - high, axis=1) + (1.0 - law.engaged_frac) * np.prod(1.0 - low, axis=1)
    chance: Floats = calm * (1.0 - nothing)
    return chance


def judge_recall(
    corpora: Sequence[Corpus], *, cutoffs: Sequence[int] = CUTOFFS, seed: int = 1
) -> tuple[RetrieverRecall, ...]:
    """Return the recall of every retriever, `BAYES` last; intervals are bootstrapped over people.

    Parameters
    ----------
    corpora
        One a person; all with the same retrievers, the first of which the others are compared with.
    cutoffs
        How many best.
    seed
        Of the bootstrap.
    """
    names = (*(corpora[0].scores if corpora else ()), BAYES)
    whole = np.array([[c.chance.sum(), c.chance[c.is_cold].sum()] for c in corpora]).reshape(-1, 2)
    found = {
        (name, k): np.array([_found(c, name, k) for c in corpora]).reshape(-1, 2) for name in names for k in cutoffs
    }
    rows = []
    for (name, k), mass in found.items():
        bayes, first = found[BAYES, k], found[names[0], k]
        (recall, cold), (of_bayes, cold_of_bayes), (over, cold_over) = (
            tuple(_share(top[:, part], bottom[:, part], seed) for part in (0, 1))
            for top, bottom in ((mass, whole), (mass, bayes), (first, mass))
        )
        rows.append(
            RetrieverRecall(
                retriever=name,
                cutoff=k,
                recall=recall,
                of_bayes=of_bayes,
                first_over=over,
                cold=cold,
                cold_of_bayes=cold_of_bayes,
                cold_first_over=cold_over,
            )
        )
    return tuple(rows)


def _found(corpus: Corpus, name: str, k: int) -> tuple[float, float]:
    """Return the sums of chances among the k best, of all and of cold posts."""
    scores = corpus.chance if name == BAYES else corpus.scores[name]
    best = np.argsort(-scores, kind="stable")[:k]
    best = best[np.isfinite(scores[best])]
    return float(corpus.chance[best].sum()), float(corpus.chance[best[corpus.is_cold[best]]].sum())


def _share(top: Floats, bottom: Floats, seed: int) -> Estimate:
    if not float(bottom.sum()) > 0:
        return NOTHING
    return bootstrap_ratio(top, bottom, seed=seed, n_draws=_N_DRAWS)
