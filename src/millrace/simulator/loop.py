"""`Loop`: people use a feed, slice after slice of virtual time, through its public interface alone.

In each slice everybody who comes fetches pages, looks, acts and perhaps goes on to the next page; meanwhile posts are
written and people follow. All pages of a slice are made from the state at its beginning; what happened is sent when
the slice is over. So nothing depends on who is served first, or by which of how many processes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from millrace.simulator.atlas import Atlas
from millrace.simulator.client import FeedClient, Page, PageRequest
from millrace.simulator.delivery import Delivery
from millrace.simulator.draws import Float64Array, Int64Array, Purpose
from millrace.simulator.encounters import Looks, Slates
from millrace.simulator.narrator import Told
from millrace.simulator.people import BoolArray
from millrace.simulator.policies import Policy
from millrace.simulator.visits import Sessions
from millrace.simulator.world import World, occasion_key

MAX_PAGES: Final = 6
_NEXT_PAGE_STEEPNESS: Final = 6.0


@dataclass(frozen=True, slots=True)
class Round:
    """One page for each of some sessions, and what came of them.

    Attributes
    ----------
    session
        Which sessions of the slice, shape (n_pages,).
    page_no
        Of each session, from 0.
    """

    session: Int64Array
    page_no: int
    requests: Sequence[PageRequest]
    pages: Sequence[Page]
    looks: Looks


@dataclass(frozen=True, slots=True)
class SliceDone:
    """One slice as it went.

    Attributes
    ----------
    sessions, arm
        Who came, and under which policy.
    rounds
        Their pages.
    per_look
        Satisfaction per look of each session.
    n_events
        Events sent.
    """

    start_ms: int
    stop_ms: int
    sessions: Sessions
    arm: Int64Array
    rounds: Sequence[Round]
    per_look: Float64Array
    n_events: int


class Loop:
    """People of a world before a feed.

    Parameters
    ----------
    world
        Whose history is over.
    client
        The feed.
    policies
        One or more; with several, each viewer has one of them for good.
    limit
        Posts that a page is asked for.
    listen
        Hears of each round before the world remembers it; the judge's ear.
    """

    def __init__(
        self,
        world: World,
        client: FeedClient,
        policies: Sequence[Policy],
        *,
        atlas: Atlas,
        limit: int = 20,
        listen: Callable[[Round, Int64Array], None] | None = None,
    ) -> None:
        self.world = world
        self.delivery = Delivery(world.config, world.draws)
        self.policies = tuple(policies)
        self._client = client
        self._atlas = atlas
        self._limit = limit
        self._listen = listen
        self.arm_of_user = self._draw_arms()
        self._readiness = self._draw_readiness()

    def run_slice(self, start_ms: int) -> SliceDone:
        """Let one slice of virtual time pass."""
        world, stop_ms = self.world, start_ms + self.world.slice_ms
        # What is written within the slice is not known to anybody's page yet: the state stands at its beginning.
        self._atlas.extend(world.posts.n_posts)
        told: list[Told] = list(world.open_slice(start_ms, stop_ms))
        sessions = world.visitors(start_ms, stop_ms)
        arm = self.arm_of_user[sessions.viewer]
        n = len(sessions.viewer)
        active, began_ms = np.arange(n), sessions.started_ms.copy()
        cursors: list[str | None] = [None] * n
        total, n_looks = np.zeros(n), np.zeros(n)
        rounds: list[Round] = []
        for page_no in range(MAX_PAGES):
            if not len(active):
                break
            round_ = self._round(sessions, active, page_no, arm, began_ms, cursors, start_ms)
            rounds.append(round_)
            looks, n_pages = round_.looks, len(active)
            if self._listen is not None:
                self._listen(round_, arm[active])
            told.extend(world.absorb(looks, [page.served_request_id or None for page in round_.pages]))
            realised = world.encounters.realised(looks).satisfaction
            page_total = looks.page_sum(realised, n_pages)
            page_looks = looks.page_sum(looks.is_examined.astype(np.float64), n_pages)
            total[active] += page_total
            n_looks[active] += page_looks
            goes_on = self._goes_on(sessions, active, page_no, looks, page_total / np.maximum(page_looks, 1.0))
            np.maximum.at(began_ms, active[looks.slates.page], looks.left_ms + 500)
            for index, page in zip(active.tolist(), round_.pages, strict=True):
                cursors[index] = page.cursor
            goes_on &= np.array([page.cursor is not None for page in round_.pages], dtype=np.bool_)
            active = active[goes_on]
        per_look = world.felt(sessions, total, n_looks)
        told.extend(world.close_slice(stop_ms))
        told.sort(key=_time_of)
        events = self.delivery.take(world.narrator.stamp(told), stop_ms)
        self._client.send(events)
        self._client.advance(stop_ms)
        return SliceDone(start_ms, stop_ms, sessions, arm, rounds, per_look, len(events))

    def _round(
        self,
        sessions: Sessions,
        active: Int64Array,
        page_no: int,
        arm: Int64Array,
        began_ms: Int64Array,
        cursors: Sequence[str | None],
        start_ms: int,
    ) -> Round:
        narrator = self.world.narrator
        viewers = sessions.viewer[active]
        requests = [
            PageRequest(
                viewer_id=narrator.user_id(viewer),
                request_id=f"s{viewer}-{start_ms}-{page_no}",
                now_ms=int(began_ms[index]),
                limit=self._limit,
                cursor=cursors[index],
                arm=int(arm[index]),
            )
            for viewer, index in zip(viewers.tolist(), active.tolist(), strict=True)
        ]
        pages = self._client.pages(requests)
        slates = self._slates(viewers, pages, began_ms[active], occasion_key(sessions.started_ms[active], page_no))
        return Round(active, page_no, requests, pages, self.world.encounters.look(slates))

    def _slates(self, viewers: Int64Array, pages: Sequence[Page], began_ms: Int64Array, occasion: Int64Array) -> Slates:
        sizes = np.array([len(page.post_ids) for page in pages], dtype=np.int64)
        row = np.array([self._atlas.row(post_id) for page in pages for post_id in page.post_ids], dtype=np.int64)
        page = np.repeat(np.arange(len(pages)), sizes)
        position = np.arange(len(row)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        ours = np.flatnonzero(row >= 0)  # what other people of this home wrote is not of this world
        viewer = viewers[page[ours]]
        readiness = None if self._readiness is None else self._readiness[viewer]
        return Slates(viewer, row[ours], page[ours], position[ours], began_ms[page[ours]], occasion, readiness)

    def _goes_on(
        self, sessions: Sessions, active: Int64Array, page_no: int, looks: Looks, per_look: Float64Array
    ) -> BoolArray:
        """Return which sessions fetch another page: who saw this one to its end, and was pleased."""
        viewer = sessions.viewer[active]
        last = np.zeros(len(active), dtype=np.bool_)
        last[looks.slates.page[_last_of_runs(looks.slates.page)]] = looks.is_examined[_last_of_runs(looks.slates.page)]
        pleased = per_look - self.world.people.tolerance[viewer]
        p = 1.0 / (1.0 + np.exp(-_NEXT_PAGE_STEEPNESS * pleased))
        u = self.world.draws.uniform(Purpose.NEXT_PAGE, viewer, occasion_key(sessions.started_ms[active], page_no))
        goes_on: BoolArray = last & (u < p)
        return goes_on

    def _draw_arms(self) -> Int64Array:
        u = self.world.draws.uniform(Purpose.ARM, np.arange(self.world.people.n_users))
        return (u * len(self.policies)).astype(np.int64)

    def _draw_readiness(self) -> Float64Array | None:
        people = self.world.people
        by_arm = np.array([policy.readiness for policy in self.policies])
        readiness = by_arm[self.arm_of_user]
        languages = self.world.vocabulary.languages
        for arm, policy in enumerate(self.policies):
            if policy.harm is not None and policy.harm.language in languages:
                speaks = people.language == languages.index(policy.harm.language)
                readiness[speaks & (self.arm_of_user == arm)] = policy.harm.readiness
        return None if (readiness == 1.0).all() else readiness


def _last_of_runs(values: Int64Array) -> Int64Array:
    """Return the row that ends each run of equal values."""
    if not len(values):
        return values
    return np.append(np.flatnonzero(values[1:] != values[:-1]), len(values) - 1)


def _time_of(told: Told) -> int:
    return told[0]
