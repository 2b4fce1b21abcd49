"""``millrace flywheel status`` and ``history``: how the feed learns on, and what was decided and why."""

from __future__ import annotations

from typing import Annotated

import typer

from millrace.app.commands.options import HomeOption, JsonOption, SetOption, open_settings


def status(home: HomeOption = None, overrides: SetOption = None, as_json: JsonOption = False) -> None:
    """Show what serves, how well it predicted the last hours before learning from them, and the last decisions.

    It also says how the streaming join and the guards stand; more of them: millrace flywheel join, and guards.

    Example: millrace flywheel status
    """
    from millrace.app.commands.flywheel_run import distillation_words
    from millrace.app.commands.printing import notes, out, print_json, print_table
    from millrace.app.flywheel_parts import guard_words, join_words
    from millrace.app.flywheel_status import flywheel_status, verdict_words

    found = flywheel_status(open_settings(home, overrides))
    clocks = found.clocks
    if as_json:
        print_json(found)
        return
    for words in (
        found.words,
        *([clocks.words] if clocks.words else []),
        *([found.doing] if found.doing else []),
        join_words(found.join, clocks),
        guard_words(found.guards, found.guards_looked),
    ):
        out().print(words, soft_wrap=True, markup=False)
    for problem in found.problems:
        out().print(f"WARNING: {problem}", soft_wrap=True, markup=False)
    if found.hours:
        print_table(
            "predicted before anything was learned from them, mean over actions",
            ("pages until", "pages", "AUC", "entropy", "calibration"),
            [
                (
                    clocks.event(hour.until_ms),
                    f"{hour.n_pages:,}",
                    _figure(hour.auc),
                    _figure(hour.normalised_entropy),
                    _figure(hour.calibration),
                )
                for hour in found.hours
            ],
        )
    for decision in found.decisions:
        out().print(
            f"round {decision.number}: {verdict_words(decision, found.withdrawn)}: {decision.why}",
            soft_wrap=True,
            markup=False,
        )
    for back in found.taken_back:
        out().print(
            f"ranker {back.version} was taken back ({clocks.real(back.at_ms)}): {back.reason}",
            soft_wrap=True,
            markup=False,
        )
    for distilled in found.distillations[:1]:
        out().print(distillation_words(distilled), soft_wrap=True, markup=False)
    if not found.learns and not found.doing:  # a demo learns by what it was started with, not by the home's config
        notes().print("[dim]nothing learns on beside a server here: \\[flywheel] learns, or millrace flywheel run[/]")


def history(
    n: Annotated[int, typer.Option("-n", "--newest", min=1, help="How many rounds, the newest ones.")] = 24,
    pre_rankers: Annotated[
        bool, typer.Option("--pre-rankers", help="Only what came of distilling the pre-ranker anew.")
    ] = False,
    home: HomeOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show every rule of the newest rounds: what was found, against what is asked, and what followed.

    Beside them stands what came of distilling the pre-ranker anew. As JSON: the rounds, or with --pre-rankers those.

    Example: millrace flywheel history -n 3
    """
    from millrace.app.commands.flywheel_run import distillation_words
    from millrace.app.commands.printing import out, print_json, print_table
    from millrace.app.flywheel_status import flywheel_status, verdict_words
    from millrace.flywheel.decisions import Decision
    from millrace.flywheel.distillations import Distillation

    found = flywheel_status(open_settings(home, overrides), n_decisions=n)
    clocks = found.clocks
    if as_json:
        print_json(list(found.distillations if pre_rankers else found.decisions))
        return
    told: list[Decision | Distillation] = [*found.distillations, *(() if pre_rankers else found.decisions)]
    told.sort(key=lambda each: (each.at_ms, each.number))
    for decision in told:
        if isinstance(decision, Distillation):
            out().print(
                f"{distillation_words(decision)} (pages until {clocks.event(decision.until_ms)})",
                soft_wrap=True,
                markup=False,
            )
            continue
        took_s = sum(decision.seconds.values())
        change = f"{decision.from_version or 'none'} → {decision.to_version or 'the same'}"
        out().print(
            f"round {decision.number}, pages of {clocks.event(decision.from_ms)} to {clocks.event(decision.until_ms)}: "
            f"{verdict_words(decision, found.withdrawn)} ({change})\n  {decision.n_learned:,} pages learned from, "
            f"{decision.n_replayed:,} older ones to draw from, judged on {decision.n_judged:,} new and "
            f"{decision.n_trusted:,} earlier ones; best after {decision.best_step} of {decision.n_steps} steps"
            f"{f', {took_s:.0f} s' if took_s else ''}",
            soft_wrap=True,
            markup=False,
        )
        if decision.rules:
            print_table(
                f"rules of round {decision.number}",
                ("rule", "found", "asked", "kept", "in words"),
                [
                    (
                        rule.name,
                        _figure(rule.value),
                        f"{rule.threshold:.4g}",
                        "yes" if rule.is_kept else "NO",
                        rule.words,
                    )
                    for rule in decision.rules
                ],
            )
    if not told:
        out().print(f"no rounds yet; now {found.doing}" if found.doing else "no rounds yet: millrace flywheel run")


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
