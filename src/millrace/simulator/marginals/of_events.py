"""`marginals_of`: every quantity that a log can show, from its collected columns."""

from __future__ import annotations

from typing import Final

import numpy as np

from millrace.base.actions import DERIVED, NEGATIVE
from millrace.simulator.marginals.attention import by_position, is_answered, pages_of, popularity
from millrace.simulator.marginals.cascades import chains
from millrace.simulator.marginals.collected import NONE, ORIGINAL, QUOTE, REPLY, REPOST, Collected
from millrace.simulator.marginals.following import following
from millrace.simulator.marginals.statistics import (
    Column,
    Int64Array,
    Marginals,
    Statistics,
    concentration,
    day_profile,
    rhythm,
    spread,
)
from millrace.simulator.marginals.texts import lengths
from millrace.simulator.marginals.visits import visits

MIN_TEXTS: Final = 30
"""A language with fewer texts has no row."""

_DISLIKES: Final = tuple(action.label for action in sorted(NEGATIVE - DERIVED))


def marginals_of(log: Collected) -> Marginals:
    """Return the marginals of a log, in the order of a table; what it holds nothing about is absent."""
    follower, followee = log.edges()
    found = following(follower, followee, len(log.users), is_mutual=False)
    found |= chains(*_chains(log), follower, followee)
    found |= _attention(log)
    found |= _clicks(log)
    found |= _activity(log)
    found |= _texts(log)
    found |= _times(log)
    return {quantity: statistics for quantity, statistics in found.items() if statistics}


def activity(owner: Int64Array) -> Statistics:
    """Return how unequally rows are spread over those who have any."""
    _, n = np.unique(owner, return_counts=True)
    return {**spread(n), **concentration(n)} if len(n) else {}


def _chains(log: Collected) -> tuple[Int64Array, Int64Array, Int64Array]:
    """Return chain, person and moment: originals and replies, and whoever reposted or quoted them, at any remove."""
    post, kind, parent = log.written["post"], log.written["kind"], log.written["parent"]
    root = np.arange(len(log.posts))
    passes_on = ((kind == REPOST) | (kind == QUOTE)) & (parent != NONE)
    root[post[passes_on]] = parent[passes_on]
    while not np.array_equal(further := root[root], root):  # a repost of a quote of …: halves the way each time
        root = further
    begins_here = np.zeros(len(log.posts), dtype=np.bool_)
    begins_here[post[~passes_on]] = True
    rows = np.flatnonzero(begins_here[root[post]])  # what began before the log has no beginner
    return root[post[rows]], log.written["author"][rows], log.written["time_ms"][rows]


def _attention(log: Collected) -> Marginals:
    originals = log.written["post"][log.written["kind"] == ORIGINAL]
    n_posts = len(log.posts)
    liked = log.engagements["post"][log.did("like")]
    answered = log.written["parent"][log.written["kind"] == REPLY]
    found = {"likes per post": popularity(np.bincount(liked, minlength=n_posts)[originals])}
    found["replies per post"] = popularity(np.bincount(answered[answered != NONE], minlength=n_posts)[originals])
    n_shown = len(log.impressions)
    found["impressions per post"] = popularity(np.bincount(log.impressions["post"], minlength=n_posts)[originals])
    if n_shown:
        found["actions"] = {
            "likes per impression": len(liked) / n_shown,
            "negative per 1,000 impressions": 1000.0 * len(log.did(*_DISLIKES)) / n_shown,
            "engagements per impression": len(log.engagements) / n_shown,
        }
    return found


def _clicks(log: Collected) -> Marginals:
    viewer, post, time_ms = (log.impressions[name] for name in ("viewer", "post", "time_ms"))
    position = log.impressions["position"]
    page = pages_of(viewer, time_ms, position, log.impressions["request"])

    def rates(action: str) -> Statistics:
        rows = log.did(action)
        acted = tuple(log.engagements[name][rows] for name in ("viewer", "post", "time_ms"))
        return by_position(page, position, is_answered((viewer, post, time_ms), (acted[0], acted[1], acted[2])))

    return {"click rate by position": rates("click"), "like rate by position": rates("like")}


def _activity(log: Collected) -> Marginals:
    viewers, authors = np.unique(log.impressions["viewer"]), np.unique(log.written["author"])
    actors = np.unique(log.engagements["viewer"])
    kind, author = log.written["kind"], log.written["author"]
    found = {
        "impressions per user": activity(log.impressions["viewer"]),
        "engagements per user": activity(log.engagements["viewer"]),
        "clicks per user": activity(log.engagements["viewer"][log.did("click")]),
        "reposts per user": activity(author[(kind == REPOST) | (kind == QUOTE)]),
        "original posts per author": activity(author[kind == ORIGINAL]),
    }
    if len(viewers):
        found["readers"] = {
            "who never post": float((~np.isin(viewers, authors)).mean()),
            "who neither post nor act": float((~np.isin(viewers, np.union1d(authors, actors))).mean()),
        }
    return found


def _texts(log: Collected) -> Marginals:
    kind, n_chars, n_words = (log.written[name] for name in ("kind", "n_chars", "n_words"))
    language = log.language_of_posts()[log.written["post"]]
    is_original = kind == ORIGINAL
    is_reply = kind == REPLY

    def of(name: str, rows: Column, tag: str = "") -> Marginals:
        return lengths(name, n_chars[rows], n_words[rows], tag)

    found = of("original", is_original) | of("reply", is_reply)
    for tag, code in sorted(log.languages.items()):
        if np.count_nonzero(rows := is_original & (language == code)) >= MIN_TEXTS:
            found |= of("original", rows, tag)
    return found


def _times(log: Collected) -> Marginals:
    viewer, seen_ms = log.impressions["viewer"], log.impressions["time_ms"]
    actor, acted_ms = log.engagements["viewer"], log.engagements["time_ms"]
    found = visits(viewer, seen_ms)
    found["engagements per visit"] = visits(actor, acted_ms).get("posts per visit", {})
    found["gaps between engagements of a user"] = rhythm(actor, acted_ms)
    is_original = log.written["kind"] == ORIGINAL
    written_ms = log.written["time_ms"][is_original]
    found["gaps between posts of an author"] = rhythm(log.written["author"][is_original], written_ms)
    found["hours of the day, seen"] = day_profile(seen_ms)
    found["hours of the day, posted"] = day_profile(written_ms)
    return found
