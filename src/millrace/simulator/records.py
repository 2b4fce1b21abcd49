"""`RunRecords`: what a simulated run leaves for the judge, as tables; the truth stands beside what was served and done.

A run writes one Parquet file per table and virtual slice under ``records/``; nothing that serves or learns ever reads
them. Tables and columns:

``pages``: one row per page that was fetched.
    ``page`` (int64, number within the run), ``request_id`` (str), ``slice_ms`` and ``time_ms`` (virtual epoch ms),
    ``arm`` (int8, which policy of the run), ``viewer`` (int32), ``session`` (int64), ``page_no`` (int16, from 0),
    ``n_items`` (int16), ``n_candidates`` (int32), ``n_outcomes`` (int16: components that failed or were late),
    ``n_examined`` (int16), ``value`` and ``satisfaction`` (float64: the page's *expected* true utility, examination
    included), ``did_value`` and ``did_satisfaction`` (float64: realised), ``n_positive`` and ``n_negative`` (int16:
    actions), ``n_own``, ``n_blocked``, ``n_deleted``, ``n_repeated``, ``n_sensitive`` (int16: posts on the page that
    must not be there: the viewer's own, of a blocked or muted author, deleted before the slice, shown to the viewer
    before, sensitive for somebody who does not show such posts).
``items``: one row per served post.
    ``page``, ``position`` (int16, from 0), ``arm``, ``viewer``, ``post`` (int64, row of ``posts``), ``author``
    (int32), ``topic``, ``language``, ``kind`` (int8 codes), ``age_ms`` (int64), ``is_followed`` (bool),
    ``sources`` (uint32, bit mask), ``examine`` (float32, P(examined) at this position), ``is_examined`` (bool),
    ``liking`` (float32), ``value`` and ``satisfaction`` (float32: expected utility once examined), ``score``
    (float32, the ranker's), ``dwell_ms`` (int32), ``did`` (uint32, bit i: ``WORLD_ACTIONS[i]``),
    ``true_<action>`` (float32, P(action | examined)) and ``pred_<action>`` (float32, what the feed predicted; NaN
    where it predicted nothing) for every action of ``WORLD_ACTIONS``.
``regret``: one row per page of the sample that was held against the oracle, all in expected true value of a page.
    ``page``, ``arm``, ``viewer``, ``time_ms``, ``best_all`` (best slate of all posts that may be shown),
    ``best_retrieved`` (of what the sources found), ``best_filtered`` (of what the filters left), ``best_preranked``
    (of what the pre-ranker left; equals ``best_filtered`` where there is none), ``ranked`` (the ranker's own first
    posts, as they are), ``served`` (the page), ``bound_all`` (an upper bound of any slate: nobody tires of anything),
    ``n_all``, ``n_retrieved``, ``n_filtered`` (int32).
``sessions``: one row per session.
    ``session``, ``arm``, ``viewer``, ``started_ms``, ``ended_ms``, ``n_pages``, ``value``, ``satisfaction`` (expected),
    ``did_value``, ``did_satisfaction``, ``n_negative``, ``mood`` (float32, the viewer's after it).
``posts``: one row per post of the world (written at the end of a run).
    ``post``, ``author``, ``created_ms``, ``topic``, ``language``, ``kind``, ``quality``, ``is_spam``, ``story`` (int32,
    -1 for none).
``users``: one row per person (written at the end of a run).
    ``user``, ``language``, ``joined_ms``, ``is_spammer``, ``is_silent``, ``n_following``, ``n_followers``,
    ``sessions_per_day``, ``arm``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy.typing as npt
import polars as pl

from millrace.base.errors import ConfigError

TABLES: Final = ("pages", "items", "regret", "sessions", "posts", "users")
_META: Final = "run.json"

Columns = Mapping[str, npt.NDArray[Any]]


class RunMeta(msgspec.Struct, frozen=True, kw_only=True):
    """What a run was.

    Attributes
    ----------
    arms
        Names of its policies, by ``arm`` code.
    topics, languages, kinds, sources, actions
        Names by code; ``sources`` by bit, ``actions`` by bit of ``did``.
    began_ms, ended_ms
        Virtual time that was simulated; ``ended_ms`` is what has been reached.
    """

    mechanism: str
    size: str
    seed: int
    arms: tuple[str, ...]
    began_ms: int
    ended_ms: int
    topics: tuple[str, ...]
    languages: tuple[str, ...]
    kinds: tuple[str, ...]
    sources: tuple[str, ...]
    actions: tuple[str, ...]
    page_limit: int


class RunRecords:
    """The tables of one run.

    Parameters
    ----------
    meta
        What it was.
    frames
        Table name to frame; a table that is absent is empty.
    """

    def __init__(self, meta: RunMeta, frames: Mapping[str, pl.DataFrame]) -> None:
        self.meta = meta
        self._frames = dict(frames)

    def __getitem__(self, table: str) -> pl.DataFrame:
        """Return one of `TABLES`; empty where nothing was recorded."""
        if table not in TABLES:
            raise KeyError(table)
        return self._frames.get(table, pl.DataFrame())

    @classmethod
    def read(cls, folder: Path) -> RunRecords:
        """Read a run's folder.

        Raises
        ------
        ConfigError
            If there is no run in it.
        """
        path = folder / _META
        if not path.is_file():
            raise ConfigError(
                "run", value=str(folder), problem="no simulated run is there", remedy="make one: millrace simulate run"
            )
        meta = msgspec.json.decode(path.read_bytes(), type=RunMeta)
        frames = {}
        for table in TABLES:
            files = sorted((folder / "records").glob(f"{table}-*.parquet"))
            if files:
                frames[table] = pl.concat([pl.read_parquet(file) for file in files])
        return cls(meta, frames)


class RecordWriter:
    """Writes the tables of one run, slice by slice.

    Parameters
    ----------
    folder
        The run's.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._records = folder / "records"
        self._records.mkdir(parents=True, exist_ok=True)

    def write(self, number: int, tables: Mapping[str, Columns]) -> None:
        """Write one slice's rows; written again, they replace the earlier ones."""
        for table, columns in tables.items():
            frame = pl.DataFrame(dict(columns))
            path = self._records / f"{table}-{number:06d}.parquet"
            fresh = path.with_suffix(".new")
            frame.write_parquet(fresh, compression="zstd", compression_level=1)
            fresh.replace(path)

    def forget_from(self, number: int) -> None:
        """Remove the rows of this and later slices: they are about to be made again."""
        for path in self._records.glob("*.parquet"):
            if int(path.stem.rsplit("-", 1)[1]) >= number:
                path.unlink()

    def describe(self, meta: RunMeta) -> None:
        """Write what the run is."""
        fresh = self._folder / f"{_META}.new"
        fresh.write_bytes(msgspec.json.format(msgspec.json.encode(meta)))
        fresh.replace(self._folder / _META)
