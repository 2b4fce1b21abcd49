"""``yelp-social``: who liked which place, and who follows whom (the Yelp split of DiffNet: ids and nothing else).

What is real: viewers, whom they follow, and which places they liked. What is made, and why the result is called
composite: one of a place's people, drawn by seed, stands as the author of one post about it, so that following people
brings what they recommend; the post's line of text; all times; times on screen (`millrace.events.importers.made`).

Choices: the three files of the split are one set here. A rating (they are all 1) is an impression and a like, except
that of the post's author, which is the post. Links have a direction: who stands first follows who stands second.

Memory: 24 bytes per rating, for the ordering by time, and the people of every place; links are read straight through.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from millrace.base.errors import SourceDataError
from millrace.base.ids import Int64Array
from millrace.events.content_events import PostAnnotated, PostCreated
from millrace.events.envelope import AnyEvent
from millrace.events.feed_events import Engagement, Impression
from millrace.events.importers.made import silent_dwell_ms
from millrace.events.importers.options import HOUR_MS, ImportOptions
from millrace.events.importers.report import ImportReport
from millrace.events.importers.rows import Table, find_file
from millrace.events.importers.timeline import Teller
from millrace.events.user_events import FollowChanged

SOURCE: Final = "importer/yelp-social"
COMPOSITION: Final = (
    "composite: viewers, follows and who liked which place are real (yelp-social); one of a place's people stands as "
    "the author of a post about it; texts, all times and times on screen are made by seed"
)
DEFAULT_SPAN_MS: Final = 48 * HOUR_MS
"""Where no span is asked for: nothing here has a time of its own."""


@dataclass(frozen=True, slots=True)
class _Likes:
    """Who liked which place, ordered by place; shape (n,) each."""

    user: Int64Array
    place: Int64Array


def read(path: Path, options: ImportOptions, report: ImportReport | None = None) -> Iterator[AnyEvent]:
    """Yield the data set as events: follows first, then posts and likes by time.

    Parameters
    ----------
    path
        The folder with ``yelp.links`` and ``yelp.train.rating``, and ``yelp.val.rating`` and ``yelp.test.rating``
        where there are any, each plain or gzipped; or one of these files.
    options
        Seed, moment and span (48 h where none is given); ``n_viewers`` is not used.
    report
        Filled while events are yielded.

    Raises
    ------
    SourceDataError
        If a file is missing, or no rating can be read.
    """
    report = report if report is not None else ImportReport()
    report.composition = COMPOSITION
    folder = path.parent if path.is_file() else path
    links = _table(folder, "yelp.links")
    likes = _likes(folder, report)
    teller = Teller(SOURCE, options, report)
    start_ms = options.now_ms - (options.span_ms or DEFAULT_SPAN_MS)
    for user, followed in _pairs(links, report):
        if user == followed:
            continue
        follow = FollowChanged(follower_id=_user_id(user), followee_id=_user_id(followed))
        yield teller.tell(start_ms, follow, f"{user}>{followed}")
    yield from _window(likes, (start_ms, options.now_ms), options.seed, teller)


def _window(likes: _Likes, window_ms: tuple[int, int], seed: int, teller: Teller) -> Iterator[AnyEvent]:
    """Posts at times by seed; each like after its post; told together in order of time."""
    rng = np.random.default_rng((seed, 7))
    start_ms, end_ms = window_ms
    places, first, n_people = np.unique(likes.place, return_index=True, return_counts=True)
    authored = first + (rng.random(len(places)) * n_people).astype(np.int64)
    post_ms = start_ms + (rng.random(len(places)) * (end_ms - start_ms) * 0.97).astype(np.int64)
    after = np.repeat(post_ms, n_people)
    # Squared: most likes come soon after the post.
    time_ms = after + 1 + (rng.random(len(after)) ** 2 * (end_ms - after - 2)).astype(np.int64)
    time_ms[authored] = post_ms
    dwell_ms = silent_dwell_ms(rng, len(after))
    is_post = np.zeros(len(after), dtype=np.bool_)
    is_post[authored] = True
    for row in np.lexsort((~is_post, time_ms)).tolist():
        user, place, at_ms = int(likes.user[row]), int(likes.place[row]), int(time_ms[row])
        viewer_id, post_id, key = _user_id(user), f"place-{place}", f"{user}~{place}"
        if is_post[row]:
            text = f"Place {place}: recommended by {viewer_id}"
            yield teller.tell(at_ms, PostCreated(post_id=post_id, author_id=viewer_id, text=text), post_id)
            annotation = PostAnnotated(post_id=post_id, producer=SOURCE, producer_version="1", language="en")
            yield teller.tell(at_ms, annotation, f"{post_id}/a")
            continue
        seen = Impression(viewer_id=viewer_id, post_id=post_id, dwell_ms=int(dwell_ms[row]))
        yield teller.tell(at_ms, seen, key)
        like = Engagement(viewer_id=viewer_id, post_id=post_id, action="like")
        yield teller.tell(at_ms, like, f"{key}/like")


def _likes(folder: Path, report: ImportReport) -> _Likes:
    users, places = array("q"), array("q")
    further = [f"yelp.{split}.rating" for split in ("val", "test")]
    there = [name for name in further if (folder / name).is_file() or (folder / f"{name}.gz").is_file()]
    tables = [_table(folder, name) for name in ("yelp.train.rating", *there)]
    for table in tables:
        for user, place in _pairs(table, report):
            users.append(user)
            places.append(place)
    if not users:
        raise SourceDataError(
            "import file", value=str(tables[0].file), problem="no rating in it can be read", remedy="check the data set"
        )
    # One like per person and place, whatever the files repeat.
    pairs = np.unique(np.array([places, users], dtype=np.int64), axis=1)
    return _Likes(user=pairs[1], place=pairs[0])


def _table(folder: Path, name: str) -> Table:
    return Table(find_file(folder, name), ("user", "other", "weight"), delimiter="\t", has_header=False)


def _pairs(table: Table, report: ImportReport) -> Iterator[tuple[int, int]]:
    for line, values in table.rows(report):
        try:
            first, second, weight = (int(value) for value in values)
        except ValueError:
            reason = "not all whole numbers"
        else:
            if weight != 1:
                reason = "the third number is not 1"
            elif min(first, second) < 0 or max(first, second) >= 1 << 53:
                reason = "an id is out of bounds"
            else:
                yield first, second
                continue
        report.leave_out(table.file.name, line, reason, "\t".join(values))


def _user_id(user: int) -> str:
    return f"user-{user}"
