"""What rounds came to is kept one a line, in order, each once."""

from pathlib import Path

import pytest

from millrace.base.errors import StoreError
from millrace.flywheel.decisions import Decision, DecisionLog, RuleOutcome


def a_decision(number: int) -> Decision:
    rules = (RuleOutcome(name="auc", value=0.1, threshold=0.0, is_kept=number != 2, words="words"),)
    return Decision(number=number, at_ms=5, from_ms=0, until_ms=10, verdict="promoted", why="better", rules=rules)


def test_decisions_are_read_as_they_were_written_and_the_newest_are_found(tmp_path: Path) -> None:
    log = DecisionLog(tmp_path / "models" / "decisions.jsonl")
    assert log.all() == []
    for number in (1, 2, 3):
        log.append(a_decision(number))
    assert log.all() == [a_decision(1), a_decision(2), a_decision(3)]
    assert [each.number for each in log.newest(2)] == [2, 3]
    assert log.newest(0) == []


def test_what_is_said_twice_is_there_once(tmp_path: Path) -> None:
    log = DecisionLog(tmp_path / "decisions.jsonl")
    for number in (1, 2, 2, 1):
        log.append(a_decision(number))
    assert [each.number for each in log.all()] == [1, 2]


def test_half_a_line_is_none_and_the_next_one_takes_its_place(tmp_path: Path) -> None:
    log = DecisionLog(tmp_path / "decisions.jsonl")
    log.append(a_decision(1))
    with log.path.open("ab") as file:
        file.write(b'{"number": 2, "at')
    assert len(log.all()) == 1
    log.append(a_decision(2))
    assert log.all() == [a_decision(1), a_decision(2)]


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    log = DecisionLog(tmp_path / "decisions.jsonl")
    log.path.write_text("no JSON\n")
    with pytest.raises(StoreError, match="line 1 of the flywheel's decisions"):
        log.all()
