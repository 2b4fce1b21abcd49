"""What the viewer does not want, or cannot read."""

from __future__ import annotations

from typing import Final

import numpy as np

from millrace.base.int_table import Int32Array
from millrace.base.params import Param
from millrace.features.columns import IS_IN_NETWORK, IS_SENSITIVE, LANGUAGE
from millrace.features.query_fields import LANGUAGES, SHOWS_SENSITIVE
from millrace.pipeline.batch import CandidateBatch
from millrace.pipeline.column import BoolArray
from millrace.pipeline.query import Query
from millrace.pipeline.stages import Filter, OnError

LANGUAGE_IS_ON: Final = Param(
    "language.is_on", default=True, doc="drop posts by strangers in languages that the viewer does not understand"
)


class SensitiveFilter(Filter):
    """Drops posts marked as sensitive, unless the viewer's setting shows them."""

    name = "sensitive"
    reads = (IS_SENSITIVE, SHOWS_SENSITIVE)
    on_error = OnError.DROP_ALL

    def is_enabled(self, query: Query) -> bool:
        """Only for viewers who have not asked to see such posts."""
        return not query[SHOWS_SENSITIVE]

    def keep(self, query: Query, batch: CandidateBatch) -> BoolArray:
        """Return which posts are not marked."""
        return ~batch[IS_SENSITIVE]


class LanguageFilter(Filter):
    """Drops posts by strangers in languages that the viewer does not understand; unknown languages stay.

    Posts by accounts that the viewer follows stay: whom to follow was the viewer's own choice.
    """

    name = "language"
    reads = (LANGUAGE, IS_IN_NETWORK, LANGUAGES)
    params = (LANGUAGE_IS_ON,)
    on_error = OnError.KEEP_ALL

    def is_enabled(self, query: Query) -> bool:
        """Only where it is switched on, for viewers whose languages are known."""
        return judges_languages(query)

    def keep(self, query: Query, batch: CandidateBatch) -> BoolArray:
        """Return which posts the viewer follows or can read, as far as is known."""
        return understands(query, batch[LANGUAGE]) | batch[IS_IN_NETWORK]


def judges_languages(query: Query) -> bool:
    """Whether strangers' posts in other languages are left out for this viewer."""
    return query.params.get_bool(LANGUAGE_IS_ON) and len(query[LANGUAGES]) > 0


def understands(query: Query, language: Int32Array) -> BoolArray:
    """Return for each language code whether the viewer understands it, shape (n,); 0 (unknown) counts as understood."""
    known = query[LANGUAGES]
    is_understood = np.zeros(max(language.max(initial=0), known.max(initial=0)) + 1, dtype=np.bool_)
    is_understood[known] = True
    is_understood[0] = True
    return is_understood[language]
