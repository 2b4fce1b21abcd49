"""``ml-100k``: dated ratings of movies (MovieLens 100K, as atomic files): who gave which movie how many stars when.

What is real: viewers with age and gender, movies with title, year and genres, ratings and their times. What is made,
and why the result is called composite: a movie stands as a post, published by seed in the days before its first
rating; its first genre with its year stands as the author; times on screen, which claim nothing
(`millrace.events.importers.made`). Nobody follows anybody.

Choices: 4 and 5 stars are a like, 3 a click (looked at, not liked), 1 and 2 "not interested"; each with an impression,
since who rates has seen. Occupation and zip code are left out: nothing here could use them.

Memory: the movies, and the ratings of one slice of time (`millrace.events.importers.ordering`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from millrace.base.errors import SourceDataError
from millrace.events.content_events import PostAnnotated, PostCreated
from millrace.events.envelope import AnyEvent
from millrace.events.feed_events import Engagement, Impression
from millrace.events.importers.made import published_ms, silent_dwell_ms
from millrace.events.importers.options import HOUR_MS, ImportOptions
from millrace.events.importers.ordering import TimeSurvey, in_time_order
from millrace.events.importers.report import ImportReport
from millrace.events.importers.rows import Table, find_file
from millrace.events.importers.timeline import Teller, TimeMap
from millrace.events.user_events import ProfileUpdated

SOURCE: Final = "importer/ml-100k"
COMPOSITION: Final = (
    "composite: viewers, movies, ratings and their times are real (ml-100k); a movie stands as a post and its first "
    "genre with its year as the author; publication times and times on screen are made by seed"
)

LEAD_MS: Final = 7 * 24 * HOUR_MS
"""The first movies come out so long before the first rating."""

_ITEM_COLUMNS: Final = ("item_id:token", "movie_title:token_seq", "release_year:token", "class:token_seq")
_USER_COLUMNS: Final = ("user_id:token", "age:token", "gender:token")
_RATING_COLUMNS: Final = ("user_id:token", "item_id:token", "rating:float", "timestamp:float")
_ACTIONS: Final = {1: "not_interested", 2: "not_interested", 3: "click", 4: "like", 5: "like"}
_NO_GENRE: Final = "unknown"
_MAX_TITLE_CHARS: Final = 1_000
_PUBLISHED_BEFORE_MS: Final = 24 * HOUR_MS


@dataclass(frozen=True, slots=True)
class Movie:
    """One movie; ``year`` is 0 where the row gives none."""

    title: str
    year: int
    genres: tuple[str, ...]

    @property
    def studio(self) -> tuple[str, str]:
        """What stands as its author: first genre and year."""
        return self.genres[0] if self.genres else _NO_GENRE, str(self.year) if self.year else "undated"


@dataclass(frozen=True, slots=True)
class Rating:
    """One readable row: who gave which movie how many stars."""

    user_id: str
    item_id: str
    stars: int


def read(path: Path, options: ImportOptions, report: ImportReport | None = None) -> Iterator[AnyEvent]:
    """Yield the data set as events: authors and viewers first, then movies and ratings by time.

    Parameters
    ----------
    path
        The folder with ``ml-100k.inter``, ``ml-100k.item`` and ``ml-100k.user``, each plain or gzipped; or one of
        these files.
    options
        Seed, moment and span; ``n_viewers`` is not used.
    report
        Filled while events are yielded.

    Raises
    ------
    SourceDataError
        If a file is missing, has another header, or no rating can be read.
    """
    report = report if report is not None else ImportReport()
    report.composition = COMPOSITION
    folder = path.parent if path.is_file() else path
    table = Table(find_file(folder, "ml-100k.inter"), _RATING_COLUMNS, delimiter="\t")
    movies = _movies(folder, report)
    viewers = list(_viewers(folder, report))
    survey, first_ms = _survey(table, movies, options)
    report.expect(survey.report)
    start_ms = max(survey.first_ms - LEAD_MS, 0)
    times = TimeMap.of(options, start_ms, survey.last_ms)
    teller = Teller(SOURCE, options, report)
    for profile in (*_studios(movies), *viewers):
        yield teller.tell(times.event_time_ms(start_ms), profile, profile.user_id)
    rng = np.random.default_rng((options.seed, 8))
    first_use_ms = np.array([first_ms.get(item_id, survey.first_ms) for item_id in movies], dtype=np.int64)
    out_ms = published_ms(rng, first_use_ms, start_ms, _PUBLISHED_BEFORE_MS).tolist()
    releases = iter(sorted(zip(out_ms, movies, strict=True)))
    release = next(releases, None)

    def read_ratings() -> Iterator[tuple[int, Rating]]:
        return _ratings(table, movies, options, ImportReport())

    for time_ms, rating in in_time_order(read_ratings, survey):
        while release is not None and release[0] <= time_ms:
            yield from _released(release[1], movies, times.event_time_ms(release[0]), teller)
            release = next(releases, None)
        report.n_rows += 1
        dwell_ms = int(silent_dwell_ms(rng, 1)[0])
        yield from _told(rating, dwell_ms, times.event_time_ms(time_ms), teller)


def _told(rating: Rating, dwell_ms: int, time_ms: int, teller: Teller) -> Iterator[AnyEvent]:
    viewer_id, post_id, key = _viewer_id(rating.user_id), _post_id(rating.item_id), f"{rating.user_id}~{rating.item_id}"
    yield teller.tell(time_ms, Impression(viewer_id=viewer_id, post_id=post_id, dwell_ms=dwell_ms), key)
    action = _ACTIONS[rating.stars]
    yield teller.tell(time_ms, Engagement(viewer_id=viewer_id, post_id=post_id, action=action), f"{key}/{action}")


def _released(item_id: str, movies: dict[str, Movie], time_ms: int, teller: Teller) -> Iterator[AnyEvent]:
    movie, post_id = movies[item_id], _post_id(item_id)
    text = f"{movie.title} ({movie.year})" if movie.year else movie.title
    if movie.genres:
        text += f"\n\n{', '.join(movie.genres)}"
    yield teller.tell(time_ms, PostCreated(post_id=post_id, author_id=_studio_id(movie), text=text), post_id)
    annotation = PostAnnotated(
        post_id=post_id, producer=SOURCE, producer_version="1", language="en", topics=movie.genres
    )
    yield teller.tell(time_ms, annotation, f"{post_id}/a")


def _studios(movies: dict[str, Movie]) -> Iterator[ProfileUpdated]:
    for movie in {movie.studio: movie for movie in movies.values()}.values():
        genre, year = movie.studio
        yield ProfileUpdated(
            user_id=_studio_id(movie),
            name=f"{genre}, {year}",
            bio=f"Movies of the first genre {genre}, {year}, as one author (composite; real movies).",
            interests=(genre,),
        )


def _movies(folder: Path, report: ImportReport) -> dict[str, Movie]:
    table = Table(find_file(folder, "ml-100k.item"), _ITEM_COLUMNS, delimiter="\t")
    movies: dict[str, Movie] = {}
    for line, values in table.rows(report):
        item_id, title, year, classes = (value.strip() for value in values)
        if not _is_number(item_id) or not title:
            report.leave_out(table.file.name, line, "no movie id or title", "\t".join(values))
        elif item_id in movies:
            report.leave_out(table.file.name, line, "the movie was given before", "\t".join(values))
        else:
            genres = tuple(dict.fromkeys(g for g in classes.split() if g != _NO_GENRE and g.isprintable()))
            is_year = _is_number(year) and 1880 <= int(year) <= 2100
            movies[item_id] = Movie(title[:_MAX_TITLE_CHARS], int(year) if is_year else 0, genres)
    if not movies:
        raise SourceDataError(
            "import file", value=str(table.file), problem="no movie in it can be read", remedy="check the data set"
        )
    return movies


def _viewers(folder: Path, report: ImportReport) -> Iterator[ProfileUpdated]:
    """Yield a profile for every viewer; age and gender are carried, and used only by whoever switches that on."""
    table = Table(find_file(folder, "ml-100k.user"), _USER_COLUMNS, delimiter="\t")
    for line, values in table.rows(report):
        user_id, age, gender = (value.strip() for value in values)
        if not _is_number(user_id):
            report.leave_out(table.file.name, line, "the viewer's id is not a number", "\t".join(values))
        elif not _is_number(age) or int(age) > 150:
            report.leave_out(table.file.name, line, "the age is not a number of years", "\t".join(values))
        else:
            yield ProfileUpdated(
                user_id=_viewer_id(user_id), name=f"Viewer {user_id}", age=int(age), gender=gender[:32] or None
            )


def _survey(table: Table, movies: dict[str, Movie], options: ImportOptions) -> tuple[TimeSurvey, dict[str, int]]:
    """Return the times of the ratings, and each movie's first one."""
    survey = TimeSurvey()
    first_ms: dict[str, int] = {}
    for time_ms, rating in _ratings(table, movies, options, survey.report):
        survey.add(time_ms)
        first_ms[rating.item_id] = min(time_ms, first_ms.get(rating.item_id, time_ms))
    if not survey.n:
        reasons = ", ".join(survey.report.n_unreadable_by_reason) or "there are none"
        raise SourceDataError(
            "import file",
            value=str(table.file),
            problem=f"none of its {survey.report.n_rows} ratings can be read ({reasons})",
            remedy="check the data set",
        )
    return survey, first_ms


def _ratings(
    table: Table, movies: dict[str, Movie], options: ImportOptions, report: ImportReport
) -> Iterator[tuple[int, Rating]]:
    for line, values in table.rows(report):
        user_id, item_id, rating, timestamp = (value.strip() for value in values)
        try:
            stars, time_ms = float(rating), int(float(timestamp) * 1000)
        except (ValueError, OverflowError):
            reason = "the rating or its time is not a number"
        else:
            if not _is_number(user_id):
                reason = "the viewer's id is not a number"
            elif item_id not in movies:
                reason = "the movie is not in ml-100k.item"
            elif stars not in _ACTIONS:
                reason = "the rating is not 1 to 5 stars"
            elif not 0 < time_ms <= options.now_ms:
                reason = "the time is before 1970 or after now"
            else:
                yield time_ms, Rating(user_id, item_id, int(stars))
                continue
        report.leave_out(table.file.name, line, reason, "\t".join(values))


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 15


def _viewer_id(user: str) -> str:
    return f"viewer-{user}"


def _post_id(item: str) -> str:
    return f"movie-{item}"


def _studio_id(movie: Movie) -> str:
    return "movies/" + "/".join(movie.studio)
