"""``reddit-posts``: real posts of 93 communities, 2006 to 2013 (id, community, time, title, body, votes, over_18).

What is real: posts, their texts, times, order, votes, communities, sensitive flags. What is made by seed, and why
the result is called composite: a community is an author (the set has no author names); viewers, whom they follow
(communities of their interests, and a few other viewers) and what they look at and do. Votes and comment numbers
become `CountsObserved`. Two passes over the file; memory does not grow with it.
"""

from __future__ import annotations

import html
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from millrace.base.errors import SourceDataError
from millrace.events.content_events import CountsObserved, Media, PostAnnotated, PostCreated
from millrace.events.envelope import AnyEvent
from millrace.events.importers.options import HOUR_MS, ImportOptions
from millrace.events.importers.reddit_communities import language_of, topic_of
from millrace.events.importers.reddit_viewers import ViewerCrowd
from millrace.events.importers.report import ImportReport
from millrace.events.importers.rows import Table, find_file
from millrace.events.importers.timeline import Teller, TimeMap
from millrace.events.user_events import ProfileUpdated

SOURCE: Final = "importer/reddit-posts"
COMPOSITION: Final = (
    "composite: posts, times, votes and communities are real (reddit-posts); communities stand as authors; viewers, "
    "their follows, impressions and actions are made by seed"
)

_COLUMNS: Final = (
    "id",
    "community",
    "created_utc",
    "title",
    "body",
    "domain",
    "ups",
    "downs",
    "n_comments",
    "over_18",
)
_OLDEST_S: Final = 1_119_484_800  # June 2005, when the site opened; a row from before cannot be right
_BOOLS: Final = {"true": True, "1": True, "false": False, "0": False}
_IMAGE_DOMAINS: Final = frozenset({"imgur.com", "i.imgur.com", "flickr.com", "i.minus.com", "quickmeme.com"})
_VIDEO_DOMAINS: Final = frozenset({"youtube.com", "youtu.be", "m.youtube.com", "vimeo.com"})
_MAX_TEXT_CHARS: Final = 40_000


@dataclass(frozen=True, slots=True)
class Row:
    """One readable row, parsed."""

    post_id: str
    community: str
    created_ms: int
    text: str
    domain: str
    n_ups: int
    n_downs: int
    n_comments: int
    is_sensitive: bool


@dataclass(slots=True)
class _Survey:
    """What the first pass finds out."""

    first_ms: int = 0
    last_ms: int = 0
    n_posts_by_community: dict[str, int] = field(default_factory=dict)


def read(path: Path, options: ImportOptions, report: ImportReport | None = None) -> Iterator[AnyEvent]:
    """Yield the data set as events: communities, viewers and follows first, then posts and reactions by time.

    Parameters
    ----------
    path
        The folder, or ``posts.csv`` / ``posts.csv.gz`` itself.
    options
        Seed, moment, span, number of viewers.
    report
        Filled while events are yielded.

    Raises
    ------
    SourceDataError
        If there is no such file, its header is another, or no row of it can be read.
    """
    report = report if report is not None else ImportReport()
    report.composition = COMPOSITION
    table = Table(find_file(path, "posts.csv"), _COLUMNS)
    survey = _survey(table, options, report)
    times = TimeMap.of(options, survey.first_ms, survey.last_ms)
    teller = Teller(SOURCE, options, report)
    crowd = ViewerCrowd(tuple(survey.n_posts_by_community), options)
    start_ms = times.event_time_ms(survey.first_ms)
    for community in survey.n_posts_by_community:
        yield teller.tell(start_ms, _community_profile(community), f"r/{community}")
    for key, payload in crowd.founding():
        yield teller.tell(start_ms, payload, key)
    rng = np.random.default_rng((options.seed, 2))
    haste_ms = 2 * HOUR_MS if options.span_ms is None else min(2 * HOUR_MS, options.span_ms // 24)
    for row in _parsed(table, options, report):
        time_ms = min(times.event_time_ms(row.created_ms), options.now_ms)
        yield from teller.due(time_ms)
        yield teller.tell(time_ms, _post(row), row.post_id)
        yield teller.tell(time_ms, _annotation(row), f"{row.post_id}/a")
        yield teller.tell(time_ms, _counts(row), f"{row.post_id}/c")
        for at_ms, reaction in crowd.reactions(
            row.post_id, row.community, row.n_ups, row.n_downs, time_ms, haste_ms, rng
        ):
            teller.later(at_ms, reaction)
    yield from teller.rest()


def _survey(table: Table, options: ImportOptions, report: ImportReport) -> _Survey:
    survey = _Survey()
    first_pass = ImportReport()
    for row in _parsed(table, options, first_pass):
        n_posts = survey.n_posts_by_community
        survey.first_ms = min(survey.first_ms, row.created_ms) if n_posts else row.created_ms
        survey.last_ms = max(survey.last_ms, row.created_ms)
        n_posts[row.community] = n_posts.get(row.community, 0) + 1
    report.n_rows_total = first_pass.n_rows
    if not survey.n_posts_by_community:
        raise SourceDataError(
            "import file",
            value=str(table.file),
            problem=f"none of its {first_pass.n_rows} rows can be read "
            f"({', '.join(first_pass.n_unreadable_by_reason) or 'there are none'})",
            remedy="check that it is the reddit-posts file",
        )
    return survey


def _parsed(table: Table, options: ImportOptions, report: ImportReport) -> Iterator[Row]:
    newest_s = options.now_ms // 1000
    for line, values in table.rows(report):
        row = _parse(values, newest_s)
        if isinstance(row, str):
            report.leave_out(table.file.name, line, row, ",".join(values))
        else:
            yield row


def _parse(values: list[str], newest_s: int) -> Row | str:
    """Return the row, or the reason why it is not one."""
    post_id, community, created, title, body, domain, ups, downs, n_comments, over_18 = values
    if not (post_id.isascii() and post_id.isalnum()) or len(post_id) > 32:
        return "the id is not letters and digits"
    if not community.replace("_", "").isalnum() or len(community) > 64:
        return "the community's name is not letters and digits"
    try:
        created_s = int(float(created))
        counts = (int(ups), int(downs), int(n_comments))
    except (ValueError, OverflowError):
        return "a time, vote or comment count is not a number"
    if not _OLDEST_S <= created_s <= newest_s:
        return "the time is before June 2005 or after now"
    if min(counts) < 0:
        return "a count is negative"
    is_sensitive = _BOOLS.get(over_18.strip().lower())
    if is_sensitive is None:
        return "over_18 is neither True nor False"
    if not title.strip():
        return "the title is empty"
    text = html.unescape(title.strip() + ("\n\n" + body.strip() if body.strip() else ""))
    return Row(
        post_id=post_id,
        community=community,
        created_ms=created_s * 1000,
        text=text[:_MAX_TEXT_CHARS],
        domain=domain.strip(),
        n_ups=counts[0],
        n_downs=counts[1],
        n_comments=counts[2],
        is_sensitive=is_sensitive,
    )


def _community_profile(community: str) -> ProfileUpdated:
    return ProfileUpdated(
        user_id=f"r/{community}",
        name=f"r/{community}",
        bio=f"All posts of the community {community}, as one author (composite; real posts).",
        interests=(topic_of(community),),
        languages=(language_of(community),),
    )


def _post(row: Row) -> PostCreated:
    is_link = bool(row.domain) and not row.domain.startswith("self.")
    media: tuple[Media, ...] = ()
    if row.domain in _IMAGE_DOMAINS:
        media = (Media(kind="image"),)
    elif row.domain in _VIDEO_DOMAINS:
        media = (Media(kind="video"),)
    return PostCreated(
        post_id=f"t3_{row.post_id}",
        author_id=f"r/{row.community}",
        text=row.text,
        media=media,
        is_sensitive=row.is_sensitive,
        link=f"https://{row.domain}/"[:2048] if is_link else "",
    )


def _annotation(row: Row) -> PostAnnotated:
    """Language and topic by rule: both follow from the community."""
    return PostAnnotated(
        post_id=f"t3_{row.post_id}",
        producer=SOURCE,
        producer_version="1",
        language=language_of(row.community),
        topics=(topic_of(row.community),),
    )


def _counts(row: Row) -> CountsObserved:
    """A vote up is a like; a vote down says "not interested"; a comment is a reply."""
    return CountsObserved(
        post_id=f"t3_{row.post_id}",
        counts={"like": row.n_ups, "not_interested": row.n_downs, "reply": row.n_comments},
    )
