"""The learned feed on a world whose truth is known: predictions against it, and the closed loop beside the counters'.

One seed of one mechanism a run; everything is kept in ``--out``, so that an interrupted run goes on where it was, and
figures can be asked for again:

1. The world's history, then ``--hours`` of the counters-based feed (``millrace simulate run`` does the same).
2. Samples of its log, and the models of `millrace train` from the pages before ``--until-hour``: towers, ranker,
   pre-ranker. Nothing is chosen by what is measured here.
3. The ranker against the truth on the later pages (`millrace simulate learned`): share of the gap closed, calibration.
4. Twin worlds go on from the end of that run for ``--loop-hours`` under the counters, under the ranker, under all three
   models, and under an oracle that ranks the counters' candidates by the truth.

The equal-outputs check is of the replay: the samples' rows find their truth in the records, all of them, and the truth
closes the gap exactly. ``ratio`` holds true value a viewer over the counters' twin. Intervals are by viewer.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from harness import emit, note
from millrace.app.commands.printing import progress
from millrace.app.settings import load_settings
from millrace.app.simulation.homes import START_MS
from millrace.app.simulation.learned import learned_figures
from millrace.app.simulation.run import Hooks, RunSpec, run, run_home
from millrace.app.training import home_samples
from millrace.flywheel.sample_set import SampleSet
from millrace.simulator.config import HOUR_MS, WorldConfig
from millrace.simulator.judge.compare import twin_effect
from millrace.simulator.judge.regret import regret
from millrace.simulator.judge.utility import utility
from millrace.simulator.policies import Policy
from millrace.simulator.records import RunRecords

MIN_POSITIVES: Final = 5_000
FEEDS: Final = ("counters", "ranker", "models", "oracle")


def main() -> None:
    """Go through the steps and print the line."""
    options = _options()
    options.out.mkdir(parents=True, exist_ok=True)
    spec = RunSpec(
        folder=str(options.out / "run"),
        worlds=str(options.out / "worlds"),
        world=WorldConfig(
            size=options.size,
            mechanism=options.mechanism,
            seed=options.seed,
            history_ms=options.history_hours * HOUR_MS,
        ),
        policies=(Policy(name="counters"),),
        hours=options.hours,
        regret_frac=0.0,
    )
    with _timed("the world and its counters-based feed"):
        run(spec, 1, Hooks())
    samples = _samples(options.out, spec)
    until_ms = START_MS + int(options.until_hour * HOUR_MS)
    figures: dict[str, Any] = {"seed": options.seed, "mechanism": options.mechanism, "slates": len(samples)}
    learned = samples.take(np.flatnonzero(samples.now_ms < until_ms))
    figures["training_s"] = _train(options, learned)
    with _timed("predictions against the truth"):
        told = _judged(options.out, Path(spec.folder))
    figures["heads"] = told["heads"]
    figures["slices_within_3_percent"] = told["slices_within_3_percent"]
    value = {}
    if options.loop_hours:
        runs = {feed: _loop(options, spec, feed) for feed in FEEDS}
        figures["feeds"] = {feed: _worth(records) for feed, records in runs.items()}
        value = {feed: figures["feeds"][feed]["value_per_page"] for feed in FEEDS}
        for feed in FEEDS[1:]:
            effect = twin_effect(runs["counters"], runs[feed]).per_viewer
            figures["feeds"][feed]["value_gain"] = _range(effect.relative)
        gain = {feed: value[feed] - value["counters"] for feed in FEEDS}
        figures["share_of_oracles_gain"] = {feed: gain[feed] / gain["oracle"] for feed in ("ranker", "models")}
    ratio = {feed: value[feed] / value["counters"] for feed in value}
    emit("learned", equal=told["equal"], ratio=ratio, **figures)


def _options() -> Any:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--mechanism", default="multi", choices=("gate", "multi", "shifted"))
    parser.add_argument("--size", default="demo")
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--history-hours", type=int, default=192)
    parser.add_argument("--hours", type=float, default=98.0, help="of the counters-based feed after the history")
    parser.add_argument("--until-hour", type=float, default=92.0, help="what the models learn from ends here")
    parser.add_argument("--loop-hours", type=float, default=4.0, help="of each twin; 0: no twins")
    parser.add_argument("--epochs", type=float, default=None, help="of the ranker; default: its own")
    options = parser.parse_args()
    options.out = options.out or Path("benchmarks/out") / f"learned-{options.mechanism}-{options.seed}"
    return options


def _samples(out: Path, spec: RunSpec) -> SampleSet:
    folder = out / "samples"
    if not folder.exists():
        with _timed("samples"):
            home_samples(load_settings(run_home(Path(spec.folder))), progress).save(folder)
    return SampleSet.load(folder)


def _train(options: Any, samples: SampleSet) -> dict[str, float]:
    """Train what is not there yet; return the seconds that each training took."""
    from millrace.app.distilling import distil
    from millrace.app.retrieval_training import train_home_retrieval
    from millrace.flywheel.train_pre_ranker import PreRankerTraining
    from millrace.flywheel.train_ranker import RankerTraining, train_ranker
    from millrace.flywheel.train_retrieval import RetrievalTraining

    ranking = RankerTraining(seed=options.seed)
    if options.epochs is not None:
        ranking = msgspec.structs.replace(ranking, n_epochs=options.epochs)
    out = options.out
    retrieving, distilling = RetrievalTraining(seed=options.seed), PreRankerTraining(seed=options.seed)
    trainings: dict[str, Callable[[Path], object]] = {
        "ranker": lambda folder: train_ranker(samples, ranking, folder=folder)[1],
        "retrieval": lambda folder: train_home_retrieval(samples, retrieving, folder, progress),
        "pre_ranker": lambda folder: distil(samples, out / "ranker", distilling, folder, progress),
    }
    took_s = {}
    for name, train in trainings.items():
        told = out / f"{name}.json"
        if not told.exists():
            with _timed(f"training: {name}"):
                start_s = time.perf_counter()
                report = train(out / name)
                told.write_bytes(msgspec.json.encode({"took_s": time.perf_counter() - start_s, "report": report}))
        took_s[name] = msgspec.json.decode(told.read_bytes())["took_s"]
    return took_s


def _judged(out: Path, folder: Path) -> dict[str, Any]:
    """Return what the ranker is worth, head by head, where it had enough to learn from."""
    figures = learned_figures(folder, {"learned": out / "ranker"}, progress, samples_folder=out / "samples")
    positives = figures.rankers["learned"]
    heads, truths = {}, []
    for head in figures.judgement.heads:
        if head.prediction == "truth":
            truths.append(head.closed.value)
        if head.prediction == "learned":
            heads[head.action] = {
                "n_learned": positives[head.action],
                "closed": _range(head.closed),
                "closed_of_calibrated": _range(head.closed_calibrated),
                "calibration": _range(head.calibration),
                "auc": _range(head.auc),
            }
    slices = [
        part
        for part in figures.judgement.slices
        if part.prediction == "learned" and positives[part.action] >= MIN_POSITIVES
    ]
    within = [abs(part.calibration.value - 1.0) <= 0.03 for part in slices]
    return {
        "heads": heads,
        "slices_within_3_percent": f"{sum(within)} of {len(within)}",
        "equal": all(abs(closed - 1.0) < 1e-9 for closed in truths) and figures.n_unjudged == 0,
    }


def _loop(options: Any, spec: RunSpec, feed: str) -> RunRecords:
    """Return the records of a twin that goes on from the run under another feed."""
    models = {kind: str(options.out / kind / "served") for kind in ("ranker", "retrieval", "pre_ranker")}
    settings: dict[str, dict[str, object]] = {
        "ranker": {"home.ranker": models["ranker"]},
        "models": {f"home.{kind}": folder for kind, folder in models.items()},
    }
    policy = Policy(name=feed, feed="oracle" if feed == "oracle" else "home", settings=settings.get(feed, {}))
    twin = msgspec.structs.replace(
        spec,
        folder=str(options.out / f"loop-{feed}"),
        policies=(policy,),
        hours=options.hours + options.loop_hours,
        regret_frac=0.05,
        keeps_items=False,
        begins_with=spec.folder,
    )
    with _timed(f"closed loop: {feed}"):
        run(twin, 1, Hooks())
    return RunRecords.read(Path(twin.folder))


def _worth(records: RunRecords) -> dict[str, Any]:
    told, lost = utility(records), regret(records)
    value = told.measures["value"]
    return {
        "pages": told.n_pages,
        "value_per_page": value.page.value,
        "value_per_viewer": value.viewer.value,
        "sessions_per_viewer_day": told.sessions_per_viewer_day.value,
        "negatives_per_1000": told.negatives_per_1000.value,
        "lost_to": {stage: loss.frac.value for stage, loss in lost.stages.items()},
    }


def _range(estimate: Any) -> list[float]:
    return [round(number, 4) for number in (estimate.value, estimate.low, estimate.high)]


@contextmanager
def _timed(what: str) -> Iterator[None]:
    start_s = time.perf_counter()
    note(f"{what} ...")
    yield
    note(f"{what}: {time.perf_counter() - start_s:.0f} s")


if __name__ == "__main__":
    main()
