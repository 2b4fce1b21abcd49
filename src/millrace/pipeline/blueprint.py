"""Checks at construction: do the stages fit together? What could go wrong per request is refused here, once."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from millrace.base.errors import PipelineError
from millrace.base.params import Param
from millrace.pipeline.column import MAX_SOURCES, PROVENANCE, AnyColumn, Attachment, Column, RaggedColumn
from millrace.pipeline.query import QueryField
from millrace.pipeline.stages import (
    Blender,
    Filter,
    Hydrator,
    PreRanker,
    QueryHydrator,
    Ranker,
    Readable,
    ReRanker,
    Selector,
    SideEffect,
    Source,
    Stage,
)


@dataclass(frozen=True)
class Stages:
    """A pipeline's stages in their order: what `Pipeline` is built from.

    Hydrators (and query hydrators) that read what an earlier listed one writes run after it; the others run side
    by side. Everything else runs in the order of the list.
    """

    selector: Selector
    query_hydrators: Sequence[QueryHydrator] = ()
    sources: Sequence[Source] = ()
    hydrators: Sequence[Hydrator] = ()
    filters: Sequence[Filter] = ()
    pre_rankers: Sequence[PreRanker] = ()
    rankers: Sequence[Ranker] = ()
    re_rankers: Sequence[ReRanker] = ()
    late_hydrators: Sequence[Hydrator] = ()
    late_filters: Sequence[Filter] = ()
    blenders: Sequence[Blender] = ()
    side_effects: Sequence[SideEffect] = ()

    def groups(self) -> tuple[tuple[str, Sequence[Stage]], ...]:
        """Return the groups in the order in which they run, each with its title."""
        return (
            ("query hydrators", self.query_hydrators),
            ("sources", self.sources),
            ("hydrators", self.hydrators),
            ("filters", self.filters),
            ("pre-rankers", self.pre_rankers),
            ("rankers", self.rankers),
            ("re-rankers", self.re_rankers),
            ("selector", (self.selector,)),
            ("late hydrators", self.late_hydrators),
            ("late filters", self.late_filters),
            ("blenders", self.blenders),
            ("side effects", self.side_effects),
        )


_METHODS = ("hydrate", "retrieve", "keep", "rank", "select", "blend")
_MAY_WAIT = ("query hydrators", "sources", "hydrators", "late hydrators", "late filters")


def is_waiting(stage: Stage) -> bool:
    """Whether a component's method is ``async``: it may wait, so it gets a timeout."""
    return any(inspect.iscoroutinefunction(getattr(stage, name, None)) for name in _METHODS)


@dataclass
class Blueprint:
    """What is known of a pipeline once its stages are checked.

    Attributes
    ----------
    query_waves, hydrator_waves, late_waves
        Hydrators that run side by side, wave after wave.
    source_columns
        All columns that sources write, the key first.
    declared_params
        Every param of the pipeline by name.
    """

    stages: Stages
    key: Column[Any]
    given: tuple[QueryField[Any], ...] = ()
    query_waves: list[list[QueryHydrator]] = field(default_factory=list)
    hydrator_waves: list[list[Hydrator]] = field(default_factory=list)
    late_waves: list[list[Hydrator]] = field(default_factory=list)
    source_columns: tuple[AnyColumn, ...] = ()
    declared_params: dict[str, Param] = field(default_factory=dict)
    _by_name: dict[str, Readable] = field(default_factory=dict)

    def __post_init__(self) -> None:
        written: dict[Readable, str] = dict.fromkeys((self.key, PROVENANCE, *self.given), "the framework")
        self._declare(written)
        for title, group in self.stages.groups():
            self._check_names(title, group)
            for stage in group:
                self._check_stage(title, stage)
                _check_reads(title, stage, written, _before(title, group, stage))
                if title != "sources":
                    written.update(dict.fromkeys(stage.writes, stage.name))
            if title == "sources":  # sources do not see each other's columns
                written.update({column: stage.name for stage in group for column in stage.writes})
        columns = [self.key, *(c for source in self.stages.sources for c in source.writes)]
        self.source_columns = tuple(dict.fromkeys(columns))  # type: ignore[arg-type]
        self.query_waves = _waves(self.stages.query_hydrators)
        self.hydrator_waves = _waves(self.stages.hydrators)
        self.late_waves = _waves(self.stages.late_hydrators)
        if len(self.stages.sources) > MAX_SOURCES:
            raise PipelineError(
                "sources",
                value=len(self.stages.sources),
                problem=f"more than the {MAX_SOURCES} bits of provenance",
                remedy="put several behind one source",
            )

    def _declare(self, things: Iterable[Readable]) -> None:
        for thing in things:
            if self._by_name.setdefault(thing.name, thing) is not thing:
                raise PipelineError(
                    f"name {thing.name}",
                    value=thing,
                    problem="declared twice",
                    remedy="import the one declaration instead of repeating it",
                )

    def _check_names(self, title: str, group: Sequence[Stage]) -> None:
        names = [stage.name for stage in group]
        for name in names:
            if names.count(name) > 1:
                raise PipelineError(title, value=name, problem="two have this name", remedy="rename one of them")

    def _check_stage(self, title: str, stage: Stage) -> None:
        self._declare((*stage.reads, *stage.writes))
        thing = f"{stage.kind} {stage.name}"
        wrong = [written for written in stage.writes if not isinstance(written, _may_write(title))]
        problem = ""
        if wrong:
            problem, remedy = f"may not write {wrong[0]!r}", "see the table in millrace.pipeline.stages"
        elif is_waiting(stage) and title not in _MAY_WAIT:
            problem, remedy = "is async where nothing may wait", "fetch what it needs in a hydrator"
        elif isinstance(stage, Filter) and not hasattr(stage, "on_error"):
            problem, remedy = "does not say what its failure means", "set on_error"
        elif isinstance(stage, PreRanker) and stage.score not in stage.writes:
            problem, remedy = "does not write the score it keeps by", "name it under writes"
        if problem:
            raise PipelineError(thing, value=type(stage).__name__, problem=problem, remedy=remedy)
        own = _source_params(stage) if isinstance(stage, Source) else ()
        kept = (stage.max_kept,) if isinstance(stage, PreRanker) else ()
        for param in (*stage.params, *own, *kept):
            if self.declared_params.setdefault(param.name, param) is not param:
                raise PipelineError(
                    f"param {param.name}", value=thing, problem="declared twice", remedy="give one of them another name"
                )


def _source_params(source: Source) -> tuple[Param, ...]:
    return tuple(param for param in (source.cap, source.only_below) if param is not None)


def _may_write(title: str) -> tuple[type, ...]:
    if title == "query hydrators":
        return (QueryField,)
    if title == "late hydrators":
        return (Column, Attachment)
    if title in ("sources", "hydrators", "pre-rankers", "rankers", "re-rankers"):
        return (Column, RaggedColumn)
    return ()


def _before(title: str, group: Sequence[Stage], stage: Stage) -> str:
    names = [other.name for other in group]
    return f"before it ({title} are run in the order {', '.join(names)})" if len(names) > 1 else f"before {stage.name}"


def _check_reads(title: str, stage: Stage, written: dict[Readable, str], where: str) -> None:
    for thing in stage.reads:
        if thing not in written:
            raise PipelineError(
                f"{stage.kind} {stage.name}",
                value=thing,
                problem=f"reads what nobody writes {where}",
                remedy=f"list a stage that writes it earlier than {title}, or move this one",
            )


def _waves(group: Sequence[QueryHydrator] | Sequence[Hydrator]) -> list[list]:  # type: ignore[type-arg]
    """Return the components in waves: each in the first wave after all earlier listed ones that it reads from."""
    waves: list[list[Stage]] = []
    wave_of: dict[Readable, int] = {}
    for stage in group:
        wave = max((wave_of[thing] + 1 for thing in stage.reads if thing in wave_of), default=0)
        if wave == len(waves):
            waves.append([])
        waves[wave].append(stage)
        wave_of.update(dict.fromkeys(stage.writes, wave))
    return waves
