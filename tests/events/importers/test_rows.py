from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from millrace.base.errors import SourceDataError
from millrace.events.importers.report import MAX_EXAMPLES, ImportReport
from millrace.events.importers.rows import Table, find_file

LINES = b'a,b\n1,one\n2,"two,\nlines"\n\n3\n4,\xff\n5,five\n'
READABLE = [(2, ["one", "1"]), (4, ["two,\nlines", "2"]), (8, ["five", "5"])]


def read(file: Path, report: ImportReport) -> list[tuple[int, list[str]]]:
    return list(Table(file, ("b", "a")).rows(report))


def write(folder: Path, data: bytes, name: str = "t.csv") -> Path:
    file = folder / name
    file.write_bytes(data)
    return file


def test_rows_come_in_the_columns_asked_for_and_broken_ones_go_to_the_report(tmp_path: Path) -> None:
    report = ImportReport()
    assert read(write(tmp_path, LINES), report) == READABLE
    assert report.n_rows == 5
    assert [(row.line, row.reason) for row in report.unreadable] == [
        (6, "2 columns expected"),
        (7, "not valid UTF-8"),
    ]


def test_gzip_is_told_by_its_bytes_not_by_its_name(tmp_path: Path) -> None:
    assert read(write(tmp_path, gzip.compress(LINES), "t.csv"), ImportReport()) == READABLE


def test_a_byte_order_mark_does_not_hide_the_first_column(tmp_path: Path) -> None:
    assert read(write(tmp_path, b"\xef\xbb\xbf" + LINES), ImportReport()) == READABLE


def test_a_fallback_encoding_reads_what_is_not_utf8(tmp_path: Path) -> None:
    file = write(tmp_path, b"a\tb\n1\tcaf\xe9\n2\t\xc3\xa9\n")
    table = Table(file, ("a", "b"), delimiter="\t", fallback_encoding="latin-1")
    assert [values for _, values in table.rows(ImportReport())] == [["1", "café"], ["2", "é"]]


def test_tab_separated_text_is_never_quoted(tmp_path: Path) -> None:
    file = write(tmp_path, b'a\tb\n1\t"open\n2\tx\n')
    table = Table(file, ("a", "b"), delimiter="\t")
    assert [values for _, values in table.rows(ImportReport())] == [["1", '"open'], ["2", "x"]]


def test_a_truncated_gzip_gives_what_it_holds_and_says_where_it_ends(tmp_path: Path) -> None:
    # Incompressible enough that the cut takes rows, not only the trailer.
    body = b"a,b\n" + b"".join(b"%d,%x\n" % (i, hash((i, i * i)) & 0xFFFFFFFFFFFF) for i in range(50_000))
    report = ImportReport()
    n_read = len(read(write(tmp_path, gzip.compress(body)[:-100_000]), report))
    assert 0 < n_read < 50_000
    assert report.n_unreadable == 1
    assert "damaged from here on" in report.unreadable[0].reason


def test_an_unclosed_quote_loses_rows_but_not_the_rest_of_the_file(tmp_path: Path) -> None:
    body = b'a,b\n1,"never closed\n' + b"2,x\n" * 60_000 + b'3,"closed"\n4,y\n'
    report = ImportReport()
    rows = read(write(tmp_path, body), report)
    assert rows[-1][1] == ["y", "4"]
    assert report.n_unreadable >= 1


@pytest.mark.parametrize(
    ("data", "problem"),
    [(b"", "is empty"), (b"x,y\n1,2\n", "has no column b, a"), (b"\x1f\x8bgarbage", "cannot be read")],
)
def test_a_file_without_the_header_is_refused(tmp_path: Path, data: bytes, problem: str) -> None:
    with pytest.raises(SourceDataError, match=problem):
        read(write(tmp_path, data), ImportReport())


def test_a_file_is_found_in_its_folder_plain_or_gzipped_or_given_itself(tmp_path: Path) -> None:
    zipped = write(tmp_path, b"", "posts.csv.gz")
    assert find_file(tmp_path, "posts.csv") == zipped
    plain = write(tmp_path, b"", "posts.csv")
    assert find_file(tmp_path, "posts.csv") == plain
    assert find_file(zipped, "posts.csv") == zipped
    with pytest.raises(SourceDataError, match=r"holds no other\.csv or other\.csv\.gz"):
        find_file(tmp_path, "other.csv")


def test_a_report_counts_every_row_but_keeps_few_examples() -> None:
    report = ImportReport()
    for line in range(1000):
        report.leave_out("f", line, "too short", "x" * 10_000)
    assert report.n_unreadable == report.n_unreadable_by_reason["too short"] == 1000
    assert len(report.unreadable) == MAX_EXAMPLES
    assert len(report.unreadable[0].excerpt) <= 120
