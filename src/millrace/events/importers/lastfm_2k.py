"""``lastfm-2k``: a real social graph with real taste (HetRec 2011): friends, listens, dated tag assignments.

What is real: users, friendships, who listened to whom how often, who tagged whom with what, artists and their names.
What is made, and why the result is called composite: artists stand as authors with one post each, published at times
drawn by seed; a listen becomes an impression and an action at a time drawn by seed after that post.

Choices: friends follow each other; a user follows the artists whom they tagged, in the order of their tagging (the
50 artists of the listening list are what they *did*, not whom they subscribed to). A listen is an impression whose
dwell grows with the logarithm of the play count, and a like where the count is at least the user's median, else a
click; the three most played are shared too.

Memory: the artists with their strongest tags, and 24 bytes per listen and follow, for the ordering by time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from millrace.base.errors import SourceDataError
from millrace.base.ids import Int64Array
from millrace.events.content_events import Media, PostAnnotated, PostCreated
from millrace.events.envelope import AnyEvent, Payload
from millrace.events.feed_events import Engagement, Impression
from millrace.events.importers.options import HOUR_MS, ImportOptions
from millrace.events.importers.report import ImportReport
from millrace.events.importers.rows import Table, find_file
from millrace.events.importers.timeline import Teller
from millrace.events.user_events import FollowChanged, ProfileUpdated

SOURCE: Final = "importer/lastfm-2k"
COMPOSITION: Final = (
    "composite: users, friendships, listens, tags and artists are real (lastfm-2k); artists stand as authors with one "
    "post each; all times are made by seed"
)
DEFAULT_SPAN_MS: Final = 48 * HOUR_MS
"""Where no span is asked for: listens have no times of their own."""

MAX_TOPICS: Final = 300
"""Only the most used tags become topics: the rare ones say little and would fill the code table."""

_N_TAGS_SHOWN: Final = 3
_N_SHARED: Final = 3
_MAX_NAME_CHARS: Final = 256


@dataclass(slots=True)
class _Artist:
    name: str
    url: str
    picture: str
    tags: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class _Pairs:
    """Rows of (user, artist, amount) by columns, shape (n,) each."""

    user: Int64Array
    artist: Int64Array
    amount: Int64Array


def read(path: Path, options: ImportOptions, report: ImportReport | None = None) -> Iterator[AnyEvent]:
    """Yield the data set as events: profiles and follows first, then posts and listens by time.

    Parameters
    ----------
    path
        The folder with ``artists.dat``, ``tags.dat``, ``user_artists.dat``, ``user_friends.dat`` and
        ``user_taggedartists.dat``, each plain or gzipped; or one of these files.
    options
        Seed, moment and span (48 h where none is given); ``n_viewers`` is not used.
    report
        Filled while events are yielded.

    Raises
    ------
    SourceDataError
        If a file is missing, has another header, or no artist can be read.
    """
    report = report if report is not None else ImportReport()
    report.composition = COMPOSITION
    folder = path.parent if path.is_file() else path
    artists = _artists(folder, report)
    tag_names = _tag_names(folder, report)
    tagged, tag_uses = _tagged(folder, artists, report)
    _strongest_tags(artists, tag_uses)
    listens = _listens(folder, artists, report)
    friends = _friends(folder, report)
    teller = Teller(SOURCE, options, report)
    start_ms = options.now_ms - (options.span_ms or DEFAULT_SPAN_MS)
    users = np.unique(np.concatenate([listens.user, tagged.user, friends.user, friends.artist]))
    for key, payload in _founding(artists, tag_names, users, friends, tagged):
        yield teller.tell(start_ms, payload, key)
    yield from _window(artists, tag_names, listens, (start_ms, options.now_ms), options.seed, teller)


def _window(
    artists: dict[int, _Artist],
    tag_names: dict[int, str],
    listens: _Pairs,
    window_ms: tuple[int, int],
    seed: int,
    teller: Teller,
) -> Iterator[AnyEvent]:
    """Posts at times by seed; each listen after its artist's post; told together in order of time."""
    rng = np.random.default_rng((seed, 3))
    start_ms, end_ms = window_ms
    artist_ids = np.array(sorted(artists), dtype=np.int64)
    post_ms = start_ms + (rng.random(len(artist_ids)) * (end_ms - start_ms) * 0.97).astype(np.int64)
    after = post_ms[np.searchsorted(artist_ids, listens.artist)]
    # Squared: most listens come soon after the post.
    listen_ms = after + 1 + (rng.random(len(after)) ** 2 * (end_ms - after - 2)).astype(np.int64)
    action = _actions(listens)
    post_order = np.argsort(post_ms, kind="stable").tolist()
    listen_order = np.argsort(listen_ms, kind="stable").tolist()
    at = 0
    for post in post_order:
        while at < len(listen_order) and listen_ms[listen_order[at]] < post_ms[post]:
            yield from _told_listen(listens, action, listen_ms, listen_order[at], teller)
            at += 1
        artist_id = int(artist_ids[post])
        artist, time_ms = artists[artist_id], int(post_ms[post])
        post_id = _post_id(artist_id)
        yield teller.tell(time_ms, _post(artist_id, artist, tag_names), post_id)
        topics = tuple(tag_names[tag] for tag in artist.tags if tag in tag_names)
        annotation = PostAnnotated(post_id=post_id, producer=SOURCE, producer_version="1", topics=topics)
        yield teller.tell(time_ms, annotation, f"{post_id}/a")
    for listen in listen_order[at:]:
        yield from _told_listen(listens, action, listen_ms, listen, teller)


def _told_listen(
    listens: _Pairs, action: Int64Array, listen_ms: Int64Array, row: int, teller: Teller
) -> Iterator[AnyEvent]:
    user, artist, time_ms = int(listens.user[row]), int(listens.artist[row]), int(listen_ms[row])
    viewer_id, post_id, key = _user_id(user), _post_id(artist), f"{user}~{artist}"
    dwell_ms = min(2_000 * int(listens.amount[row]).bit_length(), 120_000)
    yield teller.tell(time_ms, Impression(viewer_id=viewer_id, post_id=post_id, dwell_ms=dwell_ms), key)
    names = (("click",), ("like",), ("like", "share"))[int(action[row])]
    for name in names:
        engagement = Engagement(viewer_id=viewer_id, post_id=post_id, action=name)
        yield teller.tell(time_ms, engagement, f"{key}/{name}")


def _actions(listens: _Pairs) -> Int64Array:
    """Return per listen: 0 a click, 1 a like (at least the user's median), 2 among the user's most played."""
    order = np.lexsort((listens.artist, -listens.amount, listens.user))
    user = listens.user[order]
    starts = np.flatnonzero(np.append(True, user[1:] != user[:-1])) if len(user) else np.empty(0, dtype=np.int64)
    sizes = np.diff(np.append(starts, len(user)))
    rank = np.arange(len(user)) - np.repeat(starts, sizes)
    action = np.zeros(len(user), dtype=np.int64)
    action[order] = np.where(rank < _N_SHARED, 2, np.where(2 * rank <= np.repeat(sizes, sizes), 1, 0))
    return action


def _founding(
    artists: dict[int, _Artist], tag_names: dict[int, str], users: Int64Array, friends: _Pairs, tagged: _Pairs
) -> Iterator[tuple[str, Payload]]:
    for artist_id, artist in artists.items():
        tags = tuple(tag_names[tag] for tag in artist.tags if tag in tag_names)
        yield (
            _artist_user_id(artist_id),
            ProfileUpdated(
                user_id=_artist_user_id(artist_id),
                name=artist.name,
                bio="An artist, as one author with one post (composite; real name, listeners and tags).",
                interests=tags,
            ),
        )
    for user in users.tolist():
        bio = "A listener of the data set (real taste and friends, nameless there)."
        yield _user_id(user), ProfileUpdated(user_id=_user_id(user), name=f"Listener {user}", bio=bio)
    for user, friend in zip(friends.user.tolist(), friends.artist.tolist(), strict=True):
        for one, other in ((user, friend), (friend, user)):
            follow = FollowChanged(follower_id=_user_id(one), followee_id=_user_id(other))
            yield f"{one}+{other}", follow
    for user, artist_id in zip(tagged.user.tolist(), tagged.artist.tolist(), strict=True):
        follow = FollowChanged(follower_id=_user_id(user), followee_id=_artist_user_id(artist_id))
        yield f"{user}>{artist_id}", follow


def _post(artist_id: int, artist: _Artist, tag_names: dict[int, str]) -> PostCreated:
    tags = [tag_names[tag] for tag in artist.tags if tag in tag_names]
    if len(tags) > 1:
        text = f"{artist.name}: {', '.join(tags[:-1])} and {tags[-1]}."
    else:
        text = f"{artist.name}: {tags[0]}." if tags else artist.name
    return PostCreated(
        post_id=_post_id(artist_id),
        author_id=_artist_user_id(artist_id),
        text=text,
        media=(Media(kind="image", url=artist.picture, alt_text=artist.name),) if artist.picture else (),
        link=artist.url,
    )


def _artists(folder: Path, report: ImportReport) -> dict[int, _Artist]:
    table = _table(folder, "artists.dat", ("id", "name", "url", "pictureURL"))
    artists: dict[int, _Artist] = {}
    for line, values in table.rows(report):
        numbers = _numbers(values[:1])
        name = values[1].strip()
        if numbers is None or not name:
            report.leave_out(table.file.name, line, "no artist id or name", "\t".join(values))
        elif numbers[0] in artists:
            report.leave_out(table.file.name, line, "the artist was given before", "\t".join(values))
        else:
            artists[numbers[0]] = _Artist(name[:_MAX_NAME_CHARS], values[2][:2048], values[3][:2048])
    if not artists:
        raise SourceDataError(
            "import file", value=str(table.file), problem="no artist in it can be read", remedy="check the data set"
        )
    return artists


def _tag_names(folder: Path, report: ImportReport) -> dict[int, str]:
    """Tags by id; the publisher wrote this file in Latin-1."""
    table = _table(folder, "tags.dat", ("tagID", "tagValue"), fallback_encoding="latin-1")
    names: dict[int, str] = {}
    for line, values in table.rows(report):
        numbers = _numbers(values[:1])
        name = " ".join(values[1].split())
        if numbers is None or not name or not name.isprintable():
            report.leave_out(table.file.name, line, "no tag id or no printable name", "\t".join(values))
        else:
            names[numbers[0]] = name[:64]
    return names


def _tagged(folder: Path, artists: dict[int, _Artist], report: ImportReport) -> tuple[_Pairs, Counter[tuple[int, int]]]:
    """Who tagged which artist, in the order of first tagging; and how often each artist got each tag."""
    columns = ("userID", "artistID", "tagID", "day", "month", "year")
    table = _table(folder, "user_taggedartists.dat", columns)
    first_day: dict[tuple[int, int], int] = {}
    uses: Counter[tuple[int, int]] = Counter()
    for user, artist, tag, day, month, year in _number_rows(table, report, artists):
        pair, date = (user, artist), year * 10_000 + month * 100 + day
        first_day[pair] = min(date, first_day.get(pair, date))
        uses[artist, tag] += 1
    ordered = sorted(first_day, key=lambda pair: (first_day[pair], pair))
    return _pairs([(user, artist, first_day[user, artist]) for user, artist in ordered]), uses


def _strongest_tags(artists: dict[int, _Artist], uses: Counter[tuple[int, int]]) -> None:
    """Give each artist its most used tags among the most used of all."""
    total: Counter[int] = Counter()
    for (_, tag), n in uses.items():
        total[tag] += n
    topics = {tag for tag, _ in sorted(total.items(), key=lambda item: (-item[1], item[0]))[:MAX_TOPICS]}
    by_artist: dict[int, list[tuple[int, int]]] = {}
    for (artist, tag), n in uses.items():
        if tag in topics:
            by_artist.setdefault(artist, []).append((-n, tag))
    for artist, ranked in by_artist.items():
        artists[artist].tags = tuple(tag for _, tag in sorted(ranked)[:_N_TAGS_SHOWN])


def _listens(folder: Path, artists: dict[int, _Artist], report: ImportReport) -> _Pairs:
    table = _table(folder, "user_artists.dat", ("userID", "artistID", "weight"))
    heard: dict[tuple[int, int], int] = {}
    for user, artist, weight in _number_rows(table, report, artists):
        heard[user, artist] = heard.get((user, artist), 0) + weight
    return _pairs([(user, artist, weight) for (user, artist), weight in heard.items()])


def _friends(folder: Path, report: ImportReport) -> _Pairs:
    """Each friendship once, whichever of its directions the file gives."""
    table = _table(folder, "user_friends.dat", ("userID", "friendID"))
    pairs = {(min(pair), max(pair)): 0 for pair in _number_rows(table, report) if pair[0] != pair[1]}
    return _pairs([(user, friend, 0) for user, friend in pairs])


def _table(folder: Path, name: str, columns: tuple[str, ...], *, fallback_encoding: str | None = None) -> Table:
    return Table(find_file(folder, name), columns, delimiter="\t", fallback_encoding=fallback_encoding)


def _number_rows(
    table: Table, report: ImportReport, artists: dict[int, _Artist] | None = None
) -> Iterator[tuple[int, ...]]:
    """Yield rows of whole numbers; where artists are given, the second must be one of them."""
    for line, values in table.rows(report):
        numbers = _numbers(values)
        if numbers is None:
            report.leave_out(table.file.name, line, "not all whole numbers", "\t".join(values))
        elif artists is not None and numbers[1] not in artists:
            report.leave_out(table.file.name, line, "the artist is not in artists.dat", "\t".join(values))
        else:
            yield numbers


def _numbers(values: list[str]) -> tuple[int, ...] | None:
    try:
        numbers = tuple(int(value) for value in values)
    except ValueError:
        return None
    return numbers if all(0 <= number < 1 << 53 for number in numbers) else None


def _pairs(rows: list[tuple[int, int, int]]) -> _Pairs:
    columns = np.array(rows, dtype=np.int64).reshape(-1, 3)
    return _Pairs(columns[:, 0].copy(), columns[:, 1].copy(), columns[:, 2].copy())


def _user_id(user: int) -> str:
    return f"listener-{user}"


def _artist_user_id(artist: int) -> str:
    return f"artist-{artist}"


def _post_id(artist: int) -> str:
    return f"artist-{artist}-post"
