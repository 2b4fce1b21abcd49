"""No post is ever shown twice: tabs of one viewer, in two workers, while posts come and go and processes are killed.

Every answer is kept by the id that the server gave its page: asked for again it must be the same bytes, and no content
may stand on two different pages. A request that was cut off is sent again, with its cursor or its ``X-Request-ID``.
"""

from __future__ import annotations

import json
import random
import threading
import time
from typing import Any

import pytest

from millrace.app.settings import Settings
from millrace.testing.server_process import Connection, ServerProcess, until, wait_for_offset

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(400)]

PAGE = 8
N_AUTHORS = 40
N_POSTS = 480
N_NEW = 60
HOME = "/api/v1/timeline/home?viewer=vera"
PATIENCE_S = 100.0


@pytest.fixture
def overrides(overrides: tuple[str, ...]) -> tuple[str, ...]:
    """Leave requests their time: how fast they are on a busy test machine is not what is tested."""
    return (*overrides, "home.deadline_ms=30000")


def a_post(number: int) -> dict[str, Any]:
    """Return a post by one of many authors whom nobody follows; every tenth is a repost of an earlier one."""
    payload = {"type": "PostCreated", "post_id": f"p{number}", "author_id": f"a{number % N_AUTHORS}"}
    payload["text"] = f"text {number}"
    return {"event_id": f"e{number}", "payload": payload}


def a_repost(number: int, of: int) -> dict[str, Any]:
    payload = {"type": "PostCreated", "post_id": f"r{number}", "author_id": f"a{number % N_AUTHORS}", "kind": "repost"}
    payload |= {"parent_id": f"p{of}", "parent_author_id": f"a{of % N_AUTHORS}"}
    return {"event_id": f"r{number}", "payload": payload}


def the_world() -> list[dict[str, Any]]:
    """Many posts, some followed authors, and reposts by those of what others wrote."""
    follows = [
        {"event_id": f"f{n}", "payload": {"type": "FollowChanged", "follower_id": "vera", "followee_id": f"a{n}"}}
        for n in range(N_AUTHORS // 2)
    ]
    reposts = [a_repost(n, of=N_AUTHORS // 2 + n) for n in range(N_AUTHORS // 2)]
    return [*follows, *map(a_post, range(N_POSTS)), *reposts]


def contents(page: dict[str, Any]) -> list[str]:
    """Return what a page shows: a post and its reposts are one."""
    return [post["parent_id"] if post["kind"] == "repost" else post["post_id"] for post in page["posts"]]


class Album:
    """Every page that was ever returned, from all tabs."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.pages: dict[str, bytes] = {}
        self.n_shown = 0
        self.short: list[tuple[int, int, dict[str, Any]]] = []

    def take(self, data: bytes) -> dict[str, Any]:
        """Keep an answer and return it read; the same page must be the same bytes."""
        page: dict[str, Any] = json.loads(data)
        with self._lock:
            if page["request_id"] not in self.pages:
                self.n_shown += len(page["posts"])
                if len(page["posts"]) < PAGE:
                    self.short.append((self.n_shown, len(page["posts"]), page["debug_info"]))
            assert self.pages.setdefault(page["request_id"], data) == data, "one page, two contents"
        return page

    def shown(self) -> list[str]:
        """Return every content on every page."""
        return [content for data in self.pages.values() for content in contents(json.loads(data))]

    def check(self) -> None:
        """No content on two pages, and none twice on one."""
        shown = self.shown()
        assert len(shown) == len(set(shown)), sorted(content for content in set(shown) if shown.count(content) > 1)


class Tab(threading.Thread):
    """Scrolls by cursor until the end of the feed; asks again for some pages, over connections of their own.

    A connection that is cut off, or a server that cannot answer now, is asked again for the same page.
    """

    def __init__(self, server: ServerProcess, album: Album, name: str, *, most: int = 1_000) -> None:
        super().__init__(daemon=True, name=name)
        self.server, self.album, self.most = server, album, most
        self.rng = random.Random(name)
        self.n_pages = self.n_cut = self.n_again = 0
        self.cursor: str | None = None
        self.is_at_end = False
        self.error: AssertionError | None = None
        self.deadline_s = time.monotonic() + PATIENCE_S

    def run(self) -> None:
        try:
            while not self._is_done():
                try:
                    with Connection(self.server) as connection:
                        self._scroll(connection)
                except OSError:
                    self.n_cut += 1
        except AssertionError as error:
            self.error = error

    def _is_done(self) -> bool:
        return self.is_at_end or self.n_pages >= self.most or time.monotonic() > self.deadline_s

    def _scroll(self, connection: Connection) -> None:
        """Take page after page from one worker, until another connection is due."""
        while not self._is_done():
            page = self._ask(connection, self.cursor)
            if page is None:
                continue
            if self.rng.random() < 0.3:  # again, wherever that is answered
                with Connection(self.server) as other:
                    again = self._ask(other, self.cursor)
                assert again is None or again["request_id"] == page["request_id"], "another page for one cursor"
                self.n_again += 1
            self.n_pages += 1
            self.is_at_end, self.cursor = page["end_of_feed"], page["cursor"]
            assert self.is_at_end == (self.cursor is None)
            if self.rng.random() < 0.2:
                return

    def _ask(self, connection: Connection, cursor: str | None) -> dict[str, Any] | None:
        path = f"{HOME}&limit={PAGE}" + ("" if cursor is None else f"&cursor={cursor}")
        status, data = connection.request(path, headers={"X-Request-ID": f"first page of {self.name}"})
        if status == 503:
            return None
        assert status == 200, (status, data[:300])
        return self.album.take(data)


def send(server: ServerProcess, events: list[dict[str, Any]]) -> int:
    """Send events until they are acknowledged; return the offset at which they are all in the state."""
    body = "\n".join(map(json.dumps, events)).encode()
    answers: list[dict[str, Any]] = []

    def is_taken() -> bool:
        try:
            answers.append(json.loads(server.get("/api/v1/events", body)))
        except OSError:
            return False
        return True

    until(is_taken, 60)
    return sum(answers[-1]["state_offset"])


def start(tabs: list[Tab]) -> None:
    for tab in tabs:
        tab.start()


def finish(tabs: list[Tab]) -> None:
    for tab in tabs:
        tab.join(PATIENCE_S + 20)
    assert [tab.error for tab in tabs if tab.error is not None] == []


def check_ends(album: Album, n_contents: int, n_lost_at_most: int) -> None:
    """Everything was shown but what left with a killed process, and pages were short only near the end."""
    album.check()
    n_shown = len(album.shown())
    assert n_contents - n_lost_at_most <= n_shown <= n_contents
    early = [page for page in album.short if page[0] < n_contents - n_lost_at_most - 16 * PAGE]
    assert early == []


def test_tabs_of_a_viewer_share_no_post_while_posts_come_and_go(
    server: ServerProcess, by_worker: dict[int, Connection]
) -> None:
    wait_for_offset(by_worker, send(server, the_world()))
    album = Album()
    tabs = [Tab(server, album, f"tab{n}") for n in range(4)]
    start(tabs)
    gone = set()
    for number in range(N_POSTS, N_POSTS + N_NEW, 10):
        send(server, [a_post(n) for n in range(number, number + 10)])
        gone.add(f"p{number - 7}")
        send(server, [{"payload": {"type": "PostDeleted", "post_id": f"p{number - 7}"}}])
    finish(tabs)
    assert all(tab.is_at_end for tab in tabs)
    assert sum(tab.n_again for tab in tabs) > 0
    late = Tab(server, album, "late")  # a tab that is opened when everything is over finds what came last
    start([late])
    finish([late])
    assert late.is_at_end
    check_ends(album, N_POSTS + N_NEW, len(gone))


def test_tabs_share_no_post_while_workers_and_keeper_are_killed(
    server: ServerProcess, settings: Settings, by_worker: dict[int, Connection], n_workers: int
) -> None:
    wait_for_offset(by_worker, send(server, the_world()))
    album = Album()
    tabs = [Tab(server, album, f"tab{n}") for n in range(4)]
    start(tabs)
    rng = random.Random(5)
    n_kills = 0
    for n_before in (5, 15, 25):  # in the middle of pages: the tabs do not wait
        until(lambda n=n_before: len(album.pages) >= n or not any(tab.is_alive() for tab in tabs), 60)  # type: ignore[misc]
        keeper = int((settings.data_dir / "keeper.lock").read_text() or 0)
        children = server.children()
        workers = [child for child in children if child.pid != keeper]
        for victim in (rng.choice(workers), *(child for child in children if child.pid == keeper)):
            victim.kill()
            n_kills += 1
        until(lambda: len(server.children()) == 1 + n_workers, 90)
    finish(tabs)
    until(server.is_ready, 90)
    late = Tab(server, album, "late")
    start([late])
    finish([late])
    assert all(tab.is_at_end for tab in (*tabs, late))
    assert n_kills >= 3
    # A killed worker takes with it what it had claimed for at most one page of each tab, and of one more in making.
    check_ends(album, N_POSTS, n_lost_at_most=3 * 2 * len(tabs) * PAGE)


def test_cursors_and_claims_outlive_everything_being_killed(
    server: ServerProcess, by_worker: dict[int, Connection]
) -> None:
    wait_for_offset(by_worker, send(server, the_world()))
    album = Album()
    places: list[tuple[str, str, bytes]] = []
    cursor = ""
    for round_ in range(2):
        for number in range(3):
            path = f"{HOME}&limit={PAGE}" + (f"&cursor={cursor}" if cursor else "")
            with Connection(server) as connection:
                status, data = connection.request(path, headers={"X-Request-ID": "tab"})
            assert status == 200, data[:300]
            places.append((path, "tab", data))
            cursor = album.take(data)["cursor"]
            if number == 1:
                with Connection(server) as connection:  # a page without a cursor in between
                    album.take(connection.request(f"{HOME}&limit={PAGE}")[1])
        if round_ < 1:
            server.kill_all()
            server.restart()
        for path, name, before in places:
            with Connection(server) as connection:
                assert connection.request(path, headers={"X-Request-ID": name}) == (200, before)
    assert len(album.pages) == 8
    assert len(album.shown()) == 8 * PAGE
    album.check()


def test_one_page_asked_for_in_both_workers_at_once_is_one_page(
    server: ServerProcess, by_worker: dict[int, Connection]
) -> None:
    wait_for_offset(by_worker, send(server, the_world()))
    album = Album()
    cursor = ""
    for number in range(12):
        together = threading.Barrier(len(by_worker))
        answers: list[tuple[int, bytes]] = []
        path = f"{HOME}&limit={PAGE}" + (f"&cursor={cursor}" if cursor else "")

        def ask(connection: Connection, path: str = path, together: threading.Barrier = together) -> None:
            together.wait(30)
            answers.append(connection.request(path, headers={"X-Request-ID": "tab"}))  # noqa: B023

        threads = [threading.Thread(target=ask, args=(connection,)) for connection in by_worker.values()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert len(answers) == len(by_worker)
        assert len(set(answers)) == 1, number
        assert answers[0][0] == 200
        cursor = album.take(answers[0][1])["cursor"]
    assert len(album.shown()) == 12 * PAGE
    album.check()
    rest = Tab(server, album, "rest")
    start([rest])
    finish([rest])
    check_ends(album, N_POSTS, 0)  # what the second of two had claimed was given back
