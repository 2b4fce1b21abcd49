"""What the near-line layer is worth over scores that grow stale, on the log of a simulated, drifting world.

Reads a home of ``millrace simulate run`` (or any other): its `FeaturesLogged` pages with the looks and actions on them.
The first ``--train-hours`` teach a scorer, a logistic regression a head on everything that a page was logged with (the
dense features, and the counters' log-odds): it stands for a ranker that was trained then and never again. All later
pages are predicted by it alone, by it and calibration, and by it and calibration and the fast layer, each page before
anything of it is learned, as in service. Rows count with the labels they end up with.

``by_hour`` is the normalised entropy of an action after so many hours (lower is better; 1: no better than the base
rate), ``gain`` what the gated prediction takes off the stale scorer's over all hours, ``events_per_s`` how many looks
and actions one core learns from. ``equal``: the gated prediction is never worse than the stale one by more than 0.1 %.

Usage: python benchmarks/bench_near_line.py --home OUT/NAME/home [--train-hours 8] [--every 4]
"""

from __future__ import annotations

import argparse
import os
import time
from collections import defaultdict
from pathlib import Path
from typing import Any, Final

import numpy as np

from harness import emit, note
from millrace.app import wiring
from millrace.app.settings import load_settings
from millrace.base.ids import IdHasher, IdKind
from millrace.base.surfaces import surface_code
from millrace.events.feature_events import FeaturesLogged
from millrace.events.feed_events import Engagement, Impression
from millrace.features.encoding.logged import read_inputs
from millrace.features.hashed_crosses import cross_slots
from millrace.flywheel.metrics import normalised_entropy
from millrace.flywheel.near_line.config import NearLineConfig
from millrace.flywheel.near_line.learner import NearLineLearner
from millrace.flywheel.near_line.pages import Page, a_page
from millrace.flywheel.platt import logit, sigmoid
from millrace.stores.applier import decode_records

HEADS: Final = ("like", "dwell", "click", "repost")
_HOUR_MS: Final = 3_600_000
_POLL: Final = 4_000


class Stale(NearLineLearner):
    """A learner whose pages are predicted by a scorer in the place of a ranker."""

    weights: np.ndarray | None = None

    def _hear_page(self, payload: FeaturesLogged) -> None:
        viewer = self._hasher.one(IdKind.USER, payload.viewer_id)
        request = self._hasher.one(IdKind.REQUEST, payload.request_id)
        logged = read_inputs(payload, viewer, self._schema)
        inputs = logged.rows.inputs
        slots = cross_slots(
            viewer, inputs.post_ids, inputs.author_ids, surface_code(payload.surface), self._config.n_slots
        )
        page = a_page(self._n_pages, "stale", request, logged, slots)
        self._n_pages += 1
        if not self._pages.add(page):
            return
        if self.weights is not None:
            page.deep = scored(self.weights, page)
            self._layer("stale").predict(page)
        for watcher in self._watchers:
            watcher.hear_page(page)


class Everything:
    """Keeps every page, with the hour it came in and the gates as they were."""

    def __init__(self) -> None:
        self.pages: list[tuple[float, Page, Any]] = []
        self.learner: Stale | None = None

    def hear_page(self, page: Page) -> None:
        """Keep a page."""
        learner = self.learner
        assert learner is not None
        layer = learner.layers.get("stale")
        is_open = None if layer is None else layer.fast_gain.is_open.copy()
        self.pages.append((learner.now_ms / _HOUR_MS, page, is_open))

    def hear_settled(self, rows: object) -> None:
        """Labels are read at the end."""


def scored(weights: np.ndarray, page: Page) -> np.ndarray:
    """Return the scorer's predictions of a page."""
    return sigmoid(design_of(page) @ weights).astype(np.float32)


def design_of(page: Page) -> np.ndarray:
    """Return what the scorer reads of a page, shape (n, n_inputs)."""
    dense = page.dense.astype(np.float64) / 64 - 1
    counted = page.deep if page.counted is None else page.counted
    return np.concatenate(
        [np.ones((len(page), 1)), dense, dense * dense, 0.2 * logit(np.clip(counted, 1e-4, 1))], axis=1
    )


def fitted(pages: list[Page], n_heads: int, heads: list[int]) -> np.ndarray:
    """Return the weights of a logistic regression a head, by Newton's method with a ridge."""
    x = np.concatenate([design_of(page)[page.is_seen] for page in pages])
    y = np.concatenate([page.labels[page.is_seen] for page in pages])
    weights = np.zeros((x.shape[1], n_heads))
    for head in heads:
        w = np.zeros(x.shape[1])
        for _ in range(8):
            p = sigmoid(x @ w)
            hessian = (x * (p * (1 - p))[:, None]).T @ x + 10.0 * np.eye(x.shape[1])
            w -= np.linalg.solve(hessian, x.T @ (p - y[:, head]) + 10.0 * w)
        weights[:, head] = w
    weights[0, [h for h in range(n_heads) if h not in heads]] = -12.0
    return weights


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, required=True, help="a home whose pages were logged with their features")
    parser.add_argument("--train-hours", type=float, default=8.0)
    parser.add_argument("--every", type=float, default=4.0, help="hours of one figure")
    args = parser.parse_args()
    settings = load_settings(args.home)
    codec, actions = wiring.build_codec(settings), wiring.build_actions(settings)
    log = wiring.build_log(settings)
    heads = [actions.code(name) for name in HEADS]
    kept, hasher = Everything(), IdHasher()
    learner = kept.learner = Stale(NearLineConfig(max_pages=1_000_000), hasher, actions, watchers=(kept,))
    topics = ("events.features", "events.impression", "events.engagement")
    consumer = log.subscribe("bench", topics=topics, start=log.begin())
    began_ms: float | None = None
    n_events, learn_s = 0, 0.0
    while len(records := consumer.poll(_POLL)):
        batch, _ = decode_records(records, codec.decode)
        for event, appended_ms in zip(batch.events, batch.appended_ms.tolist(), strict=True):
            if not isinstance(event.payload, FeaturesLogged | Impression | Engagement):
                continue
            time_ms = min(event.event_time_ms, appended_ms)
            if isinstance(event.payload, FeaturesLogged):
                began_ms = time_ms if began_ms is None else began_ms
                if learner.weights is None and time_ms - began_ms >= args.train_hours * _HOUR_MS:
                    note(f"teaching the scorer on {len(kept.pages):,} pages")
                    learner.weights = fitted([page for _, page, _ in kept.pages], len(actions), heads)
                    kept.pages.clear()
            began_s = time.process_time()
            learner.hear(time_ms, event)
            learn_s += time.process_time() - began_s
            n_events += learner.weights is not None
        if learner.weights is not None:
            learner.updates()
        else:
            learn_s = 0.0
    log.close()
    assert began_ms is not None
    first_h = began_ms / _HOUR_MS + args.train_hours
    by_hour: dict[int, list[tuple[Page, Any]]] = defaultdict(list)
    for hour, page, is_open in kept.pages:
        by_hour[int((hour - first_h) // args.every)].append((page, is_open))
    told = {f"{key * args.every:g}h": figures(pages, heads) for key, pages in sorted(by_hour.items())}
    whole = figures([pair for pages in by_hour.values() for pair in pages], heads)
    gain = {name: 1 - figure["used"] / figure["stale"] for name, figure in whole.items()}
    emit(
        "near-line",
        equal=all(value > -1e-3 for value in gain.values()),
        ratio={},
        gain=gain,
        whole=whole,
        by_hour=told,
        events_per_s=n_events / max(learn_s, 1e-9),
        load=os.getloadavg()[0],
        n_pages=len(kept.pages),
        n_rows=sum(int(page.is_seen.sum()) for _, page, _ in kept.pages),
        train_hours=args.train_hours,
    )


def figures(pairs: list[tuple[Page, Any]], heads: list[int]) -> dict[str, dict[str, float]]:
    """Return the normalised entropy of each head: stale, calibrated, with the fast layer, and as gates let it be."""
    found = {}
    for name, head in zip(HEADS, heads, strict=True):
        columns: dict[str, list[np.ndarray]] = defaultdict(list)
        for page, is_open in pairs:
            seen = page.is_seen
            base, fast = page.base[seen, head], page.fast[seen, head]
            columns["y"].append(page.labels[seen, head] > 0.5)
            columns["stale"].append(page.deep[seen, head])
            columns["calibrated"].append(page.calibrated[seen, head])
            columns["fast"].append(fast)
            columns["used"].append(fast if is_open is not None and is_open[head] else base)
        joined = {key: np.concatenate(values) for key, values in columns.items()}
        y = joined.pop("y")
        found[name] = {key: normalised_entropy(y, values) for key, values in joined.items()}
    return found


if __name__ == "__main__":
    main()
