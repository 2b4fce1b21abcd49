"""The made-up world of `run_records`: its people, posts, visits, and what is served to them, column by column."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from millrace.base.actions import Action
from millrace.simulator.mechanisms.situation import WORLD_ACTIONS
from millrace.testing.run_plan import BEGAN_MS, DAY_MS, HOUR_MS, LANGUAGES, TOPICS, RunPlan

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Frame = dict[str, npt.NDArray[Any]]

_LANGUAGE_SHARES: Final = (0.46, 0.15, 0.12, 0.11, 0.08, 0.08)
_WINDOW_MS: Final = 36 * HOUR_MS
_LIKES: Final = {Action.LIKE: 0.34, Action.CLICK: 0.18, Action.VIDEO_VIEW: 0.2, Action.REPLY: 0.045}
_RARE: Final = 0.02
_DISLIKES: Final = {
    Action.NOT_INTERESTED: 0.01,
    Action.MUTE_AUTHOR: 0.002,
    Action.BLOCK_AUTHOR: 0.0015,
    Action.REPORT: 0.001,
}


def make_users(plan: RunPlan, rng: np.random.Generator, ended_ms: int) -> Frame:
    """Return people; ``taste`` (not a column of the records) is how much a liked post is worth to each."""
    n = plan.n_users
    is_new = rng.random(n) < plan.new_frac
    # Nobody joins in the last half day: they would have no time to post or to read.
    late = BEGAN_MS + (rng.random(n) * max(ended_ms - BEGAN_MS - DAY_MS // 2, 1)).astype(np.int64)
    return {
        "user": np.arange(n, dtype=np.int32),
        "language": rng.choice(len(LANGUAGES), n, p=_LANGUAGE_SHARES).astype(np.int8),
        "joined_ms": np.where(is_new, late, BEGAN_MS - 9 * DAY_MS),
        "is_spammer": rng.random(n) < 0.01,
        "is_silent": rng.random(n) < 0.35,
        "n_following": rng.poisson(26, n).astype(np.int32),
        "n_followers": rng.poisson(26, n).astype(np.int32),
        "sessions_per_day": rng.gamma(2.0, 1.2, n).astype(np.float32),
        "arm": rng.integers(len(plan.arms), size=n).astype(np.int8),
        "taste": rng.lognormal(0.0, 0.35, n),
    }


def make_posts(plan: RunPlan, rng: np.random.Generator, users: Frame, ended_ms: int) -> Frame:
    """Return posts in order of time; authors post at heavy-tailed rates, from two days before the run at most."""
    rate = np.where(users["is_silent"], 0.0, np.minimum((1 - rng.random(plan.n_users)) ** -0.7, 12.0))
    rate[users["is_spammer"]] = 10.0
    since = np.maximum(users["joined_ms"], BEGAN_MS - 2 * DAY_MS)
    author = np.repeat(np.arange(plan.n_users), rng.poisson(rate * (ended_ms - since) / DAY_MS))
    created = since[author] + (rng.random(len(author)) * (ended_ms - since[author])).astype(np.int64)
    order = np.argsort(created, kind="stable")
    author, created = author[order], created[order]
    n = len(author)
    return {
        "post": np.arange(n, dtype=np.int64),
        "author": author.astype(np.int32),
        "created_ms": created,
        "topic": rng.integers(len(TOPICS), size=n).astype(np.int8),
        "language": users["language"][author],
        "kind": rng.choice(4, n, p=[0.7, 0.15, 0.05, 0.1]).astype(np.int8),
        "quality": rng.beta(3, 3, n).astype(np.float32),
        "is_spam": users["is_spammer"][author],
        "story": np.full(n, -1, dtype=np.int32),
    }


def make_visits(plan: RunPlan, rng: np.random.Generator, users: Frame, ended_ms: int) -> tuple[Frame, Frame]:
    """Return sessions and pages in order of time, without what is served on them."""
    since = np.maximum(users["joined_ms"], BEGAN_MS)
    left = ended_ms - HOUR_MS - since
    viewer = np.repeat(np.arange(plan.n_users), rng.poisson(users["sessions_per_day"] * np.maximum(left, 0) / DAY_MS))
    started = since[viewer] + (rng.random(len(viewer)) * left[viewer]).astype(np.int64)
    order = np.argsort(started, kind="stable")
    viewer, started = viewer[order], started[order]
    n_pages = np.minimum(rng.geometric(0.45, len(viewer)), 8)
    session = np.repeat(np.arange(len(viewer)), n_pages)
    page_no = np.arange(len(session)) - np.repeat(np.cumsum(n_pages) - n_pages, n_pages)
    sessions = {
        "session": np.arange(len(viewer), dtype=np.int64),
        "arm": users["arm"][viewer],
        "viewer": viewer.astype(np.int32),
        "started_ms": started,
        "ended_ms": started + n_pages * 120_000,
        "n_pages": n_pages.astype(np.int32),
        "mood": rng.normal(0.2, 0.1, len(viewer)).astype(np.float32),
    }
    time_ms = started[session] + page_no * 120_000
    pages = {
        "page": np.arange(len(session), dtype=np.int64),
        "request_id": np.char.add("made-up-", np.arange(len(session)).astype(np.str_)).astype(object),
        "slice_ms": time_ms // (HOUR_MS // 2) * (HOUR_MS // 2),
        "time_ms": time_ms,
        "arm": users["arm"][viewer[session]],
        "viewer": viewer[session].astype(np.int32),
        "session": session.astype(np.int64),
        "page_no": page_no.astype(np.int16),
        "n_items": np.full(len(session), plan.page_limit, dtype=np.int16),
        "n_candidates": rng.integers(300, 900, len(session)).astype(np.int32),
        "n_outcomes": (rng.random(len(session)) < 0.002).astype(np.int16),
    }
    return sessions, pages


def make_items(plan: RunPlan, users: Frame, posts: Frame, pages: Frame) -> Frame:
    """Return what is served, seen and done."""
    rng = np.random.default_rng([plan.seed, 1, plan.feed_seed])
    page = np.repeat(pages["page"], plan.page_limit)
    position = np.tile(np.arange(plan.page_limit), len(pages["page"]))
    n = len(page)
    time_ms, viewer = pages["time_ms"][page], pages["viewer"][page].astype(np.int64)
    post = _served_posts(rng, posts, time_ms)
    author = posts["author"][post].astype(np.int64)
    is_followed = rng.random(n) < 0.5
    liking = 1 / (1 + np.exp(-(2.2 * posts["quality"][post] - 1.4 + is_followed + rng.normal(0, 0.8, n))))
    liking[posts["is_spam"][post]] *= 0.1
    lifts = np.array([plan.language_lift_frac.get(language, 0.0) for language in LANGUAGES])
    lift = (1 + np.array(plan.lift_frac)[pages["arm"][page]]) * (1 + lifts[users["language"][viewer]])
    taste = users["taste"][viewer]
    examine = 0.97**position
    is_examined = rng.random(n) < examine
    true = _true(liking, np.minimum(taste, 2.0))
    newness = np.maximum(time_ms - users["joined_ms"][author], 0) / HOUR_MS
    wrong = plan.bias * (1 + np.exp(-newness / 10))[:, None] * np.exp(rng.normal(0, 0.25, true.shape))
    predicted = np.minimum(true * wrong, 1.0) if plan.has_predictions else np.full(true.shape, np.nan)
    did = (rng.random(true.shape) < true) & is_examined[:, None]
    return {
        "page": page,
        "position": position.astype(np.int16),
        "arm": pages["arm"][page],
        "viewer": pages["viewer"][page],
        "post": post,
        "author": author.astype(np.int32),
        "topic": posts["topic"][post],
        "language": posts["language"][post],
        "kind": posts["kind"][post],
        "age_ms": time_ms - posts["created_ms"][post],
        "is_followed": is_followed,
        "sources": np.where(is_followed, 1 + 2 * (rng.random(n) < 0.2), rng.integers(1, 3, n) * 2).astype(np.uint32),
        "examine": examine.astype(np.float32),
        "is_examined": is_examined,
        "liking": liking.astype(np.float32),
        "value": (liking * taste * lift).astype(np.float32),
        "satisfaction": ((2 * liking - 1) * taste * lift).astype(np.float32),
        "score": (liking + rng.normal(0, 0.2, n)).astype(np.float32),
        "dwell_ms": (rng.lognormal(1.0, 0.7, n) * 1000 * is_examined).astype(np.int32),
        "did": (did @ (1 << np.arange(len(WORLD_ACTIONS), dtype=np.int64))).astype(np.uint32),
        **{f"true_{action.label}": true[:, i].astype(np.float32) for i, action in enumerate(WORLD_ACTIONS)},
        **{f"pred_{action.label}": predicted[:, i].astype(np.float32) for i, action in enumerate(WORLD_ACTIONS)},
    }


def _served_posts(rng: np.random.Generator, posts: Frame, time_ms: Ints) -> Ints:
    """Recent posts, the better of two draws by quality: good posts are served more."""
    created = posts["created_ms"]
    first = np.searchsorted(created, time_ms - _WINDOW_MS)
    last = np.maximum(np.searchsorted(created, time_ms), first + 1)
    u = rng.random((2, len(time_ms))) ** 0.6
    one, other = np.minimum(first + (u * (last - first)).astype(np.int64), len(created) - 1)
    better: Ints = np.where(posts["quality"][one] >= posts["quality"][other], one, other)
    return better


def _true(liking: Floats, propensity: Floats) -> Floats:
    """P(action | examined) by liking, shape (n, len(WORLD_ACTIONS)); dislikes fall with it."""
    columns = [
        _DISLIKES[action] * (1 - liking) if action in _DISLIKES else _LIKES.get(action, _RARE) * liking * propensity
        for action in WORLD_ACTIONS
    ]
    return np.minimum(np.stack(columns, axis=1), 0.95)
