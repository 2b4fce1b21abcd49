from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.base.errors import StoreError
from millrace.base.ids import IdHasher, IdKind, Int64Array
from millrace.events.envelope import AnyEvent
from millrace.stores.content import PostContent
from millrace.stores.content_overlay import ContentReader
from millrace.stores.content_store import ContentStore
from millrace.testing.builders import (
    NOW_MS,
    a_batch_of,
    a_follow,
    a_post_created,
    a_post_deleted,
    a_post_edited,
    a_profile_updated,
    a_user_erased,
    an_engagement,
)

HASHER = IdHasher()


def ids(*texts: object, kind: IdKind = IdKind.POST) -> Int64Array:
    return HASHER.many(kind, map(str, texts))


def texts(reader: ContentReader, at: int, *posts: object) -> list[str | None]:
    return [None if post is None else post.text for post in reader.posts(ids(*posts), (at,))]


def names(reader: ContentReader, at: int, *users: object) -> list[tuple[str, str] | None]:
    found = reader.users(ids(*users, kind=IdKind.USER), (at,))
    return [None if user is None else (user.user_id, user.name) for user in found]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "content.db"


@pytest.fixture
def store(path: Path):  # type: ignore[no-untyped-def]
    store = ContentStore(path, HASHER)
    yield store
    store.close()


@pytest.fixture
def reader(path: Path):  # type: ignore[no-untyped-def]
    reader = ContentReader(path, HASHER)
    yield reader
    reader.close()


def write(store: ContentStore, events: list[AnyEvent], first: int = 0) -> None:
    store.hear(a_batch_of(events, first_offset=first))
    store.commit((first + len(events),))


def test_a_reader_sees_the_text_of_its_own_position(store: ContentStore, reader: ContentReader) -> None:
    edits = [a_post_edited(1, text="second"), a_post_edited(1, is_sensitive=True)]
    write(store, [a_post_created(1, text="first"), *edits])
    assert [texts(reader, at, 1) for at in range(4)] == [[None], ["first"], ["second"], ["second"]]
    post = reader.posts(ids(1), (3,))[0]
    assert post is not None
    assert (post.post_id, post.author_id, post.is_sensitive, post.edited_at_ms) == ("1", "10", True, NOW_MS)


def test_answers_align_with_the_question(store: ContentStore, reader: ContentReader) -> None:
    write(store, [a_post_created(i, text=f"t{i}") for i in range(1, 4)])
    assert texts(reader, 3, 3, 99, 1, 3) == ["t3", None, "t1", "t3"]
    assert reader.posts(np.zeros(0, np.int64), (3,)) == []


def test_thousands_of_ids_are_fine(store: ContentStore, reader: ContentReader) -> None:
    write(store, [a_post_created(i, text=f"t{i}") for i in range(1, 1800)])
    assert texts(reader, 5000, *range(1, 1800)) == [f"t{i}" for i in range(1, 1800)]


def test_the_first_creation_wins_and_a_deleted_post_never_comes_back(store, reader, path: Path) -> None:  # type: ignore[no-untyped-def]
    events = [
        a_post_created(1, text="first"),
        a_post_created(1, text="again"),
        a_post_deleted(2),
        a_post_created(2, text="too late"),
        a_post_deleted(1),
        a_post_edited(1, text="after the end"),
    ]
    write(store, events)
    assert texts(reader, 4, 1, 2) == [None, None]  # deletion takes the text away at once, for every reader
    assert texts(reader, 6, 1, 2) == [None, None]
    assert b"first" not in path.read_bytes()


def test_what_was_heard_before_is_not_heard_again(store: ContentStore, reader: ContentReader) -> None:
    events = [a_post_created(1, text="one"), a_post_edited(1, text="two"), a_post_created(2, text="three")]
    write(store, events[:2])
    store.hear(a_batch_of(events))  # a keeper that begins again from an older checkpoint
    store.commit((3,))
    assert texts(reader, 3, 1, 2) == ["two", "three"]
    store.hear(a_batch_of(events))
    store.commit((3,))
    store.commit((1,))
    assert store.position == (3,)


def test_what_was_not_committed_is_gone_with_the_process(path: Path) -> None:
    store = ContentStore(path, HASHER)
    write(store, [a_post_created(1, text="kept")])
    store.hear(a_batch_of([a_post_created(2, text="lost")], first_offset=1))
    store.close()
    store = ContentStore(path, HASHER)
    assert store.position == (1,)
    reader = ContentReader(path, HASHER)
    assert texts(reader, 9, 1, 2) == ["kept", None]
    reader.close()
    store.close()


def test_names_everybody_a_page_may_name(store: ContentStore, reader: ContentReader) -> None:
    events = [
        a_post_created(1, 10),
        an_engagement(20),
        a_follow(30, 40),
        a_profile_updated(10, name="Ada"),
        a_profile_updated(10, bio="mills"),
        a_profile_updated(10, name="Ada L."),
    ]
    write(store, events)
    assert names(reader, 6, 10, 20, 30, 40, 50) == [("10", "Ada L."), ("20", ""), ("30", ""), ("40", ""), None]
    assert names(reader, 5, 10) == [("10", "Ada")]
    assert reader.users(ids(10, kind=IdKind.USER), (6,))[0].bio == "mills"  # type: ignore[union-attr]


class OneHash(IdHasher):
    """Gives every text of two or more characters the same inside id."""

    def one(self, kind: IdKind, text: str) -> int:
        return 7 if len(text) > 1 else super().one(kind, text)


def test_a_collision_is_refused_never_merged(path: Path) -> None:
    hasher = OneHash()
    store = ContentStore(path, hasher)
    store.hear(a_batch_of([a_post_created("aa", "1", text="first"), a_post_created("bb", "2", text="second")]))
    assert ["post id 'bb'" in c.reason for c in store.collisions] == [True]
    store.commit((2,))
    assert store.collisions == ()
    reader = ContentReader(path, hasher)
    post = reader.posts(np.array([7]), (2,))[0]
    assert isinstance(post, PostContent)
    assert post.text == "first"
    reader.close()
    store.close()


def test_colliding_users_are_refused_too(path: Path) -> None:
    class SameUser(IdHasher):
        def many(self, kind, texts):  # type: ignore[no-untyped-def]
            return np.full(len(list(texts)), 7, dtype=np.int64)

    store = ContentStore(path, SameUser())
    store.hear(a_batch_of([an_engagement("aa")]))
    store.hear(a_batch_of([a_post_created(1, "bb")], first_offset=1))
    assert ["user id 'bb'" in c.reason for c in store.collisions] == [True]
    store.close()


def test_erasure_removes_a_user_from_the_file(store: ContentStore, reader: ContentReader, path: Path) -> None:
    events = [
        a_post_created(1, "erin", text="the secret of erin"),
        a_profile_updated("erin", name="Erin Example"),
        a_post_created(2, "bob", text="an answer", kind="reply", parent_id=1, parent_author_id="erin"),
        a_user_erased("erin"),
        a_post_created(3, "erin", text="back again"),
    ]
    write(store, events)
    assert texts(reader, 5, 1, 2, 3) == [None, "an answer", "back again"]
    assert reader.posts(ids(2), (5,))[0].parent_author_id is None  # type: ignore[union-attr]
    assert names(reader, 5, "erin") == [("erin", "")]
    (pending,) = store.pending_erasures()
    assert (pending.at, pending.user, pending.posts, pending.is_purged) == (3, "erin", ("1",), False)
    store.note_scanned([pending], 3)
    store.note_purged([pending], (4,))
    assert b"the secret of erin" not in path.read_bytes()
    assert b"Erin Example" not in path.read_bytes()
    (pending,) = store.pending_erasures()
    assert (pending.scanned_to, pending.is_purged) == (3, True)
    store.forget_erasures([pending])
    assert store.pending_erasures() == []


def test_tidying_removes_replaced_rows_and_old_posts(store: ContentStore, reader: ContentReader) -> None:
    write(store, [a_post_created(1, text="one"), a_post_edited(1, text="two"), a_profile_updated(1, name="n")])
    day_ms = 86_400_000
    store.tidy(seen_by_all=(3,), position=(3,), now_ms=NOW_MS, retention_ms=day_ms)
    assert texts(reader, 1, 1) == [None]  # the replaced text is gone
    assert texts(reader, 3, 1) == ["two"]
    write(store, [a_post_created(2, text="new")], first=3)
    store.tidy(seen_by_all=(3,), position=(4,), now_ms=NOW_MS + 2 * day_ms, retention_ms=day_ms)
    assert texts(reader, 4, 1, 2) == [None, "new"]
    assert names(reader, 4, 1) == [("1", "n")]


def test_flush_keeps_everything(store: ContentStore, reader: ContentReader) -> None:
    write(store, [a_post_created(1, text="one")])
    store.flush()
    assert texts(reader, 1, 1) == ["one"]


def test_a_file_of_another_format_is_refused(path: Path) -> None:
    path.write_bytes(b"this is no database, however long one looks at it" * 100)
    with pytest.raises(StoreError, match="cannot be opened"):
        ContentStore(path, HASHER)


def test_reading_before_the_keeper_has_made_the_file_finds_what_was_folded(path: Path) -> None:
    reader = ContentReader(path, HASHER)
    reader.start_at((0,))
    reader.overlay.hear(a_batch_of([a_post_created(1, text="early")]))
    assert texts(reader, 1, 1, 2) == ["early", None]
    assert names(reader, 1, 10) == [("10", "")]
    assert reader.position() == (0,)


POST, NUMBER = st.integers(1, 4), st.integers(0, 99)
EVENT = st.one_of(
    st.builds(lambda p, a, t: a_post_created(p, a, text=f"c{t}"), POST, st.integers(10, 12), NUMBER),
    st.builds(lambda p, t: a_post_edited(p, text=f"e{t}"), POST, NUMBER),
    st.builds(a_post_deleted, POST),
    st.builds(lambda u, t: a_profile_updated(u, name=f"n{t}"), st.integers(10, 12), NUMBER),
    st.builds(a_user_erased, st.integers(10, 12)),
    st.builds(an_engagement, st.integers(10, 13)),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(EVENT, max_size=25), st.data())
def test_file_and_overlay_together_tell_the_same_wherever_the_keeper_is(
    tmp_path_factory: pytest.TempPathFactory, events: list[AnyEvent], data: st.DataObject
) -> None:
    """At the newest position, every split between file and overlay gives what the file alone would give."""
    n = len(events)
    started = data.draw(st.integers(0, n), label="the reader's checkpoint")
    kept = data.draw(st.integers(started, n), label="the keeper's position")
    posts, users = ids(1, 2, 3, 4), ids(10, 11, 12, 13, kind=IdKind.USER)

    def answers(n_in_file: int, base: int):  # type: ignore[no-untyped-def]
        path = tmp_path_factory.mktemp("content") / "content.db"
        store = ContentStore(path, HASHER)
        for first in range(0, n_in_file, 7):
            write(store, events[first : min(first + 7, n_in_file)], first)
        reader = ContentReader(path, HASHER)
        reader.overlay.start_at(base)
        for row in range(base, n):
            reader.overlay.hear(a_batch_of(events[row : row + 1], first_offset=row))
            if data.draw(st.booleans(), label="release"):
                reader.refresh()
        found = (reader.posts(posts, (n,)), reader.users(users, (n,)))
        reader.close()
        store.close()
        return found

    assert answers(kept, started) == answers(n, n)
