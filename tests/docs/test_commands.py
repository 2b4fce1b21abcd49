"""Every ``millrace`` command of the documentation would be accepted by the command line."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from millrace.app.cli import command_line

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *ROOT.glob("docs/**/*.md")])
SHELL = re.compile(r"^```sh[^\n]*\n(.*?)^```\s*$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`(millrace [^`\n]+)`")
PLACEHOLDER = re.compile(r"[A-Z]+")
ENDS = {"|", "||", "&&", ";", "&", ">", ">>", "<"}


def shell_commands(text: str) -> list[str]:
    """Return the commands of all shell blocks, lines that go on joined."""
    lines = [line for block in SHELL.findall(text) for line in block.replace("\\\n", " ").splitlines()]
    return [line.strip() for line in lines if line.strip().startswith("millrace ")]


def words_of(command: str) -> list[str]:
    """Return the words after ``millrace``, up to a pipe or the like, without comments; placeholders become 1."""
    words = shlex.split(command, comments=True)[1:]
    end = next((number for number, word in enumerate(words) if word in ENDS), len(words))
    return ["1" if PLACEHOLDER.fullmatch(word) else word for word in words[:end]]


def complaint(command: str, *, is_whole: bool = True) -> str:
    """Return why the command line would refuse a command; empty if it would not.

    A command that is not whole is a mention in running text: a group, or a command without its arguments.
    """
    words, found = words_of(command), command_line()
    name: Any = "millrace"
    while words and not words[0].startswith("-") and (known := getattr(found, "commands", None)) is not None:
        name = words.pop(0)
        if name not in known:
            return f"{command}: there is no command {name}"
        found = known[name]
    if not words and not is_whole:
        return ""
    if words in (["--help"], ["--version"]):
        return ""
    try:
        found.make_context(name, words)  # parses options and arguments; runs nothing
    except Exception as error:  # noqa: BLE001 - whatever it is, the documentation is wrong
        return f"{command}: {getattr(error, 'message', error)}"
    return ""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_of_shell_blocks_are_accepted(page: Path) -> None:
    commands = shell_commands(page.read_text(encoding="utf-8"))
    assert [said for command in commands if (said := complaint(command))] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_in_running_text_exist(page: Path) -> None:
    commands = INLINE.findall(SHELL.sub("", page.read_text(encoding="utf-8")))
    assert [said for command in commands if (said := complaint(command, is_whole=False))] == []


@pytest.mark.parametrize(
    "command",
    [
        "millrace brew",
        "millrace init my-feed",
        "millrace --home my-feed timeline",
        "millrace import reddit PATH",
        "millrace serve --workers many",
        "millrace ingest",
        "millrace pipeline show --colour",
    ],
)
def test_commands_that_nobody_could_run_are_found_out(command: str) -> None:
    assert complaint(command)


@pytest.mark.parametrize(
    "command",
    [
        "millrace pipeline show --mermaid > home.mmd",
        "millrace serve --workers N --home my-feed  # two at least",
        "millrace import reddit-posts PATH --span 48h",
    ],
)
def test_comments_pipes_and_placeholders_are_no_mistakes(command: str) -> None:
    assert complaint(command) == ""
