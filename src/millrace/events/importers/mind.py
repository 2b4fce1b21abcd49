"""``mind``: impressions of a news site with clicks and non-clicks (MIND): who was shown what when, and clicked what.

What is real: viewers, the articles shown to them, clicks and non-clicks, the moments of the log's rows, histories and
their order, and titles, abstracts and categories as far as ``news.tsv`` gives them. What is made, and why the result is
called composite: a category with its subcategory stands as an author; articles without a row get a line of text and one
of a thousand made authors; when articles were published and when a history's clicks happened; positions (the publisher
shuffled the order of each row); times on screen (`millrace.events.importers.made`). Nobody follows anybody.

Choices: a row of the log is a `Served`, an `Impression` for every article shown, clicked or not, and an ``Engagement``
for every click, all at the row's moment (read as UTC) under one request id. A history is told once for each viewer, as
impressions with clicks in the days before the log begins.

Memory: the articles with their first use, the ids of the viewers, and the rows of one slice of time
(`millrace.events.importers.ordering`): a larger log is read more often, not held.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np

from millrace.base.errors import SourceDataError
from millrace.events.envelope import AnyEvent, Payload
from millrace.events.feed_events import Engagement, Impression, Served, ServedItem
from millrace.events.importers.made import published_ms, silent_dwell_ms, valid_dwell_ms
from millrace.events.importers.mind_news import Newsroom, is_id
from millrace.events.importers.options import HOUR_MS, ImportOptions
from millrace.events.importers.ordering import TimeSurvey, in_time_order
from millrace.events.importers.report import ImportReport
from millrace.events.importers.rows import Table, find_file
from millrace.events.importers.timeline import Teller, TimeMap

SOURCE: Final = "importer/mind"
PIPELINE: Final = "mind"
COMPOSITION: Final = (
    "composite: viewers, what was shown, clicks, non-clicks, their times and the titles that the set gives are real "
    "(mind); categories stand as authors; articles without a title, publication times, the times of histories, "
    "positions and times on screen are made by seed"
)

HISTORY_MS: Final = 4 * 24 * HOUR_MS
"""How long before the log histories begin: their articles come out in the first half, their clicks in the second."""

_COLUMNS: Final = ("impression_id", "user_id", "time", "history", "impressions")
_TIME_FORMAT: Final = "%m/%d/%Y %I:%M:%S %p"
_PUBLISHED_BEFORE_MS: Final = 6 * HOUR_MS

_Click = tuple[str, str, int]


@dataclass(frozen=True, slots=True)
class Row:
    """One readable row of the log."""

    impression_id: str
    user_id: str
    time_ms: int
    history: tuple[str, ...]
    shown: tuple[tuple[str, bool], ...]


@dataclass(slots=True)
class _Survey:
    """What the first pass finds out: the rows' times, and which articles are used when."""

    rows: TimeSurvey = field(default_factory=TimeSurvey)
    first_shown_ms: dict[str, int] = field(default_factory=dict)
    in_histories: set[str] = field(default_factory=set)


def read(path: Path, options: ImportOptions, report: ImportReport | None = None) -> Iterator[AnyEvent]:
    """Yield the data set as events: authors first, then articles, histories and the log by time.

    Parameters
    ----------
    path
        The folder with ``behaviors.tsv`` and ``news.tsv``, each plain or gzipped; or one of these files.
    options
        Seed, moment and span; ``n_viewers`` is not used.
    report
        Filled while events are yielded.

    Raises
    ------
    SourceDataError
        If a file is missing, or no row of the log can be read.
    """
    report = report if report is not None else ImportReport()
    report.composition = COMPOSITION
    folder = path.parent if path.is_file() else path
    table = Table(find_file(folder, "behaviors.tsv"), _COLUMNS, delimiter="\t", has_header=False)
    newsroom = Newsroom(folder, SOURCE, report)
    survey = _survey(table, options)
    report.expect(survey.rows.report)
    start_ms, log_ms, end_ms = survey.rows.first_ms - HISTORY_MS, survey.rows.first_ms, survey.rows.last_ms
    times = TimeMap.of(options, start_ms, end_ms)
    teller = Teller(SOURCE, options, report)
    for profile in newsroom.desks():
        yield teller.tell(times.event_time_ms(start_ms), profile, profile.user_id)
    publications = _publications(newsroom, survey, start_ms, options.seed)
    for original_ms, what in _merged(publications, _clicks(table, options, log_ms), _logged(table, options, survey)):
        time_ms = times.event_time_ms(original_ms)
        if isinstance(what, str):
            post, annotation = newsroom.posts(what)
            yield teller.tell(time_ms, post, what)
            yield teller.tell(time_ms, annotation, f"{what}/a")
        elif isinstance(what, Row):
            report.n_rows += 1
            for key, payload in _told(what, newsroom, options.seed):
                yield teller.tell(time_ms, payload, key)
        else:
            user_id, news_id, number = what
            dwell_ms = int(valid_dwell_ms(_rng(options.seed, f"{user_id}/{number}"), 1)[0])
            key = f"{user_id}/h{number}"
            yield teller.tell(time_ms, Impression(viewer_id=user_id, post_id=news_id, dwell_ms=dwell_ms), key)
            click = Engagement(viewer_id=user_id, post_id=news_id, action="click")
            yield teller.tell(time_ms, click, f"{key}/click")


def _told(row: Row, newsroom: Newsroom, seed: int) -> Iterator[tuple[str, Payload]]:
    """Yield ``(key, payload)`` for the page that was sent, what was on it, and what was clicked."""
    request_id = f"{PIPELINE}-{row.impression_id}"
    items = tuple(
        ServedItem(post_id=news_id, author_id=newsroom.desk_id(news_id), position=position)
        for position, (news_id, _) in enumerate(row.shown)
    )
    yield (
        row.impression_id,
        Served(request_id=request_id, viewer_id=row.user_id, pipeline=PIPELINE, items=items),
    )
    rng = _rng(seed, row.impression_id)
    silent, valid = silent_dwell_ms(rng, len(items)), valid_dwell_ms(rng, len(items))
    for position, (news_id, is_clicked) in enumerate(row.shown):
        key = f"{row.impression_id}/{position}"
        yield (
            key,
            Impression(
                viewer_id=row.user_id,
                post_id=news_id,
                dwell_ms=int((valid if is_clicked else silent)[position]),
                request_id=request_id,
                position=position,
            ),
        )
        if is_clicked:
            click = Engagement(
                viewer_id=row.user_id, post_id=news_id, action="click", request_id=request_id, position=position
            )
            yield f"{key}/click", click


def _publications(newsroom: Newsroom, survey: _Survey, start_ms: int, seed: int) -> Iterator[tuple[int, str]]:
    """Yield every article at the time at which it comes out: before anybody can have seen it."""
    rng = np.random.default_rng((seed, 5))
    times: dict[str, int] = {}
    shown = sorted(survey.first_shown_ms.keys() - survey.in_histories)
    first_ms = np.array([survey.first_shown_ms[news_id] for news_id in shown], dtype=np.int64)
    out_ms = published_ms(rng, first_ms, start_ms, _PUBLISHED_BEFORE_MS)
    times.update(zip(shown, out_ms.tolist(), strict=True))
    histories = sorted(survey.in_histories)
    out_ms = rng.integers(start_ms, start_ms + HISTORY_MS // 2, len(histories))
    times.update(zip(histories, out_ms.tolist(), strict=True))
    unused = [news_id for news_id in newsroom if news_id not in times]
    out_ms = rng.integers(survey.rows.first_ms, survey.rows.last_ms + 1, len(unused))
    times.update(zip(unused, out_ms.tolist(), strict=True))
    for news_id in sorted(times, key=lambda news_id: (times[news_id], news_id)):
        yield times[news_id], news_id


def _clicks(table: Table, options: ImportOptions, log_ms: int) -> Iterator[tuple[int, _Click]]:
    """Yield ``(time_ms, (user, article, number))`` for the clicks of all histories, each viewer's in their order."""

    def read_clicks() -> Iterator[tuple[int, _Click]]:
        told: set[str] = set()
        for row in _parsed(table, options, ImportReport()):
            if row.user_id in told:
                continue
            told.add(row.user_id)
            ago_ms = _rng(options.seed, row.user_id).integers(1, HISTORY_MS // 2, len(row.history))
            ago_ms.sort()
            for number, (news_id, before_ms) in enumerate(zip(row.history, ago_ms[::-1].tolist(), strict=True)):
                yield log_ms - before_ms, (row.user_id, news_id, number)

    survey = TimeSurvey()
    for time_ms, _ in read_clicks():
        survey.add(time_ms)
    return in_time_order(read_clicks, survey)


def _logged(table: Table, options: ImportOptions, survey: _Survey) -> Iterator[tuple[int, Row]]:
    def read_rows() -> Iterator[tuple[int, Row]]:
        for row in _parsed(table, options, ImportReport()):
            yield row.time_ms, row

    return in_time_order(read_rows, survey.rows)


def _merged(
    publications: Iterator[tuple[int, str]], clicks: Iterator[tuple[int, _Click]], rows: Iterator[tuple[int, Row]]
) -> Iterator[tuple[int, str | _Click | Row]]:
    """Yield all three by time; an article before what happens to it, all of the histories before the log."""
    coming = next(publications, None)
    for uses in (clicks, rows):
        for time_ms, use in uses:
            while coming is not None and coming[0] <= time_ms:
                yield coming
                coming = next(publications, None)
            yield time_ms, use
    if coming is not None:
        yield coming
        yield from publications


def _survey(table: Table, options: ImportOptions) -> _Survey:
    survey = _Survey()
    first_shown_ms = survey.first_shown_ms
    for row in _parsed(table, options, survey.rows.report):
        survey.rows.add(row.time_ms)
        survey.in_histories.update(row.history)
        for news_id, _ in row.shown:
            known_ms = first_shown_ms.get(news_id)
            if known_ms is None or row.time_ms < known_ms:
                first_shown_ms[news_id] = row.time_ms
    if not survey.rows.n:
        found = survey.rows.report
        raise SourceDataError(
            "import file",
            value=str(table.file),
            problem=f"none of its {found.n_rows} rows can be read "
            f"({', '.join(found.n_unreadable_by_reason) or 'there are none'})",
            remedy="check that it is MIND's behaviors.tsv",
        )
    return survey


def _parsed(table: Table, options: ImportOptions, report: ImportReport) -> Iterator[Row]:
    for line, values in table.rows(report):
        row = _parse(values, options.now_ms)
        if isinstance(row, str):
            report.leave_out(table.file.name, line, row, "\t".join(values))
        else:
            yield row


def _parse(values: list[str], now_ms: int) -> Row | str:
    """Return the row, or the reason why it is not one."""
    impression_id, user_id, when, history, impressions = values
    if not (is_id(impression_id) and is_id(user_id)):
        return "the row's or the viewer's id is not letters and digits"
    try:
        time_ms = int(datetime.strptime(when.strip(), _TIME_FORMAT).replace(tzinfo=UTC).timestamp()) * 1000
    except ValueError:
        return "the time is not like 11/13/2019 8:36:57 AM"
    if not HISTORY_MS <= time_ms <= now_ms:
        return "the time is before 1970 or after now"
    clicked = tuple(history.split())
    shown = tuple((item[:-2], item.endswith("-1")) for item in impressions.split() if item[-2:] in ("-0", "-1"))
    if not shown or len(shown) != len(impressions.split()):
        return "the articles shown are not all like N123-0 or N123-1"
    if not all(map(is_id, clicked)) or not all(is_id(news_id) for news_id, _ in shown):
        return "an article's id is not letters and digits"
    return Row(impression_id, user_id, time_ms, clicked, shown)


def _rng(seed: int, key: str) -> np.random.Generator:
    """Return the randomness of one thing: equal in every pass over the file."""
    return np.random.default_rng((seed, 6, zlib.crc32(key.encode())))
