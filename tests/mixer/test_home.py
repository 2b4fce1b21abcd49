"""The home feed over the real stores: what is on a page, why, and what must never be."""

import asyncio
from collections.abc import Callable
from math import exp
from typing import Any

import msgspec
import numpy as np
import pytest

from millrace.base.actions import Action
from millrace.base.errors import ConfigError, SchemaError
from millrace.events.envelope import AnyEvent, Context
from millrace.events.feed_events import Served
from millrace.features.columns import ACTION_PROBS, CONTENT_CREATED_MS
from millrace.mixer.feed import FeedRequest, FeedResponse
from millrace.mixer.response import MAX_ACTIONS
from millrace.mixer.value_model.weights import X_WEIGHTS
from millrace.stores.claims import MemoryClaims
from millrace.testing.builders import (
    NOW_MS,
    a_batch_of,
    a_block,
    a_counts_observed,
    a_follow,
    a_label_changed,
    a_mute,
    a_post_annotated,
    a_post_created,
    a_post_deleted,
    a_profile_updated,
    a_served,
    an_engagement,
    an_impression,
)
from millrace.testing.pipeline_fakes import RecordingObserver
from millrace.testing.pipeline_world import FeedWorld, many_authors, posts_by

HOUR_MS = 3_600_000
World = Callable[..., FeedWorld]


def ids(page: FeedResponse) -> list[str]:
    return [post.post_id for post in page.posts]


# ---------------------------------------------------------------------------------------- what is on a page


def test_a_page_has_the_posts_of_those_one_follows(a_world: World) -> None:
    world = a_world([a_profile_updated(10, name="Ann"), a_follow(20, 10), *posts_by(10, 1, 2)])
    page = world.page()
    assert sorted(ids(page)) == ["1", "2"]
    post = page.posts[0]
    assert (post.author.user_id, post.author.name, post.kind) == ("10", "Ann", "original")
    assert post.text == f"text {post.post_id}"
    assert post.reason == "You follow Ann"
    assert "in_network" in post.sources
    assert page.end_of_feed
    assert not page.degraded


def test_a_full_page_says_that_there_is_more(a_world: World) -> None:
    world = a_world(many_authors(80))
    page = world.page(limit=50)
    assert len(page.posts) == 50
    assert not page.end_of_feed
    rest = world.page(request_id="r2")
    assert len(rest.posts) == 30  # the others are claimed
    assert rest.end_of_feed
    assert rest.cursor is None
    assert page.generated_at == "2027-01-15T08:00:00.000Z"


def test_posts_that_followed_accounts_engaged_with_say_who(a_world: World) -> None:
    world = a_world(
        [
            a_profile_updated(10, name="Ann"),
            a_profile_updated(11, name="Bo"),
            a_follow(20, 10),
            a_follow(20, 11),
            *posts_by(30, 1),
            an_engagement(11, 1, "like", at_ms=NOW_MS - HOUR_MS),
            an_engagement(10, 1, "like", at_ms=NOW_MS - 1_000),
            an_engagement(12, 1, "like"),
        ]
    )
    (post,) = world.page().posts
    assert post.reason == "Liked by Ann and Bo, whom you follow"
    assert {"second_degree", "popular", "recent"} <= set(post.sources)


def test_popular_posts_reach_those_who_follow_nobody(a_world: World) -> None:
    likes = [an_engagement(viewer, 1, "like") for viewer in range(50, 60)]
    world = a_world([*posts_by(30, 1), *posts_by(31, 2), *likes])
    page = world.page()
    assert ids(page) == ["1", "2"]
    assert [post.reason for post in page.posts] == ["Popular now", "By an author first seen here lately"]


def test_an_author_has_at_most_three_posts_on_a_page(a_world: World) -> None:
    world = a_world([a_follow(20, 10), *posts_by(10, *range(1, 20)), *posts_by(11, 50)])
    page = world.page()
    assert len(page.posts) == 4
    assert not page.end_of_feed  # a short page, but the pool has more


def test_what_viewers_like_more_comes_first(a_world: World) -> None:
    shown = [an_impression(v, p, dwell_ms=4_000) for v in range(100, 160) for p in (1, 2)]
    likes = [an_engagement(v, 2, "reply") for v in range(100, 130)]
    hates = [an_engagement(v, 1, "report") for v in range(100, 130)]
    follows = [a_follow(20, author) for author in (30, 31)]
    world = a_world([*follows, *posts_by(30, 1), *posts_by(31, 2), *shown, *likes, *hates])
    page = world.page()
    assert ids(page) == ["2", "1"]
    assert page.posts[1].score < 0.001 < page.posts[0].score


def test_replies_come_with_what_they_answer(a_world: World) -> None:
    world = a_world(
        [
            a_follow(20, 10),
            *posts_by(30, 1, hours_ago=3),
            *posts_by(10, 2, kind="reply", parent_id=1, parent_author_id=30, conversation_id=1),
        ]
    )
    reply = next(post for post in world.page().posts if post.post_id == "2")
    assert reply.parent is not None
    assert (reply.kind, reply.parent_id, reply.parent.text) == ("reply", "1", "text 1")
    assert reply.parent.author.user_id == "30"


def test_languages_and_topics_come_from_annotations(a_world: World) -> None:
    world = a_world([*posts_by(30, 1), a_post_annotated(1, language="ja", topics=("go",))])
    assert world.page().posts[0].language == "ja"


def test_imported_totals_move_a_post_up(a_world: World) -> None:
    world = a_world(
        [*posts_by(30, 1), *posts_by(31, 2), a_counts_observed(1, like=3), a_counts_observed(2, like=3_000)]
    )
    assert ids(world.page()) == ["2", "1"]


# -------------------------------------------------------------------------------------- what must never be


@pytest.mark.parametrize(
    "event",
    [
        a_block(20, 10),
        a_block(10, 20),
        a_mute(20, 10),
        a_post_deleted(1),
        an_impression(20, 1),
        a_served(20, [1], at_ms=NOW_MS - 1),
    ],
    ids=["blocks", "is blocked", "mutes", "deleted", "seen", "served"],
)
def test_what_a_viewer_must_not_get_is_not_there(a_world: World, event: AnyEvent) -> None:
    events = [a_follow(20, 10), *posts_by(10, 1)]
    assert ids(a_world(events).page()) == ["1"]
    assert ids(a_world([*events, event]).page()) == []


def test_own_and_old_and_sensitive_posts_are_not_there(a_world: World) -> None:
    world = a_world(
        [
            a_follow(20, 10),
            *posts_by(20, 1),
            *posts_by(10, 2, hours_ago=47.9),
            *posts_by(10, 3, is_sensitive=True),
        ]
    )
    assert ids(world.page()) == ["2"]
    world.clock.advance_ms(HOUR_MS)
    assert ids(world.page()) == []
    world.hear([a_profile_updated(20, settings={"sensitive_media": "show"})])
    assert ids(world.page()) == ["3"]


def test_reposts_of_muted_and_deleted_and_seen_posts_are_not_there(a_world: World) -> None:
    def with_repost(*events: AnyEvent) -> list[str]:
        repost = posts_by(10, 2, kind="repost", parent_id=1, parent_author_id=30)
        return ids(a_world([a_follow(20, 10), *posts_by(30, 1, hours_ago=3), *repost, *events]).page())

    assert with_repost() == ["1"]  # the post itself is there too, and one of the two is enough
    assert with_repost(a_mute(20, 30)) == []
    assert with_repost(a_post_deleted(1)) == []
    assert with_repost(an_impression(20, 1)) == []
    assert with_repost(an_impression(20, 2)) == ["1"]


@pytest.mark.parametrize(
    "label",
    [
        a_label_changed("spam", post_id=1),
        a_label_changed("suspended", user_id=10),
        a_label_changed("Violence", post_id=2),
        a_label_changed("csam", user_id=30),
    ],
    ids=["the post", "its author", "what it quotes", "whom it quotes"],
)
def test_unsafe_posts_are_shown_to_nobody_and_the_label_is_named(a_world: World, label: AnyEvent) -> None:
    quote = posts_by(10, 1, kind="quote", parent_id=2, parent_author_id=30)
    events = [a_follow(20, 10), *posts_by(30, 2, hours_ago=49), *quote]
    assert ids(a_world(events).page()) == ["1"]
    world = a_world([*events, label])
    page, result = world.page_with_result()
    assert ids(page) == []
    row = result.row_of(world.post_id(1))
    assert result.drop_names[result.dropped_by[row]] == "unsafe"
    (stage,) = (stage for stage in world.service.pipeline.stages.filters if stage.name == "unsafe")
    assert label.payload.label.lower() in stage.explain(result.query, result.candidates, row)  # type: ignore[attr-defined]


def test_posts_labelled_for_strangers_are_left_to_followers(a_world: World) -> None:
    events = [*posts_by(10, 1), *posts_by(11, 2), a_label_changed("nsfw", post_id=1)]
    assert ids(a_world(events).page()) == ["2"]
    assert sorted(ids(a_world([*events, a_follow(20, 10)]).page())) == ["1", "2"]


def test_deleted_and_unknown_posts_have_different_fates(a_world: World) -> None:
    world = a_world([*posts_by(10, 1), a_post_deleted(1)])
    wanted = np.array([world.post_id(1), world.post_id(2)])

    class BehindTheTimes:  # a source that is not told of deletions
        def popular(self, *_: object) -> tuple[Any, Any]:
            return wanted.copy(), np.ones(2, dtype=np.float32)

    (popular,) = (source for source in world.service.pipeline.stages.sources if source.name == "popular")
    popular._counters = BehindTheTimes()  # type: ignore[attr-defined]
    _, result = world.page_with_result()
    fates = [result.drop_names[result.dropped_by[result.row_of(int(post))]] for post in wanted]
    assert fates == ["deleted", "hydration"]


def test_viewers_may_ask_for_posts_in_all_languages(a_world: World) -> None:
    events = [*posts_by(10, 1), a_post_annotated(1, language="ja"), a_profile_updated(20, languages=("en",))]
    assert ids(a_world(events).page()) == []
    assert ids(a_world(events, params={"language.is_cross_lingual": True}).page()) == ["1"]
    world = a_world([*events, a_profile_updated(20, settings={"other_languages": "show"})])
    assert ids(world.page()) == ["1"]
    world.hear([a_profile_updated(20, settings={"other_languages": "hide"})])
    assert ids(world.page(request_id="r2")) == []


def test_one_post_by_a_new_author_comes_up_to_the_sixteenth_place(a_world: World) -> None:
    known = [a_follow(fan, author) for author in range(100, 136) if author != 130 for fan in range(1_000, 1_003)]
    hours_ago = {author: 1 + (author - 100) / 20 for author in range(100, 125)}
    hours_ago |= {130: 5, **dict.fromkeys((*range(125, 130), *range(131, 136)), 20)}
    posts = [
        event for author, hours in hours_ago.items() for event in posts_by(author, author + 1_000, hours_ago=hours)
    ]

    def place(**params: Any) -> int:
        page = a_world([*posts, *known], params={"lift.max_followers": 2, **params}).page()
        lifted = [
            post.post_id
            for post in page.posts
            for step in post.why.steps
            if step.name == "new_author_lift" and step.amount != 1
        ]
        assert lifted == ([] if params else ["1130"])
        return ids(page).index("1130")

    assert place(**{"lift.is_on": False}) == 25
    assert place() == 15


def test_posts_without_content_are_replaced(a_world: World) -> None:
    world = a_world(many_authors(40))
    lost = [*many_authors(3, first=500), *(an_engagement(v, 1_500, "like") for v in range(60, 70))]
    for fold in world.state.folds():  # folded, but the content file never heard of them
        fold.apply(a_batch_of(lost))
    page, result = world.page_with_result(debug=True)
    assert len(page.posts) == 35
    assert not {"1500", "1501", "1502"} & set(ids(page))
    assert result.n_dropped_by_name()["content"] >= 1


def test_two_requests_of_a_viewer_never_share_a_post(a_world: World) -> None:
    claims = MemoryClaims()
    worlds = [a_world(many_authors(60), claims=claims) for _ in range(2)]
    first, second = worlds[0].page(request_id="a"), worlds[1].page(request_id="b")
    assert len(first.posts) == 35
    assert len(second.posts) == 25
    assert not set(ids(first)) & set(ids(second))
    assert set(ids(worlds[1].page(viewer_id=21, request_id="c"))) & set(ids(first))


# --------------------------------------------------------------------------------------- why, debug, Served


def test_why_is_the_arithmetic_of_the_score(a_world: World) -> None:
    world = a_world([a_follow(20, 10), *posts_by(10, 1, hours_ago=5)])
    page, result = world.page_with_result()
    why = page.posts[0].why
    assert why.actions["like"].weight == X_WEIGHTS[Action.LIKE]
    assert why.actions["like"].probability == pytest.approx(float(result.slate[ACTION_PROBS][0, Action.LIKE]))
    listed = sum(action.contribution for action in why.actions.values())
    assert listed + why.other_actions == pytest.approx(why.value, abs=1e-6)
    sizes = [abs(action.contribution) for action in why.actions.values()]
    assert sizes == sorted(sizes, reverse=True)
    assert len(sizes) == MAX_ACTIONS
    score = why.offset_value
    for step in why.steps:
        score = score * step.amount if step.kind == "multiply" else score + step.amount
        assert score == pytest.approx(step.score_after, rel=1e-6)
    assert why.steps[-1].score_after == why.score
    assert why.steps[0].amount == pytest.approx(exp(-0.05 * 5))


def test_every_candidate_has_a_fate(a_world: World) -> None:
    world = a_world([a_follow(20, 10), a_mute(20, 30), *posts_by(10, 1, 2, 3, 4), *posts_by(30, 5), *posts_by(20, 6)])
    page, result = world.page_with_result(debug=True)
    fates = {
        world.post_id(p): result.drop_names[result.dropped_by[result.row_of(world.post_id(p))]] for p in range(1, 7)
    }
    assert fates[world.post_id(5)] == "muted_author"
    assert fates[world.post_id(6)] == "own_posts"
    assert result.row_of(12345) == -1
    assert page.debug_info is not None
    assert page.debug_info.candidate_count == 6
    assert page.debug_info.after_filtering == 4
    assert page.debug_info.after_ranking == 3
    assert page.debug_info.dropped == {"muted_author": 1, "own_posts": 1}
    assert page.debug_info.retrieved["in_network"] == 4
    assert page.debug_info.state_offset == (world.position,)
    assert {"source", "filter", "ranker", "value_model", "total"} <= page.debug_info.latency_breakdown.keys()


def test_what_was_served_is_logged_after_the_page(a_world: World) -> None:
    world = a_world([a_follow(20, 10), *posts_by(10, 1, 2)], params={"recency.rate_per_h": 0.5})
    page = world.page(context=Context(session_id="s1"))
    (event,) = world.served.events
    served = event.payload
    assert isinstance(served, Served)
    assert event.event_id == "served-r1"
    assert (served.viewer_id, served.pipeline, served.state_offset) == ("20", "home", (world.position,))
    assert served.params == {"recency.rate_per_h": 0.5}
    assert served.param_levels == {"recency.rate_per_h": "config"}
    assert [item.post_id for item in served.items] == ids(page)
    assert served.items[0].author_id == "10"
    assert served.items[0].scores["score"] == pytest.approx(page.posts[0].score)
    factors = {"recency_factor", "social_bonus", "lift_factor", "author_factor", "network_factor"}
    assert set(served.items[0].scores) == {"value", "offset_value", "score"} | factors
    assert served.items[0].sources == page.posts[0].sources
    assert served.context.session_id == "s1"
    world.hear([event])
    assert ids(world.page(request_id="r2")) == []


def test_equal_inputs_give_equal_bytes(a_world: World) -> None:
    def page() -> bytes:
        return msgspec.json.encode(a_world(many_authors(60)).page())

    assert page() == page()


def test_the_observer_gets_the_report(a_world: World) -> None:
    observer = RecordingObserver()
    a_world(many_authors(5), observer=observer).page()
    (report,) = observer.reports
    assert report.pipeline == "home"
    assert report.n_slate == 5
    assert {c.component for c in report.components} >= {"in_network", "counters", "claims", "names"}
    assert [(name, c.component) for name, c, _ in observer.side_effects] == [
        ("home", "log_served"),
        ("home", "log_features"),
        ("home", "remember_ranked"),
    ]


# ------------------------------------------------------------------------------------------------- bad days


def test_the_age_of_a_repost_is_that_of_its_original_and_unknown_without_one(a_world: World) -> None:
    originals = posts_by(30, 1, hours_ago=3)
    reposts = [
        *posts_by(10, 2, kind="repost", parent_id=1, parent_author_id=30),
        *posts_by(10, 3, kind="repost", parent_id=99, parent_author_id=30),
    ]
    world = a_world([a_follow(20, 10), *originals, *reposts, *posts_by(10, 4)])
    result = asyncio.run(world.service.execute(FeedRequest(viewer_id="20", request_id="r")))
    created = {p: int(result.candidates[CONTENT_CREATED_MS][result.row_of(world.post_id(p))]) for p in (1, 2, 3, 4)}
    assert created == {1: NOW_MS - 3 * HOUR_MS - 1, 2: NOW_MS - 3 * HOUR_MS - 1, 3: 0, 4: NOW_MS - HOUR_MS - 4}


@pytest.mark.parametrize(("viewer", "limit"), [("", None), ("20", 0), ("20", 51), ("x" * 200, None)])
def test_bad_requests_are_refused_by_name(a_world: World, viewer: str, limit: int | None) -> None:
    with pytest.raises(SchemaError, match=r"viewer id|limit"):
        a_world().page(viewer, limit=limit)


def test_unknown_params_are_refused_when_the_service_is_built(a_world: World) -> None:
    with pytest.raises(ConfigError, match=r"value\.weight_likes"):
        a_world(params={"value.weight_likes": 1.0})


def test_an_empty_world_gives_an_empty_page(a_world: World) -> None:
    page = a_world().page()
    assert page.posts == ()
    assert page.end_of_feed
    assert not page.degraded


def test_reposts_of_one_topic_take_the_topics_places(a_world: World) -> None:
    events: list[AnyEvent] = []
    for n in range(8):
        events += [
            a_follow(20, 100 + n),
            a_post_created(1000 + n, 500 + n, text=f"cat {n}", at_ms=NOW_MS - HOUR_MS),
            a_post_annotated(1000 + n, topics=("cats",)),
            a_post_created(2000 + n, 100 + n, kind="repost", text="", parent_id=1000 + n, parent_author_id=500 + n),
        ]
    page = a_world(events, params={"popular.max_posts": 0, "recent.only_below": 0, "new_authors.max_posts": 0}).page()
    assert [post.kind for post in page.posts] == ["repost"] * 5
