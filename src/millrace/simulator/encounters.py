"""`Encounters`: people look at slates; what follows, drawn, and what it was worth, exact."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from millrace.base.actions import Action
from millrace.simulator.acts import draw_actions, draw_dwell_ms
from millrace.simulator.draws import Draws, Float64Array, Int64Array, Purpose, Uint64Array
from millrace.simulator.mechanisms.law import Mechanism
from millrace.simulator.mechanisms.situation import COLUMN, WORLD_ACTIONS, Response, Situation, Surroundings
from millrace.simulator.memory import Memory, are_followed, first_of_runs
from millrace.simulator.people import BoolArray, People
from millrace.simulator.posts import PostTable
from millrace.simulator.topics import Stories
from millrace.simulator.truth import COST, WEIGHTS, Utility, examination, expected_utility, realised_utility

_AROUSAL: Final = 99
"""Key of this facet; the mechanisms' own are small numbers."""


@dataclass(frozen=True, slots=True)
class Slates:
    """Pages before their viewers; item columns of shape (n,), rows of one page together, in order of position.

    Attributes
    ----------
    viewer, row
        Who is shown which post.
    page
        Numbers the pages from 0, ascending.
    position
        From 0 on each page.
    began_ms
        When the page came.
    occasion_key
        Per page: what the draw of how far the viewer scrolls hangs on; equal in twin worlds.
    readiness
        How readily everything is done under the policy that served the page, 1 as the law says; planted effects.
    """

    viewer: Int64Array
    row: Int64Array
    page: Int64Array
    position: Int64Array
    began_ms: Int64Array
    occasion_key: Int64Array
    readiness: Float64Array | None = None

    def __len__(self) -> int:
        return len(self.viewer)


@dataclass(frozen=True, slots=True)
class Looks:
    """What came of slates; item columns of shape (n,)."""

    slates: Slates
    situation: Situation
    response: Response
    examine: Float64Array
    is_examined: BoolArray
    did: BoolArray
    dwell_ms: Int64Array
    left_ms: Int64Array

    def page_sum(self, values: Float64Array, n_pages: int) -> Float64Array:
        """Return sums by page, shape (n_pages,)."""
        return sums(self.slates.page, values, n_pages)


class Encounters:
    """The people, posts and laws that decide what happens before a page.

    Parameters
    ----------
    draws, people, posts, stories, mechanism, memory
        Of one world.
    """

    def __init__(
        self,
        draws: Draws,
        people: People,
        posts: PostTable,
        stories: Stories,
        mechanism: Mechanism,
        memory: Memory,
    ) -> None:
        self._draws = draws
        self._people = people
        self._posts = posts
        self._stories = stories
        self._memory = memory
        self._arousal: Float64Array = np.empty(0)
        self._arousal_of: object = None
        self.mechanism = mechanism
        self.interest: Float64Array = np.empty((0, 0))
        self.follow_keys: Int64Array = np.empty(0, dtype=np.int64)

    def situation(self, viewer: Int64Array, row: Int64Array, time_ms: Int64Array | int) -> Situation:
        """Return what drives these viewers before these posts at these times, shape (n,) each."""
        people, posts, n_users = self._people, self._posts, self._people.n_users
        author, key, topic = posts["author"][row], posts["key"][row], posts["topic"][row]
        language = posts["language"][row]
        return Situation(
            viewer=viewer,
            author=author,
            key=key,
            topic=topic,
            interest=self.interest[viewer, topic],
            quality=posts["quality"][row].astype(np.float64),
            author_taste=self._draws.normal(Purpose.AUTHOR_TASTE, viewer, author) if len(viewer) else np.empty(0),
            is_followed=are_followed(viewer, author, self.follow_keys, n_users),
            reads_language=(language == people.language[viewer]) | (language == people.second_language[viewer]),
            propensity=people.propensity[viewer],
            n_proofs=self._memory.n_proofs(viewer, row, self.follow_keys, n_users),
            age_ms=np.maximum(time_ms - posts["created_ms"][row], 0),
            story_heat=self._heat(posts["story"][row], time_ms),
            arousal=self._arousal_of_posts()[row],
            is_silent=people.is_silent[viewer],
            kind=posts["kind"][row],
            media=posts["media"][row],
            duration_ms=posts["duration_ms"][row],
            has_link=posts["has_link"][row],
            is_spam=posts["is_spam"][row],
        )

    def _heat(self, story: npt.NDArray[np.int32], time_ms: Int64Array | int) -> Float64Array:
        """Return the pull of the stories that posts belong to, shape (n,); most belong to none."""
        heat, told = np.zeros(len(story)), np.flatnonzero(story >= 0)
        at_ms = time_ms[told] if isinstance(time_ms, np.ndarray) else time_ms
        heat[told] = self._stories.heat(story[told].astype(np.int64), at_ms)
        return heat

    def _arousal_of_posts(self) -> Float64Array:
        """Return every post's arousal; kept, for it never changes."""
        keys, known = self._posts["key"], len(self._arousal)
        if keys.base is not self._arousal_of:  # the table has grown into other arrays, or become another one
            self._arousal_of, known = keys.base, 0
        if known < len(keys):
            new = self._draws.normal(Purpose.FACET, keys[known:], _AROUSAL)
            self._arousal = np.concatenate([self._arousal[:known], new])
        return self._arousal

    def _reaches(self, slates: Slates, examine: Float64Array) -> BoolArray:
        """Return which posts of pages their viewers get to, shape (n,): one draw a page says how far they scroll."""
        u = self._draws.uniform(Purpose.EXAMINE, slates.viewer, slates.occasion_key[slates.page])
        reaches: BoolArray = u < examine
        return reaches

    def look(self, slates: Slates) -> Looks:
        """Return what comes of slates. Nothing is remembered yet: `World` decides when."""
        examine = examination(self._people.patience[slates.viewer], slates.position)
        return self._come_of(slates, examine, self._reaches(slates, examine))

    def look_without_rest(self, slates: Slates) -> Looks:
        """Return what comes of the part of slates that is looked at, for whoever needs no truth of the rest.

        Viewers scroll down to where they stop, so that it is the beginning of each page; what comes of a post depends
        on those above it alone, so `look` says the same of it.
        """
        examine = examination(self._people.patience[slates.viewer], slates.position)
        rows = np.flatnonzero(self._reaches(slates, examine))
        part = Slates(
            viewer=slates.viewer[rows],
            row=slates.row[rows],
            page=slates.page[rows],
            position=slates.position[rows],
            began_ms=slates.began_ms[rows],
            occasion_key=slates.occasion_key,
            readiness=None if slates.readiness is None else slates.readiness[rows],
        )
        return self._come_of(part, examine[rows], np.ones(len(rows), dtype=np.bool_))

    def _come_of(self, slates: Slates, examine: Float64Array, is_examined: BoolArray) -> Looks:
        viewer, row, page = slates.viewer, slates.row, slates.page
        situation = self.situation(viewer, row, slates.began_ms)
        response = self.respond(situation, page)
        if slates.readiness is not None:
            response = _readier(response, slates.readiness)
        if is_examined.all():
            did, dwell_ms = self._acts(viewer, row, situation.key, response)
        else:  # nothing is drawn for what nobody looks at
            looked = np.flatnonzero(is_examined)
            did = np.zeros((len(viewer), len(WORLD_ACTIONS)), dtype=np.bool_)
            dwell_ms = np.zeros(len(viewer), dtype=np.int64)
            did[looked], dwell_ms[looked] = self._acts(
                viewer[looked], row[looked], situation.key[looked], response.take(looked)
            )
        if slates.readiness is not None:
            dwell_ms = (dwell_ms * slates.readiness).astype(np.int64)
        return Looks(
            slates=slates,
            situation=situation,
            response=response,
            examine=examine,
            is_examined=is_examined,
            did=did,
            dwell_ms=dwell_ms,
            left_ms=slates.began_ms + _running_sum(dwell_ms, page),
        )

    def _acts(
        self, viewer: Int64Array, row: Int64Array, key: Uint64Array, response: Response
    ) -> tuple[BoolArray, Int64Array]:
        """Return what is done in looks that happen, shape (n, n_actions), and for how long they last, shape (n,)."""
        if not len(viewer):
            return np.zeros((0, len(WORLD_ACTIONS)), dtype=np.bool_), np.zeros(0, dtype=np.int64)
        draws, law, occasion = self._draws, self.mechanism.law, self._memory.occasions(viewer, row)
        did, is_engaged = draw_actions(draws, law, viewer, key, occasion, response)
        return did, draw_dwell_ms(draws, law, viewer, key, occasion, response, is_engaged)

    def expected(self, looks: Looks) -> Utility:
        """Return what each look is worth once it happens, exactly, shape (n,) each."""
        utility = expected_utility(self.mechanism.law, looks.situation, looks.response)
        readiness = looks.slates.readiness
        if readiness is None:
            return utility
        return _scaled(utility, looks.response.probs @ WEIGHTS, looks.response.liking, readiness)

    def realised(self, looks: Looks) -> Utility:
        """Return what each look was worth by what was done, 0 where none happened, shape (n,) each."""
        readiness = looks.slates.readiness
        if readiness is None:
            utility = realised_utility(looks.situation, looks.response, looks.did, looks.dwell_ms)
        else:
            dwell_ms = np.rint(looks.dwell_ms / readiness).astype(np.int64)  # as the law alone would have it
            utility = realised_utility(looks.situation, looks.response, looks.did, dwell_ms)
            utility = _scaled(utility, looks.did @ WEIGHTS, looks.response.liking, readiness)
        return Utility(utility.value * looks.is_examined, utility.satisfaction * looks.is_examined)

    def respond(self, situation: Situation, page: Int64Array) -> Response:
        """Return what follows from looks at pages, each post in the surroundings of those above it."""
        affinity = self.mechanism.affinity(situation)
        n = len(situation)
        alone = self.mechanism.liking(affinity, Surroundings.none(n))
        contrast = np.zeros(n)
        if n:
            contrast[1:] = alone[:-1] - 0.5
            contrast[first_of_runs(page)] = 0.0
        authors, topics = self._memory.surroundings(situation.viewer, situation.author, situation.topic, page)
        return self.mechanism.respond(situation, affinity, Surroundings(authors, topics, contrast))

    def worth(self, situation: Situation, response: Response) -> Utility:
        """Return what looks in a situation are worth, exactly, shape (n,) each."""
        return expected_utility(self.mechanism.law, situation, response)

    def lately(self, situation: Situation) -> tuple[Float64Array, Float64Array]:
        """Return how often each post's author and topic were met before a page, shape (n,) each."""
        apart = np.arange(len(situation))
        return self._memory.surroundings(situation.viewer, situation.author, situation.topic, apart)


def sums(group: Int64Array, values: Float64Array, n: int) -> Float64Array:
    """Return sums by group, shape (n,)."""
    total: Float64Array = np.bincount(group, weights=values, minlength=n).astype(np.float64)
    return total


def _readier(response: Response, readiness: Float64Array) -> Response:
    probs = np.minimum(response.probs * readiness[:, None], 1.0)
    return Response(response.liking, probs, np.minimum(response.annoyed * readiness, 0.9), response.dwell_mu)


def _scaled(utility: Utility, by_actions: Float64Array, liking: Float64Array, readiness: Float64Array) -> Utility:
    """Return the utility under a policy that makes people readier: every part of it grows alike.

    Actions, dislikes among them, are counted in already; what comes of looking and liking is what is missing.
    """
    return Utility(
        by_actions + (utility.value - by_actions) * readiness,
        utility.satisfaction + (liking - COST) * (readiness - 1.0),
    )


def _running_sum(values: Int64Array, group: Int64Array) -> Int64Array:
    """Return the running sum within runs of equal ``group``, shape (n,)."""
    if not len(values):
        return values
    total = np.cumsum(values)
    first = np.flatnonzero(first_of_runs(group))
    sizes = np.diff(np.append(first, len(group)))
    return total - np.repeat(total[first] - values[first], sizes)


def did_by_action(looks: Looks, action: Action) -> Int64Array:
    """Return the rows of those who did this."""
    return np.flatnonzero(looks.did[:, COLUMN[action]])
