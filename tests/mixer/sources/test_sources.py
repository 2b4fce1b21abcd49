"""Each source in small worlds: exactly which posts, in which order, with which score, and why not the others."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from millrace.events.envelope import AnyEvent
from millrace.features.query_fields import CLAIMED, FLOOR_MS, FOLLOWING, SERVED
from millrace.testing.builders import (
    NOW_MS,
    a_block,
    a_follow,
    a_label_changed,
    a_mute,
    a_post_annotated,
    a_post_created,
    a_post_deleted,
    a_profile_updated,
    an_editorial_pick,
    an_engagement,
    an_impression,
)
from millrace.testing.pipeline_world import FeedWorld

HOUR_MS = 3_600_000
World = Callable[..., FeedWorld]
Look = Callable[..., Any]


def posts_by(author: str | int, *post_ids: int, hours_ago: float = 1, **fields: Any) -> list[AnyEvent]:
    """Posts of an author, of which a smaller number is a newer post."""
    at_ms = NOW_MS - int(hours_ago * HOUR_MS)
    return [a_post_created(p, author, text=f"text {p}", at_ms=at_ms - p, **fields) for p in post_ids]


def likes(*pairs: tuple[str | int, int]) -> list[AnyEvent]:
    return [an_engagement(viewer, post, "like", at_ms=NOW_MS - HOUR_MS // 2) for viewer, post in pairs]


SOURCES = (
    "in_network",
    "second_degree",
    "friends_of_friends",
    "similar_viewers",
    "co_engagement",
    "trending",
    "popular",
    "editorial",
    "unserved",
    "recent",
)


@pytest.mark.parametrize("name", SOURCES)
def test_an_empty_world_and_a_new_viewer_are_valid(a_world: World, look: Look, name: str) -> None:
    empty = look(a_world(), name)
    assert empty.keys == []
    assert len(empty.why_not("nothing")) > 10
    lively = [*posts_by(10, 1, 2), *likes((11, 1), (12, 1), (11, 2)), a_follow(11, 10)]
    found = look(a_world(lively), name, viewer="nobody")
    assert found.keys == ([] if name not in ("trending", "popular", "recent") else found.keys)
    assert len(set(found.keys)) == len(found.keys)
    assert all(isinstance(found.why_not(post), str) for post in (1, 2, 3))


@pytest.mark.parametrize("name", ["friends_of_friends", "similar_viewers", "co_engagement", "trending", "popular"])
def test_a_cap_of_nothing_finds_nothing(a_world: World, look: Look, name: str) -> None:
    world = a_world([*posts_by(10, 1), *likes((11, 1))], params={f"{name}.max_posts": 0})
    assert look(world, name).keys == []


def test_the_sources_stand_in_their_order_of_priority(a_world: World) -> None:
    sources = a_world().service.pipeline.stages.sources
    assert [source.name for source in sources if source.name in SOURCES] == list(SOURCES)
    assert all(source.timeout_ms == 20.0 for source in sources)


# ---------------------------------------------------------------------------------------------- in network


def test_one_prolific_author_leaves_room_for_fifty_quiet_ones(a_world: World, look: Look) -> None:
    quiet = range(100, 150)
    events = [a_follow(20, author) for author in (10, *quiet)]
    events += posts_by(10, *range(1, 51), hours_ago=1)  # all newer than what the quiet ones published
    events += [event for author in quiet for event in posts_by(author, author + 1_000, hours_ago=5)]
    found = look(a_world(events, params={"in_network.max_posts": 60}), "in_network")
    ids = found.ids([*range(1, 51), *(author + 1_000 for author in quiet)])
    assert ids == [str(post) for post in (*range(1, 11), *(author + 1_000 for author in quiet))]
    assert found.why_not(11) == "its author has 10 newer posts, and authors take turns for 60 places"


def test_in_network_says_why_not(a_world: World, look: Look) -> None:
    events = [a_follow(20, 10), a_follow(20, 11), *posts_by(10, 1), *posts_by(12, 2), *posts_by(10, 3, hours_ago=47)]
    events += [*posts_by(10, 4), a_post_deleted(4), *posts_by(10, 5, kind="reply", parent_id="gone")]
    world = a_world(events)
    world.clock.advance_ms(2 * HOUR_MS)
    found = look(world, "in_network")
    assert found.ids([1]) == ["1"]
    assert found.why_not(2) == "its author is not among the 2 accounts that you follow"
    assert found.why_not(3) == "it is 49.0 hours old; the limit is 48"
    assert found.why_not(4) == "it was deleted"
    assert "never was" in found.why_not("never")
    assert "answers or reposts" in found.why_not(5)


def test_in_network_says_of_what_was_just_served_that_it_was_sent(a_world: World, look: Look) -> None:
    world = a_world(
        [a_follow(20, 10), *posts_by(10, 1, 2), *posts_by(12, 3), *posts_by(10, 4, kind="repost", parent_id="3")]
    )
    had = np.array([world.post_id(1), world.post_id(3)])
    found = look(world, "in_network", fields={CLAIMED: had, SERVED: had})
    assert found.ids([2]) == ["2"]
    assert found.why_not(1) == "it was sent to you lately"
    assert found.why_not(4) == "it was sent to you lately"  # of a repost, what it reposts
    claimed = look(world, "in_network", fields={CLAIMED: had})
    assert claimed.why_not(1) == "it left for you before"  # the page is not in the log yet


def test_in_network_looks_at_no_more_than_its_pool(a_world: World, look: Look) -> None:
    params = {"in_network.max_pool": 2, "in_network.max_posts": 2}
    world = a_world([a_follow(20, 10), *posts_by(10, 1, 2, 3)], params=params)
    found = look(world, "in_network")
    assert found.ids([1, 2]) == ["1", "2"]
    assert found.why_not(3) == "those you follow published 2 newer posts"


# ------------------------------------------------------------------------------------------- second degree


def test_second_degree_scores_by_how_many_engaged(a_world: World, look: Look) -> None:
    events = [a_follow(20, 10), a_follow(20, 11), *posts_by(30, 1, 2, 3), *likes((10, 2), (11, 2), (10, 1))]
    found = look(a_world(events, params={"second_degree.max_posts": 1}), "second_degree")
    assert (found.ids([2]), found.scores) == (["2"], [2.0])
    assert found.why_not(1) == ("1 of the 2 accounts that you follow engaged with it: place 2, beyond the cap of 1")
    assert found.why_not(3).startswith("none of the 2 accounts that you follow engaged with it within 48 hours")


@pytest.mark.parametrize("unwanted", [a_mute(20, 10), a_block(20, 10), a_block(10, 20)], ids=["mute", "block", "by"])
def test_second_degree_names_nobody_whom_the_viewer_mutes_or_blocks_or_who_blocks_the_viewer(
    a_world: World, look: Look, unwanted: AnyEvent
) -> None:
    events = [a_follow(20, 10), a_follow(20, 11), *posts_by(30, 1, 2), *likes((10, 1), (10, 2), (11, 2))]
    world = a_world([*events, unwanted])
    found = look(world, "second_degree")
    assert (found.ids([1, 2]), found.scores) == (["2"], [1.0])
    assert found.why_not(1).startswith("none of the 1 account that you follow engaged with it")
    assert {post.reason for post in world.page().posts if post.post_id == "2"} == {"Liked by 11, whom you follow"}


# -------------------------------------------------------------------------------------- friends of friends


def circle(*more: AnyEvent) -> list[AnyEvent]:
    """20 follows 10, 11 and 12; two of them follow 30, three follow 31, one follows 32."""
    follows = [(20, 10), (20, 11), (20, 12), (10, 30), (11, 30), (10, 31), (11, 31), (12, 31), (12, 32)]
    posts = [*posts_by(30, 1, 2, 3, 4), *posts_by(31, 11), *posts_by(32, 21), *posts_by(10, 31), *posts_by(20, 41)]
    return [*(a_follow(*pair) for pair in follows), *posts, *more]


ALL = (1, 2, 3, 4, 11, 21, 31, 41)


def test_friends_of_friends_are_those_whom_most_of_ones_follows_follow(a_world: World, look: Look) -> None:
    found = look(a_world(circle()), "friends_of_friends")
    assert found.ids(ALL)[0] == "11"
    assert sorted(found.ids(ALL)) == ["1", "11", "2", "21", "3"]  # at most three of an author
    assert found.scores == [3.0, 2.0, 2.0, 2.0, 1.0]
    assert found.why_not(4) == (
        "2 of 3 accounts that you follow follow its author: it is not among the author's 3 newest that you have not "
        "had, or below the cap of 200"
    )
    assert found.why_not(31) == "its author is you, or somebody whom you follow, block or mute, or who blocks you"


@pytest.mark.parametrize("event", [a_block(20, 31), a_block(31, 20), a_mute(20, 31), a_follow(20, 31)])
def test_friends_of_friends_leave_out_whom_one_follows_or_does_not_want(
    a_world: World, look: Look, event: AnyEvent
) -> None:
    assert "11" not in look(a_world(circle(event)), "friends_of_friends").ids(ALL)


def test_friends_of_friends_pass_over_what_the_viewer_had(a_world: World, look: Look) -> None:
    world = a_world(circle(an_impression(20, 1)))
    found = look(world, "friends_of_friends", fields={CLAIMED: np.array([world.post_id(2)])})
    assert sorted(found.ids(ALL)) == ["11", "21", "3", "4"]
    assert found.why_not(1) == "you have seen it"
    assert found.why_not(2) == "it left for you before"


def test_with_many_friends_those_whom_one_follows_are_not_enough(a_world: World, look: Look) -> None:
    many = [a_follow(follower, author) for follower in (10, 11) for author in range(200, 212)]
    found = look(a_world(circle(*many)), "friends_of_friends")
    assert "21" not in found.ids(ALL)
    assert found.why_not(21) == "too few of 3 accounts that you follow follow its author (2 should)"


def test_seeds_are_those_whom_the_viewer_engages_with_then_the_last_followed(a_world: World, look: Look) -> None:
    events = circle(*likes((20, 31)))  # post 31 is by account 10, the first that 20 followed
    params = {"friends_of_friends.max_seeds": 2}
    found = look(a_world(events, params=params), "friends_of_friends")
    by_author = dict(zip(found.ids(ALL), found.scores, strict=True))
    assert by_author["1"] == 1.0  # 10 follows 30; 11, who does too, is no seed
    assert by_author["11"] == 2.0
    assert by_author["21"] == 1.0  # 12 was followed last


# ---------------------------------------------------------------------------------------- similar viewers


TASTES = likes(("20", 1), ("20", 2), ("ann", 1), ("ann", 2), ("ann", 3), ("bo", 1), ("bo", 4), ("bo", 3), ("cy", 5))


def test_similar_viewers_bring_what_they_liked(a_world: World, look: Look) -> None:
    reply = posts_by(31, 6, kind="reply", parent_id=1, parent_author_id=30)
    world = a_world([*posts_by(30, 1, 2, 3, 4, 5), *reply, *TASTES, *likes(("ann", 6))])
    found = look(world, "similar_viewers")
    assert found.ids([3, 4]) == ["3", "4"]
    assert found.scores == pytest.approx([2 / 4**0.5 + 1 / 3**0.5, 1 / 3**0.5])
    assert found.why_not(5) == "none of the 2 viewers most like you, by 2 posts you liked, engaged with it lately"
    assert found.why_not(1) == "you engaged with it yourself"
    assert found.why_not(6) == "it is a reply; of strangers only originals and quotes are looked for"
    nobody = look(world, "similar_viewers", viewer="nobody")
    assert "not liked anything yet" in nobody.why_not(3)


def test_similar_viewers_leave_out_what_was_seen_and_what_is_gone(a_world: World, look: Look) -> None:
    events = [*posts_by(30, 1, 2, 3, 4), *TASTES]
    assert look(a_world([*events, an_impression(20, 3)]), "similar_viewers").ids([4]) == ["4"]
    gone = look(a_world([*events, a_post_deleted(3)]), "similar_viewers")
    assert gone.ids([4]) == ["4"]
    assert gone.why_not(3) == "it was deleted"
    capped = look(a_world(events, params={"similar_viewers.max_posts": 1}), "similar_viewers")
    assert capped.why_not(4) == (
        "1 of the 2 viewers most like you engaged with it; 1 posts have more to say for them, and the cap is 1"
    )


# ------------------------------------------------------------------------------------------ co-engagement


TOGETHER = likes(
    ("20", 1), *((viewer, post) for viewer in ("ann", "bo", "cy") for post in (1, 2)), ("ann", 3), ("bo", 3), ("cy", 4)
)


def test_who_engaged_with_this_engaged_with_that(a_world: World, look: Look) -> None:
    world = a_world([*posts_by(30, 1, 2, 3, 4), *TOGETHER])
    found = look(world, "co_engagement")
    assert found.ids([2, 3]) == ["2", "3"]
    assert found.scores[0] > found.scores[1] > 0
    assert found.why_not(4) == "it shares fewer than 2 users with each of the 1 posts that you liked last"
    assert found.why_not(1) == "you engaged with it yourself"
    loose = a_world([*posts_by(30, 1, 2, 3, 4), *TOGETHER], params={"co_engagement.min_common": 1})
    assert "4" in look(loose, "co_engagement").ids([2, 3, 4])


def test_a_bad_seed_never_empties_co_engagement(a_world: World, look: Look) -> None:
    bad = [*likes(("20", 50), ("ann", 50), ("20", 51), ("20", 99)), a_post_deleted(50)]  # deleted, lonely, unknown
    found = look(a_world([*posts_by(30, 1, 2, 3, 4, 50, 51), *TOGETHER, *bad]), "co_engagement")
    assert found.ids([2, 3]) == ["2", "3"]


def test_liked_posts_take_turns_where_there_are_too_many(a_world: World, look: Look) -> None:
    loud = [(viewer, post) for viewer in ("ann", "bo", "cy") for post in (1, 11, 12, 13)]
    quiet = [(viewer, post) for viewer in ("dee", "eve") for post in (2, 21)]
    events = [*posts_by(30, 1, 2, 11, 12, 13, 21), *likes(("20", 1), ("20", 2), *loud, *quiet)]
    found = look(a_world(events, params={"co_engagement.max_posts": 2}), "co_engagement")
    assert len(found.keys) == 2
    assert "21" in found.ids([11, 12, 13, 21])


# ------------------------------------------------------------------------------------ trending and popular


def test_what_rises_now_comes_before_what_was_hot(a_world: World, look: Look) -> None:
    old = [an_engagement(f"o{n}", 1, "like", at_ms=NOW_MS - 12 * HOUR_MS) for n in range(40)]
    new = [an_engagement(f"n{n}", 2, "like", at_ms=NOW_MS - HOUR_MS // 4) for n in range(8)]
    world = a_world([*posts_by(30, 1, hours_ago=13), *posts_by(31, 2, hours_ago=13), *old, *new])
    rising, hot = look(world, "trending"), look(world, "popular")
    assert hot.ids([1, 2]) == ["1", "2"]
    assert hot.scores[0] == pytest.approx(10.0, rel=1e-3)  # 40 likes, two half-lives ago
    assert rising.ids([1, 2]) == ["2", "1"]


def test_half_of_what_trends_is_in_the_viewers_topics(a_world: World, look: Look) -> None:
    events: list[AnyEvent] = [a_profile_updated(20, interests=("go",))]
    for post in range(1, 9):  # the smaller, the hotter; the last two are about go
        events += [*posts_by(30 + post, post), a_post_annotated(post, topics=("go",) if post > 6 else ("cats",))]
        events += [an_engagement(f"v{n}", post, "like", at_ms=NOW_MS - 60_000) for n in range(10 - post)]
    found = look(a_world(events, params={"trending.max_posts": 4}), "trending")
    assert found.ids(range(1, 9)) == ["1", "2", "7", "8"]
    assert "not in your topics; 2 posts rise faster, and the cap is 4" in found.why_not(3)
    one = look(a_world(events, params={"trending.max_posts": 1}), "trending")
    assert one.ids(range(1, 9)) == ["1"]
    stranger = look(a_world(events, params={"trending.max_posts": 4}), "trending", viewer="nobody")
    assert stranger.ids(range(1, 9)) == ["1", "2", "3", "4"]  # what topics leave free is filled


@pytest.mark.parametrize("name", ["trending", "popular"])
def test_neither_shows_what_was_had_or_cannot_be_read(a_world: World, look: Look, name: str) -> None:
    events = [*posts_by(30, 1, 2, 3, 4), *likes(*((viewer, post) for viewer in range(50, 55) for post in range(1, 5)))]
    events += [a_profile_updated(20, languages=("de",)), a_post_annotated(3, language="ja"), an_impression(20, 1)]
    world = a_world(events)
    found = look(world, name, fields={CLAIMED: np.array([world.post_id(2)])})
    assert found.ids([4]) == ["4"]
    assert found.why_not(3) == "it is in a language that you do not read"
    assert found.why_not(2) == "it left for you before"


def test_popular_says_how_hot(a_world: World, look: Look) -> None:
    events = [*posts_by(30, 1, 2, 3), *likes((50, 1), (51, 1), (50, 2))]
    found = look(a_world(events, params={"popular.max_posts": 1}), "popular")
    assert found.why_not(2).startswith("place 2 of all by heat (")
    assert found.why_not(3) == "it is not among the 2 hottest posts"


# ---------------------------------------------------------------------------------------------- editorial


def test_the_editorial_pool_has_the_newest_pick_first_and_its_time(a_world: World, look: Look) -> None:
    picks = [an_editorial_pick(1), an_editorial_pick(2, until_ms=NOW_MS + 1_000), an_editorial_pick(3)]
    gone = [an_editorial_pick(4), an_editorial_pick(4, is_picked=False), an_editorial_pick(5), a_post_deleted(5)]
    world = a_world([*posts_by(30, 1, 2, 3, 4, 5), *picks, *gone, an_impression(20, 3)])
    assert look(world, "editorial").ids([1, 2]) == ["2", "1"]
    world.clock.advance_ms(1_000)
    found = look(world, "editorial")
    assert found.ids([1]) == ["1"]
    assert found.why_not(4) == "it is not among the 2 posts of the editorial pool"
    assert found.why_not(3) == "you have seen it"


def test_editorial_posts_reach_the_page_with_their_reason(a_world: World) -> None:
    page = a_world([*posts_by(30, 1), an_editorial_pick(1)]).page(viewer_id="nobody")
    assert [(post.post_id, post.reason) for post in page.posts] == [("1", "Picked by the editors")]


# ----------------------------------------------------------------------------------------------- unserved


def test_what_was_ranked_and_not_served_is_found_again_for_three_minutes(a_world: World, look: Look) -> None:
    world = a_world([event for author in range(30, 50) for event in posts_by(author, author)])
    first, result = world.page_with_result(limit=5)
    shown = {post.post_id for post in first.posts}
    found = look(world, "unserved")
    ids = found.ids(range(30, 50))
    assert len(ids) == 15
    assert not set(ids) & shown
    ranked = result.ranked
    assert ids[0] == min(set(map(str, range(30, 50))) - shown, key=lambda p: _place(world, ranked, p))
    assert found.why_not(shown.pop()) == "it is not among the 15 best posts that your page before left out"
    assert look(world, "unserved", viewer=21).keys == []
    world.clock.advance_ms(180_000)
    late = look(world, "unserved")
    assert late.keys == []
    assert late.why_not(30) == "this process has ranked nothing for you within 180 seconds"


def _place(world: FeedWorld, ranked: Any, post: str) -> tuple[float, int]:
    from millrace.features.columns import POST_ID, SCORE

    row = int(np.flatnonzero(ranked[POST_ID] == world.post_id(post))[0])
    return -float(ranked[SCORE][row]), world.post_id(post)


def test_unserved_posts_are_filtered_anew(a_world: World) -> None:
    world = a_world([event for author in range(30, 40) for event in posts_by(author, author)])
    first = world.page(limit=2, request_id="a")
    left = next(str(p) for p in range(30, 40) if str(p) not in {post.post_id for post in first.posts})
    world.hear([a_block(20, left)])  # posts are named as their authors
    second, result = world.page_with_result(request_id="b")
    assert left not in {post.post_id for post in second.posts}
    row = result.row_of(world.post_id(left))
    assert "unserved" in result.sources_of(int(result.candidates.row(row)["provenance"]))
    assert result.drop_names[result.dropped_by[row]] == "blocked_author"


# ------------------------------------------------------------------------------------------------- recent


def test_recent_is_a_last_resort_and_says_so(a_world: World, look: Look) -> None:
    world = a_world(posts_by(30, 1, 2, 3), params={"recent.max_posts": 2})
    found = look(world, "recent", fields={CLAIMED: np.array([world.post_id(1)])})
    assert found.ids([2, 3]) == ["2", "3"]
    assert found.why_not(1) == "it left for you before"
    assert found.why_not(2) == "it is a last resort, and the other sources found 1,000 posts or more"
    fuller = look(world, "recent")
    assert fuller.why_not(3) == "there are 2 newer posts"


@pytest.mark.parametrize(
    ("fields", "of_author", "why_not"),
    [
        ({"is_sensitive": True}, [], "it is marked as sensitive, and you do not want to be shown that"),
        ({}, [a_label_changed("spam", user_id=30)], "unsafe would drop it: labelled spam"),
        ({}, [a_block(20, 30)], "blocked_author would drop it"),
        ({}, [a_block(30, 20)], "blocked_by_author would drop it"),
        ({}, [a_mute(20, 30)], "muted_author would drop it"),
        (
            {},
            [a_profile_updated(20, languages=("ja",)), *(a_post_annotated(n, language="en") for n in range(1, 41))],
            "it is in a language that you do not read",
        ),
        ({"kind": "quote", "parent_id": 99, "parent_author_id": 31}, [a_block(20, 31)], "blocked_parent would drop it"),
    ],
    ids=["sensitive", "unsafe", "blocked", "blocked by", "muted", "language", "quotes the blocked"],
)
def test_recent_looks_behind_what_may_not_be_shown(
    a_world: World, look: Look, fields: dict[str, Any], of_author: list[AnyEvent], why_not: str
) -> None:
    """Forty newer posts that filters would drop, twenty times as many as it takes."""
    unfit, fit = posts_by(30, *range(1, 41), **fields), posts_by(40, 51, 52, 53, hours_ago=2)
    world = a_world([*unfit, *fit, *of_author], params={"recent.max_posts": 2})
    found = look(world, "recent")
    assert found.ids([51, 52]) == ["51", "52"]
    assert found.why_not(1).startswith(why_not)
    assert found.why_not(53) == "there are 2 newer posts"


def test_recent_looks_no_further_than_the_floor(a_world: World, look: Look) -> None:
    world = a_world(posts_by(30, 1, 2, 3), params={"recent.max_posts": 2})
    found = look(world, "recent", fields={FLOOR_MS: NOW_MS - HOUR_MS - 1})
    assert found.ids([1]) == ["1"]
    assert found.why_not(2).startswith("floor would drop it")


def test_recent_shows_sensitive_posts_to_those_who_want_them(a_world: World, look: Look) -> None:
    events = [*posts_by(30, 1, is_sensitive=True), *posts_by(30, 2), *posts_by(30, 3, is_sensitive=True)]
    wants = a_profile_updated(20, settings={"sensitive_media": "show"})
    params = {"recent.max_posts": 2}
    assert look(a_world(events, params=params), "recent").ids([2]) == ["2"]
    assert look(a_world([*events, wants], params=params), "recent").ids([1, 2]) == ["1", "2"]


def test_recent_takes_all_there_is_where_that_is_little_and_leaves_it_to_the_filters(
    a_world: World, look: Look
) -> None:
    world = a_world([*posts_by(30, 1, is_sensitive=True), *posts_by(20, 2)], params={"recent.max_posts": 2})
    assert look(world, "recent").ids([1, 2]) == ["1", "2"]


def test_explaining_changes_nothing(a_world: World, look: Look) -> None:
    world = a_world([*circle(), *TASTES])
    for name in SOURCES:
        found = look(world, name)
        for post in (*ALL, 3, 99):
            found.why_not(post)
        assert look(world, name).query[FOLLOWING].tolist() == found.query[FOLLOWING].tolist()
