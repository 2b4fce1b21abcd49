"""Tables in 80 columns: nothing is cut, words and figures stay whole while they can, long texts take many lines."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.app import cli, wiring
from millrace.app.commands.init import make_home
from millrace.app.commands.printing import print_table
from millrace.app.commands.table_widths import column_widths
from millrace.app.flywheel_rounds import decision_log
from millrace.app.near_line import REPORT_FILE
from millrace.app.settings import Settings
from millrace.flywheel.decisions import Decision, HeadMetrics, RuleOutcome
from millrace.flywheel.guards.readings import GuardReport, ModelReadings, Reading
from millrace.registry.manifest import Description

ROOM = 80
LONG = "slice language en is worse by 0.0213 of normalised entropy, between 0.0201 and 0.0225; asked: at most 0.02"
FEATURE = "viewer_author_affinity_30d"


def test_a_table_that_has_the_room_needs_no_widths() -> None:
    assert column_widths([["rule", "auc"], ["found", "0.7"]], 9) is None


def test_long_texts_give_way_to_names_and_figures() -> None:
    assert column_widths([["a name"], ["0.123"], ["many words " * 9]], 40) == [6, 5, 29]


def test_the_longest_words_are_broken_where_even_words_have_no_room() -> None:
    assert column_widths([["x" * 30], ["y" * 20], ["z"]], 21) == [10, 10, 1]


@given(
    st.lists(st.lists(st.text("ab ", max_size=40), min_size=1, max_size=3), min_size=1, max_size=6),
    st.integers(6, 90),
)
def test_the_room_is_never_exceeded_and_every_column_has_some(cells: list[list[str]], room: int) -> None:
    widths = column_widths(cells, room)
    if widths is not None:
        assert sum(widths) <= room
        assert min(widths) >= 1


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Return a home with versions, rounds and guards of long names and reasons."""
    monkeypatch.setenv("COLUMNS", str(ROOM))
    settings, _ = make_home(tmp_path / "home")
    (tmp_path / "net").write_text("a")
    registry = wiring.build_registry(settings)
    said = Description(kind="ranker", feature_schema_hash="a3f5" * 8, from_ms=0, until_ms=1, data="log positions " * 9)
    version = registry.publish(tmp_path, said, now_ms=1_800_014_400_000).version
    registry.promote({"ranker": version}, now_ms=1, note=LONG)
    rule = RuleOutcome(name="calibration share_dm", value=-0.00123, threshold=1.25, is_kept=False, words=LONG)
    head = HeadMetrics(action="like", n_positive=50, auc=0.7123, normalised_entropy=0.81234, calibration=1.0234)
    decision_log(settings).append(
        Decision(
            number=1234,
            at_ms=5,
            from_ms=0,
            until_ms=1_800_014_400_000,
            verdict="refused",
            why=LONG,
            n_pages=123_456,
            from_version=version,
            rules=(rule,),
            prequential=(head,),
        )
    )
    reading = Reading(
        guard="feature_drift",
        of=FEATURE,
        value=1.2345,
        low=1.1,
        high=1.345,
        threshold=2.5,
        state="confirming",
        n_rows=9,
    )
    models = (ModelReadings(model=version, n_rows=123_456, n_pages=2_345, readings=(reading,)),)
    settings.run_dir.mkdir(parents=True, exist_ok=True)
    (settings.run_dir / REPORT_FILE).write_bytes(msgspec.json.encode(GuardReport(at_ms=1, event_ms=1, models=models)))
    return settings


def cells(shown: str) -> str:
    """The texts of a table's cells without blanks, column after column, whatever lines they take."""
    columns: dict[int, list[str]] = {}
    for line in shown.splitlines():
        for place, text in enumerate(line.replace("┃", "│").split("│")):
            columns.setdefault(place, []).append("".join(text.split()))
    return "\n".join("".join(texts) for texts in columns.values())


@pytest.mark.parametrize(
    ("argv", "texts"),
    [
        (("flywheel", "status"), ("Fri 15 Jan, 12:00 UTC", "123,456", "0.7123", "0.8123", "1.023")),
        (("flywheel", "history"), ("calibration share_dm", "-0.00123", "1.25", "NO", LONG)),
        (("flywheel", "guards"), (f"feature_drift of {FEATURE}", "1.100 to 1.345", "threshold", "confirming")),
        (("models", "list"), ("ranker", "VERSION", "default", "promoted", LONG)),
        (("models", "show", "ranker"), ("a3f5" * 8, "log positions " * 9, "net")),
        (("models", "verify"), ("VERSION", "good")),
        (("doctor",), ("train anew, or millrace models rollback", "the ranker reads features " + "a3f5" * 8)),
    ],
)
def test_tables_for_operators_cut_nothing_in_80_columns(
    settings: Settings, capsys: pytest.CaptureFixture[str], argv: tuple[str, ...], texts: tuple[str, ...]
) -> None:
    version = wiring.build_registry(settings).serving()["ranker"]
    capsys.readouterr()
    cli.run([*argv, "--home", str(settings.home)])
    shown = capsys.readouterr().out
    assert "…" not in shown
    assert all(len(line) <= ROOM for line in shown.splitlines() if "│" in line or "┃" in line)
    found = cells(shown)
    for text in texts:
        assert "".join(text.replace("VERSION", version).split()) in found
    if "VERSION" in texts:
        assert version in shown  # on one line, to be copied


def test_a_word_is_not_broken_while_there_is_room(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(ROOM))
    print_table("t", ("name", "state", "threshold", "why"), [("share_dm", "confirming", 2.5, LONG)])
    words = capsys.readouterr().out.split()
    assert {"share_dm", "confirming", "threshold", "normalised"} <= set(words)
