"""Who predicted on a page: the learned models with their versions, or counters and why they had to."""

from __future__ import annotations

from collections.abc import Container
from pathlib import PurePath
from typing import Final, Literal

from millrace.mixer.home_models import IS_ON
from millrace.mixer.pre_rankers.value_pre_ranker import ValuePreRanker
from millrace.mixer.rankers.model_ranker import ModelRanker
from millrace.mixer.sources.vector import VectorSource
from millrace.mixer.trace import TraceHead
from millrace.mixer.trace_answers import ModelPart
from millrace.pipeline.outcome import ComponentReport, Fate
from millrace.pipeline.stages import Stage

_Role = Literal["pre_ranker", "ranker"]

_ANSWERED: Final = frozenset((Fate.OK, Fate.OVERRAN))
_CUT_AND_RANKED: Final[dict[_Role, type[Stage]]] = {"pre_ranker": ValuePreRanker, "ranker": ModelRanker}
_WORDS: Final = {
    Fate.FAILED: "failed",
    Fate.LATE: "was late",
    Fate.SKIPPED: "was left out: the deadline had passed",
    Fate.BLIND: "could not read what it needs",
}


def model_parts(
    head: TraceHead, sources: Container[str] | None = None, *, with_errors: bool = True
) -> tuple[ModelPart, ...]:
    """Return who looked for, cut and ranked the posts of a page, in that order.

    Parameters
    ----------
    head
        Of the page's trace.
    sources
        Those that found a post: towers are told of only if they are among them. None: of the whole page.
    with_errors
        Whether to say what went wrong and where models lie, beside that something did and what they are called.
    """
    versions = {
        kind: version if with_errors or "/" not in version else PurePath(version).name
        for kind, version in head.models.items()
    }
    reports = {(report.stage, report.component): report for report in head.components}
    details = {(o.stage, o.component): o.detail for o in head.outcomes} if with_errors else {}
    parts = []
    source = reports.get((VectorSource.kind, VectorSource.name))
    is_found = source is not None and source.fate in _ANSWERED and (sources is None or source.component in sources)
    if is_found and "retrieval" in versions:
        parts.append(ModelPart(role="towers", by="model", version=versions["retrieval"]))
    for kind, stage in _CUT_AND_RANKED.items():
        report = reports.get((stage.kind, stage.name))
        if report is not None:
            detail = details.get((stage.kind, stage.name), "")
            parts.append(_part(head, kind, versions.get(kind, ""), report, detail))
    return tuple(parts)


def _part(head: TraceHead, role: _Role, version: str, report: ComponentReport, detail: str) -> ModelPart:
    is_ranker = role == "ranker"
    has_answered = report.fate in _ANSWERED
    is_on = bool(head.params.get(IS_ON.name, IS_ON.default))
    if has_answered and (is_ranker or (version and is_on)):
        return ModelPart(role=role, by="model", version=version)
    title = "ranker" if is_ranker else "pre-ranker"
    if not version:
        reason = f"no learned {title} serves"
    elif not is_on:
        level = head.param_levels.get(IS_ON.name)
        reason = f"the param {IS_ON.name} keeps the learned {title} out" + (f" (set by {level})" if level else "")
    elif report.fate is Fate.DISABLED:
        reason = f"{report.n_in:,} candidates are few enough to rank them all"
    else:
        reason = f"the learned {title} {version} {_WORDS.get(report.fate, report.fate.value)}"
        reason += f" ({detail})" if detail and detail not in reason else ""
    return ModelPart(role=role, by="counters" if is_ranker or has_answered else "nobody", reason=reason)
