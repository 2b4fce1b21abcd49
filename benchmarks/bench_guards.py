"""How long a bad ranker serves: from its promotion to the last page that it makes, the guards alone against it.

A running server (two workers, near-line process, guards as they are by default) is asked for pages at a steady rate by
ever new viewers, who look at every post and act. What they do is drawn from what a *good* ranker predicts for the very
post, as the page's own log (`FeaturesLogged`) tells: that ranker is right, by construction. Each faulty ranker is the
good one with its heads spoiled in a way that can be undone, so that the truth is known while it serves, too:

- ``threefold``: log-odds of all heads 1.4 higher, three times as many likes as there are;
- ``reversed``: what is liked most is ranked last; as many likes as there are;
- ``mixed_up``: heads in another order, like for dwell and so on, as after a change of actions.

``good`` is the control: another version of the good ranker that must be left where it is for as long as the slowest
rollback took, and at least ``--control-s``. Each fault is promoted ``--rounds`` times, and each time the one ranker
before it has to come back by itself.

``equal`` is whether all faulty ones went, with the good one serving after them, no good one did, and no page failed.
``bad_s`` by fault: from `promote` to the end of the last page of the bad version (in it: until workers serve it, ten
seconds until looks count as settled, looks in a row that confirm, the swap back). The traffic decides: ``rows_per_s``.

Usage: python benchmarks/bench_guards.py [--rounds 3] [--models nano] [--posts 3000] [--rate 20]
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np

from bench_swap import send_posts
from harness import emit, note
from millrace.app import wiring
from millrace.app.commands.init import make_home
from millrace.app.model_publishing import promote
from millrace.app.settings import Settings
from millrace.base.actions import Action
from millrace.base.ids import IdHasher, IdKind
from millrace.events.feature_events import FeaturesLogged
from millrace.features.encoding.candidates import schema_hash
from millrace.features.encoding.logged import read_inputs
from millrace.flywheel.platt import logit, sigmoid
from millrace.stores.applier import decode_records
from millrace.testing.page_load import PageLoad
from millrace.testing.server_process import Connection, ServerProcess, until
from untrained_models import publish_ranker, publish_untrained, untrained_ranker

if TYPE_CHECKING:
    from millrace.models.learned_ranker import LearnedRanker

WANTED_S: Final = 60.0
PATIENCE_S: Final = 300.0
N_CONNECTIONS: Final = 4
N_WORKERS: Final = 2
LIMIT: Final = 10
SPREAD: Final = 0.8
RATES: Final = {Action.LIKE: 0.1, Action.DWELL: 0.35, Action.CLICK: 0.12, Action.REPOST: 0.04, Action.REPLY: 0.03}
ACTED: Final = tuple(RATES)
HIGHER: Final = 1.4
MIXED_UP: Final = (Action.DWELL, Action.CLICK, Action.LIKE, Action.REPLY, Action.REPOST)
_READ_MS, _GLANCED_MS = 8_000, 4_000

Heads = np.ndarray
Undo = Callable[[Heads], Heads]
"""Log-odds of the heads of `ACTED`, (n, 5), as a faulty ranker has them, to the good one's."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="of each fault")
    parser.add_argument("--models", default="nano", help="preset of the models")
    parser.add_argument("--posts", type=int, default=3_000)
    parser.add_argument("--rate", type=float, default=20.0, help="pages a second")
    parser.add_argument("--control-s", type=float, default=60.0, help="a good version must serve on for, at least")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="millrace-bench-guards-") as folder:
        bench(Path(folder), args)


def bench(folder: Path, args: argparse.Namespace) -> None:
    settings, _ = make_home(folder / "home")
    note("exporting models")
    first = publish_untrained(settings, folder / "first", args.models)
    promote(settings, first, "bench")
    overrides = ("home.deadline_ms=30000", "home.claim_timeout_ms=30000", "near_line.is_on=true", "guards.is_on=true")
    server = ServerProcess(settings.home, n_workers=N_WORKERS, overrides=overrides)
    bad_s: dict[str, list[float]] = {name: [] for name in FAULTS}
    reasons: dict[str, list[str]] = {name: [] for name in FAULTS}
    try:
        server.wait_ready(900)
        send_posts(server, args.posts)
        with (
            PageLoad(server, N_CONNECTIONS, LIMIT, args.rate) as load,
            Viewers(settings, server, args.posts) as viewers,
        ):
            until(lambda: len(viewers.seen) >= 200, PATIENCE_S)
            good = standardised(untrained_ranker(settings, args.models), np.concatenate(viewers.seen))
            first_good = publish_ranker(settings, folder / "good", good)
            promote(settings, {"ranker": first_good}, "bench")
            until(lambda: load.serves(first_good, 50), PATIENCE_S)
            began_s, n_wrong = time.perf_counter(), 0
            for number in range(args.rounds):
                for name, (spoil, undo) in FAULTS.items():
                    spoiled = publish_ranker(settings, folder / f"{name}{number}", spoil(copied(good, number)))
                    viewers.undo[spoiled] = undo
                    found = rolled_back_s(settings, load, spoiled, first_good)
                    n_wrong += found is None
                    bad_s[name].append(PATIENCE_S if found is None else found)
                    reasons[name].append(reason(settings, spoiled))
                    note(f"{name}: {bad_s[name][-1]:.1f} s, {reasons[name][-1]}")
            control_s = max(args.control_s, *(second for seconds in bad_s.values() for second in seconds))
            n_wrong += not stays(settings, load, publish_ranker(settings, folder / "twin", copied(good, 99)), control_s)
            pages = [page for page in load.pages if page.began_s > began_s]
    finally:
        server.stop()
    n_failed = sum(bool(page.problem) or page.n_posts < LIMIT for page in pages)
    n_rows, took_s = sum(page.n_posts for page in pages), pages[-1].ended_s - pages[0].began_s
    everything = np.array([second for seconds in bad_s.values() for second in seconds])
    emit(
        "guards",
        equal=n_wrong == 0 and n_failed == 0,
        ratio={"wanted": WANTED_S / float(everything.max())},
        bad_s={name: float(np.median(seconds)) for name, seconds in bad_s.items()},
        bad_slowest_s=float(everything.max()),
        guards={name: sorted({reason.partition(":")[0] for reason in found}) for name, found in reasons.items()},
        control_s=control_s,
        rows_per_s=n_rows / took_s,
        n_rollbacks=len(everything),
        n_pages=len(pages),
        n_failed=n_failed,
        load=os.getloadavg()[0],
        rate_per_s=args.rate,
        models=args.models,
    )


def standardised(ranker: LearnedRanker, logits: Heads) -> LearnedRanker:
    """Return a ranker whose heads have the rates and the spread that are wanted, where they had these log-odds."""
    import torch

    mean, spread = logits.mean(axis=0), logits.std(axis=0)
    with torch.no_grad():
        for place, action in enumerate(ACTED):
            slope = SPREAD / float(spread[place])
            ranker.ranker.head.weight[action] *= slope
            ranker.ranker.head.bias[action] *= slope
            ranker.ranker.head.bias[action] += float(logit(np.array(RATES[action]))) - slope * float(mean[place])
    return ranker


def copied(ranker: LearnedRanker, number: int) -> LearnedRanker:
    """Return a copy that is another version: its heads are that much higher that nobody notices."""
    import copy

    import torch

    twin = copy.deepcopy(ranker)
    with torch.no_grad():
        twin.ranker.head.bias += 1e-4 * (number + 1)
    return twin


def threefold(ranker: LearnedRanker) -> LearnedRanker:
    ranker.ranker.head.bias.data[list(ACTED)] += HIGHER
    return ranker


def turned(ranker: LearnedRanker) -> LearnedRanker:
    head = ranker.ranker.head
    for action in ACTED:
        head.weight.data[action] *= -1
        head.bias.data[action] = 2 * float(logit(np.array(RATES[action]))) - head.bias.data[action]
    return ranker


def mixed_up(ranker: LearnedRanker) -> LearnedRanker:
    head = ranker.ranker.head
    for tensor in (head.weight.data, head.bias.data):
        tensor[list(ACTED)] = tensor[list(MIXED_UP)].clone()
    return ranker


def _unturned(heads: Heads) -> Heads:
    return 2 * logit(np.array([RATES[action] for action in ACTED])) - heads


def _unmixed(heads: Heads) -> Heads:
    return heads[:, [MIXED_UP.index(action) for action in ACTED]]


FAULTS: Final[dict[str, tuple[Callable[[LearnedRanker], LearnedRanker], Undo]]] = {
    "threefold": (threefold, lambda heads: heads - HIGHER),
    "reversed": (turned, _unturned),
    "mixed_up": (mixed_up, _unmixed),
}


def rolled_back_s(settings: Settings, load: PageLoad, spoiled: str, good: str) -> float | None:
    """Promote; return the seconds to the last page of the bad version; None where the good one did not come back."""
    registry = wiring.build_registry(settings)
    promoted_s = time.perf_counter()
    promote(settings, {"ranker": spoiled}, "bench")
    try:
        until(lambda: registry.serving().get("ranker") != spoiled, PATIENCE_S)
        until(lambda: load.serves(good, 3), PATIENCE_S)
    except TimeoutError:
        return None
    ended_s = [page.ended_s for page in load.pages if page.version == spoiled and page.began_s > promoted_s]
    return max(ended_s, default=promoted_s) - promoted_s


def stays(settings: Settings, load: PageLoad, version: str, for_s: float) -> bool:
    """Promote a good version; return whether it still serves after so many seconds."""
    registry = wiring.build_registry(settings)
    promote(settings, {"ranker": version}, "bench")
    until(lambda: load.serves(version, 3), PATIENCE_S)
    began_s = time.perf_counter()
    until(lambda: time.perf_counter() - began_s > for_s or registry.serving().get("ranker") != version, PATIENCE_S)
    return registry.serving().get("ranker") == version


def reason(settings: Settings, version: str) -> str:
    """Return why a ranker was taken away."""
    said = wiring.build_registry(settings).withdrawn().get(("ranker", version))
    return "" if said is None else said.reason


class Viewers:
    """Look at every post of every page, and act by what the good ranker predicts.

    Attributes
    ----------
    undo
        By version of a faulty ranker.
    seen
        Of each page, the log-odds of the heads of `ACTED`, (n, 5), the good ranker's.
    """

    def __init__(self, settings: Settings, server: ServerProcess, n_posts: int) -> None:
        self.undo: dict[str, Undo] = {}
        self.seen: list[Heads] = []
        self._server = server
        self._rng = np.random.default_rng(5)
        self._hasher, self._codec = IdHasher(), wiring.build_codec(settings)
        self._schema = schema_hash(wiring.build_actions(settings))
        self._posts = {self._hasher.one(IdKind.POST, f"p{number}"): f"p{number}" for number in range(n_posts)}
        log = wiring.build_log(settings, wiring.build_clock())
        topic = next(known.topic for known in self._codec.registry if known.payload is FeaturesLogged)
        self._consumer = log.subscribe("viewers", topics=(topic,), start=log.end())
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._live, name="viewers", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join(60)

    def _live(self) -> None:
        with Connection(self._server, 60) as door:
            while not self._is_over.wait(0.02):
                batch, _ = decode_records(self._consumer.poll(200), self._codec.decode)
                events = [event for page in batch.events for event in self._acts(page.payload)]
                if events:
                    status, body = door.request("/api/v1/events", json.dumps(events).encode())
                    if status != 200 or json.loads(body)["n_refused"]:  # a page that is logged twice is looked at once
                        raise RuntimeError(f"what viewers did is not taken: {status} {body[:300]!r}")

    def _acts(self, page: Any) -> list[dict[str, Any]]:
        """Return the looks and actions on a page."""
        rows = read_inputs(page, self._hasher.one(IdKind.USER, page.viewer_id), self._schema).rows
        deep = rows.predictions if rows.deep is None else rows.deep
        heads = logit(deep[:, list(ACTED)].astype(np.float64))
        heads = self.undo.get(page.models.get("ranker", ""), lambda same: same)(heads)
        self.seen.append(heads)
        happens = self._rng.random(heads.shape) < sigmoid(heads)
        of_page = {"viewer_id": page.viewer_id, "request_id": page.request_id}
        found: list[dict[str, Any]] = []
        for row, post in enumerate(rows.post_ids.tolist()):
            of_post = {**of_page, "post_id": self._posts[post]}
            did = {action: bool(happens[row, place]) for place, action in enumerate(ACTED)}
            dwell_ms = _READ_MS if did.pop(Action.DWELL) else _GLANCED_MS
            found.append({"payload": {"type": "Impression", **of_post, "dwell_ms": dwell_ms, "position": row}})
            found.extend(
                {"payload": {"type": "Engagement", **of_post, "action": action.label}} for action in did if did[action]
            )
        return found


if __name__ == "__main__":
    main()
