"""Whether offline metrics rank variants of the ranker as true online utility does.

One run shows people the home feed's candidates in random order, and at each page every variant says, from the same
state, what it would have scored the posts that were shown. From that log come the offline metrics. Then every variant
serves the same world by itself, and its true utility is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from millrace.app.simulation.local_client import LocalFeedClient
from millrace.app.simulation.run import Hooks, RunSpec, run
from millrace.app.simulation.validation.check import Bench, Check
from millrace.flywheel.metrics import auc, ndcg_of_slates
from millrace.simulator.client import FeedClient
from millrace.simulator.judge.extras import require
from millrace.simulator.judge.utility import utility
from millrace.simulator.loop import Round
from millrace.simulator.policies import Policy
from millrace.simulator.world import World

_SAMPLED: Final = 0.25
_K: Final = 10


def variants(n: int) -> tuple[Policy, ...]:
    """Return variants of the ranker: what it believes in, turned up and down, and some that are spoilt."""
    turned: tuple[tuple[str, str, tuple[float, ...]], ...] = (
        ("post-strength", "params.rates.post_strength_views", (5, 400, 5_000)),
        ("author-strength", "params.rates.author_strength_views", (10, 2_000, 50_000)),
        ("affinity-gain", "params.rates.affinity_gain", (0, 0.5, 8, 40)),
        ("follow-affinity", "params.rates.follow_affinity", (0, 10)),
        ("proof-affinity", "params.rates.proof_affinity", (0, 5)),
    )
    named: list[tuple[str, dict[str, object]]] = [("as-is", {})]
    named += [(f"{name}-{value:g}", {key: value}) for name, key, values in turned for value in values]
    named.append(("likes-alone", {"params.value.weight_reply": 0, "params.value.weight_copy_link": 0}))
    named.append(("clicks-alone", {"params.value.weight_like": 0, "params.value.weight_click": 20}))
    named.append(("dwell-alone", {"params.value.weight_dwell_time": 5}))
    named.append(("no-strangers", {"params.network.out_of_network_factor": 0.05}))
    policies = [Policy(name=name, settings=settings) for name, settings in named]
    policies.append(Policy(name="spoilt-reversed", feed="reversed"))
    policies.append(Policy(name="spoilt-constant", feed="constant"))
    return (*policies[: n - 2], *policies[-2:]) if n < len(policies) else tuple(policies)


def offline_and_online(bench: Bench) -> Check:
    """Compare offline metrics with true online utility over variants of the ranker."""
    policies = variants(bench.n_variants)
    offline = _offline(bench, policies)
    runs = bench.runs("variants online", *((policy,) for policy in policies), hours=max(bench.hours / 2, 2.0))
    found = [utility(run) for run in runs]
    online = {measure: [one.measures[measure].page.value for one in found] for measure in ("value", "satisfaction")}
    spearman = require("scipy.stats").spearmanr
    correlations = {
        f"{metric} / {measure}": float(spearman(offline[metric], values).statistic)
        for metric in offline
        for measure, values in online.items()
    }
    text = ", ".join(f"{name} {rho:+.2f}" for name, rho in correlations.items())
    return Check(
        name="5. offline metrics and online utility",
        passed=None,
        number=f"Spearman over {len(policies)} variants: {text}",
        figures={
            "spearman": correlations,
            "variants": [policy.name for policy in policies],
            "offline": offline,
            "online": online,
        },
    )


def _offline(bench: Bench, policies: Sequence[Policy]) -> dict[str, list[float]]:
    """Return AUC and NDCG of each variant's scores on one log of posts shown in random order."""
    log = _ShadowLog(policies)
    spec = RunSpec(
        folder=str(bench.folder / f"shadow-{len(policies)}-{bench.world.mechanism}-{bench.world.seed}"),
        worlds=str(bench.folder / "worlds"),
        world=bench.world,
        policies=(Policy(name="shuffled", feed="shuffled"),),
        hours=max(bench.hours / 2, 2.0),
        regret_frac=0.0,
        keeps_items=False,
    )
    cache = Path(spec.folder) / "shadow.npz"
    if not cache.exists():
        hooks = Hooks(
            on_progress=lambda p: bench.on_progress("variants offline", p.n_slices / p.n_slices_in_all),
            shadows=tuple(policies),
            on_round=log.hear,
        )
        run(spec, 1, hooks)
        np.savez(cache, **log.arrays())  # type: ignore[arg-type]
    with np.load(cache) as arrays:
        return _metrics({name: arrays[name] for name in arrays.files}, len(policies))


class _ShadowLog:
    """Collects what every variant would have scored, and what was done."""

    def __init__(self, policies: Sequence[Policy]) -> None:
        self._n = len(policies)
        self._scores: list[np.ndarray[Any, Any]] = []
        self._value: list[np.ndarray[Any, Any]] = []
        self._acted: list[np.ndarray[Any, Any]] = []
        self._slate: list[np.ndarray[Any, Any]] = []
        self._n_slates = 0

    def hear(self, round_: Round, world: World, client: FeedClient) -> None:
        """Take a round, of which some pages are scored by everybody."""
        if not isinstance(client, LocalFeedClient):
            return
        looks = round_.looks
        realised = world.encounters.realised(looks).value
        rng = np.random.default_rng(len(self._slate) + self._n_slates)
        for page in np.flatnonzero(rng.random(len(round_.pages)) < _SAMPLED).tolist():
            rows = np.flatnonzero((looks.slates.page == page) & looks.is_examined)
            if not len(rows):
                continue
            posts = [round_.pages[page].post_ids[p] for p in looks.slates.position[rows].tolist()]
            self._scores.append(client.shadow_scores(round_.requests[page], posts))
            self._value.append(realised[rows])
            self._acted.append(np.asarray(looks.did[rows].any(axis=1)))
            self._slate.append(np.full(len(rows), self._n_slates))
            self._n_slates += 1

    def arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        """Return everything, one row a look."""
        return {
            "scores": np.concatenate(self._scores, axis=1),
            "value": np.concatenate(self._value),
            "acted": np.concatenate(self._acted),
            "slate": np.concatenate(self._slate),
        }


def _metrics(arrays: dict[str, np.ndarray[Any, Any]], n_variants: int) -> dict[str, list[float]]:
    acted = arrays["acted"]
    found: dict[str, list[float]] = {"AUC": [], f"NDCG@{_K}": []}
    for variant in range(n_variants):
        scores = arrays["scores"][variant]
        known = np.isfinite(scores)
        found["AUC"].append(auc(acted[known], scores[known]))
        values, _ = ndcg_of_slates(acted[known], scores[known], arrays["slate"][known], _K)
        found[f"NDCG@{_K}"].append(float(values.mean()) if len(values) else float("nan"))
    return found
