"""How a page was made, and why a post is on it or not, in a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from millrace.app.commands.page import changes_score
from millrace.app.commands.printing import count, out, plain, print_table, table_width

if TYPE_CHECKING:
    from rich.console import Console

    from millrace.mixer.trace_answers import ModelPart, PostWhy, RequestTrace

_VERDICTS: Final = {
    "shown": "[green]shown[/]",
    "ranked_below": "[yellow]ranked, not shown[/]",
    "dropped": "[red]dropped[/]",
    "not_retrieved": "[red]found by no source[/]",
}
_ROLES: Final = {
    "towers": ("looked for", "nobody looked for it"),
    "pre_ranker": ("pre-ranked", "nothing was cut"),
    "ranker": ("predicted", "nobody predicted"),
}
_BAR_WIDTH: Final = 24


def print_trace(trace: RequestTrace) -> None:
    """Print the funnel, what it took, and the params that were set."""
    console = out()
    console.print()
    print_table(
        "Sources",
        ("source", "found", "found by no other", "ms", "fate"),
        [(s.name, s.n_found, s.n_unique, f"{s.took_ms:.2f}", s.fate) for s in trace.sources],
    )
    console.print()
    print_table(
        f"Filters: {trace.n_candidates:,} candidates, {trace.n_ranked:,} ranked, {trace.n_slate} on the page",
        ("filter", "looked at", "dropped", "ms", "fate"),
        [(f.name, f.n_in, f.n_dropped, f"{f.took_ms:.2f}", f.fate) for f in trace.filters],
    )
    console.print()
    took: dict[str, float] = {}
    for component in trace.components:
        took[component.stage] = took.get(component.stage, 0.0) + component.took_ms
    print_table(
        f"Time: {trace.total_ms:.1f} ms in all",
        ("stage", "ms"),
        [(stage, f"{ms:.2f}") for stage, ms in took.items()],
    )
    console.print()
    for part in trace.models:
        console.print(plain(model_words(part)), markup=False)
    if trace.param_levels:
        print_table(
            "Params that differ from their defaults",
            ("param", "value", "set by"),
            [(name, _number(trace.params[name]), level) for name, level in trace.param_levels.items()],
        )
    else:
        console.print(f"[dim]{len(trace.params)} params, all at their defaults[/]")
    for outcome in trace.outcomes:
        line = f"{outcome.stage} {outcome.component}: {outcome.fate} ({outcome.detail})"
        console.print(plain(line), style="yellow", markup=False)


def print_why(why: PostWhy, sent_to: str | None = None) -> None:
    """Print why a post is on a page, or why not.

    Parameters
    ----------
    why
        The answer.
    sent_to
        The viewer, if it was sent to them before: then that is why they do not get it again.
    """
    from rich.markup import escape

    console = out()
    verdict = _VERDICTS[why.verdict]
    if why.verdict not in ("dropped", "not_retrieved"):
        sent_to = None
    if sent_to is not None:
        verdict = f"[yellow]was sent to {escape(plain(sent_to))} lately[/]: how that came about is in `--request ID`"
    console.print(f"[bold]{escape(plain(why.post_id))}[/]  {verdict}")
    if sent_to is not None:
        console.print("[dim]The id stands below that page. On a page made now:[/]")
    console.print(plain(why.summary), markup=False)
    if why.not_retrieved:
        console.print()
        print_table("Sources", ("source", "says"), [(r.source, r.reason) for r in why.not_retrieved])
    for part in why.models:
        console.print(plain(model_words(part)), markup=False)
    if why.actions:
        console.print()
        _print_score(console, why)
    if why.reranking:
        console.print(f"re-ranking: {plain(why.reranking)}", markup=False)
    console.print(f"[dim]request {escape(plain(why.request_id))}[/]")


def model_words(part: ModelPart) -> str:
    """Return who did what a model does: ``"predicted by the learned ranker 00000012"``, or who stood in and why."""
    did, nobody = _ROLES[part.role]
    if part.by == "model":
        title = "towers" if part.role == "towers" else f"learned {part.role.replace('_', '-')}"
        return f"{did} by the {title} {part.version}".rstrip()
    return f"{f'{did} by counters' if part.by == 'counters' else nobody}: {part.reason}"


def _print_score(console: Console, why: PostWhy) -> None:
    widest = max(abs(part.contribution) for part in why.actions)
    rows = [
        (part.name, f"{part.probability:.7f}", f"{part.weight:g}", f"{part.contribution:+.6f}") for part in why.actions
    ]
    columns = ("action", "prediction", "weight", "prediction x weight")
    room = console.width - table_width(columns, rows) - table_width(("",), ())
    bars = _bars([part.contribution for part in why.actions], widest, min(max(room, 1), _BAR_WIDTH))
    title = "Value (predictions kept to 2e-4)" if why.approximate else "Value"
    print_table(title, (*columns, ""), [(*row, bar) for row, bar in zip(rows, bars, strict=True)])
    console.print()
    steps: list[tuple[str, str, str]] = []
    if why.value is not None and why.offset_value is not None:
        steps = [("sum", "", f"{why.value:+.6f}"), ("offset", "", f"{why.offset_value:.6f}")]
    told = [step for step in why.steps if changes_score(step.kind, step.amount)]
    for step in told:
        sign = "+" if step.kind == "add" else "x"
        steps.append((step.name, f"{sign} {step.amount:.6g}", f"{step.score_after:.6f}"))
    print_table("Score", ("step", "amount", "score after"), steps)
    if n_idle := len(why.steps) - len(told):
        console.print(f"[dim]{count(n_idle, 'other step')} changed nothing[/]")


def _bars(parts: Sequence[float], widest: float, width: int) -> Iterator[str]:
    for part in parts:
        n = round(abs(part) / widest * width) if widest > 0 else 0
        yield ("█" if part > 0 else "░") * n


def _number(value: float) -> str:
    return str(value) if isinstance(value, bool) else f"{value:g}"
