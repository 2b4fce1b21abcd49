"""Checks without a change to find: the same bytes again, no effect where there is none, no skill without labels."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from millrace.app.settings import load_settings
from millrace.app.simulation.homes import START_MS
from millrace.app.simulation.run import RunSpec, run, run_home
from millrace.app.simulation.validation.check import Bench, Check
from millrace.app.wiring import build_log
from millrace.flywheel.leaks import find_leaks, shuffle_control
from millrace.flywheel.metrics import auc
from millrace.simulator.config import WorldConfig
from millrace.simulator.encounters import Slates
from millrace.simulator.judge.aa import aa_p_values, uniformity
from millrace.simulator.mechanisms.situation import N_FRIENDLY
from millrace.simulator.policies import Policy
from millrace.simulator.world import World

HOME: Final = Policy(name="home")
_LOOKS: Final = 1_200_000
_MIN_POSITIVES: Final = 20_000
_BATCH: Final = 4_096


def determinism(bench: Bench) -> Check:
    """The same seed gives the same bytes, whatever the number of processes."""
    world = WorldConfig(size="tiny", seed=bench.world.seed, mechanism=bench.world.mechanism)
    digests = {}
    for n_processes in (1, 2, 3):
        folder = bench.folder / f"determinism-{n_processes}"
        spec = RunSpec(
            folder=str(folder),
            worlds=str(bench.folder / "worlds"),
            world=world,
            policies=(HOME,),
            hours=6,
            regret_frac=0.2,
        )
        run(spec, n_processes)
        digests[str(n_processes)] = run_digest(folder)
        bench.on_progress("determinism", n_processes / 3)
    same = len(set(digests.values())) == 1
    return Check(
        name="1. determinism",
        passed=same,
        number=f"log and records of 1, 2 and 3 processes: {'the same bytes' if same else 'not the same bytes'}",
        figures={"digest_by_processes": digests},
    )


def run_digest(folder: Path) -> str:
    """Return a digest of a run's log and records: every event and every figure."""
    digest = hashlib.blake2b(digest_size=16)
    log = build_log(load_settings(run_home(folder)))
    consumer = log.subscribe("digest", start=log.begin())
    while len(records := consumer.poll(10_000)):
        for data in records.data:
            digest.update(data)
    consumer.close()
    log.close()
    for path in sorted((folder / "records").glob("*.parquet")):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def same_against_same(bench: Bench) -> Check:
    """A/A: p-values of random splits of one run are uniform."""
    (run_,) = bench.runs("A/A", (HOME,))
    found = {}
    for measure in ("value", "satisfaction"):
        for per_page in (False, True):
            result = uniformity(aa_p_values(run_, measure, per_page=per_page, n_splits=1_000, seed=7))
            found[f"{measure} {'per page' if per_page else 'per person'}"] = result
    worst = min(result.p_value for result in found.values())
    return Check(
        name="2. A/A",
        passed=worst > 0.01,
        number=f"smallest Kolmogorov-Smirnov p over 4 measures x 1,000 splits: {worst:.3f} (above 0.01)",
        figures={
            name: {"ks_p": r.p_value, "rejected_frac": r.rejected_frac, "statistic": r.statistic}
            for name, r in found.items()
        },
    )


def negative_controls(bench: Bench) -> Check:
    """Shuffled labels show no skill, and a feature that knows the future trips the alarm."""
    is_positive, truth, viewer, future = _looks(bench.world)
    n_positive = int(is_positive.sum())
    control = shuffle_control("any positive action", is_positive, truth)
    scores = {"truth": truth, "honest": truth * np.random.default_rng(1).lognormal(0, 0.5, len(truth)), "leak": future}
    leaks = find_leaks(scores, is_positive, viewer, ceiling=truth)
    caught = {leak.score for leak in leaks}
    off = abs(control.auc - 0.5)
    return Check(
        name="4. negative controls",
        passed=off <= 0.005 and n_positive >= _MIN_POSITIVES and caught == {"leak"},
        number=f"shuffled AUC {control.auc:.4f} at {n_positive:,} positives (at least {_MIN_POSITIVES:,}); "
        f"alarm for: {', '.join(sorted(caught))}",
        figures={
            "shuffled_auc": control.auc,
            "n_positive": n_positive,
            "true_auc": auc(is_positive, truth),
            "leak_auc": auc(is_positive, future),
            "alarms": [str(leak) for leak in leaks],
        },
    )


def _looks(config: WorldConfig) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return labels, true probabilities, viewers and a leaking counter of many looks at random posts.

    The counter is the viewer's affinity to the author as of the *end* of the log: the look's own reaction and later
    ones are among what it counts. As of the moment it would be an honest feature; read too late it is a classic leak.
    """
    world = World(replace_seed(config), START_MS)
    for _ in world.history():
        pass
    rng = np.random.default_rng(config.seed)
    live = np.flatnonzero(world.posts["created_ms"] > START_MS - 24 * 3_600_000)
    people = np.flatnonzero(world.joined_ms <= START_MS)
    labels, truths, viewers, rows = [], [], [], []
    for start in range(0, _LOOKS, _BATCH):
        n = min(_BATCH, _LOOKS - start)
        viewer, row = rng.choice(people, n), rng.choice(live[:2_000], n)
        page = np.arange(n)
        slates = Slates(
            viewer=viewer,
            row=row,
            page=page,
            position=np.zeros(n, dtype=np.int64),
            began_ms=np.full(n, START_MS),
            occasion_key=page + start,
        )
        looks = world.encounters.look(slates)
        labels.append(looks.did[:, :N_FRIENDLY].any(axis=1))
        truths.append(looks.response.probs[:, :N_FRIENDLY].sum(axis=1))
        viewers.append(viewer)
        rows.append(row)
        world.memory.meet(viewer, row)  # another occasion, another draw
    is_positive, row = np.concatenate(labels), np.concatenate(rows)
    pair = np.concatenate(viewers) * world.people.n_users + world.posts["author"][row]
    _, group = np.unique(pair, return_inverse=True)
    future = np.bincount(group, weights=is_positive)[group]
    return is_positive, np.concatenate(truths), np.concatenate(viewers), future


def replace_seed(config: WorldConfig) -> WorldConfig:
    """Return the same world under the seed of the controls: they must not share luck with the runs."""
    return msgspec.structs.replace(config, seed=config.seed + 1_000)
