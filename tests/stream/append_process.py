"""A process that appends to a log and says what was acknowledged: one JSON line per append. Run by tests."""

import argparse
import json
from pathlib import Path

import numpy as np

from millrace.base.clock import SystemClock
from millrace.stream.log import Message
from millrace.stream.sqlite_log import SqliteLog


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("path", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--events", type=int, default=200)
    parser.add_argument("--batch", type=int, default=5)
    parser.add_argument("--window", type=int, default=1 << 20)
    args = parser.parse_args()
    log = SqliteLog(args.path, SystemClock(), duplicate_window=args.window, min_free_bytes=0)
    print(json.dumps("ready"), flush=True)
    input()  # both processes begin at the word of the test
    order = np.random.default_rng(args.seed).permutation(args.events).tolist()
    for start in range(0, args.events, args.batch):
        ids = [f"e{i}" for i in order[start : start + args.batch]]
        result = log.append([Message("t", i, i, 0, f"{i}:{args.seed}".encode()) for i in ids])
        accepted = dict(zip(ids, result.offsets.tolist(), strict=True))
        print(json.dumps({i: offset for i, offset in accepted.items() if offset >= 0}), flush=True)
    log.close()


if __name__ == "__main__":
    main()
