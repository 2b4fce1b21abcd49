"""The page at ``/`` in a real browser: a feed that one scrolls, acts on and asks why, in any language."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from millrace.app.commands.init import make_home
from millrace.testing.server_process import (
    PATIENCE_S,
    PATIENT,
    ServerProcess,
    connect_each,
    until,
    wait_for_offset,
)

pytest.importorskip("playwright.sync_api")

pytestmark = [pytest.mark.browser, pytest.mark.timeout(400)]

N_AUTHORS = 60
N_WORKERS = 2
TEXTS = (
    "A mill on a <b>stream</b>",
    "水車は川の流れで回る",
    "طاحونة على النهر",
    "磨坊在河边",
    "Ein Mühlrad dreht sich",
    "जलचक्की",
)
LANGUAGES = ("en", "ja", "ar", "zh", "de", "hi")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    settings, _ = make_home(tmp_path_factory.mktemp("browser") / "home")
    server = ServerProcess(settings.home, n_workers=N_WORKERS, overrides=PATIENT)
    try:
        server.wait_ready()
        take(server, the_world())
        yield server
        assert server.stop() == 0
    finally:
        if server.process.poll() is None:
            server.kill_all()


def the_world() -> list[dict[str, Any]]:
    """Sixty authors, two posts each in six scripts; Vera follows fifty of them and likes something, Wim little."""
    payloads: list[dict[str, Any]] = [
        {"type": "ProfileUpdated", "user_id": f"a{a}", "name": f"Author {a}"} for a in range(N_AUTHORS)
    ]
    payloads += [{"type": "ProfileUpdated", "user_id": "vera", "name": "Vera"}]
    payloads += [{"type": "FollowChanged", "follower_id": "vera", "followee_id": f"a{a}"} for a in range(50)]
    payloads += [{"type": "FollowChanged", "follower_id": "wim", "followee_id": "a1"}]
    for post in range(2 * N_AUTHORS):
        post_id, place = f"p{post}", post % len(TEXTS)
        text = f"{TEXTS[place]} {post}"
        payloads.append({"type": "PostCreated", "post_id": post_id, "author_id": f"a{post % N_AUTHORS}", "text": text})
        payloads.append({"type": "PostAnnotated", "post_id": post_id, "producer": "test", "language": LANGUAGES[place]})
    payloads += [
        {"type": "Engagement", "viewer_id": who, "post_id": f"p{post}", "action": "like"}
        for who, posts in (("vera", range(100, 106)), ("wim", range(100, 103)))
        for post in posts
    ]
    return [{"event_id": f"w{number}", "payload": payload} for number, payload in enumerate(payloads)]


def take(server: ServerProcess, events: list[dict[str, Any]]) -> None:
    """Take events in, and wait until both workers know of them and of what came before: either may answer."""
    answer = json.loads(server.get("/api/v1/events", json.dumps(events).encode()))
    assert answer["n_refused"] == 0
    by_worker = connect_each(server, N_WORKERS)
    wait_for_offset(by_worker, sum(answer["state_offset"]))
    for connection in by_worker.values():
        with connection:
            pass


class Tab:
    """One page of the browser, what it asked for, and what it complained about."""

    def __init__(self, page: Any, server: ServerProcess) -> None:
        self.page = page
        self.server = server
        self.requested: list[str] = []
        self.problems: list[str] = []
        self.expected = "(nothing)"
        page.on("request", lambda request: self.requested.append(request.url))
        page.on("console", lambda message: self.problems.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: self.problems.append(str(error)))

    def open(self, viewer: str = "vera") -> None:
        self.page.goto(f"{self.server.url}/?viewer={viewer}")
        self.page.wait_for_selector(".card")

    def is_settled(self) -> bool:
        """Whether nothing more is on its way; asked from here, for the page's own policy forbids `eval`."""
        return bool(self.page.locator(".card").count() or len(self.page.inner_text("#status")) > 1)

    def is_liked(self, place: int) -> bool:
        return bool(self.page.get_attribute(f".card >> nth={place} >> [data-act=like]", "aria-pressed") == "true")

    @contextmanager
    def told(self) -> Iterator[None]:
        """Say of what failed within what the page shows."""
        try:
            yield
        except TimeoutError as error:
            raise AssertionError(f"{self.posts()} and {self.page.inner_text('#status')!r}") from error

    def posts(self) -> list[str]:
        return [
            str(post) for post in self.page.eval_on_selector_all(".card", "cards => cards.map(c => c.dataset.post)")
        ]


@pytest.fixture
def tab(server: ServerProcess, new_page: Callable[[], Any]) -> Iterator[Callable[[], Tab]]:
    opened: list[Tab] = []

    def open_tab() -> Tab:
        opened.append(Tab(new_page(), server))
        return opened[-1]

    yield open_tab
    for one in opened:
        one.page.close()
        assert [problem for problem in one.problems if one.expected not in problem] == []
        assert [url for url in one.requested if not url.startswith(server.url)] == []


def at_the_end(tab: Tab) -> bool:
    tab.page.evaluate("scrollTo(0, document.body.scrollHeight)")
    return bool(tab.page.inner_text("#status") == "That is all for now.")


def test_scrolling_brings_more_and_nothing_twice(tab: Callable[[], Tab], tmp_path: Path) -> None:
    first = tab()
    first.open()
    assert len(first.posts()) >= 20
    until(lambda: at_the_end(first), PATIENCE_S)
    posts = first.posts()
    assert len(posts) > 35
    assert len(set(posts)) == len(posts)
    second = tab()
    second.page.goto(f"{second.server.url}/?viewer=vera")
    until(second.is_settled, PATIENCE_S)
    assert not set(second.posts()) & set(posts)
    first.page.screenshot(path=tmp_path / "feed.png")


def test_words_of_every_script_are_shown_as_words(tab: Callable[[], Tab]) -> None:
    page = tab()
    page.open("reader-of-all")
    # Which posts are on one page is the feed's choice; down to the end there are some of every script.
    until(lambda: at_the_end(page), PATIENCE_S)
    shown = page.page.eval_on_selector_all(
        ".card .text", "nodes => nodes.map(n => [n.textContent, n.dir, n.lang, getComputedStyle(n).direction])"
    )
    by_language = {language: (text, direction) for text, _, language, direction in shown}
    assert {"ja", "ar", "zh"} <= set(by_language)
    assert by_language["ar"][1] == "rtl"
    assert by_language["ja"][1] == "ltr"
    assert any("<b>stream</b>" in text for text, *_ in shown)
    assert page.page.locator(".card b").count() == 0
    assert {direction for _, direction, *_ in shown} == {"auto"}


def test_why_and_how_open_with_bars(tab: Callable[[], Tab], tmp_path: Path) -> None:
    page = tab()
    page.open("why-reader")
    page.page.click(".card >> nth=0 >> [data-act=why]")
    page.page.wait_for_selector(".why .actions .fill")
    text = page.page.inner_text("#panel")
    assert "probability × weight" in text
    assert "out of network" in text
    steps = page.page.locator(".why .steps tbody td:nth-child(2)").all_inner_texts()
    assert len(steps) >= 3
    assert not {"× 1", "+ 0"} & set(steps)
    page.page.screenshot(path=tmp_path / "why.png")
    page.page.click("#panel-close")
    page.page.click("#how")
    page.page.wait_for_selector(".made .waterfall .fill")
    text = page.page.inner_text("#panel")
    assert re.search(r"\d+ posts were found, \d+ passed the filters, \d+ are on the page", text)
    assert "recent" in text
    assert page.page.locator(".made .sources .label").count() >= 10
    page.page.screenshot(path=tmp_path / "how.png")


def test_a_muted_author_and_a_hidden_post_are_gone_and_a_like_counts(
    tab: Callable[[], Tab], server: ServerProcess
) -> None:
    page = tab()
    page.open("muter")
    author = page.page.get_attribute(".card >> nth=0", "data-author")
    page.page.click(".card >> nth=0 >> [data-act=mute]")
    page.page.wait_for_selector(".note")
    assert page.page.locator(f'.card[data-author="{author}"]').count() == 0
    hidden = page.posts()[0]
    page.page.click(".card >> nth=0 >> [data-act=hide]")
    until(lambda: page.page.locator(".note").count() == 2, PATIENCE_S)
    assert hidden not in page.posts()
    page.page.click(".card >> nth=1 >> [data-act=like]")
    assert page.page.get_attribute(".card >> nth=1 >> [data-act=like]", "aria-pressed") == "true"
    page.page.click(".card >> nth=2 >> [data-act=reply]")
    page.page.fill(".reply-form textarea", "so it does")
    page.page.click(".reply-form button")
    page.page.wait_for_selector("text=Your reply is out.")
    # The page after this one knows, whoever makes it: nothing by the muted author comes again.
    take(server, [{"payload": {"type": "ProfileUpdated", "user_id": "somebody-else", "name": "Else"}}])
    later: list[str] = []

    def is_asked() -> bool:
        answer = json.loads(server.get("/api/v1/timeline/home?viewer=muter"))
        later.extend(post["author"]["user_id"] for post in answer["posts"])
        return bool(answer["end_of_feed"])

    until(is_asked, PATIENCE_S)
    assert author not in later


def test_following_is_chronological(tab: Callable[[], Tab]) -> None:
    page = tab()
    page.open("vera-follows")
    page.page.goto(f"{page.server.url}/?viewer=wim")
    until(page.is_settled, PATIENCE_S)
    page.page.click("#tab-following")
    until(lambda: page.page.get_attribute("#tab-following", "aria-selected") == "true", PATIENCE_S)
    with page.told():
        until(lambda: page.posts() == ["p61", "p1"], PATIENCE_S)
    assert {page.page.get_attribute(f".card >> nth={n}", "data-author") for n in range(2)} == {"a1"}
    # A reload shows the same timeline; a like is remembered until then, and can be taken back.
    assert page.page.url.endswith("/?viewer=wim&timeline=following")
    page.page.click(".card >> nth=1 >> [data-act=like]")
    until(lambda: page.is_liked(1), PATIENCE_S)
    page.page.wait_for_timeout(300)
    page.page.click("#refresh")
    until(lambda: page.posts() == ["p61", "p1"] and page.is_liked(1), PATIENCE_S)
    page.page.click(".card >> nth=1 >> [data-act=like]")
    until(lambda: not page.is_liked(1), PATIENCE_S)
    page.page.reload()
    until(lambda: page.posts() == ["p61", "p1"], PATIENCE_S)
    assert page.page.get_attribute("#tab-following", "aria-selected") == "true"
    assert not page.is_liked(0)
    page.page.click("#tab-home")
    assert page.page.url.endswith("/?viewer=wim")


def test_what_fails_is_told_in_the_card_and_taken_back(tab: Callable[[], Tab], tmp_path: Path) -> None:
    page = tab()
    page.expected = "Failed to load resource"  # what the browser says of no answer
    page.open("unlucky")
    page.page.route("**/api/v1/events", lambda route: route.abort())
    card = page.page.locator(".card").first
    failed = card.locator("[role=alert]")

    def is_told() -> bool:
        return failed.count() == 1 and "The server does not answer; is it running?" in failed.inner_text()

    n_cards = len(page.posts())
    for act in ("like", "hide", "mute"):
        card.locator(f"[data-act={act}]").click()
        until(is_told, PATIENCE_S)
        page.page.evaluate("document.querySelector('.failed').remove()")
    assert not page.is_liked(0)
    assert len(page.posts()) == n_cards
    assert page.page.locator(".note").count() == 0
    card.locator("[data-act=reply]").click()
    card.locator("textarea").fill("typed with care")
    sent: list[Any] = []
    page.page.on("request", lambda request: sent.append(request.post_data) if "/events" in request.url else None)
    card.locator(".reply-form button").click()
    until(is_told, PATIENCE_S)
    assert card.locator("textarea").input_value() == "typed with care"
    page.page.screenshot(path=tmp_path / "failed.png")
    # The server is back: all of it works, and what was said before is gone.
    page.page.unroute("**/api/v1/events")
    card.locator(".reply-form button").click()
    until(lambda: card.locator(".reply-form").count() == 0, PATIENCE_S)
    assert "Your reply is out." in card.inner_text()
    # Sent twice, but as the same events: had the first arrived, there would still be one reply.
    replies = [body for body in sent if "typed with care" in body]
    assert len(replies) == 2
    assert replies[0] == replies[1]
    assert failed.count() == 0
    card.locator("[data-act=like]").click()
    until(lambda: page.is_liked(0), PATIENCE_S)


def test_a_hidden_post_can_be_had_back_and_a_failing_undo_says_so(tab: Callable[[], Tab]) -> None:
    page = tab()
    page.expected = "Failed to load resource"
    page.open("hider")
    posts = page.posts()
    page.page.click(".card >> nth=0 >> [data-act=hide]")
    page.page.wait_for_selector(".note")
    assert page.posts()[0] == posts[1]
    page.page.route("**/api/v1/events", lambda route: route.abort())
    page.page.click(".note button")
    page.page.wait_for_selector(".note [role=alert]")
    page.page.unroute("**/api/v1/events")
    page.page.click(".note button")
    until(lambda: page.posts()[0] == posts[0], PATIENCE_S)
    assert page.page.locator(".note").count() == 0


def test_impressions_are_sent_again_as_the_same_events_and_not_when_refused(tab: Callable[[], Tab]) -> None:
    page = tab()
    page.expected = "Failed to load resource"  # what the browser says of both answers
    answers = [503, 422]
    sent: list[set[str]] = []

    def answer(route: Any) -> None:
        events = json.loads(route.request.post_data)
        assert {event["payload"]["type"] for event in events} == {"Impression"}
        sent.append({event["event_id"] for event in events})
        if len(sent) > len(answers):
            route.continue_()
        else:
            route.fulfill(status=answers[len(sent) - 1], json={"error": {"message": "no"}})

    def is_sent(times: int) -> bool:
        page.page.wait_for_timeout(100)
        return len(sent) >= times

    page.page.route("**/api/v1/events", answer)
    page.open("reader")
    page.page.wait_for_timeout(300)
    page.page.evaluate("scrollTo(0, 2500)")
    until(lambda: is_sent(2), PATIENCE_S)
    assert sent[0]
    assert sent[0] <= sent[1]
    page.page.evaluate("scrollTo(0, 0)")
    until(lambda: is_sent(3), PATIENCE_S)
    assert not sent[1] & sent[2]
