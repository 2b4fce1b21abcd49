"""The one pointer, ``live.json``: which versions serve, lane by lane; and ``history.jsonl``: how that came about.

A lane is a named set of versions: ``default`` is everybody's, others are arms of experiments and sandboxes. What a
lane does not name it takes from ``default``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

from millrace.registry.errors import RegistryError
from millrace.registry.json_lines import JsonLines
from millrace.registry.manifest import Kind, Version

DEFAULT_LANE: Final = "default"
POINTER_FILE: Final = "live.json"
HISTORY_FILE: Final = "history.jsonl"
MAX_PREVIOUS: Final = 4
"""How many promotions of a lane can be taken back, one after the other."""

_LANE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

Lane = Annotated[str, Meta(pattern=f"^{_LANE.pattern}$")]
Versions = dict[Kind, Version]


class Change(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One line of the history.

    Attributes
    ----------
    serial
        Counts the changes of the pointer, from 1. A refusal has the serial of what was refused.
    at_ms
        When, epoch milliseconds.
    what
        promoted, rolled back, lane dropped: the pointer changed. refused: a server goes on with what it had.
    lane
        Which lane.
    versions
        What the lane names after the change; what was refused.
    note
        Why, by whoever did it.
    """

    serial: Annotated[int, Meta(ge=1)]
    at_ms: int
    what: Literal["promoted", "rolled back", "lane dropped", "refused"]
    lane: Lane
    versions: Versions
    note: str = ""


class LaneState(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a lane names now, and what it named before, newest first."""

    versions: Versions = {}
    previous: Annotated[tuple[Versions, ...], Meta(max_length=MAX_PREVIOUS)] = ()


class Pointer(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which versions serve.

    Attributes
    ----------
    lanes
        Lane name to what it names.
    change
        The last change, which may be missing in the history if its writer was killed.
    """

    lanes: dict[Lane, LaneState]
    change: Change
    format_version: Literal[1] = 1

    def serving(self, lane: str = DEFAULT_LANE) -> Versions:
        """Return the versions that serve a lane: its own, and the default lane's where it names none."""
        return {**self._own(DEFAULT_LANE), **self._own(lane)}

    def named(self) -> set[tuple[Kind, str]]:
        """Return (kind, version) of all that serves or served before: what must not be removed."""
        states = self.lanes.values()
        return {item for state in states for names in (state.versions, *state.previous) for item in names.items()}

    def _own(self, lane: str) -> Versions:
        return self.lanes[lane].versions if lane in self.lanes else {}


def check_lane(lane: str) -> str:
    """Return a lane's name if it can be one.

    Raises
    ------
    RegistryError
        If not.
    """
    if not _LANE.fullmatch(lane):
        raise RegistryError(
            "lane",
            value=lane,
            problem="not a name",
            remedy="use up to 64 of a-z, A-Z, 0-9, '.', '_', '-', beginning with a letter or a digit",
        )
    return lane


def decode_pointer(data: bytes, path: str) -> Pointer:
    """Return the pointer that bytes hold.

    Raises
    ------
    RegistryError
        If they are damaged.
    """
    try:
        return msgspec.json.decode(data, type=Pointer)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RegistryError(
            "pointer to the live models",
            value=path,
            problem=f"is damaged or of another format ({error})",
            remedy=f"restore it from a backup; or remove it and promote again what the end of {HISTORY_FILE} names",
        ) from error


def encode_pointer(pointer: Pointer) -> bytes:
    """Return a pointer as it stands in its file, for people too."""
    return msgspec.json.format(msgspec.json.encode(pointer, order="sorted"), indent=2) + b"\n"


def history_lines(path: Path) -> JsonLines[Change]:
    """Return the changes of a history."""
    return JsonLines(
        path,
        Change,
        what="the models' history",
        error=RegistryError,
        remedy="mend or remove that line: nothing serves from it",
        order="sorted",
    )


def changed_to(versions: Mapping[Kind, str], changes: Iterable[tuple[Kind, str | None]]) -> Versions:
    """Return versions after changes of some kinds; None takes a kind out."""
    merged = {**versions, **dict(changes)}
    return {kind: version for kind, version in merged.items() if version is not None}
