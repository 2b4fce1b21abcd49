"""`LiveTraffic`: pages, looks and actions of a feed whose law is known, predicted by rankers of known quality."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

from millrace.base.actions import Action, ActionSpace
from millrace.base.ids import IdHasher, IdKind
from millrace.events.envelope import AnyEvent
from millrace.events.feature_events import FeaturesLogged
from millrace.events.packed import pack_arrays
from millrace.features.encoding.candidates import CandidateInputs, dense_fields, schema_hash
from millrace.features.encoding.history import N_HISTORY_DENSE, HistoryTokens
from millrace.features.encoding.logged import SERVED, LoggedRows, row_arrays, viewer_arrays
from millrace.features.encoding.viewers import PROFILE_DENSE, ViewerInputs
from millrace.testing.builders import NOW_MS, an_engagement, an_event, an_impression

Float64Array = npt.NDArray[np.float64]

BASES: Final = {Action.LIKE: 0.1, Action.DWELL: 0.35, Action.CLICK: 0.12, Action.REPOST: 0.04, Action.REPLY: 0.03}
"""How often each action is done."""

ACTIONS: Final = ActionSpace()
_READ_MS: Final = 8_000
_GLANCED_MS: Final = 4_000

Predict = Callable[[Float64Array, np.random.Generator], Float64Array]
"""The true log-odds of rows to what a ranker predicts for them, as probabilities; both shape (n, n_heads)."""


def sigmoid(z: Float64Array) -> Float64Array:
    """Return probabilities of log-odds."""
    p: Float64Array = 1.0 / (1.0 + np.exp(-z))
    return p


def good(z: Float64Array, rng: np.random.Generator) -> Float64Array:
    """Predict well: the truth, and a little noise of one's own."""
    return sigmoid(z + rng.normal(0, 0.2, (len(z), 1)))


def fair(z: Float64Array, rng: np.random.Generator) -> Float64Array:
    """Predict as counters do: the truth, and more noise."""
    return sigmoid(z + rng.normal(0, 0.5, (len(z), 1)))


def scrambled(z: Float64Array, rng: np.random.Generator) -> Float64Array:
    """Predict each row's chances for another row."""
    return good(z, rng)[rng.permutation(len(z))]


def threefold(z: Float64Array, rng: np.random.Generator) -> Float64Array:
    """Predict in the right order, three times too much."""
    return np.minimum(3 * good(z, rng), 0.99)


def blind(z: Float64Array, rng: np.random.Generator) -> Float64Array:
    """Predict from features that are all zeros: how often each action is done, the same for everybody."""
    rates = np.full(z.shape, 1e-6)
    for action, base in BASES.items():
        rates[:, action] = base
    return rates * rng.uniform(0.999, 1.001, (len(z), 1))


class LiveTraffic:
    """Draws rows, and tells them as events of a log.

    Parameters
    ----------
    seed
        Of all that is drawn.
    n_viewers
        How many come and go.
    spread
        How much posts differ, in log-odds.
    """

    def __init__(self, seed: int, *, n_viewers: int = 300, spread: float = 0.8) -> None:
        self.rng = np.random.default_rng(seed)
        self.hasher = IdHasher()
        self.now_ms = NOW_MS
        self._n_viewers, self._spread = n_viewers, spread
        self._n_pages = 0

    def rows(self, n: int) -> tuple[Float64Array, npt.NDArray[np.float32]]:
        """Return rows' true log-odds and what happens, each shape (n, n_heads); what is not in `BASES` never does."""
        z = np.full((n, len(ACTIONS)), -20.0)
        quality = self.rng.normal(0, self._spread, n)
        for action, base in BASES.items():
            z[:, action] = np.log(base / (1 - base)) + quality
        return z, (self.rng.random(z.shape) < sigmoid(z)).astype(np.float32)

    def page(
        self,
        predict: Predict,
        *,
        model: str = "m1",
        n: int = 10,
        tilt: Callable[[npt.NDArray[np.int64]], Float64Array] | None = None,
    ) -> Iterator[tuple[int, AnyEvent]]:
        """Yield a page, its looks and its actions, with their times; ``tilt`` changes the truth by post number."""
        rng, number = self.rng, self._n_pages
        self._n_pages += 1
        self.now_ms += 1_000
        viewer, request = f"v{rng.integers(self._n_viewers)}", f"r{number}"
        posts = rng.permutation(200)[:n].astype(np.int64)
        z, _ = self.rows(n)
        deep = predict(z, rng).astype(np.float32)
        counted = fair(z, rng).astype(np.float32)
        if tilt is not None:
            z = z + tilt(posts)[:, np.newaxis]
        happens = rng.random(z.shape) < sigmoid(z)
        yield self.now_ms, self._logged(viewer, request, model, posts, deep, counted)
        for row, post in enumerate(posts.tolist()):
            at_ms = self.now_ms + 10 * row
            yield (
                at_ms,
                an_impression(
                    viewer,
                    f"p{post}",
                    dwell_ms=_READ_MS if happens[row, Action.DWELL] else _GLANCED_MS,
                    request_id=request,
                    at_ms=at_ms,
                    event_id=f"i{number}-{row}",
                ),
            )
            for action in (Action.LIKE, Action.CLICK, Action.REPOST, Action.REPLY):
                if happens[row, action]:
                    name = action.label
                    yield (
                        at_ms + 5,
                        an_engagement(
                            viewer,
                            f"p{post}",
                            name,
                            request_id=request,
                            at_ms=at_ms + 5,
                            event_id=f"e{number}-{row}-{name}",
                        ),
                    )

    def _logged(
        self,
        viewer: str,
        request: str,
        model: str,
        posts: npt.NDArray[np.int64],
        deep: npt.NDArray[np.float32],
        counted: npt.NDArray[np.float32],
    ) -> AnyEvent:
        one, n = self.hasher.one, len(posts)
        post_ids = np.array([one(IdKind.POST, f"p{post}") for post in posts.tolist()], dtype=np.int64)
        authors = np.array([one(IdKind.USER, f"a{post % 20}") for post in posts.tolist()], dtype=np.int64)
        dense = self.rng.integers(90, 110, (n, len(dense_fields(ACTIONS)))).astype(np.uint8)
        rows = LoggedRows(
            post_ids=post_ids,
            inputs=CandidateInputs(post_ids, authors, np.zeros(n, dtype=np.uint8), dense),
            predictions=deep,
            baseline=counted,
            scores=np.zeros(n, dtype=np.float32),
            propensities=np.ones(n, dtype=np.float32),
            stages=np.full(n, SERVED, dtype=np.uint8),
        )
        history = HistoryTokens(
            post_ids=np.zeros(0, dtype=np.int64),
            author_ids=np.zeros(0, dtype=np.int64),
            actions=np.zeros(0, dtype=np.uint64),
            dense=np.zeros((0, N_HISTORY_DENSE), dtype=np.uint8),
            surfaces=np.zeros(0, dtype=np.uint8),
            newest_ms=0,
        )
        nobody = ViewerInputs(
            one(IdKind.USER, viewer),
            history,
            languages=np.zeros(4, dtype=np.uint8),
            bio=np.zeros(64, dtype=np.uint16),
            dense=np.zeros(len(PROFILE_DENSE), dtype=np.uint8),
        )
        payload = FeaturesLogged(
            request_id=request,
            viewer_id=viewer,
            pipeline="home",
            schema=schema_hash(ACTIONS),
            models={"ranker": model},
            arrays=pack_arrays({**viewer_arrays(nobody), **row_arrays(rows)}),
        )
        return an_event(payload, at_ms=self.now_ms, event_id=f"features-{request}")
