"""A process that is a member of a group on Kafka and says what it is given; it commits old ones alone. Run by tests."""

import json
import sys

from millrace.base.clock import ManualClock
from millrace.stream.kafka_log import KafkaLog
from millrace.stream.server_config import KafkaLogConfig


def main() -> None:
    config, n_partitions, n_committed = KafkaLogConfig(**json.loads(sys.argv[1])), int(sys.argv[2]), int(sys.argv[3])
    member = KafkaLog(config, ManualClock(1_000), n_partitions).join("g")
    told, commits = None, True
    while True:
        batch = member.poll(100)
        read = [data.decode() for data in batch.data]
        commits = commits and all(int(text.partition(":")[2]) < n_committed for text in read)
        if commits:  # a commit is of all that was read so far
            member.commit(batch.end)
        if read or told != member.partitions:
            told = member.partitions
            print(json.dumps({"partitions": sorted(told), "read": read}), flush=True)


if __name__ == "__main__":
    main()
