"""`Withdrawal`: a version that failed in service. It is remembered for good, and nothing promotes it by itself again.

Kept in ``withdrawn.jsonl`` beside the pointer, written before the pointer moves: whoever is killed in between leaves a
version that serves and is known to be bad, which is withdrawn once more. A person may promote it all the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from millrace.registry.errors import RegistryError
from millrace.registry.files import append_durably
from millrace.registry.manifest import Kind, Version

WITHDRAWN_FILE: Final = "withdrawn.jsonl"


class Withdrawal(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One line of the file.

    Attributes
    ----------
    at_ms
        When, epoch milliseconds.
    kind, version
        What.
    reason
        Why, for people.
    """

    at_ms: int
    kind: Kind
    version: Version
    reason: str


def read_withdrawals(path: Path) -> Iterator[Withdrawal]:
    """Yield all withdrawals, oldest first; a last line that was never finished is none.

    Raises
    ------
    RegistryError
        If a whole line is damaged.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return
    for number, line in enumerate(data[: data.rfind(b"\n") + 1].splitlines(), 1):
        try:
            yield msgspec.json.decode(line, type=Withdrawal)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise RegistryError(
                f"line {number} of the withdrawn models",
                value=str(path),
                problem=f"is damaged ({error})",
                remedy="mend or remove that line",
            ) from error


def append_withdrawal(path: Path, withdrawal: Withdrawal) -> None:
    """Append a withdrawal. For one writer at a time."""
    append_durably(path, msgspec.json.encode(withdrawal, order="sorted"))
