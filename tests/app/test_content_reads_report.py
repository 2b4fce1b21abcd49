from __future__ import annotations

from pathlib import Path

from millrace.app.content_reads_report import ContentReadsReport
from millrace.app.metrics import Metrics
from millrace.stores.content_cache import ContentCache
from millrace.stores.content_overlay import ContentReader
from millrace.stores.sqlite_content import SqliteContentReads
from millrace.testing.content_contract import HASHER, texts
from millrace.testing.told_clock import ToldClock


def test_each_read_counts_once_by_the_level_that_answered(tmp_path: Path) -> None:
    metrics = Metrics()
    report = ContentReadsReport(metrics)
    cache = ContentCache(100_000, ToldClock(), keep_s=10)
    reader = ContentReader(SqliteContentReads(tmp_path / "content.db"), HASHER, cache=cache)
    report.tell(None)
    report.tell(ContentReader(SqliteContentReads(tmp_path / "content.db"), HASHER))
    assert "millrace_content_reads_total{" not in metrics.render().decode()
    for _ in range(3):
        texts(reader, 0, 1, 2)
        report.tell(reader)
    report.tell(reader)
    values = dict(line.rsplit(" ", 1) for line in metrics.render().decode().splitlines() if line[0] != "#")
    assert values['millrace_content_reads_total{kind="posts",level="store"}'] == "2.0"
    assert values['millrace_content_reads_total{kind="posts",level="memory"}'] == "4.0"
