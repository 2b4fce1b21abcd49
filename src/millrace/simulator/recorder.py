"""`Recorder`: the judge's ear in a run: puts pages, looks and the truth beside each other into tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from millrace.simulator.atlas import Atlas
from millrace.simulator.client import Page
from millrace.simulator.draws import Int64Array, Purpose
from millrace.simulator.loop import Round, SliceDone
from millrace.simulator.mechanisms.situation import N_FRIENDLY, WORLD_ACTIONS
from millrace.simulator.oracle import Oracle
from millrace.simulator.records import Columns
from millrace.simulator.visits import is_among
from millrace.simulator.world import World

_BITS: Final = (np.uint32(1) << np.arange(len(WORLD_ACTIONS), dtype=np.uint32)).astype(np.uint32)
_CODES: Final = np.array([int(action) for action in WORLD_ACTIONS])

Table = dict[str, list[npt.NDArray[Any]]]


class Recorder:
    """Fills the tables of `millrace.simulator.records`, slice by slice.

    Parameters
    ----------
    world, atlas
        The truth, and which post is which.
    sources
        Names of the feed's sources, by bit.
    limit
        Posts that a page is asked for.
    regret_frac
        Share of the pages that are held against the oracle.
    keeps_items
        Whether the table ``items`` is kept; it is by far the largest.
    """

    def __init__(
        self,
        world: World,
        atlas: Atlas,
        sources: tuple[str, ...],
        *,
        limit: int,
        regret_frac: float = 0.05,
        keeps_items: bool = True,
    ) -> None:
        self._world = world
        self._atlas = atlas
        self._oracle = Oracle(world, atlas)
        self._bit_by_source = {name: 1 << bit for bit, name in enumerate(sources)}
        self._limit = limit
        self._regret_frac = regret_frac
        self._keeps_items = keeps_items
        self._tables: dict[str, Table] = {}
        self._session_sums: list[tuple[Int64Array, npt.NDArray[np.float64]]] = []
        self.n_pages = 0
        self.n_sessions = 0

    def hear(self, round_: Round, arm: Int64Array) -> None:
        """Take one round, before the world remembers it."""
        looks, world = round_.looks, self._world
        slates, n = looks.slates, len(round_.pages)
        first = self.n_pages
        self.n_pages += n
        expected, realised = world.encounters.expected(looks), world.encounters.realised(looks)
        now_ms = np.array([request.now_ms for request in round_.requests], dtype=np.int64)
        viewer = np.array([self._user(request.viewer_id) for request in round_.requests], dtype=np.int64)
        sums = {
            "value": looks.page_sum(expected.value * looks.examine, n),
            "satisfaction": looks.page_sum(expected.satisfaction * looks.examine, n),
            "did_value": looks.page_sum(realised.value, n),
            "did_satisfaction": looks.page_sum(realised.satisfaction, n),
        }
        n_positive = looks.page_sum(looks.did[:, :N_FRIENDLY].sum(axis=1), n)
        n_negative = looks.page_sum(looks.did[:, N_FRIENDLY:].sum(axis=1), n)
        self._add(
            "pages",
            page=first + np.arange(n),
            request_id=np.array([request.request_id for request in round_.requests], dtype=np.str_),
            slice_ms=now_ms - now_ms % world.slice_ms,
            time_ms=now_ms,
            arm=arm.astype(np.int8),
            viewer=viewer.astype(np.int32),
            session=self.n_sessions + round_.session,
            page_no=np.full(n, round_.page_no, dtype=np.int16),
            n_items=np.bincount(slates.page, minlength=n).astype(np.int16),
            n_candidates=np.array([page.n_candidates for page in round_.pages], dtype=np.int32),
            n_outcomes=np.array([page.n_outcomes for page in round_.pages], dtype=np.int16),
            n_examined=looks.page_sum(looks.is_examined.astype(np.float64), n).astype(np.int16),
            n_positive=n_positive.astype(np.int16),
            n_negative=n_negative.astype(np.int16),
            **sums,
            **self._broken_rules(round_, n),
        )
        both = np.stack([*sums.values(), n_negative, np.ones(n), now_ms])
        self._session_sums.append((round_.session, both))
        if self._keeps_items:
            self._add_items(round_, arm, first, expected.value, expected.satisfaction)
        self._add_regret(round_, arm, first, viewer, sums["value"])

    def close(self, done: SliceDone) -> dict[str, Columns]:
        """Return the slice's tables and begin new ones."""
        n = len(done.sessions.viewer)
        sums = np.zeros((6, n))
        ended_ms = done.sessions.started_ms.copy()
        for session, values in self._session_sums:
            sums[:, session] += values[:6]
            ended_ms[session] = np.maximum(ended_ms[session], values[6].astype(np.int64))
        names = ("value", "satisfaction", "did_value", "did_satisfaction")
        self._add(
            "sessions",
            session=self.n_sessions + np.arange(n),
            arm=done.arm.astype(np.int8),
            viewer=done.sessions.viewer.astype(np.int32),
            started_ms=done.sessions.started_ms,
            ended_ms=ended_ms,
            n_pages=sums[5].astype(np.int16),
            **{name: sums[i] for i, name in enumerate(names)},
            n_negative=sums[4].astype(np.int16),
            mood=self._world.memory.mood[done.sessions.viewer].astype(np.float32),
        )
        self.n_sessions += n
        self._session_sums = []
        tables: dict[str, Columns] = {
            table: {name: np.concatenate(parts) for name, parts in columns.items()}
            for table, columns in self._tables.items()
        }
        self._tables = {}
        return tables

    def census(self, arm_of_user: Int64Array) -> dict[str, Columns]:
        """Return the tables of posts and people as they are now."""
        world, posts, people = self._world, self._world.posts, self._world.people
        n = people.n_users
        follower, followee = world.follows.keys // n, world.follows.keys % n
        names = ("author", "created_ms", "topic", "language", "kind", "quality", "is_spam", "story")
        return {
            "posts": {"post": np.arange(posts.n_posts), **{name: posts[name].copy() for name in names}},
            "users": {
                "user": np.arange(n, dtype=np.int32),
                "language": people.language,
                "joined_ms": world.joined_ms,
                "is_spammer": people.is_spammer,
                "is_silent": people.is_silent,
                "n_following": np.bincount(follower, minlength=n).astype(np.int32),
                "n_followers": np.bincount(followee, minlength=n).astype(np.int32),
                "sessions_per_day": people.sessions_per_day,
                "arm": arm_of_user.astype(np.int8),
            },
        }

    def _user(self, viewer_id: str) -> int:
        return int(viewer_id[1:])

    def _add(self, table: str, **columns: npt.NDArray[Any]) -> None:
        held = self._tables.setdefault(table, {})
        for name, values in columns.items():
            held.setdefault(name, []).append(values)

    def _broken_rules(self, round_: Round, n: int) -> dict[str, npt.NDArray[np.int16]]:
        """Count posts that must not be on a page: what no filter may let through, by the truth."""
        world, looks = self._world, round_.looks
        viewer, row, page = looks.slates.viewer, looks.slates.row, looks.slates.page
        author, start_ms = looks.situation.author, looks.slates.began_ms - looks.slates.began_ms % world.slice_ms
        sensitive = world.posts["is_sensitive"][row] & ~world.people.shows_sensitive[viewer]
        rules = {
            "n_own": author == viewer,
            "n_blocked": is_among(viewer * world.people.n_users + author, world.estranged),
            "n_deleted": world.posts["deleted_ms"][row] <= start_ms,
            "n_repeated": world.memory.occasions(viewer, row) > 0,
            "n_sensitive": sensitive,
        }
        return {name: np.bincount(page[broken], minlength=n).astype(np.int16) for name, broken in rules.items()}

    def _add_items(
        self,
        round_: Round,
        arm: Int64Array,
        first: int,
        value: npt.NDArray[np.float64],
        satisfaction: npt.NDArray[np.float64],
    ) -> None:
        looks, posts = round_.looks, self._world.posts
        slates, situation = looks.slates, looks.situation
        row, page = slates.row, slates.page
        ours = self._rows(round_.pages) >= 0  # as the loop has it
        predictions = _stacked(round_.pages)[ours][:, _CODES]
        masks = np.array([mask for p in round_.pages for mask in self._masks(p)], dtype=np.uint32)[ours]
        scores = np.array([score for p in round_.pages for score in p.scores], dtype=np.float32)[ours]
        truth = {f"true_{a.label}": looks.response.probs[:, i].astype(np.float32) for i, a in enumerate(WORLD_ACTIONS)}
        guess = {f"pred_{a.label}": predictions[:, i] for i, a in enumerate(WORLD_ACTIONS)}
        self._add(
            "items",
            page=first + page,
            position=slates.position.astype(np.int16),
            arm=arm[page].astype(np.int8),
            viewer=slates.viewer.astype(np.int32),
            post=row,
            author=situation.author.astype(np.int32),
            topic=situation.topic,
            language=posts["language"][row],
            kind=situation.kind,
            age_ms=situation.age_ms,
            is_followed=situation.is_followed,
            sources=masks,
            examine=looks.examine.astype(np.float32),
            is_examined=looks.is_examined,
            liking=looks.response.liking.astype(np.float32),
            value=value.astype(np.float32),
            satisfaction=satisfaction.astype(np.float32),
            score=scores,
            dwell_ms=looks.dwell_ms.astype(np.int32),
            did=(looks.did * _BITS).sum(axis=1).astype(np.uint32),
            **truth,
            **guess,
        )

    def _rows(self, pages: Sequence[Page]) -> Int64Array:
        """Return which posts are on pages, shape (n_posts,); -1 for those that are not of this world."""
        return np.array([self._atlas.row(post_id) for page in pages for post_id in page.post_ids], dtype=np.int64)

    def _masks(self, page: Page) -> list[int]:
        return [sum(self._bit_by_source.get(name, 0) for name in sources) for sources in page.sources]

    def _add_regret(
        self, round_: Round, arm: Int64Array, first: int, viewer: Int64Array, served: npt.NDArray[np.float64]
    ) -> None:
        now_ms = np.array([request.now_ms for request in round_.requests], dtype=np.int64)
        u = self._world.draws.uniform(Purpose.POLICY, viewer, now_ms // self._world.slice_ms, round_.page_no)
        rows: dict[str, list[float]] = {}
        sampled = [
            i for i in np.flatnonzero(u < self._regret_frac).tolist() if round_.pages[i].inside and served[i] != 0.0
        ]
        for i in sampled:
            for name, value in self._regret(round_.pages[i], int(viewer[i]), int(now_ms[i])).items():
                rows.setdefault(name, []).append(value)
        if not sampled:
            return
        readiness = round_.looks.slates.readiness
        # Planted readiness is the policy's, not the oracle's: the split is told as the law has it.
        own = served[sampled] if readiness is None else np.array(rows["served"])
        counts = ("n_all", "n_retrieved", "n_filtered")
        self._add(
            "regret",
            page=first + np.array(sampled),
            arm=arm[sampled].astype(np.int8),
            viewer=viewer[sampled].astype(np.int32),
            time_ms=now_ms[sampled],
            **{name: np.array(v) for name, v in rows.items() if name not in (*counts, "served")},
            served=own,
            **{name: np.array(rows[name], dtype=np.int32) for name in counts},
        )

    def _regret(self, page: Page, viewer: int, now_ms: int) -> dict[str, float]:
        oracle, atlas, inside = self._oracle, self._atlas, page.inside
        if inside is None:
            return {}
        k = min(self._limit, len(page.post_ids))
        retrieved = _known(atlas.rows(inside.candidates))
        filtered = _known(atlas.rows(inside.filtered))
        preranked = _known(atlas.rows(inside.preranked))
        live = oracle.may_be_shown(viewer, oracle.live(now_ms), now_ms)
        # What the feed found counts as showable where the rules of the truth say so, or the feed's filters do.
        found = np.union1d(oracle.may_be_shown(viewer, retrieved, now_ms), filtered)
        everything = np.union1d(live, found)
        _, best_all = oracle.best(viewer, everything, now_ms, k)
        return {
            "best_all": best_all.value,
            "best_retrieved": oracle.best(viewer, found, now_ms, k)[1].value,
            "best_filtered": oracle.best(viewer, filtered, now_ms, k)[1].value,
            "best_preranked": oracle.best(viewer, preranked, now_ms, k)[1].value,
            "ranked": oracle.worth(viewer, _known(atlas.rows(inside.ranked))[:k], now_ms),
            "served": oracle.worth(viewer, _known(self._rows([page])), now_ms),
            "bound_all": best_all.bound,
            "n_all": len(everything),
            "n_retrieved": len(retrieved),
            "n_filtered": len(filtered),
        }


def _known(rows: Int64Array) -> Int64Array:
    return rows[rows >= 0]


def _stacked(pages: Sequence[Page]) -> npt.NDArray[np.float32]:
    """Return the predictions of all posts of some pages; NaN where there are none."""
    parts = []
    for page in pages:
        n = len(page.post_ids)
        if page.inside is not None and len(page.inside.predictions) == n:
            parts.append(page.inside.predictions[:, : _CODES.max() + 1])
        else:
            parts.append(np.full((n, int(_CODES.max()) + 1), np.nan, dtype=np.float32))
    return np.concatenate(parts) if parts else np.empty((0, int(_CODES.max()) + 1), dtype=np.float32)
