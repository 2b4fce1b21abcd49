"""What content must do wherever it is kept: subclass `ContentContract`, and give ``place``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

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
_DAY_MS = 86_400_000


@dataclass(frozen=True)
class ContentPlace:
    """Where content is kept: opens its writer, and any number of readers."""

    open_store: Callable[[IdHasher], ContentStore]
    open_reader: Callable[[IdHasher], ContentReader]

    def reader_at(self, position: int) -> ContentReader:
        """Return a new reader of a process that begins at this log position."""
        reader = self.open_reader(HASHER)
        reader.start_at((position,))
        return reader


def ids(*texts: object, kind: IdKind = IdKind.POST) -> Int64Array:
    """Return inside ids."""
    return HASHER.many(kind, map(str, texts))


def texts(reader: ContentReader, at: int, *posts: object) -> list[str | None]:
    """Return posts' texts at a log offset."""
    return [None if post is None else post.text for post in reader.posts(ids(*posts), (at,))]


def names(reader: ContentReader, at: int, *users: object) -> list[tuple[str, str] | None]:
    """Return users' ids and names at a log offset."""
    found = reader.users(ids(*users, kind=IdKind.USER), (at,))
    return [None if user is None else (user.user_id, user.name) for user in found]


def write(store: ContentStore, events: Sequence[AnyEvent], first: int = 0) -> None:
    """Let the store hear events that begin at a log offset, and commit."""
    store.hear(a_batch_of(list(events), first_offset=first))
    store.commit((first + len(events),))


class OneHash(IdHasher):
    """Gives every text of two or more characters the same inside id."""

    def one(self, kind: IdKind, text: str) -> int:
        """Return 7 for all but the shortest texts."""
        return 7 if len(text) > 1 else super().one(kind, text)

    def many(self, kind: IdKind, texts: Iterable[str]) -> Int64Array:
        """Return what `one` gives."""
        return np.array([self.one(kind, text) for text in texts], dtype=np.int64)


class ContentContract:
    """Behaviour of every content store, its reader at the same time."""

    def test_a_reader_sees_the_text_of_its_own_position(self, place: ContentPlace) -> None:
        """Each edit is there from its own log offset on."""
        store = place.open_store(HASHER)
        edits = [a_post_edited(1, text="second"), a_post_edited(1, is_sensitive=True)]
        write(store, [a_post_created(1, text="first"), *edits])
        found = [texts(place.reader_at(at), at, 1) for at in range(4)]
        assert found == [[None], ["first"], ["second"], ["second"]]
        post = place.reader_at(3).posts(ids(1), (3,))[0]
        assert post is not None
        assert (post.post_id, post.author_id, post.is_sensitive, post.edited_at_ms) == ("1", "10", True, NOW_MS)

    def test_answers_align_with_the_question(self, place: ContentPlace) -> None:
        """Also where ids come twice, or none does."""
        store, reader = place.open_store(HASHER), place.open_reader(HASHER)
        write(store, [a_post_created(i, text=f"t{i}") for i in range(1, 4)])
        assert texts(reader, 3, 3, 99, 1, 3) == ["t3", None, "t1", "t3"]
        assert reader.posts(np.zeros(0, np.int64), (3,)) == []
        assert reader.users(np.zeros(0, np.int64), (3,)) == []

    def test_thousands_of_ids_are_fine(self, place: ContentPlace) -> None:
        """More than one query may hold."""
        store, reader = place.open_store(HASHER), place.open_reader(HASHER)
        write(store, [a_post_created(i, text=f"t{i}") for i in range(1, 1800)])
        assert texts(reader, 5000, *range(1, 1800)) == [f"t{i}" for i in range(1, 1800)]

    def test_all_scripts_and_sizes_are_kept_as_they_are(self, place: ContentPlace) -> None:
        """Long texts, those of all scripts, and ids of both signs."""
        store, reader = place.open_store(HASHER), place.open_reader(HASHER)
        said = ["", "水車 🎡 ما\u0000", "x" * 50_000]
        write(store, [a_post_created(f"p{i}", "作者", text=text) for i, text in enumerate(said)])
        assert texts(reader, 3, "p0", "p1", "p2") == said
        assert names(reader, 3, "作者") == [("作者", "")]

    def test_the_first_creation_wins_and_a_deleted_post_never_comes_back(self, place: ContentPlace) -> None:
        """Neither by a creation that comes late nor by an edit."""
        store, reader = place.open_store(HASHER), place.open_reader(HASHER)
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

    def test_what_was_heard_before_is_not_heard_again(self, place: ContentPlace) -> None:
        """A keeper begins again from an older checkpoint."""
        store, reader = place.open_store(HASHER), place.open_reader(HASHER)
        events = [a_post_created(1, text="one"), a_post_edited(1, text="two"), a_post_created(2, text="three")]
        write(store, events[:2])
        store.hear(a_batch_of(events))
        store.commit((3,))
        assert texts(reader, 3, 1, 2) == ["two", "three"]
        store.hear(a_batch_of(events))
        store.commit((3,))
        store.commit((1,))
        assert store.position == reader.position() == (3,)

    def test_what_was_not_committed_is_gone_with_the_process(self, place: ContentPlace) -> None:
        """The store's own position says from where to hear again."""
        store = place.open_store(HASHER)
        write(store, [a_post_created(1, text="kept")])
        store.hear(a_batch_of([a_post_created(2, text="lost")], first_offset=1))
        store.close()
        store, reader = place.open_store(HASHER), place.open_reader(HASHER)
        assert store.position == (1,)
        assert texts(reader, 9, 1, 2) == ["kept", None]
        write(store, [a_post_created(2, text="heard again")], first=1)
        assert texts(reader, 9, 1, 2)[0] == "kept"

    def test_names_everybody_a_page_may_name(self, place: ContentPlace) -> None:
        """Whoever acted, with or without a profile."""
        store, reader = place.open_store(HASHER), place.open_reader(HASHER)
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
        user = reader.users(ids(10, kind=IdKind.USER), (6,))[0]
        assert user is not None
        assert user.bio == "mills"

    def test_a_collision_is_refused_never_merged(self, place: ContentPlace) -> None:
        """Of two texts with one inside id the first stands, and the other is reported once."""
        hasher = OneHash()
        store, reader = place.open_store(hasher), place.open_reader(hasher)
        store.hear(a_batch_of([a_post_created("aa", "1", text="first"), a_post_created("bb", "2", text="second")]))
        assert ["post id 'bb'" in c.reason for c in store.collisions] == [True]
        store.commit((2,))
        assert list(store.collisions) == []
        post = reader.posts(np.array([7]), (2,))[0]
        assert isinstance(post, PostContent)
        assert post.text == "first"
        store.hear(a_batch_of([an_engagement("cc")], first_offset=2))
        store.hear(a_batch_of([a_post_created("d", "dd")], first_offset=3))
        assert ["user id 'dd'" in c.reason for c in store.collisions] == [True]

    def test_erasure_removes_a_user(self, place: ContentPlace) -> None:
        """Their posts, their profile, and their name in what others have replied; not what they do afterwards."""
        store, reader = place.open_store(HASHER), place.open_reader(HASHER)
        events = [
            a_post_created(1, "erin", text="the secret of erin"),
            a_profile_updated("erin", name="Erin Example"),
            a_post_created(2, "bob", text="an answer", kind="reply", parent_id=1, parent_author_id="erin"),
            a_user_erased("erin"),
            a_post_created(3, "erin", text="back again"),
        ]
        write(store, events)
        assert texts(reader, 5, 1, 2, 3) == [None, "an answer", "back again"]
        answer = reader.posts(ids(2), (5,))[0]
        assert answer is not None
        assert answer.parent_author_id is None
        assert names(reader, 5, "erin") == [("erin", "")]
        (pending,) = store.pending_erasures()
        assert (pending.at, pending.user, pending.posts, pending.is_purged) == (3, "erin", ("1",), False)
        store.note_scanned([pending], 3)
        store.note_posts({3: ["1", "4"]})
        store.note_purged([pending], (4,))
        (pending,) = store.pending_erasures()
        assert (pending.scanned_to, pending.posts, pending.is_purged) == (3, ("1", "4"), True)
        store.forget_erasures([pending])
        assert store.pending_erasures() == []

    def test_tidying_removes_replaced_rows_and_old_posts(self, place: ContentPlace) -> None:
        """Rows that no reader can see any more, and posts that are older than is kept."""
        store = place.open_store(HASHER)
        write(store, [a_post_created(1, text="one"), a_post_edited(1, text="two"), a_profile_updated(1, name="n")])
        store.tidy(seen_by_all=(3,), position=(3,), now_ms=NOW_MS, retention_ms=_DAY_MS)
        assert texts(place.reader_at(1), 1, 1) == [None]  # the replaced text is gone
        assert texts(place.reader_at(3), 3, 1) == ["two"]
        write(store, [a_post_created(2, text="new")], first=3)
        store.tidy(seen_by_all=(3,), position=(4,), now_ms=NOW_MS + 2 * _DAY_MS, retention_ms=_DAY_MS)
        reader = place.reader_at(4)
        assert texts(reader, 4, 1, 2) == [None, "new"]
        assert names(reader, 4, 1) == [("1", "n")]
        assert (store.position_at(NOW_MS), store.position_at(NOW_MS + 1)) == (0, 3)

    def test_flush_keeps_everything(self, place: ContentPlace) -> None:
        """And more can be written afterwards."""
        store, reader = place.open_store(HASHER), place.open_reader(HASHER)
        write(store, [a_post_created(1, text="one")])
        store.flush()
        write(store, [a_post_created(2, text="two")], first=1)
        assert texts(reader, 2, 1, 2) == ["one", "two"]

    def test_reading_before_the_keeper_has_begun_finds_what_was_folded(self, place: ContentPlace) -> None:
        """A worker may be the first to start; what the keeper makes later is found without a new reader."""
        reader = place.open_reader(HASHER)
        reader.start_at((0,))
        reader.overlay.hear(a_batch_of([a_post_created(1, text="early")]))
        assert texts(reader, 1, 1, 2) == ["early", None]
        assert names(reader, 1, 10) == [("10", "")]
        assert reader.position() == (0,)
        assert reader.is_covered()
        write(place.open_store(HASHER), [a_post_created(1, text="early"), a_post_created(3, text="later")])
        assert reader.position() == (2,)
        assert texts(reader, 2, 3) == ["later"]


_POST, _NUMBER = st.integers(1, 4), st.integers(0, 99)
_EVENT = st.one_of(
    st.builds(lambda p, a, t: a_post_created(p, a, text=f"c{t}"), _POST, st.integers(10, 12), _NUMBER),
    st.builds(lambda p, t: a_post_edited(p, text=f"e{t}"), _POST, _NUMBER),
    st.builds(a_post_deleted, _POST),
    st.builds(lambda u, t: a_profile_updated(u, name=f"n{t}"), st.integers(10, 12), _NUMBER),
    st.builds(a_user_erased, st.integers(10, 12)),
    st.builds(an_engagement, st.integers(10, 13)),
)


def histories() -> st.SearchStrategy[list[AnyEvent]]:
    """Return logs of few posts and users to which everything happens."""
    return st.lists(_EVENT, max_size=25)


def check_splits(open_place: Callable[[], ContentPlace], events: list[AnyEvent], data: st.DataObject) -> None:
    """At the newest position, every split between keeper and overlay must tell what the keeper alone would."""
    n = len(events)
    started = data.draw(st.integers(0, n), label="the reader's checkpoint")
    kept = data.draw(st.integers(started, n), label="the keeper's position")
    posts, users = ids(1, 2, 3, 4), ids(10, 11, 12, 13, kind=IdKind.USER)

    def answers(n_kept: int, base: int) -> tuple[object, object]:
        place = open_place()
        store = place.open_store(HASHER)
        for first in range(0, n_kept, 7):
            write(store, events[first : min(first + 7, n_kept)], first)
        reader = place.open_reader(HASHER)
        reader.overlay.start_at(base)
        for row in range(base, n):
            reader.overlay.hear(a_batch_of(events[row : row + 1], first_offset=row))
            if data.draw(st.booleans(), label="release"):
                reader.refresh()
        return reader.posts(posts, (n,)), reader.users(users, (n,))

    assert answers(kept, started) == answers(n, n)


def check_all_along(
    open_place: Callable[[], ContentPlace],
    open_truth: Callable[[], ContentPlace],
    events: list[AnyEvent],
    data: st.DataObject,
    pass_time: Callable[[], None] = lambda: None,
) -> None:
    """A reader that lives while the keeper follows must tell at every position what has just been written tells.

    ``pass_time`` lets enough time go by for the reader to let go of what it keeps.
    """
    place, truth = open_place(), open_truth()
    store, reader = place.open_store(HASHER), place.open_reader(HASHER)
    true_store, true_reader = truth.open_store(HASHER), truth.open_reader(HASHER)
    posts, users = ids(1, 2, 3, 4), ids(10, 11, 12, 13, kind=IdKind.USER)
    reader.start_at((0,))
    n_kept = 0
    for row, event in enumerate(events):
        end = row + 1
        write(true_store, [event], row)
        reader.overlay.hear(a_batch_of([event], first_offset=row))
        ahead = data.draw(st.integers(n_kept, end), label="the keeper's position")
        if ahead > n_kept:
            write(store, events[n_kept:ahead], n_kept)
            n_kept = ahead
        if data.draw(st.booleans(), label="let go"):
            pass_time()
            reader.refresh()
        if data.draw(st.booleans(), label="read"):
            some = posts[: data.draw(st.integers(0, 4))]
            assert reader.posts(some, (end,)) == true_reader.posts(some, (end,))
            assert reader.users(users, (end,)) == true_reader.users(users, (end,))
    end = len(events)
    assert reader.posts(posts, (end,)) == true_reader.posts(posts, (end,))
    assert reader.users(users, (end,)) == true_reader.users(users, (end,))
