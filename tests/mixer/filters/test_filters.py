"""Every rule about who may stay, three rows each."""

import asyncio

import numpy as np
import pytest

from millrace.features.columns import (
    AUTHOR_ID,
    AUTHOR_REPUTATION,
    CONTENT_CREATED_MS,
    CONTENT_ID,
    CREATED_MS,
    HAS_CONTENT,
    HAS_POST,
    IS_DELETED,
    IS_IN_NETWORK,
    IS_PARENT_DELETED,
    IS_SENSITIVE,
    IS_UNSAFE,
    IS_UNSAFE_FOR_STRANGERS,
    KIND,
    LANGUAGE,
    PARENT_AUTHOR_ID,
    POST_ID,
    SAFETY_LABELS,
)
from millrace.features.query_fields import (
    BLOCKED,
    BLOCKED_BY,
    BOUNDARY,
    CLAIMED,
    FLOOR_MS,
    LANGUAGES,
    MUTED,
    SEEN,
    SERVED,
    SHOWS_ALL_LANGUAGES,
    SHOWS_SENSITIVE,
    Boundary,
)
from millrace.mixer.filters.age import MAX_AGE_H, AgeFilter
from millrace.mixer.filters.claims import ClaimedFilter, ClaimFilter, FloorFilter
from millrace.mixer.filters.existence import ContentFilter, DeletedFilter, DeletedParentFilter, HydrationFilter
from millrace.mixer.filters.out_of_network import OutOfNetworkReplyFilter
from millrace.mixer.filters.own import OwnPostsFilter
from millrace.mixer.filters.relations import (
    BlockedAuthorFilter,
    BlockedByAuthorFilter,
    BlockedParentFilter,
    MutedAuthorFilter,
    MutedParentFilter,
)
from millrace.mixer.filters.safety import MIN_REPUTATION, ReputationFilter, UnsafeFilter
from millrace.mixer.filters.same_content import SameContentFilter
from millrace.mixer.filters.seen import SeenFilter, ServedFilter
from millrace.mixer.filters.timeline import BehindFilter, FirstAppearanceFilter
from millrace.mixer.filters.viewer_settings import IS_CROSS_LINGUAL, LanguageFilter, SensitiveFilter
from millrace.mixer.kinds import ORIGINAL, QUOTE, REPLY, REPOST
from millrace.pipeline.stages import OnError
from millrace.stores.claims import MemoryClaims
from millrace.testing.builders import NOW_MS
from millrace.testing.pipeline_builders import a_batch, a_query, kept

HOUR_MS = 3_600_000


def test_age_drops_posts_older_than_the_param() -> None:
    created_ms = [NOW_MS, NOW_MS - 48 * HOUR_MS, NOW_MS - 48 * HOUR_MS - 1, 0]
    batch = a_batch({CREATED_MS: created_ms, HAS_POST: [True, True, True, False]})
    assert kept(AgeFilter(), a_query(), batch) == [1, 2, 4]  # what is not there has no age
    assert kept(AgeFilter(), a_query(params={MAX_AGE_H: 1.0}), batch) == [1, 4]
    assert AgeFilter().explain(a_query(), batch, 1) == "48.0 hours old; the limit is 48"


def test_posts_that_are_not_there_are_dropped_by_the_filter_that_knows_why() -> None:
    batch = a_batch({HAS_POST: [True, False, False, True], IS_DELETED: [False, False, True, True]})
    assert kept(HydrationFilter(), a_query(), batch) == [1, 3, 4]
    assert kept(DeletedFilter(), a_query(), batch) == [1, 2]
    assert "never came in" in HydrationFilter().explain(a_query(), batch, 1)
    assert "deleted" in DeletedFilter().explain(a_query(), batch, 2)


def test_reposts_of_deleted_posts_and_posts_without_content_are_dropped() -> None:
    batch = a_batch({IS_PARENT_DELETED: [True, True, False], KIND: [REPOST, REPLY, REPOST]})
    assert kept(DeletedParentFilter(), a_query(), batch) == [2, 3]
    assert kept(ContentFilter(), a_query(), a_batch({HAS_CONTENT: [False, True]})) == [2]


def test_own_posts_and_reposts_of_them_are_dropped_but_not_replies_to_them() -> None:
    batch = a_batch(
        {
            AUTHOR_ID: [20, 10, 10, 10],
            PARENT_AUTHOR_ID: [0, 20, 20, 0],
            KIND: [ORIGINAL, REPOST, REPLY, ORIGINAL],
        }
    )
    assert kept(OwnPostsFilter(), a_query(viewer_id=20), batch) == [3, 4]
    said = [OwnPostsFilter().explain(a_query(viewer_id=20), batch, row) for row in (0, 1)]
    assert said == ["the viewer's own post", "a repost of the viewer's own post"]


@pytest.mark.parametrize(
    ("filter_type", "field"),
    [(BlockedAuthorFilter, BLOCKED), (BlockedByAuthorFilter, BLOCKED_BY), (MutedAuthorFilter, MUTED)],
)
def test_posts_by_accounts_out_of_favour_are_dropped(filter_type: type, field: object) -> None:
    batch = a_batch({AUTHOR_ID: [10, 30, 40]})
    assert kept(filter_type(), a_query({field: [30, 50]}), batch) == [1, 3]
    assert kept(filter_type(), a_query(), batch) == [1, 2, 3]


def test_posts_that_carry_others_out_of_favour_are_dropped_in_both_directions() -> None:
    batch = a_batch({PARENT_AUTHOR_ID: [30, 40, 50, 0]})
    query = a_query({BLOCKED: [30], BLOCKED_BY: [40], MUTED: [50]})
    blocked = BlockedParentFilter()
    assert kept(blocked, query, batch) == [3, 4]
    assert kept(MutedParentFilter(), query, batch) == [1, 2, 4]
    assert blocked.explain(query, batch, 0).endswith("the viewer blocks")
    assert blocked.explain(query, batch, 1).endswith("blocks the viewer")


@pytest.mark.parametrize(("filter_type", "field"), [(SeenFilter, SEEN), (ServedFilter, SERVED)])
def test_posts_had_before_are_dropped_also_as_reposts(filter_type: type, field: object) -> None:
    batch = a_batch({POST_ID: [1, 2, 3, 4], CONTENT_ID: [1, 2, 9, 8]})
    query = a_query({field: [1, 9]})
    assert kept(filter_type(), query, batch) == [2, 4]
    verb = "has seen" if filter_type is SeenFilter else "was sent"
    assert filter_type().explain(query, batch, 0).startswith(f"the viewer {verb} it")
    assert filter_type().explain(query, batch, 2).startswith(f"the viewer {verb} the post that it reposts")


def test_replies_and_reposts_by_strangers_are_dropped() -> None:
    batch = a_batch(
        {
            IS_IN_NETWORK: [True, False, False, False, False],
            KIND: [REPLY, REPLY, REPOST, ORIGINAL, QUOTE],
        }
    )
    assert kept(OutOfNetworkReplyFilter(), a_query(), batch) == [1, 4, 5]
    assert OutOfNetworkReplyFilter().explain(a_query(), batch, 2).startswith("a repost by an account")


def test_of_a_post_and_its_reposts_the_post_stays_else_the_first_repost() -> None:
    batch = a_batch({POST_ID: [11, 1, 12, 21, 22], CONTENT_ID: [1, 1, 1, 2, 2]})
    assert kept(SameContentFilter(), a_query(), batch) == [1, 21]


def test_sensitive_posts_are_dropped_unless_the_viewer_shows_them() -> None:
    batch = a_batch({IS_SENSITIVE: [True, False]})
    assert kept(SensitiveFilter(), a_query(), batch) == [2]
    assert not SensitiveFilter().is_enabled(a_query({SHOWS_SENSITIVE: True}))
    assert "sensitive_media" in SensitiveFilter().explain(a_query(), batch, 0)


def test_strangers_posts_in_other_languages_are_dropped_where_the_languages_are_known() -> None:
    batch = a_batch({LANGUAGE: [0, 1, 2, 1], IS_IN_NETWORK: [False, False, False, True]})
    stage = LanguageFilter(("", "en", "ja").__getitem__)
    assert kept(stage, a_query({LANGUAGES: [2]}), batch) == [1, 3, 4]
    assert stage.explain(a_query({LANGUAGES: [2]}), batch, 1) == "by a stranger, in en; the viewer's languages: ja"


def test_languages_are_judged_unless_viewer_or_operator_say_otherwise() -> None:
    stage = LanguageFilter(str)
    assert stage.is_enabled(a_query({LANGUAGES: [2]}))
    assert not stage.is_enabled(a_query())
    assert not stage.is_enabled(a_query({LANGUAGES: [2], SHOWS_ALL_LANGUAGES: True}))
    assert not stage.is_enabled(a_query({LANGUAGES: [2]}, params={IS_CROSS_LINGUAL: True}))


def test_labelled_posts_are_dropped_for_everybody_or_for_strangers_and_the_labels_are_named() -> None:
    batch = a_batch(
        {
            IS_UNSAFE: [False, True, False, False],
            IS_UNSAFE_FOR_STRANGERS: [False, False, True, True],
            IS_IN_NETWORK: [False, True, True, False],
            SAFETY_LABELS: [0, 0b010, 0b100, 0b100],
        }
    )
    stage = UnsafeFilter(("", "spam", "nsfw").__getitem__)
    assert kept(stage, a_query(), batch) == [1, 3]
    assert stage.explain(a_query(), batch, 1).startswith("labelled spam (")
    assert stage.explain(a_query(), batch, 3).endswith("hidden from those who do not follow the author")


def test_strangers_of_low_reputation_are_not_recommended() -> None:
    batch = a_batch({AUTHOR_REPUTATION: [0.2, 0.19, 0.19, 1.0], IS_IN_NETWORK: [False, False, True, False]})
    stage = ReputationFilter()
    assert kept(stage, a_query(), batch) == [1, 3, 4]
    assert kept(stage, a_query(params={MIN_REPUTATION: 0.0}), batch) == [1, 2, 3, 4]
    assert stage.explain(a_query(), batch, 1) == "by a stranger of reputation 0.19; recommending starts at 0.2"


def test_claimed_posts_are_dropped_for_others_and_granted_again_to_their_owner() -> None:
    stage = ClaimFilter(MemoryClaims(), ttl_ms=1_000, max_claims=100, timeout_ms=30_000)
    batch = a_batch({CONTENT_ID: [7, 8], CONTENT_CREATED_MS: [1, 1]})
    assert kept(stage, a_query(request_id="r1"), batch) == [1, 2]
    assert kept(stage, a_query(request_id="r1"), batch) == [1, 2]
    wider = a_batch({CONTENT_ID: [8, 9], CONTENT_CREATED_MS: [1, 0]})
    assert kept(stage, a_query(request_id="r2"), wider) == [2]
    assert kept(stage, a_query(request_id="r3", now_ms=NOW_MS + 1_000), wider) == [1, 2]
    assert kept(stage, a_query(request_id="r4", viewer_id=21), wider) == [1, 2]


def test_an_empty_page_needs_no_claim_store() -> None:
    stage = ClaimFilter(None, ttl_ms=1_000, max_claims=100, timeout_ms=30_000)  # type: ignore[arg-type]
    assert kept(stage, a_query(), a_batch({CONTENT_ID: [], CONTENT_CREATED_MS: []})) == []


def test_what_left_and_what_is_older_than_the_floor_is_dropped_also_as_reposts() -> None:
    batch = a_batch({POST_ID: [1, 2, 3], CONTENT_ID: [1, 2, 9], CONTENT_CREATED_MS: [0, 100, 99]})
    assert kept(ClaimedFilter(), a_query({CLAIMED: [1, 9]}), batch) == [2]
    assert kept(FloorFilter(), a_query({FLOOR_MS: 100}), batch) == [2]
    assert kept(FloorFilter(), a_query(), batch) == [1, 2, 3]


def test_what_lies_behind_a_viewer_who_scrolls_is_dropped() -> None:
    batch = a_batch({POST_ID: [5, 2, 3, 4], CREATED_MS: [300, 200, 200, 100]})
    assert kept(BehindFilter(), a_query({BOUNDARY: Boundary(300, 5, 200, 2)}), batch) == [3, 4]
    assert kept(BehindFilter(), a_query(), batch) == [5, 2, 3, 4]


def test_a_viewer_who_scrolls_meets_each_content_where_it_appears_first() -> None:
    batch = a_batch({POST_ID: [12, 11, 1, 2], CONTENT_ID: [2, 1, 1, 2]})
    assert kept(FirstAppearanceFilter(), a_query(), batch) == [12, 11]


def test_claims_do_not_block_the_event_loop() -> None:
    class SlowClaims(MemoryClaims):
        def claim(self, *args: object, **kwargs: object) -> np.ndarray:
            gate.result()
            return super().claim(*args, **kwargs)  # type: ignore[arg-type]

    import concurrent.futures

    gate: concurrent.futures.Future[None] = concurrent.futures.Future()

    async def run() -> list[bool]:
        stage = ClaimFilter(SlowClaims(), ttl_ms=1_000, max_claims=100, timeout_ms=30_000)
        batch = a_batch({CONTENT_ID: [7], CONTENT_CREATED_MS: [1]})
        claim = asyncio.ensure_future(stage.keep(a_query(), batch))
        await asyncio.sleep(0.01)
        gate.set_result(None)
        return (await claim).tolist()  # type: ignore[no-any-return]

    assert asyncio.run(run()) == [True]


@pytest.mark.parametrize(
    "stage",
    [
        BlockedAuthorFilter(),
        BlockedByAuthorFilter(),
        BlockedParentFilter(),
        MutedAuthorFilter(),
        SensitiveFilter(),
        UnsafeFilter(str),
    ],
    ids=lambda stage: stage.name,
)
def test_safety_filters_fail_closed(stage: object) -> None:
    assert stage.on_error is OnError.DROP_ALL  # type: ignore[attr-defined]
