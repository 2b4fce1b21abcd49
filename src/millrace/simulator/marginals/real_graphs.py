"""Real social graphs and real chains."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from millrace.simulator.marginals.cascades import chains
from millrace.simulator.marginals.following import following
from millrace.simulator.marginals.of_events import activity
from millrace.simulator.marginals.real_files import lines, numbers
from millrace.simulator.marginals.statistics import Marginals


def yelp_social(folder: Path, _window_ms: int | None = None) -> Marginals:
    """Return Yelp's directed links and ratings per user (the DiffNet split: people with few of either are left out)."""
    follower, followee = numbers(folder, "yelp.links", (0, 1), separator=None, n_header=0)
    (rater,) = numbers(folder, "yelp.train.rating", (0,), separator=None, n_header=0)
    return {**following(follower, followee, is_mutual=False), "engagements per user": activity(rater)}


def lastfm_2k(folder: Path, _window_ms: int | None = None) -> Marginals:
    """Return Last.fm's friendships, which have no direction."""
    user, friend = numbers(folder, "user_friends.dat", (0, 1), separator="\t", n_header=1)
    return following(user, friend, is_mutual=True)


def cascades_android(folder: Path, _window_ms: int | None = None) -> Marginals:
    """Return the links, and the chains of people who took up a tag on a question site, over years.

    Slower than reposts by orders of magnitude, and chains of fewer than five were left out by the publisher: what
    compares is sizes among the large, depth, and how much of it went along links. A line holds the chain's number,
    then ``person seconds`` for each, between commas.
    """
    follower, followee = numbers(folder, "edges.txt", (0, 1), separator=",", n_header=0)
    number: list[int] = []
    taken: list[int] = []
    for at, line in enumerate(lines(folder, "cascades.txt")):
        fields = line.replace(",", " ").split()[1:]
        number.extend([at] * (len(fields) // 2))
        taken.extend(map(int, fields[: len(fields) // 2 * 2]))
    user, seconds = np.array(taken, dtype=np.int64).reshape(-1, 2).T
    chain = np.array(number, dtype=np.int64)
    found = chains(chain, user, seconds * 1000, follower, followee)
    # All sizes are at least five here, so the share of small ones says nothing.
    found.pop("cascade size", None)
    return {
        **following(follower, followee, is_mutual=False),
        **found,
        "reposts per user": activity(user),
    }
