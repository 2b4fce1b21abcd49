"""Muted keywords: in any script, in what a post carries, after edits, and only for those who mute any."""

from collections.abc import Callable
from typing import Any

import pytest

from millrace.base.keywords import keyword_hash
from millrace.events.content_events import Media
from millrace.events.envelope import AnyEvent
from millrace.features.attachments import POSTS
from millrace.features.columns import PARENT_ID
from millrace.features.query_fields import KEYWORDS
from millrace.mixer.feed import FeedResponse
from millrace.mixer.filters.muted_keywords import MutedKeywordFilter
from millrace.pipeline.outcome import Fate
from millrace.pipeline.stages import OnError
from millrace.stores.content import PostContent
from millrace.testing.builders import NOW_MS, a_follow, a_mute, a_post_created, a_post_edited
from millrace.testing.pipeline_builders import a_batch, a_query, kept
from millrace.testing.pipeline_world import FeedWorld

World = Callable[..., FeedWorld]
HOUR_MS = 3_600_000


def a_content(text: str, **fields: Any) -> PostContent:
    return PostContent(post_id="p", author_id="a", kind="original", text=text, created_at_ms=NOW_MS, **fields)


def ids(page: FeedResponse) -> list[str]:
    return sorted(post.post_id for post in page.posts)


def a_feed(*posts: AnyEvent) -> list[AnyEvent]:
    """Viewer 20 follows 10 and 11."""
    return [a_follow(20, 10), a_follow(20, 11), *posts]


def a_post(post_id: str, text: str, author: int = 10, **fields: Any) -> AnyEvent:
    return a_post_created(post_id, author, text=text, at_ms=NOW_MS - HOUR_MS, **fields)


@pytest.mark.parametrize(
    ("keyword", "muted", "free"),
    [
        ("cat", "A CAT, of course", "category"),
        ("new york", "New  York!", "new old york"),
        ("東京", "今日は東京タワーへ", "東の京都"),
        ("عليكم", "السلام عليكم", "عليكما"),
        ("cafe\u0301", "CAFÉ noir", "cafe noir"),
        ("แมว", "ฉันรักแมว", "แม่ว่า"),
        ("🔥", "hot🔥", "hot"),
        ("क्षण", "यह क्षण", "क्षणिक"),
    ],
)
def test_a_muted_keyword_is_never_on_the_page(a_world: World, keyword: str, muted: str, free: str) -> None:
    events = a_feed(a_post("1", muted), a_post("2", free, 11))
    assert ids(a_world(events).page()) == ["1", "2"]
    assert ids(a_world([*events, a_mute(20, keyword=keyword)]).page()) == ["2"]


def test_the_posts_that_a_post_carries_count(a_world: World) -> None:
    world = a_world(
        a_feed(
            a_post("spoilt", "a spoiler", 30),
            a_post("clean", "a mill", 31),
            a_post("1", "", kind="repost", parent_id="spoilt", parent_author_id=30),
            a_post("2", "so true", kind="quote", parent_id="spoilt", parent_author_id=30),
            a_post("3", "I agree", kind="reply", parent_id="spoilt", parent_author_id=30),
            a_post("4", "so true", 11, kind="quote", parent_id="clean", parent_author_id=31),
            a_mute(20, keyword="Spoiler"),
        )
    )
    page, result = world.page_with_result()
    assert ids(page) in (["4", "clean"], ["4"])
    assert {"1", "2", "3"}.isdisjoint(ids(page))
    assert result.n_dropped_by_name()["muted_keyword"] >= 3
    assert not page.degraded


def test_descriptions_of_media_count(a_world: World) -> None:
    media = (Media(kind="image", url="https://example.org/i.png", alt_text="A spider on a wheel"),)
    world = a_world(a_feed(a_post("1", "look", media=media), a_post("2", "look", 11), a_mute(20, keyword="spider")))
    assert ids(world.page()) == ["2"]


def test_an_edit_may_bring_a_keyword_or_take_it_away(a_world: World) -> None:
    world = a_world(
        a_feed(
            a_post("1", "a mill"),
            a_post("2", "a spoiler", 11),
            a_post_edited("1", text="now a spoiler"),
            a_post_edited("2", text="now a mill"),
            a_mute(20, keyword="spoiler"),
        )
    )
    assert ids(world.page()) == ["2"]


def test_unmuting_brings_posts_back(a_world: World) -> None:
    world = a_world(a_feed(a_post("1", "a spoiler"), a_mute(20, keyword="spoiler")))
    assert ids(world.page()) == []
    world.hear([a_mute(20, keyword="SPOILER", is_muted=False)])
    assert ids(world.page(request_id="r2")) == ["1"]


def test_the_page_is_filled_from_the_reserve(a_world: World) -> None:
    posts = [a_post(str(i), "a spoiler" if i % 2 else "a mill", author=100 + i) for i in range(80)]
    world = a_world([*posts, *(a_follow(20, 100 + i) for i in range(80)), a_mute(20, keyword="spoiler")])
    page, result = world.page_with_result(limit=35)
    assert len(page.posts) == 35
    assert all(post.text == "a mill" for post in page.posts)
    assert result.report.n_refills > 0


def test_only_the_viewers_own_keywords_count_and_others_pay_nothing(a_world: World) -> None:
    world = a_world(a_feed(a_post("1", "a spoiler"), a_mute(21, keyword="spoiler")))
    page, result = world.page_with_result()
    assert ids(page) == ["1"]
    (component,) = (c for c in result.report.components if c.component == "muted_keyword")
    assert (component.fate, component.took_ms) == (Fate.DISABLED, 0.0)
    assert not MutedKeywordFilter().is_enabled(a_query())


def test_it_reads_what_the_batch_carries_and_says_whose_text_it_is() -> None:
    stage = MutedKeywordFilter()
    query = a_query({KEYWORDS: [keyword_hash("old mill"), keyword_hash("dam")]})
    contents = {1: a_content("an old mill"), 2: a_content("a mill"), 3: a_content("x"), 9: a_content("the dam")}
    batch = a_batch({PARENT_ID: [0, 0, 9, 8]}).with_attachments({POSTS: contents})
    assert kept(stage, query, batch) == [2, 4]  # of the fourth, and of its parent, there is no text to judge
    assert stage.explain(query, batch, 0) == "its text has a keyword that the viewer mutes"
    assert stage.explain(query, batch, 2) == "the post that it carries has a keyword that the viewer mutes"
    assert kept(stage, query, a_batch({PARENT_ID: []})) == []
    assert stage.on_error is OnError.DROP_ALL
