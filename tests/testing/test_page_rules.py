"""The naive judge of pages finds what it is there to find."""

import pytest

from millrace.events.envelope import AnyEvent
from millrace.mixer.feed import FeedPost, FeedResponse, FeedUser, Why
from millrace.testing.builders import (
    NOW_MS,
    a_block,
    a_follow,
    a_label_changed,
    a_mute,
    a_post_created,
    a_post_deleted,
    an_impression,
)
from millrace.testing.page_rules import PageRules

WORLD = (
    a_post_created(1, 10, text="hello"),
    a_post_created(2, 11, kind="quote", parent_id=1, parent_author_id=10, text="look"),
    a_post_created(3, 11, kind="repost", parent_id=1, parent_author_id=10, text=""),
)


def a_page(post_id: str, author_id: str, kind: str, parent_id: str | None = None) -> FeedResponse:
    post = FeedPost(
        post_id=post_id,
        author=FeedUser(user_id=author_id, name=author_id),
        text="" if kind == "repost" else "text",
        kind=kind,
        created_at_ms=NOW_MS,
        language="",
        media=(),
        parent_id=parent_id,
        parent=None,
        reason="New",
        sources=("recent",),
        score=1.0,
        why=Why(actions={}, value=1.0, offset_value=1.0, steps=(), score=1.0),
    )
    return FeedResponse(
        request_id="r", generated_at="", viewer_id="20", posts=(post,), degraded=False, end_of_feed=False
    )


def broken(page: FeedResponse, *events: AnyEvent) -> list[str]:
    rules = PageRules(NOW_MS)
    for event in (*WORLD, *events):
        rules.hear(event)
    return rules.broken(page)


ORIGINAL = a_page("1", "10", "original")
QUOTE = a_page("2", "11", "quote", "1")
REPOST = a_page("3", "11", "repost", "1")


def test_good_pages_are_good() -> None:
    for page in (ORIGINAL, QUOTE, REPOST):
        assert broken(page) == []


@pytest.mark.parametrize(
    ("page", "event", "problem"),
    [
        (ORIGINAL, a_post_deleted(1), "1: is deleted"),
        (REPOST, a_post_deleted(1), "3: reposts a deleted post"),
        (ORIGINAL, an_impression(20, 1), "1: was seen before"),
        (QUOTE, a_mute(20, 10), "2: 10 is muted"),
        (QUOTE, a_block(10, 20), "2: 10 and the viewer are blocked"),
        (ORIGINAL, a_label_changed("Spam", post_id=1), "1: is labelled spam"),
        (ORIGINAL, a_label_changed("suspended", user_id=10), "1: is labelled suspended"),
        (QUOTE, a_label_changed("csam", post_id=1), "2: is labelled csam"),
        (QUOTE, a_label_changed("hate", user_id=10), "2: is labelled hate"),
        (ORIGINAL, a_label_changed("nsfw", post_id=1), "1: is labelled nsfw"),
    ],
)
def test_what_must_not_be_is_told(page: FeedResponse, event: AnyEvent, problem: str) -> None:
    assert broken(page, event) == [problem]


def test_followers_may_see_what_is_hidden_from_strangers_and_labels_can_be_taken_off() -> None:
    assert broken(ORIGINAL, a_label_changed("nsfw", post_id=1), a_follow(20, 10)) == []
    assert broken(ORIGINAL, a_label_changed("spam"), a_label_changed("spam", is_set=False)) == []
    assert broken(ORIGINAL, a_label_changed("harmless", post_id=1)) == []
