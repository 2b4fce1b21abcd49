"""What a pipeline is, for people: every stage in order, what it reads and writes, its params with bounds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from millrace.base.params import Param
from millrace.pipeline.pipeline import Pipeline
from millrace.pipeline.stages import Filter, PreRanker, QueryHydrator, Source, Stage


@dataclass(frozen=True, slots=True)
class ParamDescription:
    """One param: its type is that of the default; bounds are None for switches."""

    name: str
    type: str
    default: float | int | bool
    low: float | None
    high: float | None
    doc: str


@dataclass(frozen=True, slots=True)
class ComponentDescription:
    """One component.

    Attributes
    ----------
    wave
        Hydrators of one wave run side by side; None for other kinds.
    timeout_ms
        None for plain functions of the CPU that are no sources.
    on_error
        A filter's policy, else None.
    """

    kind: str
    name: str
    doc: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    params: tuple[ParamDescription, ...]
    wave: int | None
    timeout_ms: float | None
    on_error: str | None


@dataclass(frozen=True, slots=True)
class GroupDescription:
    """One step of `Pipeline.execute`."""

    title: str
    components: tuple[ComponentDescription, ...]


@dataclass(frozen=True, slots=True)
class PipelineDescription:
    """A whole pipeline; groups without components are left out."""

    name: str
    key: str
    groups: tuple[GroupDescription, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return plain objects, ready for JSON."""
        return asdict(self)


def describe(pipeline: Pipeline) -> PipelineDescription:
    """Return the description of a pipeline."""
    wave_of: dict[Stage, int] = {}
    blueprint = pipeline.blueprint
    all_waves: tuple[Sequence[Sequence[Stage]], ...] = (
        blueprint.query_waves,
        blueprint.hydrator_waves,
        blueprint.late_waves,
    )
    for waves in all_waves:
        wave_of.update((stage, number) for number, wave in enumerate(waves) for stage in wave)
    groups = tuple(
        GroupDescription(title, tuple(_component(pipeline, stage, wave_of.get(stage)) for stage in group))
        for title, group in pipeline.stages.groups()
        if group
    )
    return PipelineDescription(pipeline.name, blueprint.key.name, groups)


def render_text(description: PipelineDescription) -> str:
    """Return the description as indented lines for a terminal."""
    return "\n".join(_text_lines(description)) + "\n"


def render_mermaid(description: PipelineDescription) -> str:
    """Return the description as a Mermaid flow chart: one box a step, its components inside."""
    lines = ["flowchart TB"]
    for number, group in enumerate(description.groups):
        lines.append(f'  subgraph g{number}["{group.title}"]')
        lines.append("    direction LR")
        for place, component in enumerate(group.components):
            writes = f"<br/><small>{', '.join(component.writes)}</small>" if component.writes else ""
            lines.append(f'    g{number}c{place}["{component.name}{writes}"]')
        lines.append("  end")
    lines.extend(f"  g{number} --> g{number + 1}" for number in range(len(description.groups) - 1))
    return "\n".join(lines) + "\n"


def _component(pipeline: Pipeline, stage: Stage, wave: int | None) -> ComponentDescription:
    params = list(stage.params)
    if isinstance(stage, Source):
        params.extend(param for param in (stage.cap, stage.only_below) if param is not None)
    if isinstance(stage, PreRanker):
        params.append(stage.max_kept)
    is_hydrator = isinstance(stage, QueryHydrator) or stage.kind == "hydrator"
    return ComponentDescription(
        kind=stage.kind,
        name=stage.name,
        doc=(type(stage).__doc__ or "").strip().split("\n")[0],
        reads=tuple(thing.name for thing in stage.reads),
        writes=tuple(thing.name for thing in stage.writes),
        params=tuple(_param(param) for param in dict.fromkeys(params)),
        wave=wave if is_hydrator else None,
        timeout_ms=stage.timeout_ms if stage in pipeline.waiting or isinstance(stage, Source) else None,
        on_error=stage.on_error.value if isinstance(stage, Filter) else None,
    )


def _param(param: Param) -> ParamDescription:
    is_switch = isinstance(param.default, bool)
    low, high = (None, None) if is_switch else (param.low, param.high)
    return ParamDescription(param.name, type(param.default).__name__, param.default, low, high, param.doc)


def _text_lines(description: PipelineDescription) -> Iterator[str]:
    yield f"pipeline {description.name} (key: {description.key})"
    for group in description.groups:
        yield ""
        yield group.title
        for number, component in enumerate(group.components, start=1):
            notes = [
                f"wave {component.wave}" if component.wave else "",
                f"at most {component.timeout_ms:g} ms" if component.timeout_ms is not None else "",
                f"on error: {component.on_error}" if component.on_error else "",
            ]
            shown = "; ".join(note for note in notes if note)
            yield f"  {number:>2} {component.name}" + (f"  ({shown})" if shown else "")
            yield f"     {component.doc}"
            if component.reads:
                yield f"     reads   {', '.join(component.reads)}"
            if component.writes:
                yield f"     writes  {', '.join(component.writes)}"
            for param in component.params:
                bounds = "" if param.low is None else f" in [{param.low:g}, {param.high:g}]"
                yield f"     param   {param.name} = {param.default}{bounds}  {param.doc}".rstrip()
