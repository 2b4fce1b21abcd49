"""`Withdrawal`: a version that was taken out of service because it failed, by a guard or by hand.

Nothing promotes it by itself again, nothing learns on from it, and what it had learned from is not trusted. A person
who promotes it all the same says that it is good after all, and it is withdrawn no more.

Kept in ``withdrawn.jsonl`` beside the pointer, written before the pointer moves: whoever is killed in between leaves a
version that serves and is known to be bad, which is withdrawn once more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Final

from msgspec import Meta, Struct

from millrace.registry.errors import RegistryError
from millrace.registry.json_lines import JsonLines
from millrace.registry.manifest import Kind, Version
from millrace.registry.pointer import Change, LaneState, Pointer, Versions

WITHDRAWN_FILE: Final = "withdrawn.jsonl"


class Withdrawal(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One line of the file.

    Attributes
    ----------
    at_ms
        When, epoch milliseconds.
    serial
        Of the pointer's last change then; 0: there was none. A later change that promotes it lets it in again.
    kind, version
        What.
    reason
        Why, for people.
    """

    at_ms: int
    serial: Annotated[int, Meta(ge=0)]
    kind: Kind
    version: Version
    reason: str


def standing(withdrawals: Iterable[Withdrawal], changes: Iterable[Change]) -> dict[tuple[Kind, str], Withdrawal]:
    """Return the withdrawals that stand, each version's last one: those after which nobody promoted it.

    Parameters
    ----------
    withdrawals, changes
        Oldest first.
    """
    found = {(said.kind, said.version): said for said in withdrawals}
    if not found:
        return {}
    before: dict[str, Versions] = {}
    for change in changes:
        if change.what == "promoted":
            same = before.get(change.lane, {})
            for item in change.versions.items() - (same.items() if change.versions != same else set()):
                if item in found and change.serial > found[item].serial:
                    del found[item]
        if change.what != "refused":
            before[change.lane] = {} if change.what == "lane dropped" else change.versions
    return found


def left_by(pointer: Pointer, lane: str, after: Mapping[Kind, str]) -> Versions:
    """Return what a lane names and would name no more, unless another lane does: that is out of service then."""
    others = {item for name, state in pointer.lanes.items() if name != lane for item in state.versions.items()}
    own = pointer.lanes.get(lane, LaneState()).versions
    return dict(own.items() - after.items() - others)


def withdrawal_lines(path: Path) -> JsonLines[Withdrawal]:
    """Return all withdrawals."""
    return JsonLines(path, Withdrawal, what="the withdrawn models", error=RegistryError, order="sorted")
