"""``millrace flywheel run``: learn on, round after round."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from millrace.app.commands.options import HomeOption, JsonOption, SetOption, open_settings
from millrace.app.commands.train_options import need_torch

if TYPE_CHECKING:
    from millrace.flywheel.decisions import Decision
    from millrace.flywheel.distillations import Distillation
    from millrace.flywheel.learning_round import Waiting


def run(
    once: Annotated[
        bool, typer.Option("--once", help="One round, if its pages are there; else say what is missing.")
    ] = False,
    hours_per_round: Annotated[
        float | None,
        typer.Option(min=0.01, max=168, help="Hours of pages that a round waits for.", show_default=False),
    ] = None,
    home: HomeOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Learn on from every hour: predict it, learn from it, judge, and let serve what is better.

    A copy of the ranker that serves goes some steps on the pages of the hours since the last round and on older ones,
    and is judged beside it on pages that neither has seen. What passes every rule of the gate is promoted, and
    running servers follow; what does not is refused, with the reason. Where nothing has ever served, the first round is
    a whole training (millrace train --promote).
    After every so many rankers that were promoted (flywheel.learning.distils_every) the pre-ranker is distilled anew
    from the one that serves.
    Beside a server or without one; a round that is killed goes on where it was. Needs the extra train.

    Example: millrace flywheel run --once
    """
    need_torch()
    from millrace.app.commands.printing import notes, print_json, progress
    from millrace.app.flywheel_rounds import keep_learning, learn_once
    from millrace.app.student_renewal import renew_student
    from millrace.app.training_status import telling

    pairs = [] if hours_per_round is None else [f"flywheel.learning.hours_per_round={hours_per_round}"]
    settings = open_settings(home, [*(overrides or []), *pairs], checks_params=True)

    def tell(found: Decision | Waiting | Distillation) -> None:
        if as_json:
            print_json(found)
        else:
            notes().print(round_words(found), soft_wrap=True)

    if once:
        with telling(settings, progress) as shown:
            tell(learn_once(settings, shown))
            if (student := renew_student(settings, shown)) is not None:
                tell(student)
    else:
        keep_learning(settings, progress, _Stop(), tell)


def round_words(found: Decision | Waiting | Distillation) -> str:
    """Return what came of a round, or of distilling anew, in a line."""
    from millrace.flywheel.distillations import Distillation
    from millrace.flywheel.learning_round import Waiting

    if isinstance(found, Waiting):
        return f"waiting: {found.why}"
    if isinstance(found, Distillation):
        return distillation_words(found)
    change = f" {found.from_version or 'none'} → {found.to_version}" if found.to_version else ""
    return f"round {found.number}, {found.n_pages:,} pages: {found.verdict}{change}: {found.why}"


def distillation_words(found: Distillation) -> str:
    """Return what came of distilling the pre-ranker anew, in a line."""
    change = f" {found.from_version or 'none'} → {found.to_version}" if found.to_version else ""
    return f"pre-ranker, {found.n_pages:,} pages: {found.verdict}{change}: {found.why}"


class _Stop:
    """Waits, and ends waiting when the process is told to end."""

    def __init__(self) -> None:
        self._event = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def __call__(self, seconds: float) -> bool:
        """Let seconds pass; return whether to go on."""
        return not self._event.wait(seconds)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        if self._event.is_set():  # told twice: not even the round is finished, which the next run goes on with
            raise KeyboardInterrupt
        self._event.set()
