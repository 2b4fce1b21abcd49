"""`write_report`: one HTML page that needs nothing else, and the same figures as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from millrace.simulator.judge import report_sections as sections
from millrace.simulator.judge.findings import Comparison, Findings, comparisons_of, findings, policies_of
from millrace.simulator.judge.markup import Markup, join, name_of, tag
from millrace.simulator.judge.report_style import STYLE
from millrace.simulator.judge.tables import DAY_MS
from millrace.simulator.records import RunRecords

PAGE: Final = "report.html"
FIGURES: Final = "report.json"

_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
"""The page loads nothing and runs nothing, whatever was put into it."""

_CONTENTS: Final = (
    ("summary", "Summary"),
    ("changes", "Changes"),
    ("utility", "Utility"),
    ("regret", "Regret"),
    ("calibration", "Calibration"),
    ("exposure", "Exposure"),
    ("pages", "Pages"),
    ("learning", "Newcomers"),
    ("rules", "Rules"),
)


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What is written as JSON; numbers that do not exist are null.

    Attributes
    ----------
    policies
        By name.
    comparisons
        Of arms of one run, and of runs of twin worlds.
    """

    title: str
    policies: dict[str, Findings]
    comparisons: tuple[Comparison, ...]


def write_report(
    runs: RunRecords | Mapping[str, RunRecords], folder: Path, *, title: str = "Judgement of a feed"
) -> Report:
    """Judge one or several runs, and write ``report.html`` and ``report.json``.

    Parameters
    ----------
    runs
        One run, or several by policy name. A run with several arms counts as one policy per arm. The first is what the
        others are compared with, where they are of one world.
    folder
        Made where it is missing.

    Raises
    ------
    MillraceError
        If a policy is there twice, or a package of the ``simulate`` extra is missing.
    """
    report = Report(
        title=title,
        policies={name: findings(run) for name, run in policies_of(runs).items()},
        comparisons=comparisons_of(runs),
    )
    # Both are made before either is written: half a report would look like a whole one.
    page, figures = report_page(report), msgspec.json.format(msgspec.json.encode(report), indent=1)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FIGURES).write_bytes(figures)
    (folder / PAGE).write_text(page, encoding="utf-8")
    return report


def report_page(report: Report) -> Markup:
    """Return the report as a page of HTML."""
    policies = report.policies
    body = [
        sections.summary(policies),
        sections.changes(report.comparisons),
        sections.utility(policies),
        sections.regret(policies),
        sections.calibration(policies),
        sections.exposure(policies),
        sections.diversity(policies),
        sections.learning(policies),
        sections.rules(policies),
    ]
    links = (
        tag("a", label, href=f"#{anchor}") for anchor, label in _CONTENTS if anchor != "changes" or report.comparisons
    )
    head = tag(
        "head",
        Markup('<meta charset="utf-8">'),
        Markup('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        Markup(f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'),
        tag("title", report.title),
        tag("style", Markup(STYLE)),
    )
    header = tag(
        "header",
        tag("h1", name_of(report.title)),
        tag("p", _worlds(policies), class_="soft"),
    )
    foot = tag("footer", tag("p", "The same figures, for programs: ", tag("a", FIGURES, href=FIGURES), "."))
    nav = tag("nav", tag("div", links, sections.policy_key(policies)), aria_label="Contents")
    page = tag("html", head, tag("body", header, nav, tag("main", body), foot), lang="en")
    return join(Markup("<!doctype html>\n"), page, Markup("\n"))


def _worlds(policies: Mapping[str, Findings]) -> Markup:
    """Say which worlds were lived in, each once."""
    metas = [found.meta for found in policies.values()]
    worlds = dict.fromkeys((m.mechanism, m.size, m.seed, (m.ended_ms - m.began_ms) / DAY_MS) for m in metas)
    said = [
        join("World ", name_of(size), ", mechanism ", name_of(mechanism), f", seed {seed}, {days:.3g} days. ")
        for mechanism, size, seed, days in worlds
    ]
    return join(said)
