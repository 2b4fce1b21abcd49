"""`Turns`: runs components one by one or side by side, times them, and turns what goes wrong into outcomes.

This is the one place where a stage's exception is caught.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from millrace.base.clock import Clock
from millrace.pipeline.outcome import ComponentReport, Fate, Outcome
from millrace.pipeline.query import Query
from millrace.pipeline.stages import Filter, OnError, QueryHydrator, Selector, Source, Stage

_LAST_CALL_S = 0.0005  # what a waiting component gets at least, so that an answer that is there is taken
_LAST_PASSES = 2  # of the loop that an answer needs to arrive if it came while the loop was busy with others


class Turn(NamedTuple):
    """One component's turn.

    Attributes
    ----------
    stage
        The component.
    n_in
        Candidates it gets.
    check
        Raises `PipelineError` if the answer breaks the contract; returns the number of rows for the report.
    method, args
        Does the work; gives a coroutine where the component waits.
    """

    stage: Stage
    n_in: int
    check: Callable[[Any], int]
    method: Callable[..., Any]
    args: tuple[Any, ...]


class Taken(NamedTuple):
    """How a turn ended; ``value`` is None unless ``fate`` is OK."""

    fate: Fate
    value: Any = None


class Turns:
    """All turns of one request.

    Parameters
    ----------
    clock
        Gives monotonic time.
    query
        What components are asked with whether they take part; `Run` replaces it as it is hydrated.
    waiting
        The components that wait.
    is_strict
        Whether a component's exception is raised instead of becoming an outcome (tests, development).
    """

    def __init__(self, clock: Clock, query: Query, waiting: frozenset[Stage], *, is_strict: bool) -> None:
        self._now_s = clock.monotonic_s
        self.query = query
        self._waiting = waiting
        self._is_strict = is_strict
        self.started_s = clock.monotonic_s()
        self.reports: list[ComponentReport] = []
        self.outcomes: list[Outcome] = []
        self._waited_s: dict[Stage, float] = {}

    def elapsed_ms(self) -> float:
        """Return the real time since the request began."""
        return (self._now_s() - self.started_s) * 1000

    def takes_part(self, stage: Stage) -> bool:
        """Whether a component takes part; one that cannot say does."""
        try:
            return stage.is_enabled(self.query)
        except Exception as error:
            if self._is_strict:
                raise
            self.outcomes.append(_outcome(stage, Fate.FAILED, f"is_enabled: {_describe(error)}"))
            return True

    def take(
        self,
        stage: Stage,
        n_in: int,
        check: Callable[[Any], int],
        method: Callable[..., Any],
        *args: Any,
        can_skip: bool = True,
    ) -> Taken:
        """Run one plain component; the arguments are those of `Turn`."""
        if not self.takes_part(stage):
            return self.leave_out(stage, n_in, Fate.DISABLED)
        if can_skip and stage.can_be_skipped and self.query.is_out_of_time():
            return self.leave_out(stage, n_in, Fate.SKIPPED, "the deadline had passed")
        start_s = self._now_s()
        try:
            value = method(*args)
            n_out = check(value)
        except Exception as error:
            if self._is_strict:
                raise
            return self._fail(stage, n_in, start_s, self._now_s(), Fate.FAILED, _describe(error))
        end_s = self._now_s()
        start_ms, took_ms = (start_s - self.started_s) * 1000, (end_s - start_s) * 1000
        fate = Fate.OVERRAN if took_ms > stage.timeout_ms and isinstance(stage, Source) else Fate.OK
        self.reports.append(ComponentReport(stage.kind, stage.name, fate, start_ms, took_ms, n_in, n_out))
        return Taken(Fate.OK, value)

    async def take_all(self, turns: Sequence[Turn]) -> list[Taken]:
        """Run components side by side: those that wait begin first, then the plain ones use the CPU meanwhile.

        Returns
        -------
        list
            In the order of ``turns``, whatever the order in which they ended.
        """
        taken: list[Taken | None] = [None] * len(turns)
        begun: list[tuple[int, Turn, float, asyncio.Task[tuple[Any, float]]]] = []
        try:
            for number, turn in enumerate(turns):
                if turn.stage in self._waiting:
                    if not self.takes_part(turn.stage):
                        taken[number] = self.leave_out(turn.stage, turn.n_in, Fate.DISABLED)
                    elif turn.stage.can_be_skipped and number and self.query.is_out_of_time():
                        taken[number] = self.leave_out(turn.stage, turn.n_in, Fate.SKIPPED, "the deadline had passed")
                    else:
                        task = asyncio.ensure_future(self._timed(turn))
                        begun.append((number, turn, self._now_s(), task))
            if begun:
                await asyncio.sleep(0)
            for number, turn in enumerate(turns):
                if turn.stage not in self._waiting:
                    taken[number] = self.take(
                        turn.stage, turn.n_in, turn.check, turn.method, *turn.args, can_skip=number > 0
                    )
            for number, turn, start_s, task in begun:
                taken[number] = await self._collect(turn, start_s, task)
        finally:
            for _, _, _, task in begun:
                if not task.done():
                    task.cancel()
                    task.add_done_callback(_forget)
        return [ended for ended in taken if ended is not None]

    def fall_back(self, turn: Turn) -> Taken:
        """Take a failed component's last known values; ``turn.method`` gives None where there are none."""
        try:
            value = turn.method(*turn.args)
            if value is None:
                return Taken(Fate.FAILED)
            turn.check(value)
        except Exception as error:
            if self._is_strict:
                raise
            self.outcomes.append(_outcome(turn.stage, Fate.FAILED, f"fallback: {_describe(error)}"))
            return Taken(Fate.FAILED)
        for number, outcome in enumerate(self.outcomes):
            if (outcome.stage, outcome.component) == (turn.stage.kind, turn.stage.name):
                detail = f"{outcome.fate.value}: {outcome.detail}; last known values used"
                self.outcomes[number] = outcome._replace(fate=Fate.FALLBACK, detail=detail)
        return Taken(Fate.OK, value)

    def blind(self, stage: Stage, missing: str, n_in: int, n_out: int) -> None:
        """Note that a filter's policy decided because what it reads could not be found out."""
        at_ms = self.elapsed_ms()
        self.reports.append(ComponentReport(stage.kind, stage.name, Fate.BLIND, at_ms, 0.0, n_in, n_out))
        self.outcomes.append(_outcome(stage, Fate.BLIND, f"{missing} is missing"))

    async def _timed(self, turn: Turn) -> tuple[Any, float]:
        value = await turn.method(*turn.args)
        return value, self._now_s()

    async def _collect(self, turn: Turn, start_s: float, task: asyncio.Task[tuple[Any, float]]) -> Taken:
        if not task.done():
            waited_s = self._waited_s.get(turn.stage, 0.0)
            left_s = start_s + turn.stage.timeout_ms / 1000 - waited_s - self._now_s()
            if self.query.deadline is not None and not _is_vital(turn.stage):
                left_s = min(left_s, self.query.deadline.remaining_s())
            await asyncio.wait((task,), timeout=max(left_s, _LAST_CALL_S))
            for _ in range(_LAST_PASSES):
                if not task.done():
                    await asyncio.sleep(0)
            self._waited_s[turn.stage] = waited_s + self._now_s() - start_s
        if not task.done():
            took_ms = (self._now_s() - start_s) * 1000
            return self._fail(
                turn.stage, turn.n_in, start_s, self._now_s(), Fate.LATE, f"no answer after {took_ms:.1f} ms"
            )
        try:
            value, end_s = task.result()
            n_out = turn.check(value)
        except asyncio.CancelledError:
            return self._fail(turn.stage, turn.n_in, start_s, self._now_s(), Fate.FAILED, "cancelled")
        except Exception as error:
            if self._is_strict:
                raise
            return self._fail(turn.stage, turn.n_in, start_s, self._now_s(), Fate.FAILED, _describe(error))
        self._report(turn.stage, turn.n_in, Fate.OK, start_s, end_s, n_out)
        return Taken(Fate.OK, value)

    def _report(self, stage: Stage, n_in: int, fate: Fate, start_s: float, end_s: float, n_out: int) -> None:
        start_ms = (start_s - self.started_s) * 1000
        took_ms = (end_s - start_s) * 1000
        self.reports.append(ComponentReport(stage.kind, stage.name, fate, start_ms, took_ms, n_in, n_out))

    def leave_out(self, stage: Stage, n_in: int, fate: Fate, detail: str = "") -> Taken:
        """Note that a component takes no part; a detail makes it an outcome."""
        now_s = self._now_s()
        self._report(stage, n_in, fate, now_s, now_s, n_in)
        if detail:
            self.outcomes.append(_outcome(stage, fate, detail))
        return Taken(fate)

    def _n_left_by_failed(self, stage: Stage, n_in: int) -> int:
        if isinstance(stage, Source | QueryHydrator):
            return 0
        if isinstance(stage, Filter):
            return n_in if stage.on_error is OnError.KEEP_ALL else 0
        return min(n_in, self.query.limit) if isinstance(stage, Selector) else n_in

    def _fail(self, stage: Stage, n_in: int, start_s: float, end_s: float, fate: Fate, detail: str) -> Taken:
        self._report(stage, n_in, fate, start_s, end_s, self._n_left_by_failed(stage, n_in))
        self.outcomes.append(_outcome(stage, fate, detail))
        return Taken(fate)


def _is_vital(stage: Stage) -> bool:
    """Whether there is no page without the component's answer: then a late page is better than none."""
    return isinstance(stage, Filter) and stage.on_error is OnError.DROP_ALL


def _outcome(stage: Stage, fate: Fate, detail: str) -> Outcome:
    return Outcome(stage.kind, stage.name, fate, detail)


def _describe(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _forget(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()  # retrieved, so that asyncio does not complain about it
