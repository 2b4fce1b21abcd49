"""A process that claims contents one by one and says which it was granted; then waits to be killed. Run by tests."""

import json
import sys
from pathlib import Path

import numpy as np

from millrace.stores.sqlite_claims import SqliteClaims


def main() -> None:
    path, owner, n = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    claims = SqliteClaims(path)
    print(json.dumps("ready"), flush=True)
    input()  # all processes begin at the word of the test
    granted = []
    for content in range(1, n + 1):
        ids = np.array([content], dtype=np.int64)
        mask = claims.claim(7, ids, ids, owner=f"{owner}-{content}", now_ms=0, ttl_ms=1_000, max_claims=10**6)
        granted += ids[mask].tolist()
    print(json.dumps(granted), flush=True)
    input()


if __name__ == "__main__":
    main()
