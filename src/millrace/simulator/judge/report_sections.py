"""The report's sections, each from the findings of all policies: what it is about, a figure, the numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from millrace.simulator.judge import plots
from millrace.simulator.judge.calibration import EVERYTHING
from millrace.simulator.judge.findings import Comparison, Findings
from millrace.simulator.judge.markup import Markup, Piece, chance, estimate, folded, join, name_of, number, table, tag
from millrace.simulator.judge.regret import STAGES
from millrace.simulator.judge.report_parts import (
    Cell,
    Policies,
    broken,
    calibrated,
    effect,
    figure,
    flagged,
    found_by,
    key,
    lost,
    measured,
    reached,
    section,
    side_by_side,
    slices,
)
from millrace.simulator.judge.tables import RULES

_UNITS: Final = {
    "page": "per page",
    "session": "per session",
    "active_day": "per person and day they came",
    "viewer_day": "per person and day, came or not",
    "viewer": "per person, whole run",
}
_MEASURES: Final = {
    "value": "true value, expected",
    "did_value": "true value, realised",
    "satisfaction": "satisfaction, expected",
    "did_satisfaction": "satisfaction, realised",
}


def summary(policies: Policies) -> Markup:
    """Return the policies side by side, by the numbers that matter most."""
    rows: list[tuple[Piece, Cell]] = [
        ("True value per page", lambda f: estimate(f.utility.measures["value"].page)),
        ("True value per person and day", lambda f: estimate(f.utility.measures["value"].viewer_day)),
        ("Satisfaction per page", lambda f: estimate(f.utility.measures["satisfaction"].page)),
        ("Sessions per person and day", lambda f: estimate(f.utility.sessions_per_viewer_day)),
        ("Came back within 24 h", lambda f: estimate(f.utility.return_frac, percent=True)),
        ("Dislikes per 1,000 impressions", lambda f: estimate(f.utility.negatives_per_1000)),
        ("Regret, of the best page", lambda f: estimate(f.regret.total.frac, percent=True)),
        ("Predicted over true like rate", calibrated("like", EVERYTHING)),
        ("Posts heard within 24 h", lambda f: estimate(f.exposure.heard.posts, percent=True)),
        ("Gini of impressions", lambda f: number(f.exposure.gini)),
        ("Topics of a page, bits", lambda f: estimate(f.diversity.topic_entropy_bits)),
        ("Median age of a post, hours", lambda f: number(f.diversity.age_h.get("0.5"))),
        ("People who came", lambda f: f"{f.utility.n_viewers:,}"),
        ("Pages", lambda f: f"{f.utility.n_pages:,}"),
        ("Posts that break a rule", lambda f: flagged(sum(rule.n_posts for rule in f.diversity.rules.values()))),
    ]
    about = "95 % intervals, beside the numbers, are by person: pages of one person are not independent."
    return section("summary", "Summary", about, side_by_side(policies, rows))


def changes(comparisons: Sequence[Comparison]) -> Markup:
    """Return what each change did, in all and to whom."""
    if not comparisons:
        return Markup("")
    about = (
        "Effects on true value. Twins: the same people in two copies of one world, each compared with themselves. "
        "A/B: two groups of people in one world, who share its posts and authors, as a naive test would have it."
    )
    rows = [
        (
            join(name_of(each.after), " against ", name_of(each.before), tag("span", each.kind, class_="bounds")),
            effect(each.per_viewer.relative, each.per_viewer.p_value),
            chance(each.per_viewer.p_value),
            effect(each.per_page.relative, each.per_page.p_value),
            chance(each.per_page.p_value),
        )
        for each in comparisons
    ]
    heads = ("Change", "Sum per person", "p", "Per page", "p")
    return section("changes", "What the change did", about, table(heads, rows), *(slices(each) for each in comparisons))


def utility(policies: Policies) -> Markup:
    """Return true utility over time and by every unit."""
    rows: list[tuple[Piece, Cell]] = [
        (f"{label}, {unit_label}", measured(measure, unit))
        for measure, label in _MEASURES.items()
        for unit, unit_label in _UNITS.items()
    ]
    rows.append(("Median hours to the next session", lambda f: number(f.utility.median_gap_h)))
    about = (
        "What pages were truly worth: expected (whether or not a post was looked at, weighed by how likely that is), "
        "and realised. Per person counts those who never came as 0, so that a feed that drives people away shows it."
    )
    return section(
        "utility",
        "True utility",
        about,
        figure(plots.utility_plot(policies), "The vertical axes do not begin at zero."),
        folded("By every unit", side_by_side(policies, rows)),
    )


def regret(policies: Policies) -> Markup:
    """Return what each stage lost."""
    about = (
        "How much of the best page each stage lost, in expected true value; the parts add up exactly. A stage that "
        "gains lies left of zero. The best pages are a greedy oracle's; the last row bounds how far it is off."
    )
    rows: list[tuple[Piece, Cell]] = [(stage.capitalize(), lost(stage)) for stage in STAGES]
    rows += [
        ("Total", lambda f: estimate(f.regret.total.frac, percent=True)),
        ("Best page, true value", lambda f: estimate(f.regret.best)),
        ("Served page, true value", lambda f: estimate(f.regret.served)),
        ("Pages held against the oracle", lambda f: f"{f.regret.n_pages:,}"),
        ("Oracle below its upper bound, at most", lambda f: estimate(f.regret.oracle_gap, percent=True)),
    ]
    colours = key((stage, plots.stage_colour(i)) for i, stage in enumerate(STAGES))
    return section(
        "regret", "Regret by stage", about, colours, figure(plots.regret_plot(policies)), side_by_side(policies, rows)
    )


def calibration(policies: Policies) -> Markup:
    """Return how true predictions are, by action and by slice."""
    about = (
        "Predicted probabilities beside the true ones, for every served post with a prediction. Curves: bins of equal "
        "counts; the diagonal is right. Below: mean predicted over mean true (1 is right), with the rank correlation."
    )
    actions = list(dict.fromkeys(part.action for found in policies.values() for part in found.calibration))
    names = sorted({part.slice for found in policies.values() for part in found.calibration} - {EVERYTHING})
    by_action: list[tuple[Piece, Cell]] = [
        (action.replace("_", " "), calibrated(action, EVERYTHING)) for action in actions
    ]
    by_slice: list[tuple[Piece, Cell]] = [(name.replace("=", ": "), calibrated("like", name)) for name in names]
    drawn = plots.calibration_plot(policies)
    if not drawn:
        note = tag("p", "The records hold no predictions: there is nothing to hold against the truth.", class_="note")
        return section("calibration", "Calibration", about, note)
    return section(
        "calibration",
        "Calibration",
        about,
        figure(drawn),
        folded("By action", side_by_side(policies, by_action)),
        folded("Like, by slice", side_by_side(policies, by_slice)),
    )


def exposure(policies: Policies) -> Markup:
    """Return how impressions are shared among creators."""
    about = (
        "How impressions are shared among the authors who posted. A post is heard if, within 24 h, it was looked at "
        "ten times by people who truly like it; only posts whose 24 h lie within the run are asked. Of the arms of one "
        "run, each counts its own people alone."
    )
    rows: list[tuple[Piece, Cell]] = [
        ("Gini of impressions", lambda f: number(f.exposure.gini)),
        ("Impressions of the top 1 % of authors", lambda f: number(f.exposure.top_1_frac, percent=True)),
        ("Authors without any impression", lambda f: number(f.exposure.unseen_frac, percent=True)),
        ("Posts heard", lambda f: estimate(f.exposure.heard.posts, percent=True)),
        ("Authors heard", lambda f: estimate(f.exposure.heard.authors, percent=True)),
        ("New authors heard", lambda f: estimate(f.exposure.new_authors.authors, percent=True)),
        ("Other authors heard", lambda f: estimate(f.exposure.other_authors.authors, percent=True)),
        (
            "Posts asked, of how many authors",
            lambda f: f"{f.exposure.heard.n_posts:,} / {f.exposure.heard.n_authors:,}",
        ),
        ("Impressions that went to spam", lambda f: number(f.exposure.spam_frac, percent=True)),
    ]
    drawn = figure(plots.lorenz_plot(policies), "The closer to the diagonal, the more evenly shared.", is_small=True)
    return section("exposure", "Exposure of creators", about, drawn, side_by_side(policies, rows))


def diversity(policies: Policies) -> Markup:
    """Return what pages are made of."""
    about = "What pages are made of, and where their posts came from. One post may have been found by several sources."
    sources = list(dict.fromkeys(name for found in policies.values() for name in found.diversity.source_frac))
    rows: list[tuple[Piece, Cell]] = [
        ("Entropy of a page's topics, bits", lambda f: estimate(f.diversity.topic_entropy_bits)),
        ("Topics of a page", lambda f: estimate(f.diversity.distinct_topics)),
        ("Authors of a page", lambda f: estimate(f.diversity.distinct_authors)),
        ("Posts of a page", lambda f: estimate(f.diversity.items_per_page)),
        ("Empty pages", lambda f: estimate(f.diversity.empty_frac, percent=True)),
        ("Pages with a failed or late component", lambda f: estimate(f.diversity.degraded_frac, percent=True)),
        ("In-network posts", lambda f: estimate(f.diversity.in_network_frac, percent=True)),
    ]
    rows += [(join("Found by ", name_of(source)), found_by(source)) for source in sources]
    drawn = figure(
        plots.freshness_plot(policies),
        "Age of served posts: median, middle half, and from the 10th to the 90th percentile.",
    )
    return section("pages", "Freshness and diversity", about, drawn, side_by_side(policies, rows))


def learning(policies: Policies) -> Markup:
    """Return how soon newcomers are understood."""
    about = (
        "Newcomers joined during the run. An author's score is right once predicted and true like rates, over a moving "
        "window of served posts, agree within a fifth and stay so; new viewers have caught up once their pages are "
        "worth nine tenths of the older viewers' and stay so. What was not reached is said to be not reached."
    )
    rows: list[tuple[Piece, Cell]] = [
        ("New authors: median hours until right", _until_right),
        ("New authors: right, of those judged", lambda f: f"{f.new_authors.n_right} / {f.new_authors.n_judged}"),
        ("New authors who posted", lambda f: f"{f.new_authors.n_new:,}"),
        ("New viewers: hours until caught up", lambda f: reached(f.new_viewers.hours)),
        ("New viewers: pages until caught up", lambda f: reached(f.new_viewers.pages)),
        ("New viewers who came", lambda f: f"{f.new_viewers.n_new:,}"),
    ]
    return section("learning", "Newcomers", about, figure(plots.learning_plot(policies)), side_by_side(policies, rows))


def _until_right(found: Findings) -> Piece:
    return reached(found.new_authors.hours) if found.new_authors.n_judged else "nobody to judge"


def rules(policies: Policies) -> Markup:
    """Return what was on pages that must not be."""
    about = "Posts that must not be on a page, per 1,000 served, and on how many pages. Nothing but zeros is right."
    rows: list[tuple[Piece, Cell]] = [(rule.capitalize(), broken(rule)) for rule in RULES]
    return section("rules", "Broken rules", about, side_by_side(policies, rows))


def policy_key(policies: Policies) -> Markup:
    """Return which colour is which policy's."""
    return key((name, plots.policy_colour(i)) for i, name in enumerate(policies))
