"""How wide the columns of a table are that lacks room: words stay whole while they can, and nothing is left out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

_A_WORD: Final = 6
"""Columns that lack no more than that have it before long texts have more."""


def column_widths(cells: Sequence[Sequence[str]], room: int) -> list[int] | None:
    """Return each column's width, so that all of them take at most ``room``; None where they need not be told.

    Each column first gets its longest word; where even that is too much, the longest of these words are broken. What is
    left goes to the columns that lack least, so that figures and names stay on a line and long texts take many.

    Parameters
    ----------
    cells
        Of each column, its title among them, as they are shown.
    room
        Characters for all cells together, without what stands between them.
    """
    from rich.cells import cell_len

    whole = [max(cell_len(line) for cell in column for line in cell.split("\n")) for column in cells]
    if sum(whole) <= room or room < len(whole):
        return None
    widths = [max(cell_len(word) for cell in column for word in cell.split() or ("",)) or 1 for column in cells]
    while sum(widths) > room:
        widest = max(widths)
        next_ = max((width for width in widths if width < widest), default=1)
        places = [place for place, width in enumerate(widths) if width == widest]
        excess = sum(widths) - room
        step = max(min(widest - next_, -(-excess // len(places))), 1)
        for place in places:
            widths[place] -= step
    left = room - sum(widths)
    lacking = sorted(range(len(widths)), key=lambda place: whole[place] - widths[place])
    for rank, place in enumerate(lacking):
        lack = max(whole[place] - widths[place], 0)
        more = min(lack, left if lack <= _A_WORD else left // (len(lacking) - rank))
        widths[place] += more
        left -= more
    return widths
