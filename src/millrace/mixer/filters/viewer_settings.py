"""What the viewer does not want, or cannot read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from millrace.base.int_table import Int32Array
from millrace.base.params import Param
from millrace.features.columns import IS_IN_NETWORK, IS_SENSITIVE, LANGUAGE
from millrace.features.query_fields import LANGUAGES, SHOWS_ALL_LANGUAGES, SHOWS_SENSITIVE
from millrace.pipeline.batch import CandidateBatch
from millrace.pipeline.column import BoolArray
from millrace.pipeline.query import Query
from millrace.pipeline.stages import Filter, OnError

IS_CROSS_LINGUAL: Final = Param(
    "language.is_cross_lingual",
    default=False,
    doc="recommend posts by strangers in languages that the viewer did not name: the filter is off",
)


class SensitiveFilter(Filter):
    """Drops posts marked as sensitive, and what carries such posts, unless the viewer's setting shows them."""

    name = "sensitive"
    reads = (IS_SENSITIVE, SHOWS_SENSITIVE)
    on_error = OnError.DROP_ALL

    def is_enabled(self, query: Query) -> bool:
        """Only for viewers who have not asked to see such posts."""
        return not query[SHOWS_SENSITIVE]

    def keep(self, query: Query, batch: CandidateBatch) -> BoolArray:
        """Return which posts are not marked."""
        return ~batch[IS_SENSITIVE]

    def explain(self, query: Query, batch: CandidateBatch, row: int) -> str:
        """Say which setting decides."""
        return "it or what it carries is marked as sensitive, and the viewer's setting sensitive_media is not show"


class LanguageFilter(Filter):
    """Drops posts by strangers in languages that the viewer does not understand; unknown languages stay.

    Posts by accounts that the viewer follows stay: whom to follow was the viewer's own choice.

    Parameters
    ----------
    language_name
        Code to primary language subtag, for explanations.
    """

    name = "language"
    reads = (LANGUAGE, IS_IN_NETWORK, LANGUAGES, SHOWS_ALL_LANGUAGES)
    params = (IS_CROSS_LINGUAL,)
    on_error = OnError.KEEP_ALL

    def __init__(self, language_name: Callable[[int], str]) -> None:
        self._language_name = language_name

    def is_enabled(self, query: Query) -> bool:
        """Only for viewers whose languages are known and who have not asked for all; `judges_languages`."""
        return judges_languages(query)

    def keep(self, query: Query, batch: CandidateBatch) -> BoolArray:
        """Return which posts the viewer follows or can read, as far as is known."""
        return understands(query, batch[LANGUAGE]) | batch[IS_IN_NETWORK]

    def explain(self, query: Query, batch: CandidateBatch, row: int) -> str:
        """Say which language it is in, and which the viewer named."""
        known = ", ".join(self._language_name(code) for code in query[LANGUAGES].tolist())
        return f"by a stranger, in {self._language_name(int(batch[LANGUAGE][row]))}; the viewer's languages: {known}"


def judges_languages(query: Query) -> bool:
    """Whether strangers' posts in other languages are left out for this viewer.

    Not where the operator recommends across languages, where the viewer's setting ``other_languages`` is ``show``, or
    where the viewer's languages are not known.
    """
    is_off = query.params.get_bool(IS_CROSS_LINGUAL) or query[SHOWS_ALL_LANGUAGES]
    return not is_off and len(query[LANGUAGES]) > 0


def understands(query: Query, language: Int32Array) -> BoolArray:
    """Return for each language code whether the viewer understands it, shape (n,); 0 (unknown) counts as understood."""
    known = query[LANGUAGES]
    is_understood = np.zeros(max(language.max(initial=0), known.max(initial=0)) + 1, dtype=np.bool_)
    is_understood[known] = True
    is_understood[0] = True
    return is_understood[language]
