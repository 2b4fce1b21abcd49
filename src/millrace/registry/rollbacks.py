"""Which versions were taken back: rolled back, or taken out of service, and not let in again since."""

from __future__ import annotations

from collections.abc import Iterable

from millrace.registry.manifest import Kind
from millrace.registry.pointer import DEFAULT_LANE, Change


def taken_back(changes: Iterable[Change], kind: Kind, lane: str = DEFAULT_LANE) -> frozenset[str]:
    """Return the versions of a kind that a rollback, or a promotion of nothing in their place, has ended.

    Whoever promotes one of them again says that it is good.

    Parameters
    ----------
    changes
        The registry's history, oldest first.
    kind, lane
        Of what.
    """
    found: set[str] = set()
    before: str | None = None
    for change in changes:
        if change.lane != lane or change.what == "refused":
            continue
        after = change.versions.get(kind)
        is_end = change.what == "rolled back" or after is None
        if before is not None and before != after and is_end:
            found.add(before)
        if after is not None and change.what == "promoted":
            found.discard(after)
        before = after
    return frozenset(found)
