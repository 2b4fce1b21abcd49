"""Samples forget a user: files are rewritten, and what the join still holds never gets out."""

from __future__ import annotations

import gc
from pathlib import Path

import numpy as np

from millrace.base.ids import IdKind, hash_id
from millrace.events.envelope import AnyEvent
from millrace.events.feature_events import POSTS
from millrace.events.packed import unpack_arrays
from millrace.events.subjects import SubjectRule
from millrace.flywheel.erased_users import ErasedUsers, SampleErasure
from millrace.flywheel.sample_files import PAGES, read_tables
from millrace.flywheel.sample_tables import LoggedPages
from millrace.testing.builders import NOW_MS, a_clock_tick, a_features_logged, an_impression
from millrace.testing.join_house import CODEC, JoinHouse

HOUR_MS = 3_600_000


def page(viewer: str, request: str, at_ms: int, *, authors: dict[str, str], cut: int = 0) -> list[AnyEvent]:
    """Return a page for each author (a request has one) and the looks at it."""
    events = []
    for number, (post, author) in enumerate(authors.items()):
        events.append(
            a_features_logged(
                viewer, [post, f"by-{number}"], author_id=author, request_id=request, at_ms=at_ms, state_offset=(cut,)
            )
        )
        events += [
            an_impression(viewer, p, request_id=request, position=i, at_ms=at_ms + i)
            for i, p in enumerate((post, f"by-{number}"))
        ]
    return events


def ticks(at_ms: int) -> list[AnyEvent]:
    return [a_clock_tick(at_ms + i) for i in range(20)]


def pages_of(house: JoinHouse) -> LoggedPages:
    found = LoggedPages()
    for _, table in read_tables(house.files.paths(PAGES, up_to=10**6)):
        for name in LoggedPages.__slots__:
            getattr(found, name).extend(getattr(LoggedPages.of_table(table), name))
    return found


def viewers(house: JoinHouse) -> set[int]:
    return {viewer for viewer, _, _ in house.in_files()}


def inside(user: str) -> int:
    return hash_id(IdKind.USER, user)


def test_an_erased_viewer_is_gone_from_the_files_and_never_comes_back(tmp_path: Path) -> None:
    house = JoinHouse(tmp_path)
    house.put(page("erin", "r1", NOW_MS, authors={"p1": "bob"}))
    house.put(page("carl", "r2", NOW_MS, authors={"p1": "bob"}))
    house.put(ticks(NOW_MS + HOUR_MS))
    # Of this page the join knows when it is told to forget, and has let out nothing yet.
    house.put(page("erin", "r3", NOW_MS + HOUR_MS, authors={"p1": "bob"}))
    house.join_all()
    assert viewers(house) == {inside("erin"), inside("carl")}
    at = house.log.end()[0]
    assert SampleErasure(house.files).erase("erin", before=at) > 0
    # A page that was being made then, and one of somebody who has come back.
    house.put(page("erin", "r4", NOW_MS + HOUR_MS + 1, authors={"p1": "bob"}, cut=at))
    house.put(page("erin", "r5", NOW_MS + 2 * HOUR_MS, authors={"p1": "bob"}, cut=at + 5))
    house.put(ticks(NOW_MS + 5 * HOUR_MS))
    house.join_all()
    requests = {request for viewer, request, _ in house.in_files() if viewer == inside("erin")}
    assert requests == {hash_id(IdKind.REQUEST, "r5")}
    kept = pages_of(house)
    erins = [kept.requests[i] for i, viewer in enumerate(kept.viewers) if viewer == inside("erin")]
    assert erins == [hash_id(IdKind.REQUEST, "r5")]
    assert inside("carl") in viewers(house)
    # When the join can hold nothing of them any more, they are off the note too.
    assert len(ErasedUsers(house.files).read()) == 1
    house.put(page("dora", "r6", NOW_MS + 100 * HOUR_MS, authors={"p1": "bob"}))
    house.put(ticks(NOW_MS + 100 * HOUR_MS))
    house.join_all()
    assert ErasedUsers(house.files).read() == ()


def test_an_erased_authors_posts_are_gone_from_other_peoples_pages(tmp_path: Path) -> None:
    house = JoinHouse(tmp_path)
    house.put(page("carl", "r1", NOW_MS, authors={"p1": "erin"}))
    house.put(page("carl", "r2", NOW_MS, authors={"p2": "bob"}))
    house.put(ticks(NOW_MS + HOUR_MS))
    house.join_all()
    assert len(house.in_files()) == 4
    SampleErasure(house.files).erase("erin", before=house.log.end()[0])
    posts = {post for _, _, post in house.in_files()}
    assert hash_id(IdKind.POST, "p1") not in posts
    assert hash_id(IdKind.POST, "p2") in posts
    assert not any(np.isin(inside("erin"), unpack_arrays(arrays)["authors"]) for arrays in pages_of(house).arrays)


def test_pages_are_read_a_file_at_a_time_and_a_post_that_another_file_tells_of_is_gone_from_all(tmp_path: Path) -> None:
    house = JoinHouse(tmp_path)
    n_hours = 6
    for hour in range(n_hours):
        author = "erin" if hour == n_hours - 1 else "somebody"  # the last file alone tells whose it is
        house.put(page("ann", f"r{hour}", NOW_MS + hour * HOUR_MS, authors={"hers": author}, cut=0))
    house.join_all()
    assert len(pages_of(house)) == n_hours
    n_held: list[int] = []

    def count(_point: str) -> None:
        n_held.append(sum(type(each) is LoggedPages for each in gc.get_objects()))  # of a dead proxy one can't ask more

    house.files.at_point = count
    assert SampleErasure(house.files).erase("erin", before=10**6) >= n_hours
    assert max(n_held) <= 3
    hers = hash_id(IdKind.POST, "hers")
    assert not any(hers in unpack_arrays(arrays)[POSTS] for arrays in pages_of(house).arrays)
    house.close()


def test_samples_on_the_log_are_about_their_viewer_and_mention_their_posts(tmp_path: Path) -> None:
    house = JoinHouse(tmp_path)
    house.put(page("erin", "r1", NOW_MS, authors={"p1": "bob"}))
    house.put(ticks(NOW_MS + HOUR_MS))
    house.join_all()
    consumer = house.log.subscribe("check", topics=("flywheel.samples",), start=(0,))
    (data,) = consumer.poll(10).data
    consumer.close()
    payload = CODEC.decode(data).payload
    assert SubjectRule(["erin"]).is_about(payload)
    assert not SubjectRule(["bob"]).is_about(payload)
    assert SubjectRule(["bob"], ["p1"]).mentions(payload)
    assert SubjectRule(["bob"], ["p1"]).shows_posts(payload)
    assert not SubjectRule(["bob"], ["p9"]).mentions(payload)
    assert SubjectRule(["erin"]).is_of_before(payload, at=1)
    assert not SubjectRule(["erin"]).is_of_before(payload, at=0)
