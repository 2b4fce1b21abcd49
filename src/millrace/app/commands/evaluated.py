"""How an evaluation is printed: order, probabilities, slices and recall as tables, then controls and alarms."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from millrace.app.commands.printing import count, notes, out, plain, print_table
from millrace.flywheel.retrieval import ANY

if TYPE_CHECKING:
    from millrace.app.eval_report import EvalReport
    from millrace.flywheel.evaluation import Estimate, EvaluationRow

_SHORT: Final = {
    "auc": "AUC",
    "pr_auc": "PR-AUC",
    "normalised_entropy": "NE",
    "calibration": "calib.",
    "calibration_error": "ECE",
}
_OF_PROBABILITIES: Final = ("normalised_entropy", "calibration", "calibration_error")
_MAX_SLICED: Final = 4


def print_report(report: EvalReport) -> None:
    """Print an evaluation; alarms go to stderr as well as into the exit code."""
    _print_head(report)
    _print_metrics(report.rows)
    _print_slices(report)
    _print_recall(report)
    _print_controls(report)


def _print_head(report: EvalReport) -> None:
    from rich.markup import escape

    console = out()
    shuffled = ", [yellow]labels shuffled[/]" if report.is_shuffled else ""
    console.print(
        f"[bold]{escape(_when(report.from_ms))} to {escape(_when(report.until_ms))} UTC[/]: "
        f"{count(report.n_slates, 'slate')}, {count(report.n_rows, 'impression')}, "
        f"{count(report.n_viewers, 'viewer')}; ranked by {report.scores}{shuffled}",
        soft_wrap=True,
    )
    told = (
        (report.n_gone, "impression", "of posts that the post store did not have then: predicted from nothing"),
        (report.n_unplaced, "impression", "that name no page (request or position), left out; --all takes them"),
        (report.n_unmatched, "action", "within the span that belong to no impression"),
        (report.n_open, "impression", "whose window had not ended when the log did: some labels may be missing"),
    )
    for n, noun, what in told:
        if n:
            console.print(f"[dim]{count(n, noun)} {what}[/]", soft_wrap=True)


def _print_metrics(rows: Sequence[EvaluationRow]) -> None:
    everybody = [row for row in rows if row.slice == "all"]
    names = list(dict.fromkeys(name for row in everybody for name in row.metrics))
    for title, chosen in (
        ("Order (95 % intervals)", [name for name in names if name not in _OF_PROBABILITIES]),
        ("Probabilities", [name for name in names if name in _OF_PROBABILITIES]),
    ):
        told = [row for row in everybody if any(name in row.metrics for name in chosen)]
        if told:
            columns = ("action", "positive", "rate", *(_SHORT.get(name, name.upper()) for name in chosen))
            cells = [(row, [_number(row.metrics.get(name)) for name in chosen]) for row in told]
            print_table(title, columns, [(r.action, r.n_positive, f"{r.positive_rate:.4f}", *c) for r, c in cells])
    silent = [f"{row.action} ({row.note})" for row in everybody if not row.metrics]
    if silent:
        out().print(f"No numbers: {'; '.join(map(plain, silent))}", style="dim", markup=False, soft_wrap=True)


def _print_slices(report: EvalReport) -> None:
    """Print AUC and NDCG by slice: of the actions that were asked for, or else of the most frequent ones."""
    everybody = [row for row in report.rows if row.slice == "all" and "auc" in row.metrics]
    everybody.sort(key=lambda row: -row.n_positive)
    actions = [row.action for row in everybody][: None if report.is_chosen else _MAX_SLICED]
    slices = [name for name in dict.fromkeys(row.slice for row in report.rows) if name != "all"]
    by_place = {(row.slice, row.action): row for row in report.rows}
    shown: list[Sequence[object]] = []
    silent = []
    for name in slices:
        mine = [by_place[name, action] for action in actions if "auc" in by_place[name, action].metrics]
        for row in mine:
            ndcg = next((found for key, found in row.metrics.items() if key.startswith("ndcg")), None)
            shown.append((name, row.action, row.n_positive, _number(row.metrics["auc"]), _number(ndcg)))
        if not mine:
            silent.append(name)
    if shown:
        print_table("By slice", ("slice", "action", "positive", "AUC", "NDCG"), _without_repeats(shown))
    if silent:
        out().print(f"Too few positives: {', '.join(map(plain, silent))}", style="dim", markup=False, soft_wrap=True)
    if len(actions) < len(everybody):
        out().print("Other actions by slice: --actions NAMES, or --json", style="dim", markup=False)


def _print_recall(report: EvalReport) -> None:
    told = [row for row in report.recall if row.metrics]
    if not report.recall:
        return
    if not told:
        largest = max(row.n for row in report.recall)
        out().print(
            f"Recall: too few posts looked for ({largest}); give more --recall, or lower --min-positives",
            style="dim",
            markup=False,
            soft_wrap=True,
        )
        return
    if not report.is_chosen:
        told = [row for row in told if row.action == ANY]
    names = list(told[0].metrics)
    columns = (
        "slice",
        *(("action",) if report.is_chosen else ()),
        "wanted",
        *(name.removeprefix("recall") for name in names),
    )
    rows = [
        (
            row.slice,
            *((row.action,) if report.is_chosen else ()),
            row.n,
            *(_number(row.metrics[name], 2) for name in names),
        )
        for row in told
    ]
    rows.sort(key=lambda row: (row[0] != "all", row[0]))
    title = f"Recall over the whole corpus ({told[0].n_live:,} posts); sources: found by any"
    print_table(title, columns, _without_repeats(rows))


def _print_controls(report: EvalReport) -> None:
    for control in report.controls:
        if not control.holds:
            notes().print(
                f"CONTROL: shuffled labels of {control.action} give AUC {control.auc:.4f}, beyond "
                f"0.5 ± {control.tolerance:.4f}: metric or join is wrong; report it",
                style="bold red",
                markup=False,
                soft_wrap=True,
            )
    if report.controls and all(control.holds for control in report.controls):
        worst = max(report.controls, key=lambda control: abs(control.auc - 0.5))
        out().print(
            f"Control: shuffled labels give AUC {worst.auc:.4f} at worst ({worst.action})", style="dim", markup=False
        )
    for leak in report.leaks:
        notes().print(f"LEAK: {plain(str(leak))}", style="bold red", markup=False, soft_wrap=True)
    if not report.leaks:
        out().print("Leaks: no alarm", style="dim")


def _without_repeats(rows: Iterable[Sequence[object]]) -> list[Sequence[object]]:
    """Return the rows with a first cell only where it changes."""
    shown: list[Sequence[object]] = []
    last: object = None
    for first, *others in rows:
        shown.append(("" if first == last else first, *others))
        last = first
    return shown


def _number(found: Estimate | None, n_digits: int = 3) -> str:
    if found is None or found.value is None:
        return ""
    value = f"{found.value:.{n_digits}f}"
    if found.low is None or found.high is None:
        return value
    return f"{value} {found.low:.{n_digits}f}–{found.high:.{n_digits}f}"


def _when(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M")
