"""``millrace eval``: how good the feed's predictions are, on what was logged."""

from __future__ import annotations

import enum
from datetime import UTC, datetime
from typing import Annotated

import typer

from millrace.app.commands.options import HomeOption, JsonOption, SetOption, open_settings
from millrace.base.errors import ConfigError


class ScoreKind(enum.StrEnum):
    """What posts are ranked by."""

    PREDICTED = "predicted"
    SCORE = "score"
    SERVED = "served"


def evaluate(
    scores: Annotated[
        ScoreKind,
        typer.Option(
            help="predicted: each action by its own probability; score: all by what the feed would sort by now; "
            "served: by the score logged when the page was sent."
        ),
    ] = ScoreKind.PREDICTED,
    hours: Annotated[float, typer.Option(min=0.01, help="Length of the span that is evaluated.")] = 24.0,
    start: Annotated[
        str | None,
        typer.Option("--from", metavar="TIME", help="Where it begins, ISO 8601; default: it ends with the log."),
    ] = None,
    window: Annotated[float, typer.Option(min=0.01, help="Hours after a look in which an action counts.")] = 24.0,
    actions: Annotated[
        str | None,
        typer.Option(metavar="NAMES", help="Such as like,click; default: all that happened.", show_default=False),
    ] = None,
    k: Annotated[int, typer.Option("--k", min=1, max=1000, help="Places that NDCG looks at.")] = 10,
    bootstrap: Annotated[
        int, typer.Option(min=0, max=10_000, help="Resamples of viewers for the intervals; 0: none.")
    ] = 200,
    min_positives: Annotated[int, typer.Option(min=1, help="With fewer, a slice gets no number.")] = 50,
    recall: Annotated[
        int, typer.Option(min=0, help="Posts acted on that are looked for in the whole corpus; 0: none.")
    ] = 200,
    behind: Annotated[
        float, typer.Option(min=0, help="Seconds by which the state may be behind its page; 0: none, and slower.")
    ] = 60.0,
    takes_all: Annotated[
        bool, typer.Option("--all", help="Also take impressions that name no page (request or position).")
    ] = False,
    shuffle_labels: Annotated[
        bool, typer.Option("--shuffle-labels", help="The control: labels of nobody; every AUC must be 0.5.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of resamples, samples and shuffles.")] = 1,
    home: HomeOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure the feed's predictions on the home's log: AUC, PR-AUC, entropy, calibration, NDCG, recall.

    The log is replayed: before a page's records are folded, its posts are predicted from what was known until then,
    and compared with what came of them. Each number has a 95 % interval, by viewers drawn again and again. Ends with
    code 1 if a score knows what it cannot know (a leak), or if shuffled labels are not a coin flip. Works with and
    without a running server; nothing is written.

    Example: millrace eval --hours 6 --actions like,click

    Example: millrace eval --set params.rates.affinity_gain=0 --json
    """
    from millrace.app.commands.evaluated import print_report
    from millrace.app.commands.printing import print_json, progress
    from millrace.app.eval_report import EvalOptions
    from millrace.app.evaluation import evaluate_home
    from millrace.flywheel.evaluation import EvaluationOptions

    options = EvalOptions(
        metrics=EvaluationOptions(k=k, n_resamples=bootstrap, min_positives=min_positives, seed=seed),
        from_ms=None if start is None else parse_time(start),
        hours=hours,
        window_h=window,
        scores=scores.value,
        actions=tuple(name.strip() for name in (actions or "").split(",") if name.strip()),
        n_recall=recall,
        behind_s=behind,
        takes_all=takes_all,
        shuffles_labels=shuffle_labels,
    )
    report = evaluate_home(open_settings(home, overrides, checks_params=True), options, progress)
    if as_json:
        print_json(report)
    else:
        print_report(report)
    if not report.is_sound:
        raise typer.Exit(1)


def parse_time(text: str) -> int:
    """Return an ISO 8601 time in epoch milliseconds; without an offset it is UTC."""
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(
            "option --from", value=text, problem="not an ISO 8601 time", remedy="write --from 2027-01-15T08:00"
        ) from None
    when = when if when.tzinfo is not None else when.replace(tzinfo=UTC)
    return int(when.timestamp() * 1000)
