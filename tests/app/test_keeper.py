from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import pytest

from millrace.app.erasure import Eraser
from millrace.app.keeper import Keeper
from millrace.app.keeper_lock import keeper_lock, running_keeper
from millrace.base.clock import ManualClock
from millrace.base.errors import StoreError
from millrace.base.ids import IdHasher, IdKind
from millrace.events.codec import EventCodec
from millrace.events.envelope import AnyEvent
from millrace.events.feature_events import CandidatesLogged, FeaturesLogged, names_any
from millrace.events.registry import EventRegistry
from millrace.flywheel.warehouse import Warehouse
from millrace.stores.checkpoint import Checkpoints
from millrace.stores.content_overlay import ContentReader
from millrace.stores.content_store import ContentStore
from millrace.stores.replica import Replica
from millrace.stores.replica_config import ReplicaConfig
from millrace.stores.sqlite_claims import SqliteClaims
from millrace.stores.sqlite_content import SqliteContentReads, SqliteContentWrites
from millrace.stream.collector import Collector
from millrace.stream.log import Message
from millrace.stream.sqlite_log import SqliteLog
from millrace.testing.builders import (
    NOW_MS,
    a_features_logged,
    a_post_annotated,
    a_post_created,
    a_post_edited,
    a_profile_updated,
    a_served,
    a_user_erased,
    an_engagement,
)
from millrace.testing.small_state import SmallState

CODEC = EventCodec(EventRegistry())
HASHER = IdHasher()
DAY_MS = 86_400_000


@dataclass
class SteppingClock(ManualClock):
    """Monotonic time that moves by hand, too."""

    def __init__(self) -> None:
        super().__init__(NOW_MS)
        self.s = 100.0

    def monotonic_s(self) -> float:
        return self.s


class Home:
    """A keeper and everything it keeps, in one folder."""

    def __init__(self, folder: Path, **config: object) -> None:
        self.folder = folder
        self.clock = SteppingClock()
        self.config = ReplicaConfig(**config)  # type: ignore[arg-type]
        self.log = SqliteLog(folder / "log.db", self.clock, min_free_bytes=0)
        self.collector = Collector(self.log, CODEC, self.clock)
        self.reader = ContentReader(SqliteContentReads(folder / "content.db"), HASHER)
        self.checkpoints = Checkpoints(folder / "checkpoints", "f", 2)
        self.warehouse = Warehouse(folder / "warehouse", CODEC)
        self.claims = SqliteClaims(folder / "claims.db")
        self.refresh_social: Callable[[], object] | None = None

    def keeper(self) -> Keeper:
        content = ContentStore(SqliteContentWrites(self.folder / "content.db"), HASHER)
        replica = Replica(
            self.log,
            CODEC.decode,
            SmallState,
            self.checkpoints,
            clock=self.clock,
            config=self.config,
            listeners=(content,),
        )
        keeper = Keeper(
            self.log,
            replica,
            content,
            self.warehouse,
            CODEC,
            self.clock,
            self.config,
            self.forget_pages,
            self.refresh_social,
        )
        keeper.start()
        return keeper

    def forget_pages(self, user: str) -> None:
        self.claims.forget(HASHER.one(IdKind.USER, user))

    def show(self, viewer: str, *texts: bytes) -> None:
        """Claim and keep a page with these texts, as a worker does."""
        viewer_id = HASHER.one(IdKind.USER, viewer)
        ids = np.arange(1, 1 + len(texts), dtype=np.int64)
        self.claims.claim(viewer_id, ids, ids, owner="r", now_ms=0, ttl_ms=10_000, max_claims=10_000)
        self.claims.keep_page(viewer_id, "k", b"".join(texts), now_ms=0, ttl_ms=10_000)

    def n_claimed(self, viewer: str) -> int:
        return len(self.claims.claimed(HASHER.one(IdKind.USER, viewer), 0).content_ids)

    def put(self, *events: AnyEvent) -> None:
        self.collector.submit(events)

    def settle(self, keeper: Keeper, chores: int = 1) -> None:
        for _ in range(chores):
            self.clock.s += 2
            while keeper.turn():
                pass

    def texts(self, *posts: object) -> list[str | None]:
        found = self.reader.posts(HASHER.posts(map(str, posts)), self.log.end())
        return [None if post is None else post.text for post in found]

    def files_with(self, text: bytes, but: Sequence[str] = ()) -> list[str]:
        found = (p for p in self.folder.rglob("*") if p.is_file() and text in p.read_bytes())
        return sorted({p.name for p in found} - set(but))


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path, checkpoint_every_records=1000)


def test_what_was_appended_can_be_read_and_checkpointed(home: Home) -> None:
    keeper = home.keeper()
    home.put(a_post_created(1, text="hello"), an_engagement())
    home.settle(keeper)
    assert home.texts(1) == ["hello"]
    assert keeper.checkpoint() == (2,)
    assert home.checkpoints.newest_position() == (2,)
    assert home.log.lag("keeper") == 0


def test_checkpoints_come_by_records_and_by_time(tmp_path: Path) -> None:
    home = Home(tmp_path, checkpoint_every_records=5, checkpoint_every_s=60.0)
    keeper = home.keeper()
    home.put(*(a_post_created(i) for i in range(5)))
    keeper.turn()
    assert home.checkpoints.newest_position() == (5,)
    home.put(a_post_created(9))
    keeper.turn()
    assert home.checkpoints.newest_position() == (5,)
    home.clock.s += 61
    keeper.turn()
    assert home.checkpoints.newest_position() == (6,)
    home.clock.s += 61
    keeper.turn()
    assert len(home.checkpoints.paths()) == 2  # nothing happened, nothing to write


def test_killed_anywhere_it_goes_on_without_doing_anything_twice(home: Home) -> None:
    keeper = home.keeper()
    home.put(a_post_created(1, text="one"))
    home.settle(keeper)
    keeper.checkpoint()
    home.put(a_post_edited(1, text="two"), a_post_created(2, text="three"))
    home.settle(keeper)
    del keeper  # no stop: content is ahead of the checkpoint now
    again = home.keeper()
    assert again.position == (1,)
    home.put(a_post_edited(2, text="four"))
    home.settle(again)
    assert again.position == (4,)
    assert home.texts(1, 2) == ["two", "four"]


def test_stopping_writes_a_checkpoint_of_everything(home: Home) -> None:
    keeper = home.keeper()
    home.put(*(a_post_created(i) for i in range(3)))
    keeper.stop()
    assert home.checkpoints.newest_position() == (3,)


def test_undecodable_records_become_dead_letters_once(home: Home) -> None:
    home.log.append([Message("events.post", "k", "bad-1", NOW_MS, b"\xc1nonsense")])
    home.put(a_post_created(1, text="fine"))
    keeper = home.keeper()
    home.settle(keeper)
    del keeper
    home.settle(home.keeper())  # from the beginning again: there is no checkpoint
    letters = list(home.log.dead_letters())
    assert [(letter.topic, letter.origin, letter.data) for letter in letters] == [
        ("events.post", "group/keeper", b"\xc1nonsense")
    ]
    assert home.texts(1) == ["fine"]


def test_a_lost_content_file_is_made_again_from_the_log(home: Home) -> None:
    keeper = home.keeper()
    home.put(*(a_post_created(i, text=f"t{i}") for i in range(40)))
    keeper.stop()
    home.reader.close()
    for path in home.folder.glob("content.db*"):
        path.unlink()
    home.keeper()
    assert home.texts(0, 39) == ["t0", "t39"]


def test_content_ahead_of_the_log_is_refused(home: Home) -> None:
    keeper = home.keeper()
    home.put(a_post_created(1))
    keeper.stop()
    home.log.close()
    for path in home.folder.glob("log.db*"):
        path.unlink()
    with pytest.raises(StoreError, match="another log"):
        Home(home.folder).keeper()
    shutil.rmtree(home.folder / "checkpoints")
    with pytest.raises(StoreError, match="ahead of the log"):
        Home(home.folder).keeper()


def test_the_log_is_trimmed_up_to_the_oldest_checkpoint_and_the_export(tmp_path: Path) -> None:
    home = Home(tmp_path, log_retention_ms=DAY_MS, checkpoint_every_records=10**6)
    keeper = home.keeper()
    home.put(*(a_post_created(i) for i in range(12_000)))
    home.settle(keeper)
    keeper.checkpoint()
    home.clock.advance_ms(2 * DAY_MS)
    home.settle(keeper, chores=50)
    assert home.log.begin() == (12_000,)  # old enough, exported, and before the only checkpoint's tail
    home.put(*(a_post_created(i) for i in range(12_000, 24_000)))
    home.settle(keeper)
    keeper.checkpoint()
    home.clock.advance_ms(2 * DAY_MS)
    home.settle(keeper, chores=50)
    assert home.log.begin() == (12_000,)  # the oldest kept checkpoint still stands there
    del keeper
    again = home.keeper()
    assert again.position == (24_000,)


def test_erasure_leaves_nothing_of_the_user_anywhere(home: Home) -> None:
    keeper = home.keeper()
    home.put(
        a_post_created("p1", "erin-the-erased", text="the words of erin"),
        a_post_created("p2", "bob", text="the words of bob"),
        a_profile_updated("erin-the-erased", name="Erin Example"),
        a_served("bob", ("p1",), author_id="erin-the-erased"),
    )
    home.collector.submit_json([b'{"payload": {"type": "Nonsense", "user_id": "erin-the-erased"}}'], "web")
    home.settle(keeper, chores=3)
    keeper.checkpoint()
    home.put(a_post_edited("p1", text="more words of erin"))
    home.settle(keeper)
    keeper.checkpoint()
    home.warehouse.export(home.log)
    assert home.files_with(b"erin-the-erased", but=["log.db", "log.db-wal"])
    home.show("erin-the-erased", b"the words of bob")
    home.show("bob", b"the words of erin")
    home.put(a_user_erased("erin-the-erased"), a_post_created("p3", "bob", text="later words of bob"))
    home.settle(keeper, chores=5)
    assert (home.n_claimed("erin-the-erased"), home.n_claimed("bob")) == (0, 1)
    assert home.texts("p1", "p2", "p3") == [None, "the words of bob", "later words of bob"]
    assert home.checkpoints.oldest_position() == (7,)
    assert list(home.log.dead_letters()) == []
    for words in (b"the words of erin", b"more words of erin", b"Erin Example"):
        assert home.files_with(words) == []
    home.put(an_engagement("bob", "p2"), a_served("bob", ("p1",), author_id="erin-the-erased"))  # it was under way
    home.show("erin-the-erased", b"the words of bob")
    home.show("bob", b"the words of erin")
    home.settle(keeper)
    home.warehouse.export(home.log)
    keeper.checkpoint()  # after a further one, the request to forget is forgotten itself
    home.settle(keeper, chores=5)
    connection = home.warehouse.connect()
    assert connection.execute("SELECT count(*) FROM events WHERE payload LIKE '%erin-the%'").fetchone() == (0,)
    connection.close()
    keeper.stop()
    home.log.close()
    home.reader.close()
    assert (home.n_claimed("erin-the-erased"), home.n_claimed("bob")) == (0, 1)
    home.claims.close()
    for words in (b"erin-the-erased", b"the words of erin"):
        assert home.files_with(words) == []


@pytest.mark.parametrize("stops", [True, False])
def test_an_erasure_on_a_home_where_nothing_more_happens_is_finished_too(home: Home, *, stops: bool) -> None:
    keeper = home.keeper()
    home.put(a_post_created("p1", "erin-the-erased", text="one"), a_user_erased("erin-the-erased"))
    home.settle(keeper, chores=5)
    if stops:
        keeper.stop()
    else:
        home.clock.s += 61
        home.settle(keeper, chores=2)
    home.log.close()
    home.reader.close()
    assert home.files_with(b"erin-the-erased", but=["log.db-wal", "content.db-wal"]) == []


def test_what_models_saw_of_an_erased_user_is_gone_from_log_and_warehouse(home: Home) -> None:
    keeper = home.keeper()

    def pages() -> tuple[AnyEvent, ...]:
        return (
            a_features_logged("erin", ("p2",), author_id="bob"),
            a_features_logged("ada", ("p1", "p2"), author_id="erin"),
            a_features_logged("ada", ("p2",), author_id="bob", history={"p1": "erin", "p2": "bob"}),
            a_features_logged("ada", ("p2",), author_id="bob", kind=CandidatesLogged),
        )

    home.put(a_post_created("p1", "erin"), a_post_created("p2", "bob"), *pages())
    home.settle(keeper)
    home.warehouse.export(home.log)
    home.put(a_user_erased("erin"), *pages()[:3])  # these were under way
    home.settle(keeper, chores=5)
    home.warehouse.export(home.log)
    home.clock.s += 61
    home.settle(keeper, chores=5)
    consumer = home.log.subscribe("test", topics=["events.features"], start=(0,))
    left = [CODEC.decode(data).payload for data in consumer.poll(100).data if data]
    consumer.close()
    assert [type(payload) for payload in left] == [CandidatesLogged]
    erin = IdHasher().users(["erin"])
    connection = home.warehouse.connect()
    rows = connection.execute("SELECT payload FROM events WHERE topic = 'events.features'").fetchall()
    connection.close()
    kept = [msgspec.json.decode(text, type=FeaturesLogged | CandidatesLogged) for (text,) in rows]
    assert len(kept) == 5
    assert not any(names_any(payload, erin, np.zeros(0, dtype=np.int64)) for payload in kept)


def test_an_erasure_is_finished_after_a_kill(home: Home) -> None:
    keeper = home.keeper()
    home.put(a_post_created("p1", "erin-the-erased", text="the words of erin"), a_user_erased("erin-the-erased"))
    keeper.turn()
    del keeper  # the content store has forgotten, the log has not
    assert home.files_with(b"the words of erin", but=["content.db-wal"])
    home.settle(home.keeper(), chores=5)
    assert home.files_with(b"the words of erin") == []


def damage_state(home: Home) -> None:
    (home.folder / "warehouse" / "state.json").write_bytes(b"{")


def damage_files(home: Home) -> None:
    for path in home.folder.rglob("*.parquet"):
        path.write_bytes(b"no parquet")


@pytest.mark.parametrize("damage", [damage_state, damage_files])
def test_a_broken_warehouse_stops_neither_folding_nor_checkpoints(
    home: Home, damage: Callable[[Home], None], caplog: pytest.LogCaptureFixture
) -> None:
    keeper = home.keeper()
    home.put(a_post_created("p1", "erin", text="one"), a_post_created("p2", "bob", text="two"))
    home.settle(keeper)
    damage(home)
    home.put(a_user_erased("erin"), a_post_created("p3", "bob", text="three"))
    home.settle(keeper)
    home.clock.s += 100
    home.settle(keeper)
    assert keeper.checkpoint() == home.checkpoints.newest_position()
    assert home.texts("p1", "p2", "p3") == [None, "two", "three"]
    assert sum(keeper.failed_chores.values()) >= 1
    assert "chore" in caplog.text
    keeper.stop()
    again = home.keeper()  # and it starts again
    home.settle(again)
    assert again.position == home.log.end()


def test_a_chore_that_fails_is_tried_again_ever_less_often(home: Home) -> None:
    keeper = home.keeper()
    home.put(a_post_created("p1", "erin", text="one"))
    home.settle(keeper)
    damage_state(home)
    home.put(a_post_created("p2", "erin", text="two"))
    for _ in range(300):
        home.settle(keeper)  # two seconds each
    assert 2 <= keeper.failed_chores["export"] <= 8
    (home.folder / "warehouse" / "state.json").unlink()
    home.clock.s += 3_600
    home.settle(keeper, chores=3)
    assert home.warehouse.position() == (2,)
    assert "export" not in keeper.failing_chores


def test_texts_are_kept_for_whoever_reads_at_the_newest_checkpoint_that_exists(home: Home) -> None:
    keeper = home.keeper()
    home.put(a_post_created(1, text="old"))
    home.settle(keeper)
    first = keeper.checkpoint()
    home.put(a_post_edited(1, text="new"))
    home.settle(keeper)
    (home.folder / "checkpoints").rename(home.folder / "aside")
    (home.folder / "checkpoints").write_bytes(b"in the way")
    for number in range(3):  # none of them can be written
        home.put(a_post_created(10 + number))
        home.settle(keeper)
        keeper.checkpoint()
    (home.folder / "checkpoints").unlink()
    (home.folder / "aside").rename(home.folder / "checkpoints")
    for number in range(2):
        home.put(a_post_created(20 + number))
        home.settle(keeper)
        keeper.checkpoint()
    # Somebody who had restored the first checkpoint may still stand there.
    found = home.reader.posts(HASHER.posts(["1"]), first)
    assert [post and post.text for post in found] == ["old"]


def test_a_failed_checkpoint_is_tried_again_at_the_end(home: Home) -> None:
    keeper = home.keeper()
    home.put(a_post_created(1))
    home.settle(keeper)
    (home.folder / "checkpoints").write_bytes(b"in the way")
    keeper.checkpoint()
    (home.folder / "checkpoints").unlink()
    keeper.stop()
    assert home.checkpoints.newest_position() == (1,)


def test_the_request_to_forget_outlives_a_restart_until_a_further_checkpoint(home: Home) -> None:
    keeper = home.keeper()
    home.put(a_post_created("p1", "erin"), a_user_erased("erin"))
    home.settle(keeper, chores=5)
    assert home.checkpoints.newest_position() == (2,)
    del keeper  # purged; a worker that lags behind may not have come to the request yet
    again = home.keeper()
    assert records_left(home) == [False, True]
    home.put(a_post_created("p2", "bob"))
    home.settle(again)
    again.checkpoint()
    assert records_left(home) == [False, False, True]


def records_left(home: Home) -> list[bool]:
    consumer = home.log.subscribe("test", start=(0,))
    records = consumer.poll(100)
    consumer.close()
    return [bool(data) for data in records.data]


def test_posts_learnt_from_the_log_are_remembered_over_a_kill(home: Home) -> None:
    keeper = home.keeper()
    home.put(
        a_post_created("p1", "erin", text="the words of erin"),
        a_post_annotated("p1", topics=("about-erin",)),
        a_user_erased("erin"),
    )
    keeper.turn()
    del keeper
    # As after the retention of texts: the content store no longer knows whose post it was.
    with sqlite3.connect(home.folder / "content.db") as connection:
        connection.execute("UPDATE erasures SET posts = '[]'")
    connection.close()
    for killed_after in range(3):
        content = ContentStore(SqliteContentWrites(home.folder / "content.db"), HASHER)
        eraser = Eraser(home.log, content, home.warehouse, CODEC, lambda: (3,), home.forget_pages, records_per_step=1)
        eraser.step()
        content.close()
        assert records_left(home) == [False, killed_after < 1, True]


def test_one_keeper_at_a_time(tmp_path: Path) -> None:
    assert running_keeper(tmp_path) is None
    with keeper_lock(tmp_path) as is_mine:
        assert is_mine
        assert running_keeper(tmp_path) is not None
        with keeper_lock(tmp_path, iter([False, True]).__next__) as is_second:
            assert not is_second
    assert running_keeper(tmp_path) is None


def test_social_vectors_are_refreshed_at_the_start_and_then_at_intervals(tmp_path: Path) -> None:
    home = Home(tmp_path, refresh_social_every_s=60)
    refreshed: list[float] = []

    def refresh() -> None:
        refreshed.append(home.clock.s)
        if len(refreshed) == 2:
            raise StoreError("social encoder", problem="cannot be read")

    home.refresh_social = refresh
    keeper = home.keeper()
    home.settle(keeper, chores=20)  # two seconds each
    assert len(refreshed) == 1
    home.settle(keeper, chores=12)
    assert len(refreshed) == 2
    assert keeper.failing_chores == {"refresh social vectors"}
    home.put(a_post_created("p1", "erin", text="one"))
    home.settle(keeper, chores=40)
    assert home.texts("p1") == ["one"]
    assert len(refreshed) == 3
    assert not keeper.failing_chores
