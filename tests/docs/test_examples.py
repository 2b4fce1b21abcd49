"""The examples run, and print what they promise."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_serve_a_page_prints_a_page_and_why(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(EXAMPLES / "serve_a_page.py"), run_name="__main__")
    printed = capsys.readouterr().out
    assert "Ada: The wheel turns." in printed
    assert "You follow Ada" in printed
    assert "Liked by Ada, whom you follow" in printed
    assert "Popular now" in printed
    assert "× recency" in printed
    assert "Mallory" not in printed


def test_every_example_is_run_here() -> None:
    assert [path.name for path in sorted(EXAMPLES.glob("*.py"))] == ["serve_a_page.py"]
