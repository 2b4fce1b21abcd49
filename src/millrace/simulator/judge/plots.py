"""The report's figures, as SVG that takes its colours and its font from the page it stands in.

Matplotlib draws with stand-in colours (``#0102xx``), which become the page's variables (``var(--cxx)``): one figure
serves light and dark. Text stays text.
"""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Mapping
from typing import Any, Final

from millrace.simulator.judge.calibration import EVERYTHING
from millrace.simulator.judge.extras import require
from millrace.simulator.judge.findings import Findings
from millrace.simulator.judge.learning import AUTHOR_HOURS, VIEWER_PAGES, Step
from millrace.simulator.judge.markup import Markup
from millrace.simulator.judge.regret import STAGES
from millrace.simulator.judge.tables import DAY_MS

N_POLICY_COLOURS: Final = 6
INK, SOFT, LINE = "#010201", "#010202", "#010203"
_DASHES: Final = ("-", "--", "-.", ":")
_MAX_NAME: Final = 22
_N_ACTIONS_SHOWN: Final = 4
_MIN_PEOPLE: Final = 5
"""An interval from fewer is so wide that it would hide everything else."""

Policies = Mapping[str, Findings]


def policy_colour(number: int) -> str:
    """Return the stand-in colour of the policy of this number; the page calls it ``--c1<number>``."""
    return f"#01021{number % N_POLICY_COLOURS}"


def stage_colour(number: int) -> str:
    """Return the stand-in colour of a stage; the page calls it ``--c3<number>``."""
    return f"#01023{number}"


def utility_plot(policies: Policies) -> Markup:
    """Draw true value over virtual time: per page, and per person who came."""
    figure, (left, right) = _figure(1, 2, height=2.9)
    for number, found in enumerate(policies.values()):
        began = found.meta.began_ms
        days = [(start - began) / DAY_MS for start in found.over_time["start_ms"]]
        for axes, column in ((left, "value"), (right, "value_per_viewer")):
            _line(axes, days, found.over_time[column], number, marker="o" if len(days) < 15 else "")
    _say(left, "True value per page", "days since the run began", "")
    _say(right, "True value per person who came", "days since the run began", "")
    for axes in (left, right):
        axes.xaxis.get_major_locator().set_params(integer=True)
        if all(len(found.over_time["start_ms"]) < 2 for found in policies.values()):
            axes.set_xlim(-0.5, 0.5)  # a lone point has no span of its own to mark days on
    return _svg(figure, "True value per page and per person over time")


def regret_plot(policies: Policies) -> Markup:
    """Draw what each stage lost of the best page, stacked; gains lie left of zero."""
    figure, axes = _figure(1, 1, height=0.9 + 0.42 * len(policies))
    for row, found in enumerate(policies.values()):
        right = left = 0.0
        for number, stage in enumerate(STAGES):
            lost = 100 * found.regret.stages[stage].frac.value
            if not math.isfinite(lost):
                continue
            axes.barh(row, lost, left=right if lost > 0 else left, height=0.62, color=stage_colour(number), linewidth=0)
            right, left = right + max(lost, 0.0), left + min(lost, 0.0)
    _name_rows(axes, policies)
    _say(axes, "", "per cent of the best page's true value", "")
    axes.axvline(0, color=SOFT, linewidth=0.8)
    return _svg(figure, "Regret by stage")


def calibration_plot(policies: Policies) -> Markup:
    """Draw predicted against true probability for the most frequent actions; the diagonal is right."""
    wholes = [
        {part.action: part for part in found.calibration if part.slice == EVERYTHING} for found in policies.values()
    ]
    rates = {action: part.true for whole in wholes for action, part in whole.items() if part.bins}
    actions = sorted(rates, key=lambda action: -rates[action])[:_N_ACTIONS_SHOWN]
    if not actions:
        return Markup("")
    figure, grid = _figure(1, _N_ACTIONS_SHOWN, height=2.5, squeeze=False)
    for axes, action in zip(grid[0], actions, strict=False):
        top = 0.0
        for number, whole in enumerate(wholes):
            bins = whole[action].bins if action in whole else ()
            predicted, true = [each.predicted for each in bins], [each.true for each in bins]
            _line(axes, predicted, true, number, marker="o")
            top = max([top, *predicted, *true])
        axes.plot([0, top], [0, top], color=SOFT, linewidth=0.9, zorder=1)
        axes.set(xlim=(0, top * 1.05), ylim=(0, top * 1.05))
        _say(axes, action.replace("_", " "), "predicted", "true" if axes is grid[0][0] else "")
    for axes in grid[0][len(actions) :]:
        axes.set_visible(False)
    return _svg(figure, f"Calibration of {', '.join(actions)}")


def lorenz_plot(policies: Policies) -> Markup:
    """Draw the share of impressions of the least seen authors."""
    figure, axes = _figure(1, 1, height=3.4, width=4.4)
    axes.plot([0, 100], [0, 100], color=SOFT, linewidth=0.9)
    for number, found in enumerate(policies.values()):
        curve = [100 * share for share in found.exposure.lorenz]
        _line(axes, list(range(len(curve))), curve, number)
    axes.set(xlim=(0, 100), ylim=(0, 100))
    _say(axes, "", "% of authors, least seen first", "% of impressions")
    return _svg(figure, "Lorenz curve of impressions over authors")


def freshness_plot(policies: Policies) -> Markup:
    """Draw the ages of served posts: median, middle half, and from the 10th to the 90th percentile."""
    figure, axes = _figure(1, 1, height=0.9 + 0.42 * len(policies))
    for row, found in enumerate(policies.values()):
        age = found.diversity.age_h
        if not age:
            continue
        colour = policy_colour(row)
        axes.plot([age["0.1"], age["0.9"]], [row, row], color=colour, linewidth=1.4)
        axes.barh(row, age["0.75"] - age["0.25"], left=age["0.25"], height=0.46, color=colour, alpha=0.45)
        axes.plot([age["0.5"]] * 2, [row - 0.3, row + 0.3], color=colour, linewidth=2.6)
    _name_rows(axes, policies)
    axes.set_xlim(left=0)
    _say(axes, "", "age of served posts, hours", "")
    return _svg(figure, "Age of served posts")


def learning_plot(policies: Policies) -> Markup:
    """Draw how newcomers' scores and pages come right with time."""
    figure, (left, right) = _figure(1, 2, height=2.9)
    for number, found in enumerate(policies.values()):
        _steps(left, found.new_authors.curve, AUTHOR_HOURS, number)
        _steps(right, found.new_viewers.value_by_pages, VIEWER_PAGES, number)
    for axes, right_at in ((left, 1.0), (right, 0.9)):
        axes.axhline(right_at, color=SOFT, linewidth=0.9)
    _say(left, "New authors: predicted over true like rate", "hours since the first post", "")
    _say(right, "New viewers: value over older viewers'", "pages since the first", "")
    return _svg(figure, "Learning about newcomers")


def _steps(axes: Any, steps: tuple[Step, ...], starts: tuple[int, ...], number: int) -> None:
    """Steps get longer and longer: they are drawn side by side, each at its place among all that there could be."""
    at = [starts.index(int(step.start)) for step in steps]
    _line(axes, at, [step.ratio.value for step in steps], number, marker="o")
    known = [i for i, step in enumerate(steps) if step.ratio.n >= _MIN_PEOPLE]
    low, high = ([getattr(steps[i].ratio, bound) for i in known] for bound in ("low", "high"))
    axes.fill_between([at[i] for i in known], low, high, color=policy_colour(number), alpha=0.13, linewidth=0)
    axes.set_xticks(range(len(starts)), [f"{start}+" for start in starts])


def _figure(rows: int, columns: int, *, height: float, width: float = 10.0, **options: Any) -> tuple[Any, Any]:
    figure = require("matplotlib.figure").Figure(figsize=(width, height), layout="constrained")
    grid = figure.subplots(rows, columns, **options)
    for axes in figure.axes:
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        for side in ("left", "bottom"):
            axes.spines[side].set_color(LINE)
        axes.tick_params(colors=SOFT, labelsize=9, length=3)
        axes.grid(color=LINE, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.set_facecolor("none")
    return figure, grid


def _line(axes: Any, x: list[Any], y: list[Any], number: int, marker: str = "") -> None:
    axes.plot(
        x,
        y,
        color=policy_colour(number),
        linestyle=_DASHES[number % len(_DASHES)],
        linewidth=1.8,
        marker=marker,
        markersize=3.6,
    )


def _say(axes: Any, title: str, x: str, y: str) -> None:
    axes.set_title(title, fontsize=10.5, color=INK, loc="left")
    axes.set_xlabel(x, fontsize=9, color=SOFT)
    axes.set_ylabel(y, fontsize=9, color=SOFT)


def _name_rows(axes: Any, policies: Policies) -> None:
    names = [name if len(name) <= _MAX_NAME else f"{name[: _MAX_NAME - 1]}…" for name in policies]
    # A name is nobody's formula: a dollar sign in it must not be read as one.
    axes.set_yticks(range(len(names)), names, parse_math=False)
    axes.tick_params(axis="y", labelsize=10, labelcolor=INK, length=0)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")


def _svg(figure: Any, title: str) -> Markup:
    """Write a figure as an element of the page: no ids but those it needs, no metadata, colours by variable."""
    written = io.StringIO()
    settings = {"svg.fonttype": "none", "svg.hashsalt": title}
    with warnings.catch_warnings(), require("matplotlib").rc_context(settings):
        # The browser draws the text; that Matplotlib's own font lacks a script does not matter.
        warnings.filterwarnings("ignore", message=r"(Glyph|Matplotlib currently does not support)")
        figure.savefig(written, format="svg", transparent=True, metadata={"Date": None})
    text = written.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r' id="[A-Za-z0-9._]+_\d+"', "", text)
    text = re.sub(r"#0102([0-9a-f]{2})", r"var(--c\1)", text)
    size = re.search(r'viewBox="0 0 ([\d.]+)', text)
    width = f"{size.group(1)}pt" if size else "100%"
    opening = re.sub(r' (width|height)="[^"]*"', "", text[: text.index(">")])
    start = f'{opening} role="img" aria-label="{title}" style="max-width: {width}; width: 100%"'
    return Markup(start + text[text.index(">") :])
