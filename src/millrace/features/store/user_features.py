"""User features: what a user did at several grains of time, when, to whom; and what is done to their posts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from millrace.base.actions import NEGATIVE, Action, ActionSpace
from millrace.base.ids import Int64Array
from millrace.base.int_table import Int32Array
from millrace.features.store.counting import FLOAT, decayed, windowed
from millrace.features.store.feature import Feature, FeatureRows, FeatureTable
from millrace.features.store.post_kernels import write_decayed
from millrace.stores.decayed_rows import Float32Array
from millrace.stores.engagement_config import EngagementConfig
from millrace.stores.histories import History
from millrace.stores.profiles import MAX_INTERESTS, MAX_LANGUAGES

if TYPE_CHECKING:
    from millrace.stores.state import State

_DAY_MS: Final = 86_400_000
_HOUR_MS: Final = 3_600_000
N_HOURS: Final = 24
N_LIKED: Final = 8
N_NEWEST: Final = 50

_LOOKS: Final = frozenset({Action.DWELL, Action.DWELL_TIME, Action.COMPLETE, Action.NOT_DWELLED})

GRAINS: Final = ("newest_50", "days_7", "days_30", "long_term")
"""Histories: the newest 50 entries, those of the last 7 and 30 days, and all that is kept."""

SCALARS: Final = (
    ("n_following", "event", "follow_graph", "how many the user follows"),
    ("n_followers", "event", "follow_graph", "how many follow the user"),
    ("is_verified", "event", "profiles", "1: the account is verified"),
    ("account_age_d", "request", "profiles", "days since the user was first heard of"),
    ("n_history", "event", "engagements.histories", "entries of the history that is kept"),
    ("n_deliberate", "event", "engagements.histories", "of those, what is more than looking"),
    ("n_authors", "event", "engagements.histories", "different authors in the history"),
    ("hours_since_newest", "request", "engagements.histories", "hours since the newest entry; 0 where there is none"),
    ("mean_dwell_s", "event", "engagements.histories", "mean of the longest dwells, seconds"),
    ("n_live_posts", "event", "posts", "posts of the user's that a source may return"),
)
"""Name, freshness, store, meaning; a float32 each."""

_ID: Final = np.dtype(np.int64)
_CODE: Final = np.dtype(np.int32)


class UserHistories(NamedTuple):
    """One user's history at the grains of `GRAINS`, each as `Histories.history` gives it."""

    newest_50: History
    days_7: History
    days_30: History
    long_term: History


def histories_of(history: History, now_ms: int) -> UserHistories:
    """Return the grains of a history as of ``now_ms``; all are parts of it, in its order (as entries were folded)."""
    return UserHistories(
        _part(history, np.arange(max(len(history.times_ms) - N_NEWEST, 0), len(history.times_ms))),
        _since(history, now_ms - 7 * _DAY_MS),
        _since(history, now_ms - 30 * _DAY_MS),
        history,
    )


def _since(history: History, since_ms: int) -> History:
    return _part(history, np.flatnonzero(history.times_ms > since_ms))


def _part(history: History, places: npt.NDArray[np.intp]) -> History:
    columns: list[Any] = [column[places] for column in history]
    return History(*columns)


def user_table(config: EngagementConfig, actions: ActionSpace) -> FeatureTable:
    """Return the declarations."""
    names = actions.names
    grains = zip(
        GRAINS,
        ("the newest 50 entries of the history", "the last 7 days", "the last 30 days", "all that is kept"),
        strict=True,
    )
    features = [
        *windowed("user", "what the user did", config.windows_ms, actions),
        *windowed("author", "what was done to the user's posts", config.windows_ms, actions),
        *decayed("author", "what was done to the user's posts", config.author_half_lives_ms, actions),
        *(
            Feature(
                f"history_counts_{grain}",
                FLOAT,
                (len(names),),
                "engagements.histories",
                "request" if grain.startswith("days") else "event",
                f"entries per action in {what}",
                names,
            )
            for grain, what in grains
        ),
        Feature(
            "active_hours",
            FLOAT,
            (N_HOURS,),
            "engagements.histories",
            "event",
            "share of the history's entries by hour of the day, UTC",
            tuple(f"{hour:02d}" for hour in range(N_HOURS)),
        ),
    ]
    for name, freshness, source, doc in SCALARS:
        features.append(Feature(name, FLOAT, (), source, freshness, doc))  # type: ignore[arg-type]
    liked = "in the history, most liked first; 0 none"
    features.extend(
        (
            Feature("languages", _CODE, (MAX_LANGUAGES,), "profiles", "event", "language codes, as told; 0 none"),
            Feature("interests", _CODE, (MAX_INTERESTS,), "profiles", "event", "topic codes, as told; 0 none"),
            Feature("liked_topics", _CODE, (N_LIKED,), "posts", "event", f"topic codes of live posts {liked}"),
            Feature("liked_authors", _ID, (N_LIKED,), "engagements.histories", "request", f"inside ids {liked}"),
        )
    )
    return FeatureTable(tuple(features))


class UserFeatures:
    """Reads user features from the stores of one process.

    Parameters
    ----------
    state
        The stores, at whatever log offset they stand: what they hold is the point in time of the answer.
    config, actions
        What the stores were made with.
    """

    def __init__(self, state: State, config: EngagementConfig, actions: ActionSpace) -> None:
        self._state = state
        self._actions = actions
        self._config = config
        self.table = user_table(config, actions)

    def histories(self, user_id: int, now_ms: int) -> UserHistories:
        """Return what a user did, at every grain."""
        return histories_of(self._state.engagements.histories.history(user_id), now_ms)

    def read(self, user_ids: Int64Array, now_ms: int) -> FeatureRows:
        """Return the features of users as of ``now_ms``; never from events beyond the stores' log offset.

        Parameters
        ----------
        user_ids
            Shape (n,), int64.
        now_ms
            The moment as of which ages are told, counters fade and histories are cut.
        """
        user_ids = np.ascontiguousarray(user_ids, dtype=np.int64)
        state, n, engagements = self._state, len(user_ids), self._state.engagements
        dense = np.zeros((n, self.table.n_dense), dtype=np.float32)
        at = 0
        for kind in ("users", "authors"):
            sums = engagements.windows.read(kind, user_ids, now_ms)
            width = sums.shape[1] * sums.shape[2]
            dense[:, at : at + width] = sums.reshape(n, width)
            at += width
        write_decayed(dense, at, *engagements.counters.author_rows(user_ids), now_ms)
        columns = {
            feature.name: np.zeros((n, *feature.shape), dtype=feature.dtype)
            for feature in self.table
            if not feature.is_dense
        }
        following, followers = state.follow_graph.n_following(user_ids), state.follow_graph.n_followers(user_ids)
        is_known = state.profiles.known(user_ids)
        scalars = self.table.place(SCALARS[0][0]).start
        for row, user_id in enumerate(user_ids.tolist()):
            profile = state.profiles.profile(user_id)
            history = self._write_history(dense[row], user_id, now_ms)
            dense[row, scalars : scalars + len(SCALARS)] = (
                following[row],
                followers[row],
                profile.is_verified,
                max(now_ms - profile.created_ms, 0) / _DAY_MS if profile.created_ms else 0.0,
                len(history.times_ms),
                np.count_nonzero(~np.isin(history.actions, list(_LOOKS))),
                len(np.unique(history.author_ids[history.author_ids != 0])),
                max(now_ms - int(history.times_ms.max()), 0) / _HOUR_MS if history else 0.0,
                history.dwell_ms[history.dwell_ms > 0].mean() / 1_000.0 if history.dwell_ms.any() else 0.0,
                len(state.posts.rows_of(user_id)),
            )
            columns["languages"][row, : len(profile.languages)] = profile.languages
            columns["interests"][row, : len(profile.interests)] = profile.interests
            topics, authors = self._liked_topics(history), self._liked_authors(user_id, history, now_ms)
            columns["liked_topics"][row, : len(topics)] = topics
            columns["liked_authors"][row, : len(authors)] = authors
        return FeatureRows(self.table, user_ids, is_known, dense, columns)

    def _write_history(self, row: Float32Array, user_id: int, now_ms: int) -> History:
        """Write what is told of a history; return all of it."""
        grains = self.histories(user_id, now_ms)
        for grain, history in zip(GRAINS, grains, strict=True):
            counts = np.bincount(history.actions, minlength=len(self._actions))
            row[self.table.place(f"history_counts_{grain}")] = counts
        history = grains.long_term
        hours = np.bincount(history.times_ms // _HOUR_MS % N_HOURS, minlength=N_HOURS)
        row[self.table.place("active_hours")] = hours / max(len(history.times_ms), 1)
        return history

    def _liked_topics(self, history: History) -> Int32Array:
        """Return the topics most often met in what was liked, as far as those posts are live; ties by code."""
        liked = ~np.isin(history.actions, [*_LOOKS, *NEGATIVE])
        posts = self._state.posts
        rows = posts.find(history.post_ids[liked])
        codes, counts = np.unique(posts.gather(rows[rows >= 0]).topics, return_counts=True)
        codes, counts = codes[codes > 0], counts[codes > 0]
        return codes[np.lexsort((codes, -counts))][:N_LIKED].astype(np.int32)

    def _liked_authors(self, user_id: int, history: History, now_ms: int) -> Int64Array:
        """Return the authors most liked, by the one definition of affinity; ties by id."""
        authors = np.unique(history.author_ids[history.author_ids != 0])
        liking = self._state.engagements.histories.author_affinity(user_id, authors, now_ms)
        authors, liking = authors[liking > 0], liking[liking > 0]
        return authors[np.lexsort((authors, -liking))][:N_LIKED]
