"""Members of a group on Redis that die, and such that only seem to."""

from collections.abc import Callable, Iterator

import pytest

from millrace.base.clock import ManualClock
from millrace.base.errors import LogError
from millrace.stream.redis_log import RedisLog
from millrace.stream.server_config import RedisLogConfig
from millrace.testing.shared_log_contract import N_PARTITIONS, append_to_all, poll_until, shares_are_fair

pytestmark = pytest.mark.service

MakeLog = Callable[[int], RedisLog]


@pytest.fixture
def make_log(redis_url: str, request: pytest.FixtureRequest) -> Iterator[MakeLog]:
    logs: list[RedisLog] = []

    def make(lease_ms: int) -> RedisLog:
        config = RedisLogConfig(
            url=redis_url, prefix=f"members-{request.node.name}", requires_fsync=False, lease_ms=lease_ms
        )
        logs.append(RedisLog(config, ManualClock(1_000), N_PARTITIONS))
        return logs[-1]

    yield make
    for log in logs:
        log.close()


def test_the_share_of_a_dead_member_is_claimed_with_what_it_left_uncommitted(make_log: MakeLog) -> None:
    log = make_log(60_000)
    one, two = log.join("g"), make_log(200).join("g")  # a lease is the member's own to ask for
    poll_until(lambda: shares_are_fair(one, two), one, two)
    appended = append_to_all(log, range(3))
    taken = {data.decode() for data in two.poll(100).data}
    assert len(taken) == 6
    lost = two.partitions
    read = poll_until(lambda: log.lag("g") == 0, one)  # two never polls again
    assert set(read) == appended
    assert one.partitions >= lost


def test_a_member_that_only_seemed_dead_cannot_commit_what_it_lost(make_log: MakeLog) -> None:
    log = make_log(60_000)
    slow = make_log(10).join("g")
    poll_until(lambda: len(slow.partitions) == N_PARTITIONS, slow)
    appended = append_to_all(log, range(2))
    batch = slow.poll(100)
    one = log.join("g")
    poll_until(lambda: len(one.partitions) == N_PARTITIONS, one)
    with pytest.raises(LogError, match="another member has its partitions; nothing was committed"):
        slow.commit(batch.end)
    read = poll_until(lambda: slow.partitions == frozenset() or shares_are_fair(one, slow), one, slow)
    assert set(read) <= appended
    assert log.lag("g") == 0


def test_a_partition_gained_later_is_read_from_its_own_commit(make_log: MakeLog) -> None:
    log = make_log(60_000)
    append_to_all(log, range(4))
    log.subscribe("g", partitions=[0, 1]).commit((6,))
    log.subscribe("g", partitions=[2, 3]).commit((10,))
    member = log.join("g")
    sizes = [len(member.poll(2)), len(member.poll(100))]
    assert sizes == [2, 6]
    member.commit(member.position)
    assert log.lag("g") == 0
