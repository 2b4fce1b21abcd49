"""What the home feed falls back on when it cannot find out about the viewer."""

from typing import Any

import numpy as np

from millrace.base.errors import StoreError
from millrace.features.query_fields import BLOCKED, KEYWORDS, LANGUAGES, MUTED, SHOWS_SENSITIVE
from millrace.mixer.query_hydrators.profile import ProfileQueryHydrator
from millrace.mixer.query_hydrators.relations import MAX_REMEMBERED, RelationsQueryHydrator
from millrace.testing.pipeline_builders import a_query


class Relations:
    """Lists that can be broken: the real store reads memory and does not fail."""

    def __init__(self) -> None:
        self.is_broken = False

    def blocked(self, user_id: int) -> Any:
        if self.is_broken:
            raise StoreError("relations", problem="broken", remedy="none")
        return np.array([user_id + 1])

    blocked_by = muted = muted_keywords = blocked


def test_the_lists_last_read_for_a_viewer_count_when_the_store_fails() -> None:
    relations = Relations()
    stage = RelationsQueryHydrator(relations)  # type: ignore[arg-type]
    stage.hydrate(a_query(viewer_id=20))
    relations.is_broken = True
    known = stage.fallback(a_query(viewer_id=20))
    assert known is not None
    assert known[BLOCKED].tolist() == known[MUTED].tolist() == known[KEYWORDS].tolist() == [21]
    assert stage.fallback(a_query(viewer_id=30)) is None


def test_the_memory_of_lists_is_bounded() -> None:
    stage = RelationsQueryHydrator(Relations())  # type: ignore[arg-type]
    for viewer_id in range(1, MAX_REMEMBERED + 2):
        stage.hydrate(a_query(viewer_id=viewer_id))
    assert stage.fallback(a_query(viewer_id=1)) is None
    assert stage.fallback(a_query(viewer_id=2)) is not None


def test_without_a_profile_nothing_sensitive_is_shown_and_the_page_is_not_empty() -> None:
    known = ProfileQueryHydrator(None).fallback(a_query())  # type: ignore[arg-type]
    assert known[SHOWS_SENSITIVE] is False
    assert known[LANGUAGES].tolist() == []
