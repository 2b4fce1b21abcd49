"""Exact answers on a log that is small enough to count by hand."""

from __future__ import annotations

import pytest

from millrace.events.envelope import AnyEvent
from millrace.simulator.marginals.collected import Codes, Collected, Rows, collect
from millrace.simulator.marginals.of_events import marginals_of
from millrace.testing.builders import (
    NOW_MS,
    a_follow,
    a_post_annotated,
    a_post_created,
    a_profile_updated,
    an_engagement,
    an_impression,
)

MINUTE_MS = 60_000


def a_small_log() -> list[AnyEvent]:
    """Ada (10) writes twice; Ben (20) and Cleo (21) read; Dan (22) does nothing."""
    return [
        a_profile_updated(22),
        a_follow(20, 10),
        a_follow(21, 10),
        a_follow(21, 20),
        a_follow(10, 21),
        a_follow(21, 20, is_following=False),
        a_post_created(1, 10, text="one two three"),
        a_post_created(2, 10, text="four", at_ms=NOW_MS + 10_000),
        a_post_annotated(1, language="en"),
        an_impression(20, 1, position=0, at_ms=NOW_MS + MINUTE_MS),
        an_impression(20, 2, position=1, at_ms=NOW_MS + 2 * MINUTE_MS),
        an_impression(21, 1, position=0, at_ms=NOW_MS + 60 * MINUTE_MS),
        an_impression(21, 3, position=1, at_ms=NOW_MS + 61 * MINUTE_MS),
        an_engagement(20, 1, "like", at_ms=NOW_MS + MINUTE_MS),
        an_engagement(20, 1, "click", at_ms=NOW_MS + MINUTE_MS),
        an_engagement(20, 1, "like", is_undo=True, at_ms=NOW_MS + MINUTE_MS),
        an_engagement(21, 3, "not_interested", at_ms=NOW_MS + 61 * MINUTE_MS),
        a_post_created(3, 20, kind="quote", parent_id=1, parent_author_id=10, text="look", at_ms=NOW_MS + 20_000),
        a_post_created(4, 21, kind="repost", parent_id=3, parent_author_id=20, text="", at_ms=NOW_MS + 30_000),
        a_post_created(5, 21, kind="reply", parent_id=2, parent_author_id=10, text="why, Ada?", at_ms=NOW_MS + 40_000),
    ]


def test_follows_are_those_at_the_end() -> None:
    found = marginals_of(collect(a_small_log()))
    assert found["followers per user"]["mean"] == 3 / 4
    assert found["following per user"]["none at all"] == 1 / 4
    assert found["follow graph"]["reciprocity"] == pytest.approx(2 / 3)


def test_a_repost_of_a_quote_belongs_to_the_chain_of_what_was_quoted() -> None:
    sizes = marginals_of(collect(a_small_log()))["cascade size"]
    assert sizes["largest"] == 3  # posts 1, 3 and 4; 2 and the reply are chains of their own
    assert sizes["never passed on"] == pytest.approx(2 / 3)


def test_attention_counts_what_originals_got() -> None:
    found = marginals_of(collect(a_small_log()))
    assert found["likes per post"]["mean"] == 0.5
    assert found["replies per post"]["none at all"] == 0.5
    assert found["impressions per post"]["mean"] == 1.5
    assert found["actions"] == {
        "likes per impression": 0.25,
        "negative per 1,000 impressions": 250.0,
        "engagements per impression": 0.75,
    }


def test_clicks_stand_at_their_impressions_position() -> None:
    clicks = marginals_of(collect(a_small_log()))["click rate by position"]
    assert clicks["rate"] == 0.25
    assert clicks["rate at 0"] == 0.5


def test_activity_is_of_those_who_were_active() -> None:
    found = marginals_of(collect(a_small_log()))
    assert found["impressions per user"]["mean"] == 2.0
    assert found["original posts per author"]["median"] == 2.0
    assert found["reposts per user"]["mean"] == 1.0
    assert found["readers"] == {"who never post": 0.0, "who neither post nor act": 0.0}


def test_texts_are_measured_by_kind_and_language() -> None:
    found = marginals_of(collect([*a_small_log(), *(a_post_created(100 + n, 10, text="ab") for n in range(30))]))
    assert found["reply text, words"]["mean"] == 2.0
    assert found["reply text, characters"]["mean"] == 9.0
    assert "original text, en, characters" not in found  # one post is too few to speak of
    annotated = [a_post_annotated(100 + n, language="ja") for n in range(30)]
    texts = [a_post_created(100 + n, 10, text="ab") for n in range(30)]
    in_japanese = marginals_of(collect([*texts, *annotated]))
    assert in_japanese["original text, ja, characters"]["median"] == 2.0
    assert "original text, ja, words" not in in_japanese


def test_visits_and_gaps_come_from_moments() -> None:
    found = marginals_of(collect(a_small_log()))
    assert found["posts per visit"]["mean"] == 2.0
    assert found["seconds per visit"]["median"] == 60.0
    assert found["gaps between posts of an author"]["median s"] == 10.0


def test_an_empty_log_has_no_marginals() -> None:
    assert marginals_of(collect([])) == {}
    assert Collected().span_ms() == 0


def test_parts_of_a_log_are_enough() -> None:
    only_follows = marginals_of(collect([a_follow(1, 2)]))
    assert "followers per user" in only_follows
    only_posts = marginals_of(collect([a_post_created(1, 10)]))
    assert only_posts["cascade size"]["never passed on"] == 1.0
    assert "actions" not in only_posts


def test_what_passes_on_a_post_from_before_the_log_has_no_chain() -> None:
    repost = a_post_created(4, 21, kind="repost", parent_id=3, parent_author_id=20, text="")
    assert "cascade size" not in marginals_of(collect([repost]))


def test_columns_grow_row_by_row_and_texts_get_numbers() -> None:
    rows, codes = Rows("a", "b"), Codes()
    assert rows["b"].tolist() == []
    rows.add(1, 2)
    rows.add(3, 4)
    assert (len(rows), rows["b"].tolist()) == (2, [2, 4])
    assert [codes[text] for text in ("x", "y", "x")] == [0, 1, 0]
