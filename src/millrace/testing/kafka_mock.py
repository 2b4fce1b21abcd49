"""`MockKafka`: librdkafka's own mock cluster, for tests of the Kafka log without brokers.

It speaks the protocol (transactions, groups, offsets) and keeps some megabytes a partition in this process's memory;
beyond that it drops the oldest, silently. It cannot make topics on request, delete records or compact.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any, Final, Self

_PRODUCER: Final = 0
_PRODUCE_REQUEST: Final = 0


class MockKafka:
    """A cluster of one broker; a context manager.

    Parameters
    ----------
    rebalance_delay_ms
        How long a group waits for further members when its first one comes; brokers' default is 3 s. It must be less
        than the members' ``session.timeout.ms``, or the group is never spread.

    Attributes
    ----------
    servers
        ``bootstrap.servers`` of it.
    """

    def __init__(self, rebalance_delay_ms: int = 0) -> None:
        import confluent_kafka

        folder = Path(confluent_kafka.__file__).parent.parent / "confluent_kafka.libs"
        library = ctypes.CDLL(str(next(folder.glob("librdkafka*"))))
        pointer = ctypes.c_void_p
        signatures: dict[str, tuple[Any, list[Any]]] = {
            "rd_kafka_conf_new": (pointer, []),
            "rd_kafka_conf_set": (ctypes.c_int, [pointer, *[ctypes.c_char_p] * 3, ctypes.c_size_t]),
            "rd_kafka_new": (pointer, [ctypes.c_int, pointer, ctypes.c_char_p, ctypes.c_size_t]),
            "rd_kafka_destroy": (None, [pointer]),
            "rd_kafka_mock_cluster_new": (pointer, [pointer, ctypes.c_int]),
            "rd_kafka_mock_cluster_destroy": (None, [pointer]),
            "rd_kafka_mock_cluster_bootstraps": (ctypes.c_char_p, [pointer]),
            "rd_kafka_mock_topic_create": (ctypes.c_int, [pointer, ctypes.c_char_p, ctypes.c_int, ctypes.c_int]),
            "rd_kafka_mock_push_request_errors_array": (
                None,
                [pointer, ctypes.c_int16, ctypes.c_size_t, ctypes.POINTER(ctypes.c_int)],
            ),
            "rd_kafka_mock_group_initial_rebalance_delay_ms": (None, [pointer, ctypes.c_int32]),
            "rd_kafka_mock_broker_set_down": (ctypes.c_int, [pointer, ctypes.c_int32]),
            "rd_kafka_mock_broker_set_up": (ctypes.c_int, [pointer, ctypes.c_int32]),
        }
        for name, (result, arguments) in signatures.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
        self._library = library
        text = ctypes.create_string_buffer(512)
        conf = library.rd_kafka_conf_new()
        library.rd_kafka_conf_set(conf, b"log_level", b"0", text, 512)
        self._client = library.rd_kafka_new(_PRODUCER, conf, text, 512)
        self._cluster = library.rd_kafka_mock_cluster_new(self._client, 1)
        library.rd_kafka_mock_group_initial_rebalance_delay_ms(self._cluster, rebalance_delay_ms)
        self.servers: str = library.rd_kafka_mock_cluster_bootstraps(self._cluster).decode()

    def make_topic(self, name: str, n_partitions: int) -> None:
        """Make a topic, if there is none of that name."""
        self._library.rd_kafka_mock_topic_create(self._cluster, name.encode(), n_partitions, 1)

    def make_log_topics(self, topic: str, n_partitions: int) -> None:
        """Make the topics of a log."""
        self.make_topic(topic, n_partitions)
        self.make_topic(f"{topic}.meta", 1)
        self.make_topic(f"{topic}.dead-letters", 1)

    def fail_writes(self, code: int, n: int = 1) -> None:
        """Let the next requests to write fail with an error code of the protocol."""
        codes = (ctypes.c_int * n)(*[code] * n)
        self._library.rd_kafka_mock_push_request_errors_array(self._cluster, _PRODUCE_REQUEST, n, codes)

    def set_down(self, is_down: bool) -> None:  # noqa: FBT001 - reads well
        """Let the broker be gone, or come back."""
        name = "rd_kafka_mock_broker_set_down" if is_down else "rd_kafka_mock_broker_set_up"
        getattr(self._library, name)(self._cluster, 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._library.rd_kafka_mock_cluster_destroy(self._cluster)
        self._library.rd_kafka_destroy(self._client)
