"""What every `Log` must do; subclass `LogContract`, give it ``make_log`` and ``clock`` fixtures, and pytest runs it.

``make_log(n_partitions=..., duplicate_window=...)`` returns an empty log that stamps with ``clock`` and is
closed after the test. Logs with one total order subclass `OneOrderLogContract`, or `EmbeddedLogContract` if
they also forget and overwrite records at once. Those that outlive their process subclass `RestartContract` too
(`DurableLogContract` is both) and give ``open_another``: a function that opens the log that ``make_log`` made
once more, as another process would, or the same one after a restart.
"""

from __future__ import annotations

import threading
from collections.abc import Collection
from typing import ClassVar, Protocol

import numpy as np
import pytest

from millrace.base.clock import ManualClock
from millrace.base.errors import LogError
from millrace.stream.log import Consumer, Log, Message, RecordBatch, total
from millrace.stream.partitions import partition_of


class MakeLog(Protocol):
    """Returns an empty log."""

    def __call__(self, *, n_partitions: int = 16, duplicate_window: int = 1 << 20) -> Log:
        """Make it."""


class OpenAnother(Protocol):
    """Returns the test's log, opened once more."""

    def __call__(self) -> Log:
        """Open it."""


def a_message(event_id: str, *, key: str = "", topic: str = "events.post", data: bytes | None = None) -> Message:
    """Return a message whose data is its event id unless it is given."""
    return Message(topic, key, event_id, 1_000, event_id.encode() if data is None else data)


def messages(*event_ids: str, key: str = "", topic: str = "events.post") -> list[Message]:
    """Return one message for each id."""
    return [a_message(event_id, key=key, topic=topic) for event_id in event_ids]


def polled(
    log: Log,
    *,
    topics: Collection[str] | None = None,
    partitions: Collection[int] | None = None,
    max_records: int = 100,
) -> list[str]:
    """Return the data of everything a new group reads, as text."""
    consumer = log.subscribe("polled", topics=topics, partitions=partitions)
    data = [data.decode() for batch in batches(consumer, max_records) for data in batch.data]
    consumer.close()
    return data


def batches(consumer: Consumer, max_records: int = 100) -> list[RecordBatch]:
    """Return the batches of polls until there is nothing more."""
    found = []
    while len(batch := consumer.poll(max_records)):
        found.append(batch)
    return found


class LogContract:
    """Behaviour shared by all logs."""

    counts_exactly: ClassVar[bool] = True
    """False where offsets are also taken by what is no record: `Log.lag` is an upper bound then, zero for nothing."""

    def assert_lag(self, log: Log, group: str, n: int) -> None:
        """Check how many records a group has not committed."""
        found = log.lag(group)
        assert found == n if self.counts_exactly else found >= n
        assert (found == 0) == (n == 0)

    def test_an_empty_log_ends_where_it_begins(self, make_log: MakeLog) -> None:
        """Nothing to read, nothing to lag behind."""
        log = make_log()
        assert log.begin() == log.end()
        assert polled(log) == []
        self.assert_lag(log, "anybody", 0)

    def test_what_was_appended_is_read_in_order(self, make_log: MakeLog) -> None:
        """Data, topics and stamps come back as they went in."""
        log = make_log()
        log.append([a_message("a"), a_message("b", topic="events.click")])
        log.append([a_message("c")])
        batch = log.subscribe("g").poll(10)
        assert batch.data == (b"a", b"b", b"c")
        assert [batch.topic_names[code] for code in batch.topics] == ["events.post", "events.click", "events.post"]
        dtypes = [array.dtype.name for array in (batch.offsets, batch.appended_ms, batch.topics)]
        assert dtypes == ["int64", "int64", "int16"]

    def test_records_carry_the_appenders_clock(self, make_log: MakeLog, clock: ManualClock) -> None:
        """One reading per append."""
        log = make_log()
        clock.set_ms(5_000)
        log.append(messages("a", "b"))
        clock.set_ms(6_000)
        log.append(messages("c"))
        assert log.subscribe("g").poll(10).appended_ms.tolist() == [5_000, 5_000, 6_000]

    def test_an_append_of_nothing_changes_nothing(self, make_log: MakeLog) -> None:
        """Empty in, empty out."""
        log = make_log()
        log.append(messages("a"))
        result = log.append([])
        assert (result.n_appended, result.n_duplicates, result.end) == (0, 0, log.end())
        assert result.offsets.dtype == np.int64

    def test_a_known_event_id_is_dropped_and_the_rest_of_the_batch_goes_on(self, make_log: MakeLog) -> None:
        """Within a batch and between batches."""
        log = make_log()
        first = log.append([a_message("a"), a_message("a", data=b"again"), a_message("b")])
        second = log.append(messages("b", "c", "a"))
        assert (first.offsets >= 0).tolist() == [True, False, True]
        assert (second.offsets >= 0).tolist() == [False, True, False]
        assert (second.n_appended, second.n_duplicates) == (1, 2)
        assert polled(log) == ["a", "b", "c"]

    def test_the_duplicate_window_holds_exactly_the_newest_events(self, make_log: MakeLog) -> None:
        """With a window of three, the fourth new event makes room for the first."""
        log = make_log(duplicate_window=3)
        log.append(messages("a", "b", "c"))
        assert log.append(messages("a")).n_duplicates == 1
        log.append(messages("d"))  # a falls out, b is the oldest now
        assert log.append(messages("b", "c", "d")).n_duplicates == 3
        assert log.append(messages("a")).n_appended == 1  # and b falls out
        assert (log.append(messages("c", "b")).offsets >= 0).tolist() == [False, True]

    def test_a_batch_longer_than_the_window_is_judged_one_by_one(self, make_log: MakeLog) -> None:
        """The window moves within the batch."""
        log = make_log(duplicate_window=2)
        result = log.append(messages("a", "b", "a", "c", "a", "b", "b"))
        assert (result.offsets >= 0).tolist() == [True, True, False, True, True, True, False]

    def test_a_message_without_data_or_id_is_refused_with_its_whole_batch(self, make_log: MakeLog) -> None:
        """Empty data would look like a purged record."""
        log = make_log()
        for bad in (a_message("b", data=b""), Message("events.post", "", "", 0, b"x")):
            with pytest.raises(LogError, match="no data or no event id"):
                log.append([a_message("a"), bad])
        assert log.append(messages("a")).n_appended == 1

    def test_a_poll_gives_at_most_what_was_asked_for(self, make_log: MakeLog) -> None:
        """However the appends were cut."""
        log = make_log()
        log.append(messages(*(f"a{i}" for i in range(5))))
        log.append(messages(*(f"b{i}" for i in range(4))))
        consumer = log.subscribe("g")
        sizes = [len(batch) for batch in batches(consumer, 2)]
        assert sum(sizes) == 9
        assert max(sizes) == 2
        assert consumer.position == log.end()
        with pytest.raises(LogError, match="less than 1"):
            consumer.poll(0)

    def test_a_batch_ends_at_the_position_to_commit(self, make_log: MakeLog) -> None:
        """Reading on from there gives the next record."""
        log = make_log()
        log.append(messages("a", "b", "c"))
        batch = log.subscribe("g").poll(2)
        assert log.subscribe("h", start=batch.end).poll(10).data == (b"c",)

    def test_topics_not_asked_for_are_passed_over(self, make_log: MakeLog) -> None:
        """The position moves over them, so the group's lag falls to nothing."""
        log = make_log()
        consumer = log.subscribe("g", topics=["events.click"])
        assert len(consumer.poll(10)) == 0
        log.append(messages("a") + messages("b", topic="events.click") + messages("c"))
        batch = consumer.poll(10)
        assert batch.data == (b"b",)
        assert batch.end == log.end()
        consumer.commit(batch.end)
        self.assert_lag(log, "g", 0)
        assert polled(log, topics=["events.nobody"]) == []

    def test_topics_that_are_not_wanted_are_passed_over(self, make_log: MakeLog) -> None:
        """Those that come up later are read."""
        log = make_log()
        consumer = log.subscribe("g", without=["events.large"])
        log.append([a_message("a"), a_message("b", topic="events.large"), a_message("c", topic="events.click")])
        log.append([a_message("d", topic="events.large")])
        batch = consumer.poll(10)
        assert batch.data == (b"a", b"c")
        assert batch.end == consumer.position == log.end()
        log.append([a_message("e", topic="events.new"), a_message("f", topic="events.large")])
        assert consumer.poll(10).data == (b"e",)
        assert log.subscribe("h", topics=["events.large", "events.new"], without=["events.new"]).poll(9).data == (
            b"b",
            b"d",
            b"f",
        )

    def test_every_key_has_one_partition_and_its_order(self, make_log: MakeLog) -> None:
        """Partitions together give everything once; each key's events come in the order of their append."""
        log = make_log(n_partitions=4)
        keys = [f"user-{i % 7}" for i in range(100)]
        for i, key in enumerate(keys):
            log.append([a_message(f"{key}:{i}", key=key)])
        found: list[str] = []
        for partition in range(4):
            part = polled(log, partitions=[partition])
            assert {partition_of(text.split(":")[0], 4) for text in part} <= {partition}
            found += part
        assert len(found) == 100
        for key in set(keys):
            numbers = [int(text.split(":")[1]) for text in found if text.startswith(f"{key}:")]
            assert numbers == [i for i in range(100) if keys[i] == key]

    def test_partitions_that_do_not_exist_are_refused(self, make_log: MakeLog) -> None:
        """With the numbers that do."""
        log = make_log(n_partitions=4)
        for wrong in ([4], [-1], []):
            with pytest.raises(LogError, match="0 to 3"):
                log.subscribe("g", partitions=wrong)

    def test_a_group_goes_on_where_it_committed(self, make_log: MakeLog) -> None:
        """Polling alone moves nothing: delivery is at least once."""
        log = make_log()
        log.append(messages("a", "b", "c"))
        consumer = log.subscribe("g")
        consumer.commit(consumer.poll(1).end)
        consumer.poll(1)
        consumer.close()
        assert log.subscribe("g").poll(10).data == (b"b", b"c")

    def test_groups_do_not_meet(self, make_log: MakeLog) -> None:
        """Each has its own place."""
        log = make_log()
        log.append(messages("a", "b"))
        log.subscribe("g").commit(log.end())
        assert log.subscribe("h").poll(10).data == (b"a", b"b")
        self.assert_lag(log, "g", 0)
        self.assert_lag(log, "h", 2)

    def test_members_of_a_group_with_other_partitions_do_not_overwrite_each_other(self, make_log: MakeLog) -> None:
        """Commits are kept per partition; lag counts what nobody committed."""
        log = make_log(n_partitions=2)
        even = next(key for key in "abcdefgh" if partition_of(key, 2) == 0)
        odd = next(key for key in "abcdefgh" if partition_of(key, 2) == 1)
        log.append([a_message(f"{key}{i}", key=key) for i in range(3) for key in (even, odd)])
        first = log.subscribe("g", partitions=[0])
        first.commit(first.poll(2).end)
        self.assert_lag(log, "g", 4)
        second = log.subscribe("g", partitions=[1])
        assert len(second.poll(10)) == 3
        second.commit(log.end())
        self.assert_lag(log, "g", 1)
        assert [data.decode() for data in log.subscribe("g", partitions=[0]).poll(10).data] == [f"{even}2"]

    def test_lag_counts_the_records_not_committed(self, make_log: MakeLog) -> None:
        """Before any commit it counts all."""
        log = make_log()
        log.append(messages("a", "b", "c"))
        consumer = log.subscribe("g")
        self.assert_lag(log, "g", 3)
        consumer.commit(consumer.poll(2).end)
        self.assert_lag(log, "g", 1)
        log.append(messages("d"))
        self.assert_lag(log, "g", 2)

    def test_seek_moves_the_reader_and_not_its_group(self, make_log: MakeLog) -> None:
        """Back to the beginning and on."""
        log = make_log()
        log.append(messages("a", "b"))
        consumer = log.subscribe("g")
        consumer.poll(10)
        consumer.seek(log.begin())
        assert consumer.poll(10).data == (b"a", b"b")
        self.assert_lag(log, "g", 2)

    def test_positions_after_the_end_are_refused(self, make_log: MakeLog) -> None:
        """They belong to another log, and reading on from there would skip events."""
        log = make_log()
        log.append(messages("a"))
        beyond = (log.end()[0] + 1, *log.end()[1:])
        consumer = log.subscribe("g")
        with pytest.raises(LogError, match="after the end"):
            log.subscribe("g", start=beyond)
        with pytest.raises(LogError, match="after the end"):
            consumer.seek(beyond)
        with pytest.raises(LogError, match="after the end"):
            consumer.commit(beyond)
        with pytest.raises(LogError, match="not a position"):
            log.trim((-1,))

    def test_dead_letters_are_kept_with_their_reason_until_they_are_removed(
        self, make_log: MakeLog, clock: ManualClock
    ) -> None:
        """Ids ascend and are never given twice."""
        log = make_log()
        clock.set_ms(7_000)
        log.dead_letter([("", "door/web", "not JSON", b"{"), ("events.post", "group/keeper", "bad", b"\x80")])
        first, second = log.dead_letters()
        assert (first.topic, first.origin, first.reason, first.data) == ("", "door/web", "not JSON", b"{")
        assert first.refused_at_ms == 7_000
        assert [letter.data for letter in log.dead_letters(after_id=first.letter_id)] == [b"\x80"]
        assert log.remove_dead_letters([second.letter_id, 12_345]) == 1
        log.dead_letter([("", "door/web", "worse", b"[")])
        assert [letter.letter_id > second.letter_id for letter in log.dead_letters()] == [False, True]

    def test_threads_append_and_every_event_lands_once(self, make_log: MakeLog) -> None:
        """All threads send the same events in another order; each one's receipt is true."""
        log = make_log()
        ids = [f"e{i}" for i in range(60)]
        n_appended = []

        def run(seed: int) -> None:
            order = np.random.default_rng(seed).permutation(len(ids)).reshape(-1, 3)
            results = [log.append(messages(*(ids[i] for i in part))) for part in order]
            n_appended.append(sum(result.n_appended for result in results))

        threads = [threading.Thread(target=run, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sum(n_appended) == 60
        assert sorted(polled(log)) == sorted(ids)


class OneOrderLogContract(LogContract):
    """Further behaviour of logs with one total order: offsets count records without gaps."""

    @pytest.mark.parametrize("without", [(), ("events.large",)])
    def test_a_poll_stops_before_a_position(self, make_log: MakeLog, without: tuple[str, ...]) -> None:
        """Whatever is passed over, and wherever appends begin and end."""
        log = make_log()
        log.append([a_message(str(i), topic="events.large" if i % 3 == 1 else "events.post") for i in range(4)])
        log.append([a_message(str(i), topic="events.large" if i % 3 == 1 else "events.post") for i in range(4, 9)])
        wanted = [i for i in range(9) if not without or i % 3 != 1]
        for start in range(10):
            for before in range(11):
                consumer = log.subscribe("g", without=without, start=(start,))
                batch = consumer.poll(100, before=(before,))
                assert [int(data) for data in batch.data] == [i for i in wanted if start <= i < before]
                assert batch.offsets.tolist() == [i for i in wanted if start <= i < before]
                assert batch.end == consumer.position == (min(max(start, before), 9) if before > start else start,)
                rest = [int(data) for found in batches(consumer) for data in found.data]
                assert rest == [i for i in wanted if i >= max(start, min(before, 9))]
                consumer.close()

    def test_offsets_count_the_records(self, make_log: MakeLog) -> None:
        """Duplicates take none; results, batches and positions agree."""
        log = make_log()
        assert log.append(messages("a", "a", "b")).offsets.tolist() == [0, -1, 1]
        result = log.append(messages("b", "c"))
        assert (result.offsets.tolist(), result.end) == ([-1, 2], (3,))
        assert log.subscribe("g", start=(1,)).poll(10).offsets.tolist() == [1, 2]
        assert total(log.end()) == 3

    def test_all_topics_and_keys_share_one_order(self, make_log: MakeLog) -> None:
        """The order of the appends."""
        log = make_log()
        for i in range(20):
            log.append([a_message(f"e{i}", key=f"k{i % 3}", topic=f"t.{i % 5}")])
        assert polled(log) == [f"e{i}" for i in range(20)]

    def test_filtered_polls_stop_after_the_last_record_asked_for(self, make_log: MakeLog) -> None:
        """So that the next poll misses nothing."""
        log = make_log()
        log.append([a_message(f"e{i}", topic="odd" if i % 2 else "even") for i in range(10)])
        consumer = log.subscribe("g", topics=["odd"])
        assert (consumer.poll(2).data, consumer.position) == ((b"e1", b"e3"), (4,))
        assert consumer.poll(9).offsets.tolist() == [5, 7, 9]


class EmbeddedLogContract(OneOrderLogContract):
    """Further behaviour of logs that forget and overwrite records in the moment they are told to."""

    def test_trimmed_records_are_gone_and_offsets_stay(self, make_log: MakeLog) -> None:
        """Within an append too; trimming twice trims nothing."""
        log = make_log()
        log.append(messages("a", "b", "c"))
        log.append(messages("d"))
        assert log.trim((2,)) == 2
        assert (log.begin(), log.end()) == ((2,), (4,))
        assert log.subscribe("g").poll(10).offsets.tolist() == [2, 3]
        assert polled(log) == ["c", "d"]
        assert (log.trim((2,)), log.trim((1,)), log.lag("g")) == (0, 0, 2)

    def test_a_log_trimmed_to_its_end_goes_on_counting(self, make_log: MakeLog) -> None:
        """And still knows the duplicates of what it forgot."""
        log = make_log()
        log.append(messages("a", "b"))
        assert log.trim(log.end()) == 2
        assert (log.begin(), log.end()) == ((2,), (2,))
        assert polled(log) == []
        assert log.append(messages("b", "c")).offsets.tolist() == [-1, 2]
        assert polled(log) == ["c"]

    def test_a_reader_is_never_moved_over_trimmed_records_silently(self, make_log: MakeLog) -> None:
        """It is told, and may seek."""
        log = make_log()
        log.append(messages("a", "b", "c"))
        consumer = log.subscribe("g")
        log.trim((2,))
        with pytest.raises(LogError, match="were trimmed"):
            consumer.poll(10)
        consumer.seek(log.begin())
        assert consumer.poll(10).data == (b"c",)
        log.trim((3,))
        consumer.seek((1,))
        with pytest.raises(LogError, match="were trimmed"):
            consumer.poll(10)

    def test_purged_records_are_empty_and_keep_their_place(self, make_log: MakeLog) -> None:
        """Purging what is gone, not there yet or purged already changes nothing."""
        log = make_log()
        log.append(messages("a", "b", "c"))
        log.append(messages("d"))
        consumer = log.subscribe("g")
        consumer.poll(1)
        assert log.purge(np.array([1, 3, 99])) == 2
        assert log.purge(np.array([1])) == 0
        assert log.purge(np.array([], dtype=np.int64)) == 0
        batch = consumer.poll(10)
        assert (batch.data, batch.offsets.tolist()) == ((b"", b"c", b""), [1, 2, 3])
        assert log.append(messages("b")).n_duplicates == 1

    def test_a_reader_in_the_middle_of_an_append_sees_what_was_purged_behind_its_back(self, make_log: MakeLog) -> None:
        """No copy of purged data is delivered."""
        log = make_log()
        log.append(messages(*(f"e{i}" for i in range(10))))
        consumer = log.subscribe("g")
        consumer.poll(2)
        log.purge(np.array([3]))
        assert consumer.poll(3).data == (b"e2", b"", b"e4")


class RestartContract:
    """Further behaviour of logs of one order that outlive their process and serve several."""

    def test_everything_is_there_after_a_restart(self, make_log: MakeLog, open_another: OpenAnother) -> None:
        """Records, commits, dead letters."""
        log = make_log()
        log.append(messages("a", "b"))
        log.subscribe("g").commit((1,))
        log.dead_letter([("", "door/web", "bad", b"x")])
        log.close()
        log = open_another()
        assert polled(log) == ["a", "b"]
        assert log.lag("g") == 1
        assert [letter.data for letter in log.dead_letters()] == [b"x"]

    def test_the_duplicate_window_is_exact_after_a_restart(self, make_log: MakeLog, open_another: OpenAnother) -> None:
        """Also where an append lies half within it."""
        log = make_log(duplicate_window=3)
        log.append(messages("a", "b", "c", "d"))
        log.append(messages("e"))
        log.close()
        log = open_another()
        assert (log.append(messages("c", "d", "e")).offsets >= 0).tolist() == [False, False, False]
        assert (log.append(messages("b", "c")).offsets >= 0).tolist() == [True, True]

    def test_the_duplicate_window_is_the_same_for_all_who_append(
        self, make_log: MakeLog, open_another: OpenAnother
    ) -> None:
        """Each takes in what the other appended, even more than a whole window."""
        one, two = make_log(duplicate_window=4), open_another()
        one.append(messages("a"))
        assert two.append(messages("a", "b")).offsets.tolist() == [-1, 1]
        assert one.append(messages("b", "c", "d")).offsets.tolist() == [-1, 2, 3]
        assert two.append(messages("e", "a")).offsets.tolist() == [4, 5]  # a had fallen out
        for i in range(20):
            two.append(messages(f"x{i}"))
        assert one.append(messages("x15", "x16", "x19", "x15")).offsets.tolist() == [26, 27, -1, -1]
        assert polled(one) == polled(two)

    def test_new_topics_of_others_are_learnt(self, make_log: MakeLog, open_another: OpenAnother) -> None:
        """By appenders and by readers."""
        one, two = make_log(), open_another()
        consumer = one.subscribe("g", topics=["t.b"])
        one.append(messages("a", topic="t.a"))
        two.append(messages("b", topic="t.b"))
        one.append(messages("c", topic="t.b") + messages("d", topic="t.c"))
        batch = consumer.poll(10)
        assert batch.data == (b"b", b"c")
        assert [batch.topic_names[code] for code in batch.topics] == ["t.b", "t.b"]


class DurableLogContract(EmbeddedLogContract, RestartContract):
    """All that an embedded log does which outlives its process."""
