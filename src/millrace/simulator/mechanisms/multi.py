"""`MultiMechanism`: every group of actions has an affinity of its own, so that one gate cannot explain them all.

A person may like pictures of food, argue about football and save what is about programming. A ranker that predicts
one score for everything does worse here than one with a head for each action.
"""

from __future__ import annotations

import numpy as np

from millrace.base.actions import Action
from millrace.simulator.draws import Draws, Float64Array, Purpose
from millrace.simulator.mechanisms.gate import GateMechanism
from millrace.simulator.mechanisms.law import Law
from millrace.simulator.mechanisms.situation import N_FRIENDLY, WORLD_ACTIONS, Situation
from millrace.simulator.people import N_TOPICS, People


class MultiMechanism(GateMechanism):
    """Groups of actions, each with its own interests of people and its own quality of posts.

    Parameters
    ----------
    people, draws
        Whose interests, and all randomness.
    """

    name = "multi"

    def __init__(self, people: People, draws: Draws, law: Law | None = None) -> None:
        super().__init__(law)
        self._draws = draws
        self._groups = tuple(self.law.groups.values())
        group_by_action = {name: g for g, group in enumerate(self._groups) for name in group.actions}
        self._set_groups(np.array([group_by_action[Action(a).label] for a in WORLD_ACTIONS[:N_FRIENDLY]]))
        user, topic = np.arange(people.n_users)[:, None], np.arange(N_TOPICS)[None, :]
        # A taste of one's own for each group: most topics leave one cold, a few do not.
        self._own = [draws.uniform(Purpose.GROUP_INTEREST, user, topic, g) ** 2 for g in range(len(self._groups))]

    def affinity(self, situation: Situation) -> Float64Array:
        """Return an affinity per group, shape (n, n_groups)."""
        columns = []
        for g, group in enumerate(self._groups):
            own = self._own[g][situation.viewer, situation.topic]
            # The common interest still counts: nobody argues about what they never look at.
            interest = (1 - group.own_interest) * situation.interest + group.own_interest * own
            facet = self._draws.uniform(Purpose.FACET, situation.key, g)
            quality = (1 - group.own_quality) * situation.quality + group.own_quality * facet
            columns.append(self._affinity(situation, interest, quality))
        return np.stack(columns, axis=1)
