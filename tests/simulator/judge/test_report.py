from __future__ import annotations

import html.parser
import json
import re
from pathlib import Path
from typing import Any

import pytest

from millrace.base.errors import MillraceError
from millrace.simulator.judge import extras
from millrace.simulator.judge.findings import comparisons_of, policies_of
from millrace.simulator.judge.report import FIGURES, PAGE, Report, report_page, write_report
from millrace.simulator.judge.tables import viewers
from millrace.testing.run_records import RunPlan, a_run
from millrace.testing.run_tables import small_run

WORLD: dict[str, Any] = {"n_users": 60, "n_days": 3, "page_limit": 8}
HOSTILE = "<script>alert('$x^2$')</script> & نموذج 模型"
VOID = {"meta", "br"}


class Reader(html.parser.HTMLParser):
    """Checks that elements are closed in order, and notes what the page would load or run."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.text: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(str(value))
            if name in {"href", "src", "xlink:href"}:
                self.links.append(str(value))
            assert not name.startswith("on")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    return reader


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Report]:
    folder = tmp_path_factory.mktemp("reports") / "new"
    runs = {
        "recency": a_run(RunPlan(**WORLD, has_predictions=False)),
        HOSTILE: a_run(
            RunPlan(
                **WORLD,
                feed_seed=1,
                lift_frac=(0.05,),
                broken_per_page={"own": 0.5},
                stage_loss_frac={"ranking": -0.01},
            )
        ),
    }
    return folder, write_report(runs, folder, title=f"Of {HOSTILE}")


def test_the_page_is_whole_and_needs_nothing_else(written: tuple[Path, Report]) -> None:
    page = (written[0] / PAGE).read_text(encoding="utf-8")
    reader = read(page)
    assert "script" not in reader.tags
    assert {link for link in reader.links if not link.startswith("#")} == {FIGURES}
    assert len(reader.ids) == len(set(reader.ids)), "ids are unique over all figures"
    assert {link[1:] for link in reader.links if link.startswith("#")} <= set(reader.ids)
    assert not re.search(r"url\((?!#)", page)
    assert "#0102" not in page, "every stand-in colour became the page's own"
    used = set(re.findall(r"var\((--c\d\d)\)", page))
    assert used <= set(re.findall(r"(--c\d\d):", page))


def test_every_section_is_there_and_names_are_safe(written: tuple[Path, Report]) -> None:
    reader = read((written[0] / PAGE).read_text(encoding="utf-8"))
    assert "".join(reader.text).count(HOSTILE) >= 9
    sections = {"summary", "changes", "utility", "regret", "calibration", "exposure", "pages", "learning", "rules"}
    assert sections <= set(reader.ids)
    assert "svg" in reader.tags


def test_the_same_figures_are_there_for_programs(written: tuple[Path, Report]) -> None:
    folder, report = written
    figures = json.loads((folder / FIGURES).read_bytes())
    assert list(figures["policies"]) == ["recency", HOSTILE]
    value = figures["policies"]["recency"]["utility"]["measures"]["value"]["page"]
    assert value["value"] == report.policies["recency"].utility.measures["value"].page.value
    assert figures["policies"]["recency"]["calibration"][0]["ratio"]["value"] is None
    (comparison,) = figures["comparisons"]
    assert comparison["kind"] == "twins"
    low, high = (comparison["per_viewer"]["relative"][bound] for bound in ("low", "high"))
    assert low < 0.05 < high


def test_the_same_findings_make_the_same_page(written: tuple[Path, Report]) -> None:
    assert report_page(written[1]) == (written[0] / PAGE).read_text(encoding="utf-8")


def test_an_empty_run_has_a_report(tmp_path: Path) -> None:
    write_report(small_run(), tmp_path)
    reader = read((tmp_path / PAGE).read_text(encoding="utf-8"))
    assert any("nothing to hold against the truth" in text for text in reader.text)
    assert "changes" not in reader.ids


def test_arms_are_policies_and_are_compared() -> None:
    run = a_run(RunPlan(**WORLD, arms=("old", "new"), lift_frac=(0.0, 0.1)))
    assert list(policies_of(run)) == ["old", "new"]
    assert list(policies_of({"first": run})) == ["first · old", "first · new"]
    (comparison,) = comparisons_of(run)
    assert (comparison.kind, comparison.before, comparison.after) == ("A/B", "old", "new")
    old, new = policies_of(run).values()
    assert len(old["pages"]) + len(new["pages"]) == len(run["pages"])
    assert len(old["posts"]) == len(run["posts"])
    assert len(old["users"]) == len(run["users"]), "an author's readers may be in the other arm"
    assert len(viewers(old)) + len(viewers(new)) == len(viewers(run))


def test_runs_of_two_worlds_stand_side_by_side_without_a_comparison() -> None:
    runs = {"one": a_run(RunPlan(**WORLD)), "other": a_run(RunPlan(**WORLD, seed=2))}
    assert comparisons_of(runs) == ()


def test_policies_have_names_of_their_own() -> None:
    run = a_run(RunPlan(**WORLD, arms=("old", "new"), lift_frac=(0.0, 0.0)))
    with pytest.raises(MillraceError, match="name the runs apart"):
        policies_of({"a": run, "a · old": a_run(RunPlan(**WORLD))})
    with pytest.raises(MillraceError, match="at least one run"):
        policies_of({})


def test_without_matplotlib_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(module: str) -> object:
        if module.startswith("matplotlib"):
            raise ImportError(module)
        return __import__(module, fromlist=["_"])

    monkeypatch.setattr(extras.importlib, "import_module", missing)
    with pytest.raises(MillraceError, match=r"matplotlib.*pip install"):
        write_report(small_run(), tmp_path / "report")
    assert not (tmp_path / "report").exists()
