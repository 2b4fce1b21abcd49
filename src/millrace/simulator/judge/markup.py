"""HTML that cannot be broken by what is put into it: plain text is escaped, only `Markup` is taken as it is."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from typing import Final

from millrace.simulator.judge.intervals import Estimate

_MINUS: Final = "\u2212"


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


Piece = str | Markup | Iterable["str | Markup"]


def join(*pieces: Piece) -> Markup:
    """Return the pieces one after the other, plain text escaped."""
    return Markup("".join(_flat(piece) for piece in pieces))


def tag(name: str, *children: Piece, **attributes: str) -> Markup:
    """Return an element; an attribute's trailing underscore is dropped, others become hyphens."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(value)}"' for key, value in attributes.items()
    )
    return Markup(f"<{name}{written}>{join(*children)}</{name}>")


def name_of(text: str) -> Markup:
    """Return somebody's name for something, in whatever script, kept from mixing with what stands around it."""
    return tag("bdi", text)


def table(heads: Sequence[Piece], rows: Iterable[Sequence[Piece]], caption: str = "") -> Markup:
    """Return a table whose first column names the rows."""
    head = tag("thead", tag("tr", (tag("th", cell, scope="col") for cell in heads)))
    body = tag(
        "tbody",
        (tag("tr", tag("th", row[0], scope="row"), (tag("td", cell) for cell in row[1:])) for row in rows),
    )
    titled = tag("caption", caption) if caption else Markup("")
    return tag("div", tag("table", titled, head, body), class_="scroll", tabindex="0")


def number(value: float | None, *, percent: bool = False, digits: int = 3) -> str:
    """Return a number as people read it; a dash where there is none."""
    if value is None or not math.isfinite(value):
        return "–"
    if percent:
        return f"{number(100 * value, digits=digits)} %"
    if value == 0:
        return "0"
    size = math.floor(math.log10(abs(value)))
    if size >= digits:
        return f"{value:,.0f}".replace("-", _MINUS)
    return f"{value:.{min(max(digits - 1 - size, 0), 6)}f}".replace("-", _MINUS)


def chance(p_value: float) -> str:
    """Return a p-value as people read it."""
    if not math.isfinite(p_value):
        return "–"
    return "<\u00a00.001" if p_value < 0.001 else f"{p_value:.3f}"


def folded(title: Piece, *body: Piece) -> Markup:
    """Return something to be opened by who wants to know."""
    return tag("details", tag("summary", title), *body)


def estimate(value: Estimate, *, percent: bool = False, signed: bool = False) -> Markup:
    """Return an estimate with its interval beside it."""
    sign = "+" if signed and math.isfinite(value.value) and value.value > 0 else ""
    shown = tag("span", sign + number(value.value, percent=percent), class_="value")
    if not math.isfinite(value.low):
        return shown
    low = number(value.low, percent=percent).removesuffix(" %")
    bounds = f"{low} to {number(value.high, percent=percent)}"
    return join(shown, tag("span", bounds, class_="bounds"))


def _flat(piece: Piece) -> str:
    if isinstance(piece, Markup):
        return piece
    if isinstance(piece, str):
        return html.escape(piece)
    return "".join(_flat(part) for part in piece)
