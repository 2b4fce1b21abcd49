from __future__ import annotations

import contextlib
import sqlite3
import threading
from pathlib import Path

import numpy as np
import pytest

from millrace.app import wiring
from millrace.app.backup import make_backup, restore_backup
from millrace.app.commands.init import make_home
from millrace.app.keeper_lock import keeper_lock
from millrace.app.keeper_process import open_keeper
from millrace.app.settings import Settings
from millrace.base.errors import StoreError
from millrace.base.ids import IdHasher, IdKind
from millrace.events.envelope import AnyEvent
from millrace.registry.manifest import Description
from millrace.stream.log import total
from millrace.stream.sqlite_log import SqliteLog
from millrace.testing.builders import a_follow, a_post_created, a_user_erased, an_engagement


def a_home(folder: Path) -> Settings:
    return make_home(folder)[0]


def put(settings: Settings, events: list[AnyEvent]) -> None:
    log = wiring.build_log(settings)
    wiring.build_collector(settings, log, wiring.build_codec(settings)).submit(events)
    log.close()


def keep(settings: Settings) -> None:
    with keeper_lock(settings.data_dir):
        keeper = open_keeper(settings)
        keeper.start()
        keeper.stop()


def some_events(n: int, first: int = 0) -> list[AnyEvent]:
    kinds = (
        lambda i: a_post_created(i, i % 7, text=f"text {i}"),
        lambda i: an_engagement(i % 5, i - 1),
        lambda i: a_follow(i % 5, i % 7 + 10),
    )
    return [kinds[i % 3](i) for i in range(first, first + n)]


def state_of(settings: Settings) -> tuple[int, dict[str, bytes]]:
    log = wiring.build_log(settings)
    replica = wiring.build_replica(settings, log)
    replica.restore()
    replica.catch_up()
    arrays = {f"{s}/{n}": a.tobytes() for s, named in replica.arrays().items() for n, a in named.items()}
    assert replica.content is not None
    post = replica.content.posts(IdHasher().posts(["0"]), replica.position)[0]
    assert post is not None
    assert post.text == "text 0"
    position = total(replica.position)
    replica.close()
    log.close()
    return position, arrays


def test_a_restored_home_has_the_same_state(tmp_path: Path) -> None:
    home = a_home(tmp_path / "home")
    put(home, some_events(300))
    keep(home)
    put(home, some_events(60, first=300))  # a tail after the checkpoint
    report = make_backup(home, tmp_path / "backup")
    assert report.log_end == 360
    other = Settings(tmp_path / "other")
    restore_backup(other, tmp_path / "backup")
    assert other.config_path.read_text() == home.config_path.read_text()
    assert state_of(other) == state_of(home)


def claimed(settings: Settings) -> tuple[list[int], int]:
    with contextlib.closing(wiring.build_claims(settings)) as claims:
        found = claims.claimed(7, 0)
    return sorted(found.content_ids.tolist()), found.floor_ms


def test_what_left_for_a_viewer_is_backed_up_and_restored(tmp_path: Path) -> None:
    home = a_home(tmp_path / "home")
    put(home, some_events(10))
    ids = np.array([1, 2, 3], dtype=np.int64)
    with contextlib.closing(wiring.build_claims(home)) as claims:  # open meanwhile, as in a worker
        claims.claim(7, ids, ids, owner="r", now_ms=0, ttl_ms=1_000, max_claims=2)
        claims.keep_page(7, "k", b"page", now_ms=0, ttl_ms=1_000)
        make_backup(home, tmp_path / "backup")
    other = Settings(tmp_path / "other")
    restore_backup(other, tmp_path / "backup")
    assert claimed(other) == claimed(home) == ([2, 3], 2)
    assert not list((tmp_path / "backup").rglob("secret.key"))
    with contextlib.closing(wiring.build_claims(home)) as claims:
        claims.claim(7, ids + 3, ids + 3, owner="r2", now_ms=0, ttl_ms=1_000, max_claims=5)
    restore_backup(home, tmp_path / "backup", replaces=True)
    assert claimed(home) == ([2, 3], 2)


def test_an_erasure_reaches_the_claims_of_the_home_and_the_samples_of_a_training(tmp_path: Path) -> None:
    home = a_home(tmp_path / "home")
    samples = home.training_dir / "unfinished" / "samples"
    samples.mkdir(parents=True)
    erin = IdHasher().one(IdKind.USER, "erin")
    ids = np.array([1, 2, 3], dtype=np.int64)
    with contextlib.closing(wiring.build_claims(home)) as claims:
        for viewer_id in (erin, 7):
            claims.claim(viewer_id, ids, ids, owner="r", now_ms=0, ttl_ms=1_000, max_claims=2)
        put(home, [a_post_created("p", "erin"), a_user_erased("erin")])
        with keeper_lock(home.data_dir):
            keeper = open_keeper(home)
            keeper.start()
            while keeper.turn() or keeper._eraser.step():
                pass
            keeper.stop()
        found = claims.claimed(erin, 0)
        assert (found.content_ids.tolist(), found.floor_ms) == ([], 0)
    assert claimed(home) == ([2, 3], 2)
    assert not samples.exists()


def test_a_home_can_be_copied_while_it_is_written(tmp_path: Path) -> None:
    home = a_home(tmp_path / "home")
    put(home, some_events(200))
    keep(home)
    done = threading.Event()

    def write() -> None:
        log = wiring.build_log(home)
        collector = wiring.build_collector(home, log, wiring.build_codec(home))
        keeper = open_keeper(home)
        keeper.start()
        first = 200
        while not done.is_set():
            collector.submit(some_events(50, first))
            keeper.turn()
            keeper.checkpoint()
            first += 50
        keeper.stop()
        log.close()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(3):
            make_backup(home, tmp_path / f"backup-{number}")
    finally:
        done.set()
        writer.join()
    for number in range(3):
        other = Settings(tmp_path / f"other-{number}")
        report = restore_backup(other, tmp_path / f"backup-{number}")
        assert state_of(other)[0] == report.log_end


def test_models_and_which_of_them_serve_are_backed_up(tmp_path: Path) -> None:
    home = a_home(tmp_path / "home")
    put(home, some_events(3))
    keep(home)
    served = tmp_path / "served"
    served.mkdir()
    (served / "ranker.onnx").write_bytes(b"weights")
    registry = wiring.build_registry(home)
    version = registry.publish(
        served, Description(kind="ranker", feature_schema_hash="f", from_ms=0, until_ms=1), now_ms=5
    ).version
    registry.promote({"ranker": version}, now_ms=6)
    make_backup(home, tmp_path / "backup")
    other = a_home(tmp_path / "other")
    restore_backup(other, tmp_path / "backup")
    restored = wiring.build_registry(other)
    assert restored.serving() == {"ranker": version}
    assert restored.verify("ranker", version).feature_schema_hash == "f"


def test_a_damaged_or_incomplete_backup_is_refused(tmp_path: Path) -> None:
    home = a_home(tmp_path / "home")
    put(home, some_events(10))
    make_backup(home, tmp_path / "backup")
    log = tmp_path / "backup" / "data" / "log.db"
    whole = log.read_bytes()
    log.write_bytes(whole[:-1] + b"x")
    with pytest.raises(StoreError, match=r"damaged data/log\.db"):
        restore_backup(Settings(tmp_path / "other"), tmp_path / "backup")
    log.unlink()
    with pytest.raises(StoreError, match=r"misses data/log\.db"):
        restore_backup(Settings(tmp_path / "other"), tmp_path / "backup")
    with pytest.raises(StoreError, match=r"no readable backup\.json"):
        restore_backup(Settings(tmp_path / "other"), tmp_path / "home")


def test_data_that_is_there_is_only_replaced_when_asked_and_kept_beside(tmp_path: Path) -> None:
    home = a_home(tmp_path / "home")
    put(home, some_events(10))
    make_backup(home, tmp_path / "backup")
    put(home, some_events(10, first=10))
    with pytest.raises(StoreError, match="has data already"):
        restore_backup(home, tmp_path / "backup")
    restore_backup(home, tmp_path / "backup", replaces=True)
    log = wiring.build_log(home)
    assert log.end() == (10,)
    log.close()
    first = home.home / "data-before-restore-1"
    assert _end_of(first) == 20


def test_what_was_replaced_is_never_removed(tmp_path: Path) -> None:
    home = a_home(tmp_path / "home")
    put(home, some_events(10))
    make_backup(home, tmp_path / "backup")
    put(home, some_events(10, first=10))
    for number in (1, 2, 3):
        report = restore_backup(home, tmp_path / "backup", replaces=True)
        assert report.replaced_data == str(home.home / f"data-before-restore-{number}")
    ends = [_end_of(home.home / f"data-before-restore-{number}") for number in (1, 2, 3)]
    assert ends == [20, 10, 10]


def test_what_is_left_of_a_home_without_a_log_is_kept_too(tmp_path: Path) -> None:
    home = a_home(tmp_path / "home")
    put(home, some_events(10))
    make_backup(home, tmp_path / "backup")
    home.log_path.unlink()
    (home.data_dir / "warehouse").mkdir()
    (home.data_dir / "warehouse" / "precious.parquet").write_bytes(b"x")
    report = restore_backup(home, tmp_path / "backup")
    assert report.replaced_data is not None
    assert (Path(report.replaced_data) / "warehouse" / "precious.parquet").exists()


def _end_of(data_dir: Path) -> int:
    with sqlite3.connect(data_dir / "log.db") as connection:
        connection.execute("PRAGMA quick_check")
    connection.close()
    log = SqliteLog(data_dir / "log.db", wiring.build_clock())
    end = total(log.end())
    log.close()
    return end


def test_a_home_that_serves_is_not_restored(tmp_path: Path) -> None:
    home = a_home(tmp_path / "home")
    put(home, some_events(10))
    make_backup(home, tmp_path / "backup")
    with keeper_lock(home.data_dir), pytest.raises(StoreError, match="a server runs there"):
        restore_backup(home, tmp_path / "backup", replaces=True)


def test_a_backup_never_overwrites(tmp_path: Path) -> None:
    home = a_home(tmp_path / "home")
    with pytest.raises(StoreError, match="has no log yet"):
        make_backup(home, tmp_path / "backup")
    assert not (tmp_path / "backup").exists()
    put(home, some_events(10))
    make_backup(home, tmp_path / "backup")
    with pytest.raises(StoreError, match="exists already"):
        make_backup(home, tmp_path / "backup")
