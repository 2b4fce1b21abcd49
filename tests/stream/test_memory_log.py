import pytest

from millrace.base.clock import ManualClock
from millrace.base.errors import LogError, LogFullError
from millrace.stream.memory_log import MemoryLog
from millrace.testing.log_contract import a_message, messages, polled


def test_a_full_memory_log_refuses_an_append_as_a_whole() -> None:
    log = MemoryLog(ManualClock(), max_bytes=10)
    log.append([a_message("a", data=b"12345")])
    with pytest.raises(LogFullError, match="bound of 10"):
        log.append([a_message("b", data=b"1"), a_message("c", data=b"12345")])
    assert log.append([a_message("b", data=b"1")]).n_appended == 1
    log.trim((1,))
    log.append([a_message("c", data=b"123456789")])
    assert log.end() == (3,)


def test_a_closed_consumer_is_refused() -> None:
    log = MemoryLog(ManualClock())
    log.append(messages("a"))
    consumer = log.subscribe("g")
    consumer.close()
    with pytest.raises(LogError, match="already closed"):
        consumer.poll(1)
    log.flush()
    log.close()
    assert polled(log) == ["a"]
