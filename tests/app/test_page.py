"""A page in a terminal: what a person reads, in any script."""

from __future__ import annotations

import io
import unicodedata
from typing import Any

import msgspec
import pytest
from rich.console import Console

from millrace.app.commands.page import is_right_to_left, nothing_words, print_page, shorten
from millrace.app.commands.printing import age, count, plain, plain_text, size
from millrace.events.content_events import Media
from millrace.mixer.feed import FeedParent, FeedPost, FeedResponse, FeedUser, Why
from millrace.mixer.trace_answers import FilterInfo, RequestTrace

NOW_MS = 1_700_000_000_000
WHY = Why(actions={}, value=1.0, offset_value=1.0, steps=(), score=1.0)


def a_post(**more: Any) -> FeedPost:
    values: dict[str, Any] = {
        "post_id": "p",
        "author": FeedUser(user_id="u1", name="Ada"),
        "text": "The wheel turns.",
        "kind": "original",
        "created_at_ms": NOW_MS - 3 * 3_600_000,
        "language": "en",
        "media": (),
        "parent_id": None,
        "parent": None,
        "reason": "You follow Ada",
        "sources": ("in_network",),
        "score": 1.0,
        "why": WHY,
    }
    return FeedPost(**{**values, **more})


def a_page(*posts: FeedPost, **more: Any) -> FeedResponse:
    values: dict[str, Any] = {
        "request_id": "r1",
        "generated_at": "2023-11-14T22:13:20Z",
        "viewer_id": "v",
        "posts": posts,
        "degraded": False,
        "end_of_feed": False,
    }
    return FeedResponse(**{**values, **more})


def shown(page: FeedResponse, max_posts: int | None = None) -> str:
    console = Console(file=io.StringIO(), width=80, color_system=None)
    print_page(console, page, NOW_MS, max_posts)
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


def test_a_card_says_who_when_what_and_why() -> None:
    text = shown(a_page(a_post(media=(Media(kind="video"),))))
    for part in ("For you, v", "Ada", "@u1", "3 h", "The wheel turns.", "You follow Ada", "▶ video"):
        assert part in text


def test_a_card_names_its_post_and_the_foot_its_request_uncut() -> None:
    lines = shown(a_page(a_post(), request_id="r" * 100)).splitlines()
    assert any(line.endswith("·  post p") for line in lines)
    assert lines[-2].startswith("1 post ─")
    assert lines[-1] == "request " + "r" * 100


def test_an_author_without_a_name_is_not_named_twice() -> None:
    assert "@u1" not in shown(a_page(a_post(author=FeedUser(user_id="u1", name="u1"))))


def test_a_repost_shows_what_was_reposted() -> None:
    parent = FeedParent(
        post_id="q", author=FeedUser(user_id="b", name="Bob"), text="Water is low.", created_at_ms=NOW_MS
    )
    text = shown(a_page(a_post(kind="repost", text="", parent_id="q", parent=parent)))
    assert "reposted" in text
    assert "Bob  ·  now" in text
    assert "Water is low." in text


def test_markup_in_a_post_is_text() -> None:
    assert "[bold red]x[/]" in shown(a_page(a_post(text="[bold red]x[/]"), viewer_id="[v]"))


def test_control_characters_of_others_never_reach_the_terminal() -> None:
    evil = "a\x1b[31mb\x9b2Jc\x07d\u202ee\u2066f\x7f\r\x1b]0;owned\x07"
    parent = FeedParent(post_id="q", author=FeedUser(user_id=evil, name=evil), text=evil, created_at_ms=NOW_MS)
    post = a_post(
        author=FeedUser(user_id=f"{evil}2", name=evil),
        text=evil,
        reason=evil,
        language=evil,
        parent=parent,
        kind="quote",
    )
    text = shown(a_page(post, viewer_id=evil, request_id=evil))
    assert not [char for char in text if char != "\n" and unicodedata.category(char) in {"Cc", "Cf"}]


@pytest.mark.parametrize(
    "text", ["مرحبا بالعالم", "שלום עולם", "👩\u200d👩\u200d👧 🏴", "می\u200cخواهم", "日本語", "two\nlines"]
)
def test_texts_of_any_script_stay_as_they_are(text: str) -> None:
    assert plain_text(text) == text


def test_a_name_is_one_line_without_controls() -> None:
    assert plain("Ada\nLove\tlace\u2028x\u202e") == "Ada Lovelace x".replace("Love", "Love    ")
    assert plain("\x1b[1m") == "\N{REPLACEMENT CHARACTER}[1m"


def test_a_long_page_is_cut_and_says_so() -> None:
    assert "and 2 more" in shown(a_page(a_post(), a_post(), a_post()), max_posts=1)


def test_an_empty_page_says_why() -> None:
    text = shown(a_page(end_of_feed=True, degraded=True))
    assert "Nothing to show" in text
    assert "degraded" in text
    assert "end of feed" in text


def a_trace(n_candidates: int, **n_dropped: int) -> RequestTrace:
    filters = tuple(
        FilterInfo(name=name, n_in=n_candidates, n_dropped=n, took_ms=0.0, fate="ok") for name, n in n_dropped.items()
    )
    return RequestTrace(
        request_id="r1",
        viewer_id="v",
        generated_at="2023-11-14T22:13:20Z",
        pipeline="home",
        limit=20,
        state_offset=(1,),
        params={},
        param_levels={},
        total_ms=1.0,
        n_candidates=n_candidates,
        n_ranked=0,
        n_slate=0,
        degraded=False,
        sources=(),
        filters=filters,
        components=(),
        outcomes=(),
        posts=(),
    )


@pytest.mark.parametrize(
    ("trace", "words"),
    [
        (None, "no live posts that this viewer may see"),
        (a_trace(0), "no source found a live post that this viewer may see and has not had"),
        (
            a_trace(1_065, age=12, own_posts=0, seen=1_032, served=21),
            "all 1,065 candidates were left out: seen 1,032, served 21, age 12",
        ),
        (a_trace(1, seen=1), "the only candidate was left out: seen 1"),
        (a_trace(65, seen=32, age=12), "of 65 candidates 44 were left out: seen 32, age 12"),
    ],
)
def test_an_empty_page_tells_what_took_its_posts_out(trace: RequestTrace | None, words: str) -> None:
    assert nothing_words(trace) == words


def test_long_texts_end_at_a_word() -> None:
    short = shorten("word " * 200)
    assert short.endswith("word …")
    assert len(short) < 290
    assert shorten("語" * 400).endswith("語 …")
    assert shorten("a\n\nb") == "a\nb"


@pytest.mark.parametrize(("text", "is_right"), [("مرحبا", True), ("1. שלום", True), ("hello", False), ("…", False)])
def test_the_first_letter_decides_the_direction(text: str, is_right: bool) -> None:
    assert is_right_to_left(text) is is_right


def test_numbers_are_said_as_people_say_them() -> None:
    assert [age(ms) for ms in (-5, 59_999, 60_000, 7_200_000, 172_800_000)] == ["now", "now", "1 min", "2 h", "2 d"]
    assert (count(1, "event"), count(2_000, "event")) == ("1 event", "2,000 events")
    assert [size(n) for n in (0, 999, 1_500, 2_000_000, 3 * 10**12)] == ["0 B", "999 B", "1.5 kB", "2.0 MB", "3.0 TB"]


def test_the_apis_answer_can_be_read_back() -> None:
    page = a_page(a_post())
    assert msgspec.json.decode(msgspec.json.encode(page), type=FeedResponse) == page
