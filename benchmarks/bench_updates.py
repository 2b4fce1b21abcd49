"""How often a ranker should learn on in a world that drifts: never again, every 24 hours, every hour, every 10 minutes.

One seed a run; everything is kept in ``--out``, so that an interrupted run goes on where it was:

1. A world whose interests wander (``--drift``) and whose stories break often; ``--hours`` of the counters-based feed.
2. A first ranker from the pages before ``--until-hour``.
3. For each cadence the learning loop of `millrace flywheel run` (its own config and gate, `LearningLoop`) goes on over
   the later pages as they come: each row is predicted by the version that served at its time. ``everything`` is a whole
   training on all pages before the judged ones. Judged are the pages of the last ``--judged-hours``: cross-entropy
   against the true probabilities, in which there is no luck. ``recovered`` is the share of the way from ``never`` to
   ``everything`` that a cadence goes, over heads with ``--min-positives``.
4. Twin worlds go on from the run's end for ``--loop-hours`` under each cadence, updates and all (0: they do not).

The equal-outputs check is of the replay: every judged row finds its truth in the records.
"""

from __future__ import annotations

import argparse
import itertools
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from harness import emit, note
from millrace.app.commands.printing import progress
from millrace.app.flywheel_source import sample_source
from millrace.app.settings import load_settings
from millrace.app.simulation.homes import START_MS
from millrace.app.simulation.learned import true_rows
from millrace.app.simulation.run import Hooks, RunSpec, run, run_home
from millrace.app.training import home_samples
from millrace.base.clock import ManualClock
from millrace.base.errors import NoSamplesError
from millrace.flywheel.decisions import Decision, DecisionLog
from millrace.flywheel.learning_config import GateConfig, LearningConfig
from millrace.flywheel.learning_round import Keep, RoundFolder, SampleSource
from millrace.flywheel.sample_set import SampleSet
from millrace.registry.manifest import Description
from millrace.registry.registry import Registry
from millrace.simulator.config import HOUR_MS, WorldConfig
from millrace.simulator.judge.compare import twin_effect
from millrace.simulator.judge.utility import utility
from millrace.simulator.policies import Policy
from millrace.simulator.records import RunRecords

NEVER: Final = "never"
EVERYTHING: Final = "everything"
CADENCES: Final = {"24h": 24.0, "1h": 1.0, "10min": 1 / 6}
SERVED: Final = "served"


class Known:
    """Pages up to a moment, as the loop would have found them then; a `SampleSource`."""

    def __init__(self, samples: SampleSet) -> None:
        self._samples = samples
        self.known_until_ms = 0

    def n_pages(self, from_ms: int, until_ms: int) -> int:
        """Return how many pages a span has."""
        return len(self._of(from_ms, until_ms))

    def samples(self, from_ms: int, until_ms: int, keep: Keep | None = None) -> SampleSet:
        """Return the pages of a span."""
        found = self._of(from_ms, until_ms)
        if not len(found):
            raise NoSamplesError("pages", problem="none of this span", remedy="ask for a longer one")
        return self._samples.take(found if keep is None else found[keep(self._samples.now_ms[found])])

    def _of(self, from_ms: int, until_ms: int) -> npt.NDArray[np.int64]:
        now_ms = self._samples.now_ms
        return np.flatnonzero((now_ms >= from_ms) & (now_ms < min(until_ms, self.known_until_ms)))


def main() -> None:
    """Go through the steps and print the line."""
    options = _options()
    spec = RunSpec(
        folder=str(options.out / "run"),
        worlds=str(options.out / "worlds"),
        world=WorldConfig(
            size=options.size,
            mechanism=options.mechanism,
            seed=options.seed,
            history_ms=options.history_hours * HOUR_MS,
            drift=options.drift,
            stories_per_day=options.stories,
        ),
        policies=(Policy(name="counters"),),
        hours=options.hours,
        regret_frac=0.0,
    )
    if not (options.out / "samples").exists():  # else it has run to its end
        with _timed("the world and its counters-based feed"):
            run(spec, 1, Hooks())
    samples = _samples(options.out, spec)
    base = _trained(options, samples, "base", options.until_hour)
    everything = _trained(options, samples, EVERYTHING, options.hours - options.judged_hours)
    served = {name: _served_over(options, samples, base, name, hours) for name, hours in CADENCES.items()}
    figures = _judged(options, spec, samples, base, everything, served)
    if options.loop_hours:
        figures["feeds"] = _loops(options, spec, base)
    ratio = {f"recovered_{name}": found["of_all_heads_together"] for name, found in figures["recovered"].items()}
    emit(
        "updates",
        ratio=ratio,
        seed=options.seed,
        mechanism=options.mechanism,
        drift=options.drift,
        slates=len(samples),
        **figures,
    )


def _options() -> Any:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=21)
    parser.add_argument("--mechanism", default="multi", choices=("gate", "multi", "shifted"))
    parser.add_argument("--size", default="demo")
    parser.add_argument("--drift", type=float, default=1.0, help="of interests; the default world's is 0.35")
    parser.add_argument("--stories", type=float, default=1.0, help="that break a day and topic")
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--history-hours", type=int, default=96)
    parser.add_argument("--hours", type=float, default=72.0, help="of the counters-based feed after the history")
    parser.add_argument("--until-hour", type=float, default=36.0, help="the first ranker learns from pages before it")
    parser.add_argument("--judged-hours", type=float, default=12.0, help="the last of these hours")
    parser.add_argument("--loop-hours", type=float, default=0.0, help="of each twin; 0: no twins")
    parser.add_argument("--epochs", type=float, default=2.0, help="of the whole trainings")
    parser.add_argument("--min-positives", type=int, default=500, help="of a head, among the judged rows")
    options = parser.parse_args()
    options.out = options.out or Path("benchmarks/out") / f"updates-{options.mechanism}-{options.seed}"
    options.out.mkdir(parents=True, exist_ok=True)
    return options


def _samples(out: Path, spec: RunSpec) -> SampleSet:
    folder = out / "samples"
    if not folder.exists():
        with _timed("samples"):
            home_samples(load_settings(run_home(Path(spec.folder))), progress).save(folder)
    return SampleSet.load(folder)


def _at(hour: float) -> int:
    return START_MS + int(hour * HOUR_MS)


def _trained(options: Any, samples: SampleSet, name: str, until_hour: float) -> Path:
    """Return the folder of a ranker that has learned from all pages before an hour."""
    from millrace.flywheel.train_ranker import RankerTraining, train_ranker

    folder: Path = options.out / name
    if not (folder / SERVED).exists() or not (options.out / f"{name}.done").exists():
        with _timed(f"training: {name}"):
            learned = samples.take(np.flatnonzero(samples.now_ms < _at(until_hour)))
            train_ranker(learned, RankerTraining(seed=options.seed, n_epochs=options.epochs), folder=folder)
            (options.out / f"{name}.done").touch()
    return folder


def _learning(hours: float) -> LearningConfig:
    """Return the default config of the loop at another pace; a round of ten minutes is small."""
    return LearningConfig(hours_per_round=hours, min_pages=20)


def _told(options: Any, name: str) -> list[tuple[int, str]]:
    found = msgspec.json.decode((options.out / f"arm-{name}" / "served.json").read_bytes())
    return [(from_ms, version) for from_ms, version in found["served"]]


def _registry(folder: Path, base: Path, samples: SampleSet, until_ms: int) -> Registry:
    registry = Registry(folder)
    if not registry.serving():
        meta = samples.meta
        said = Description(
            kind="ranker", feature_schema_hash=meta.schema, from_ms=meta.from_ms, until_ms=until_ms, data="base"
        )
        version = registry.publish(base / SERVED, said, now_ms=until_ms).version
        registry.promote({"ranker": version}, now_ms=until_ms, note="the first one")
    return registry


def _seed(log: DecisionLog, base: Path, version: str, until_ms: int) -> None:
    """Write down the first training as `millrace flywheel run` does: what it held out judges and calibrates rounds."""
    from millrace.flywheel.train_ranker import REPORT_NAME, RankerReport

    report = msgspec.json.decode((base / REPORT_NAME).read_bytes(), type=RankerReport)
    log.append(
        Decision(
            number=1,
            at_ms=until_ms,
            from_ms=report.from_ms,
            until_ms=until_ms,
            judged_from_ms=report.until_ms,
            verdict="seeded",
            why="the first one",
            to_version=version,
        )
    )


def _loop(folder: Path, registry: Registry, source: SampleSource, hours: float) -> Any:
    from millrace.flywheel.loop import LearningLoop

    return LearningLoop(
        registry,
        source,
        DecisionLog(folder / "decisions.jsonl"),
        RoundFolder(folder / "unfinished"),
        _learning(hours),
        GateConfig(),
        ManualClock(source.known_until_ms),
        progress,
    )


def _served_over(options: Any, samples: SampleSet, base: Path, name: str, hours: float) -> dict[str, Any]:
    """Let the loop go on over the later pages; return which version served from when, and what rounds came to."""
    folder = options.out / f"arm-{name}"
    told = folder / "served.json"
    if told.exists():
        return msgspec.json.decode(told.read_bytes())  # type: ignore[no-any-return]
    shutil.rmtree(folder, ignore_errors=True)
    until_ms = _at(options.until_hour)
    registry = _registry(folder / "models", base, samples, until_ms)
    source = Known(samples)
    served = [(until_ms, registry.serving()["ranker"])]
    _seed(DecisionLog(folder / "decisions.jsonl"), base, served[0][1], until_ms)
    verdicts: dict[str, int] = {}
    took_s = []
    # Every 24 hours: judged in the middle of a day, when what it serves is twelve hours old in the mean. Every ten
    # minutes: that begins with the judged hours, from what learned on hourly until then.
    judged_from = options.hours - options.judged_hours
    if hours >= 24:
        moments = np.array([options.hours - 12.0])
    elif hours >= 1:
        moments = np.arange(options.until_hour + hours, options.hours + 1e-9, hours)
    else:
        hourly = Registry(options.out / "arm-1h" / "models")
        begun = [version for from_ms, version in _told(options, "1h") if from_ms <= _at(judged_from)][-1]
        shutil.rmtree(folder)
        ignored = shutil.ignore_patterns("manifest.json")
        shutil.copytree(hourly.folder("ranker", begun), folder / "begun" / SERVED, ignore=ignored)
        registry = _registry(folder / "models", folder / "begun", samples, _at(judged_from))
        served = [(until_ms, registry.serving()["ranker"])]
        decisions = DecisionLog(folder / "decisions.jsonl")
        for each in DecisionLog(options.out / "arm-1h" / "decisions.jsonl").all():
            if each.until_ms <= _at(judged_from):
                decisions.append(each)
        moments = np.arange(judged_from + hours, options.hours + 1e-9, hours)
    with _timed(f"learning on every {name} ({len(moments)} rounds)"):
        for hour in moments:
            source.known_until_ms = _at(float(hour))
            start_s = time.perf_counter()
            found = _loop(folder, registry, source, hours).run_round()
            if isinstance(found, Decision):
                verdicts[found.verdict] = verdicts.get(found.verdict, 0) + 1
                took_s.append(time.perf_counter() - start_s)
                version = registry.serving()["ranker"]
                if version != served[-1][1]:
                    served.append((source.known_until_ms, version))
    result = {"served": served, "verdicts": verdicts, "round_s": float(np.median(took_s)) if took_s else None}
    told.write_bytes(msgspec.json.encode(result))
    return result


def _judged(
    options: Any, spec: RunSpec, samples: SampleSet, base: Path, everything: Path, served: dict[str, Any]
) -> dict[str, Any]:
    from millrace.flywheel.live_ranker import open_live_ranker
    from millrace.flywheel.train_ranker import predicted

    slates = np.flatnonzero(samples.now_ms >= _at(options.hours - options.judged_hours))
    rows = samples.rows_of(slates)
    truth, is_judged = true_rows(RunRecords.read(Path(spec.folder)), samples, rows)
    columns = [samples.meta.actions.index(action) for action in truth.actions]

    def by(folder: Path, of: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        return predicted(open_live_ranker(folder, samples.meta.schema), samples, of)

    times = samples.now_ms[slates]
    predictions = {NEVER: by(base / SERVED, slates), EVERYTHING: by(everything / SERVED, slates)}
    for name, found in served.items():
        parts = []
        spans = [*found["served"], (np.iinfo(np.int64).max, "")]
        for (from_ms, version), (until_ms, _) in itertools.pairwise(spans):
            within = slates[(times >= from_ms) & (times < until_ms)]
            if len(within):
                parts.append(by(options.out / f"arm-{name}" / "models" / "ranker" / version, within))
        predictions[name] = np.concatenate(parts)
    losses = {name: _entropy(truth.truth, probs[is_judged][:, columns]) for name, probs in predictions.items()}
    heads = [i for i, _ in enumerate(truth.actions) if truth.did[:, i].sum() >= options.min_positives]
    floor = _entropy(truth.truth, truth.truth)
    recovered: dict[str, Any] = {}
    for name in CADENCES:
        shares = [
            (losses[NEVER][i] - losses[name][i]) / gap
            for i in heads
            if (gap := losses[NEVER][i] - losses[EVERYTHING][i]) > 0
        ]
        gaps = sum(losses[NEVER][i] - losses[EVERYTHING][i] for i in heads)
        recovered[name] = {
            "of_all_heads_together": sum(losses[NEVER][i] - losses[name][i] for i in heads) / gaps,
            "mean_over_heads": float(np.mean(shares)) if shares else None,
        }
    table = {
        truth.actions[i]: {
            "n": int(truth.did[:, i].sum()),
            **{name: round(float(loss[i] / _rate_entropy(truth.did[:, i])), 5) for name, loss in losses.items()},
            "truth": round(float(floor[i] / _rate_entropy(truth.did[:, i])), 5),
        }
        for i in heads
    }
    return {
        "equal": bool(is_judged.mean() > 0.99),
        "judged_rows": int(is_judged.sum()),
        "normalised_entropy": table,
        "recovered": recovered,
        "rounds": {name: {key: found[key] for key in ("verdicts", "round_s")} for name, found in served.items()},
    }


def _entropy(truth: npt.NDArray[np.floating], probs: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Return the expected cross-entropy of each head, nats a row: what the loss would be over all luck."""
    p = np.clip(probs.astype(np.float64), 1e-7, 1 - 1e-7)
    t = truth.astype(np.float64)
    return -(t * np.log(p) + (1 - t) * np.log1p(-p)).mean(axis=0)  # type: ignore[no-any-return]


def _rate_entropy(did: npt.NDArray[np.bool_]) -> float:
    rate = float(did.mean())
    return float(-(rate * np.log(rate) + (1 - rate) * np.log1p(-rate)))


def _loops(options: Any, spec: RunSpec, base: Path) -> dict[str, Any]:
    """Return the true value of twins that go on from the run's end, each learning on at its own pace."""
    told: dict[str, Any] = {}
    runs: dict[str, RunRecords] = {}
    for name, hours in {NEVER: 0.0, **CADENCES}.items():
        folder = options.out / f"loop-{name}"
        current = options.out / f"current-{name}"
        models = Registry(options.out / f"arm-{name}" / "models") if hours else None
        _put(current, base / SERVED if models is None else models.folder("ranker", models.serving()["ranker"]))
        policy = Policy(name=name, feed="home", settings={"home.ranker": str(current)})
        twin = msgspec.structs.replace(
            spec, folder=str(folder), policies=(policy,), keeps_items=False, begins_with=spec.folder
        )
        is_done = options.out / f"loop-{name}.done"
        with _timed(f"closed loop: {name}"):
            done = options.hours + (options.loop_hours if is_done.exists() else 0.0)
            step = min(hours or options.loop_hours, options.loop_hours)
            while done < options.hours + options.loop_hours - 1e-9:
                done = min(done + step, options.hours + options.loop_hours)
                run(msgspec.structs.replace(twin, hours=done), 1, Hooks())
                if models is not None and hours < options.loop_hours:
                    home = load_settings(run_home(folder))
                    with sample_source(home, progress, hours=30.0) as source:
                        _loop(options.out / f"arm-{name}", models, source, hours).run_round()
                    _put(current, models.folder("ranker", models.serving()["ranker"]))
        is_done.touch()
        runs[name] = RunRecords.read(folder)
        value = utility(runs[name]).measures["value"]
        told[name] = {"value_per_page": value.page.value, "value_per_viewer": value.viewer.value}
    for name in CADENCES:
        effect = twin_effect(runs[NEVER], runs[name]).per_viewer.relative
        told[name]["value_gain"] = [round(number, 4) for number in (effect.value, effect.low, effect.high)]
    return told


def _put(link: Path, folder: Path) -> None:
    link.unlink(missing_ok=True)
    link.symlink_to(folder.resolve())


@contextmanager
def _timed(what: str) -> Iterator[None]:
    start_s = time.perf_counter()
    note(f"{what} ...")
    yield
    note(f"{what}: {time.perf_counter() - start_s:.0f} s")


if __name__ == "__main__":
    main()
