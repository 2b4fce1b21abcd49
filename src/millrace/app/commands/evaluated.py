"""How an evaluation is printed: one table of metrics, AUC by slice, recall, then controls and alarms."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from millrace.app.commands.printing import count, notes, out, plain, print_table

if TYPE_CHECKING:
    from millrace.app.evaluation import EvalReport
    from millrace.flywheel.evaluation import Estimate, EvaluationRow

_SHORT: Final = {
    "auc": "AUC",
    "pr_auc": "PR-AUC",
    "normalised_entropy": "NE",
    "calibration": "calib.",
    "calibration_error": "ECE",
}


def print_report(report: EvalReport) -> None:
    """Print an evaluation; alarms go to stderr as well as into the exit code."""
    _print_head(report)
    _print_metrics(report.rows)
    _print_slices(report.rows)
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
    columns = ("action", "positive", "rate", *(_SHORT.get(name, name.upper()) for name in names))
    print_table(
        "Everybody (95 % intervals)",
        columns,
        [
            (
                row.action,
                row.n_positive,
                f"{row.positive_rate:.4f}",
                *(_number(row.metrics.get(name)) for name in names),
            )
            for row in everybody
            if row.metrics
        ],
    )
    silent = [f"{row.action} ({row.note})" for row in everybody if not row.metrics]
    if silent:
        out().print(f"No numbers: {'; '.join(map(plain, silent))}", style="dim", markup=False, soft_wrap=True)


def _print_slices(rows: Sequence[EvaluationRow]) -> None:
    slices = [name for name in dict.fromkeys(row.slice for row in rows) if name != "all"]
    shown = []
    for name in slices:
        mine = [row for row in rows if row.slice == name and "auc" in row.metrics]
        ndcg = next((key for row in mine for key in row.metrics if key.startswith("ndcg")), "")
        shown += [
            (name, row.action, row.n_positive, _number(row.metrics["auc"]), _number(row.metrics.get(ndcg)))
            for row in mine
        ]
        if not mine:
            shown.append(
                (name, "(too few positives)", max(row.n_positive for row in rows if row.slice == name), "", "")
            )
    if shown:
        print_table("By slice", ("slice", "action", "positive", "AUC", "NDCG"), _without_repeats(shown))


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
    names = list(told[0].metrics)
    rows = [(row.slice, row.action, row.n, row.n_live, *(_number(row.metrics[name]) for name in names)) for row in told]
    rows.sort(key=lambda row: (row[0] != "all", row[0]))
    title = "Recall over the whole corpus; sources: found by any"
    print_table(title, ("slice", "action", "wanted", "corpus", *names), _without_repeats(rows))


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


def _number(found: Estimate | None) -> str:
    if found is None or found.value is None:
        return ""
    value = f"{found.value:.3f}"
    return value if found.low is None or found.high is None else f"{value} {found.low:.3f}–{found.high:.3f}"


def _when(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M")
