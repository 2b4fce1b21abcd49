"""The viewer's own settings."""

from __future__ import annotations

import numpy as np

from millrace.features.query_fields import LANGUAGES, SHOWS_ALL_LANGUAGES, SHOWS_SENSITIVE
from millrace.pipeline.query import Query
from millrace.pipeline.stages import FieldValues, QueryHydrator
from millrace.stores.profiles import ProfileStore


class ProfileQueryHydrator(QueryHydrator):
    """Reads languages, and the settings for sensitive media and for other languages."""

    name = "profile"
    writes = (LANGUAGES, SHOWS_SENSITIVE, SHOWS_ALL_LANGUAGES)

    def __init__(self, profiles: ProfileStore) -> None:
        self._profiles = profiles

    def hydrate(self, query: Query) -> FieldValues:
        """Return the viewer's settings; empty ones for a viewer nobody has heard of."""
        profile = self._profiles.profile(query.viewer_id)
        return {
            LANGUAGES: profile.languages,
            SHOWS_SENSITIVE: profile.shows_sensitive,
            SHOWS_ALL_LANGUAGES: profile.shows_all_languages,
        }

    def fallback(self, query: Query) -> FieldValues:
        """Return what holds for a viewer nobody has heard of: nothing sensitive is shown, and the page is not empty."""
        return {LANGUAGES: np.empty(0, dtype=np.int32), SHOWS_SENSITIVE: False, SHOWS_ALL_LANGUAGES: False}
