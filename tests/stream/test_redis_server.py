"""What a `RedisLog` makes of servers that forget, fill up, go away, or lose an answer."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from millrace.base.clock import ManualClock
from millrace.base.errors import ConfigError, LogError, LogFullError
from millrace.stream.redis_log import RedisLog
from millrace.stream.server_config import RedisLogConfig
from millrace.testing.log_contract import a_message, messages, polled
from millrace.testing.redis_process import RedisProcess
from millrace.testing.server_process import until

pytestmark = pytest.mark.service

DURABLE = ("--appendonly", "yes", "--appendfsync", "always")


def open_log(url: str, *, n_retries: int = 8, min_replicas: int = 0, requires_fsync: bool = False) -> RedisLog:
    config = RedisLogConfig(
        url=url, n_retries=n_retries, min_replicas=min_replicas, requires_fsync=requires_fsync, timeout_s=2.0
    )
    return RedisLog(config, ManualClock(1_000), duplicate_window=1_000, max_dead_letters=3, max_dead_letter_bytes=100)


class CuttingProxy:
    """Passes bytes on to a server; cuts a connection, once, in place of the answer to a request that says ``word``."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"
        self.word = b""
        self.n_cut = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._target))
            threading.Thread(target=self._pass_on, args=(client, server), daemon=True).start()

    def _pass_on(self, client: socket.socket, server: socket.socket) -> None:
        with client, server:
            while asked := client.recv(1 << 20):
                server.sendall(asked)
                answer = server.recv(1 << 20)
                if self.word and self.word in asked:
                    self.word = b""
                    self.n_cut += 1
                    return
                client.sendall(answer)


def wait_for_replica(port: int) -> None:
    import redis

    with redis.Redis(port=port) as client:
        until(lambda: any(client.info("replication").get(f"slave{i}", {}).get("state") == "online" for i in (0, 1)), 90)


@pytest.fixture
def durable(tmp_path: Path) -> Iterator[RedisProcess]:
    with RedisProcess(tmp_path, *DURABLE) as server:
        yield server


def test_a_server_that_may_lose_acknowledged_events_is_refused(redis_url: str, durable: RedisProcess) -> None:
    with pytest.raises(LogError, match=r"may lose what it acknowledges \(appendonly no, appendfsync everysec\)"):
        open_log(redis_url, requires_fsync=True)
    open_log(durable.url, requires_fsync=True).close()


def test_a_log_survives_the_crash_of_its_server_and_so_does_who_has_it_open(durable: RedisProcess) -> None:
    log = open_log(durable.url, requires_fsync=True)
    log.append(messages("a", "b"))
    consumer = log.subscribe("g")
    consumer.commit(consumer.poll(1).end)
    durable.kill()
    durable.start()
    assert log.append(messages("b", "c")).offsets.tolist() == [-1, 2]
    assert consumer.poll(10).data == (b"b", b"c")
    assert log.lag("g") == 2
    log.close()


def test_a_server_that_has_lost_the_log_is_found_out(tmp_path: Path) -> None:
    with RedisProcess(tmp_path, "--appendonly", "no") as server:
        log = open_log(server.url)
        log.append(messages("a", "b"))
        consumer = log.subscribe("g")
        consumer.poll(1)
        server.kill()
        server.start()
        for use in (lambda: log.append(messages("c")), lambda: consumer.poll(1), log.end, lambda: log.trim((1,))):
            with pytest.raises(LogError, match=r"does not hold the log .* any more"):
                use()
        other = open_log(server.url)
        assert other.log_id != log.log_id
        assert other.end() == (0,)


def test_a_server_that_does_not_answer_is_an_error_with_a_remedy(durable: RedisProcess) -> None:
    log = open_log(durable.url, n_retries=1)
    durable.kill()
    with pytest.raises(LogError, match=r"does not answer .* after 2 tries; start it or correct log\.redis\.url"):
        log.append(messages("a"))
    with pytest.raises(LogError, match="does not answer"):
        open_log(durable.url, n_retries=0)


def test_urls_that_are_none_do_not_show_their_password() -> None:
    with pytest.raises(ConfigError, match="not a redis URL") as caught:
        open_log("redis:/user:sesame@host")
    assert "sesame" not in str(caught.value)


def test_an_append_whose_answer_was_lost_is_answered_again_and_done_once(durable: RedisProcess) -> None:
    proxy = CuttingProxy(durable.port)
    log = open_log(proxy.url)
    log.append(messages("a"))
    proxy.word = b"EVALSHA"
    result = log.append(messages("a", "b", "c"))
    assert proxy.n_cut == 1
    assert result.offsets.tolist() == [-1, 1, 2]  # not as duplicates of itself
    assert polled(log) == ["a", "b", "c"]
    log.close()
    proxy.close()


def test_a_full_server_refuses_appends_and_can_be_trimmed_and_committed_to(tmp_path: Path) -> None:
    with RedisProcess(tmp_path, *DURABLE, "--maxmemory", "16mb", "--maxmemory-policy", "noeviction") as server:
        log = open_log(server.url, requires_fsync=True)
        consumer = log.subscribe("g")

        def fill() -> None:
            for n in range(100):
                log.append([a_message(f"{n}-{i}", data=b"x" * 100_000) for i in range(10)])

        with pytest.raises(LogFullError, match=r"no room left .*; nothing was changed; trim the log"):
            fill()
        n = log.end()[0] // 10
        assert 2 <= n < 90
        assert log.end() == (n * 10,)
        consumer.commit(log.end())
        assert log.lag("g") == 0
        assert log.purge(np.array([n * 10 - 1])) == 1
        assert log.trim((n * 10 - 5,)) == n * 10 - 5
        assert len(polled(log)) == 5
        assert log.append(messages("a", f"{n - 1}-9")).offsets.tolist() == [n * 10, -1]
        log.close()


def test_an_append_that_too_few_replicas_have_is_not_acknowledged(durable: RedisProcess, tmp_path: Path) -> None:
    log = open_log(durable.url, min_replicas=1)
    with pytest.raises(LogError, match="only 0 of 1 replicas have the append"):
        log.append(messages("a"))
    folder = tmp_path / "replica"
    folder.mkdir()
    with RedisProcess(folder, "--appendonly", "no", "--replicaof", "127.0.0.1", str(durable.port)):
        wait_for_replica(durable.port)
        assert log.append(messages("a", "b")).offsets.tolist() == [-1, 1]
    log.close()


def test_dead_letters_are_bounded_in_number_and_bytes(redis_url: str) -> None:
    config = RedisLogConfig(url=redis_url, prefix="letters", requires_fsync=False)
    log = RedisLog(config, ManualClock(1_000), max_dead_letters=3, max_dead_letter_bytes=100)
    log.dead_letter([("t", "door/web", "bad", bytes([65 + i])) for i in range(5)])
    assert [letter.data for letter in log.dead_letters()] == [b"C", b"D", b"E"]
    log.dead_letter([("t", "door/web", "bad", b"x" * 99)])
    assert [len(letter.data) for letter in log.dead_letters()] == [1, 99]
    log.remove_dead_letters([letter.letter_id for letter in log.dead_letters()])
    log.dead_letter([("t", "door/web", "bad", b"y" * 100)])
    assert [len(letter.data) for letter in log.dead_letters()] == [100]
    log.close()


def test_appends_of_several_rows_drop_their_duplicates(redis_url: str) -> None:
    config = RedisLogConfig(url=redis_url, prefix="rows", requires_fsync=False)
    log = RedisLog(config, ManualClock(1_000), duplicate_window=20_000)
    ids = [str(i) for i in range(10_000)]
    log.append(messages(*ids[::7]))
    result = log.append(messages(*ids))
    is_new = np.arange(10_000) % 7 != 0
    assert ((result.offsets >= 0) == is_new).all()
    texts = polled(log, max_records=977)
    assert texts == ids[::7] + [text for text, new in zip(ids, is_new, strict=True) if new]
    assert log.groups() == ()
    log.close()
