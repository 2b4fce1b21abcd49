"""What the report's sections are put together from: policies side by side, cells, figures, keys of colours."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from millrace.simulator.judge.calibration import Calibration
from millrace.simulator.judge.compare import ALPHA
from millrace.simulator.judge.findings import Comparison, Findings
from millrace.simulator.judge.intervals import Estimate
from millrace.simulator.judge.markup import Markup, Piece, chance, estimate, folded, join, name_of, number, table, tag

Policies = Mapping[str, Findings]
Cell = Callable[[Findings], Piece]
Rows = Sequence[tuple[Piece, Cell]]

NOT_REACHED: Final = "not reached"


def section(anchor: str, title: str, about: str, *body: Piece) -> Markup:
    """Return a section of the page."""
    return tag("section", tag("h2", title), tag("p", about, class_="soft"), *body, id=anchor)


def side_by_side(policies: Policies, rows: Rows) -> Markup:
    """Return a table with a column per policy."""
    heads = ("", *(name_of(name) for name in policies))
    return table(heads, ((label, *(cell(found) for found in policies.values())) for label, cell in rows))


def figure(drawn: Markup, caption: str = "", *, is_small: bool = False) -> Markup:
    """Return a figure with what it shows."""
    beneath = tag("figcaption", caption) if caption else Markup("")
    return tag("figure", drawn, beneath, class_="small" if is_small else "wide")


def key(entries: Iterable[tuple[str, str]]) -> Markup:
    """Return names beside their stand-in colours of `millrace.simulator.judge.plots`."""

    def entry(name: str, colour: str) -> Markup:
        swatch = tag("span", class_="swatch", style=f"--of: var(--c{colour[-2:]})")
        return tag("li", swatch, name_of(name))

    return tag("ul", (entry(name, colour) for name, colour in entries), class_="key")


def effect(relative: Estimate, p_value: float) -> Markup:
    """Return a relative effect, marked where it is significant."""
    shown = estimate(relative, percent=True, signed=True)
    if not p_value < ALPHA:
        return shown
    return tag("span", shown, class_="good" if relative.value > 0 else "bad")


def slices(comparison: Comparison) -> Markup:
    """Return what a change did in each slice; nothing where that is not known."""
    if not comparison.slices:
        return Markup("")
    rows = [
        (
            part.slice.replace("=", ": "),
            f"{part.effect.n:,}",
            effect(part.effect.relative, part.p_adjusted),
            chance(part.p_adjusted),
            estimate(part.against_rest, percent=True, signed=True),
        )
        for part in comparison.slices
    ]
    harmed = [part.slice.replace("=", ": ") for part in comparison.slices if part.is_harmed]
    said = f"Significantly worse off: {', '.join(harmed)}." if harmed else "No slice is significantly worse off."
    title = join(name_of(comparison.after), " against ", name_of(comparison.before), ", by slice: ", said)
    heads = ("Slice", "People", "Sum per person", "p (Holm)", "Beside everybody else")
    return folded(title, table(heads, rows))


def flagged(n: int) -> Piece:
    """Return a count of what should be none."""
    return tag("span", f"{n:,}", class_="flag") if n else "0"


def reached(time: float | None) -> str:
    """Return a time, or that it was not reached."""
    return NOT_REACHED if time is None else number(time)


def whole(found: Findings, action: str, name: str) -> Calibration | None:
    """Return a policy's calibration of one action in one slice."""
    return next((part for part in found.calibration if (part.action, part.slice) == (action, name)), None)


def calibrated(action: str, name: str) -> Cell:
    """Return the cell of an action's calibration in a slice."""

    def cell(found: Findings) -> Piece:
        part = whole(found, action, name)
        if part is None or not part.n:
            return "–"
        missing = f", {part.n_missing:,} without" if part.n_missing else ""
        ranks = tag("span", f"ranks {number(part.rank_correlation)}{missing}", class_="bounds")
        return join(estimate(part.ratio), ranks)

    return cell


def measured(measure: str, unit: str) -> Cell:
    """Return the cell of a measure of utility by a unit."""
    return lambda found: estimate(getattr(found.utility.measures[measure], unit))


def lost(stage: str) -> Cell:
    """Return the cell of what a stage lost."""
    return lambda found: estimate(found.regret.stages[stage].frac, percent=True)


def found_by(source: str) -> Cell:
    """Return the cell of a source's share."""
    return lambda found: number(found.diversity.source_frac.get(source), percent=True)


def broken(rule: str) -> Cell:
    """Return the cell of how often a rule was broken."""

    def cell(found: Findings) -> Piece:
        counted = found.diversity.rules[rule]
        if not counted.n_posts:
            return "0"
        pages = tag("span", f"{counted.n_posts:,} posts on {counted.n_pages:,} pages", class_="bounds")
        return join(tag("span", number(counted.per_1000.value), class_="flag"), pages)

    return cell
