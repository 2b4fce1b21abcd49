"""`millrace simulate learned`: rankers against the truth, on pages from after all that they have seen.

The run's log is replayed to samples, as training does it; each row finds its truth in the run's records by request and
place on the page. Counters, and counters calibrated on the slates that the rankers were validated on, stand beside.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl

from millrace.app.evaluation import ShowProgress
from millrace.app.settings import load_settings
from millrace.app.simulation.run import run_home
from millrace.app.training import home_samples
from millrace.base.errors import ConfigError, SourceDataError, StoreError
from millrace.base.ids import IdHasher, IdKind, Int64Array
from millrace.flywheel.baselines.contract import Predict
from millrace.flywheel.baselines.counters import fit_counters
from millrace.flywheel.baselines.fits import fit_baselines
from millrace.flywheel.sample_set import SampleSet
from millrace.simulator.judge.calibration import sliced_items
from millrace.simulator.judge.learned import CALIBRATED, COUNTERS, MIN_ROWS, Judgement, TrueRows, judge_predictions
from millrace.simulator.judge.tables import HOUR_MS, table
from millrace.simulator.records import RunRecords

N_COLD: Final = 10
"""Posts of the run that have been looked at fewer times than this are cold."""

_SLICES: Final = ("by_language", "by_network", "by_viewer", "by_kind", "by_cold")


class Seen(NamedTuple):
    """When what a ranker learned from began and ended, and when what it was validated on did; epoch milliseconds."""

    from_ms: int
    until_ms: int
    validated_until_ms: int


class LearnedFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What rankers are worth.

    Attributes
    ----------
    rankers
        Name to the report's positives of each head among what it learned from.
    from_ms
        Slates that began earlier are not judged: some ranker had seen them.
    n_slates
        That are judged.
    n_unjudged
        Rows of these slates of which the records hold no truth.
    n_calibrated
        Slates that the counters were calibrated on.
    """

    run: str
    rankers: dict[str, dict[str, int]]
    from_ms: int
    n_slates: int
    n_unjudged: int
    n_calibrated: int
    judgement: Judgement


def learned_figures(
    run: Path,
    rankers: Mapping[str, Path],
    show_progress: ShowProgress,
    *,
    baselines: Sequence[str] = (),
    samples_folder: Path | None = None,
    min_rows: int = MIN_ROWS,
) -> LearnedFigures:
    """Judge rankers on a run.

    Parameters
    ----------
    run
        The run's folder; its records must hold ``items``.
    rankers
        Name to a folder that `train_ranker` wrote.
    baselines
        Names of `millrace.flywheel.baselines.fits` that are fitted on the run's own pages of the same span.
    samples_folder
        The run's samples are read from there; where there are none yet, they are made and kept there.
    min_rows
        Slices of fewer rows are left out.

    Raises
    ------
    ConfigError
        If there is no run, or a ranker's folder does not say until when it learned.
    SourceDataError
        If no slate began later than what the rankers have seen.
    """
    records = RunRecords.read(run)
    loaded = load_rankers(rankers)
    seen = Seen(
        min(ranker.seen.from_ms for ranker in loaded.values()),
        min(ranker.seen.until_ms for ranker in loaded.values()),
        max(ranker.seen.validated_until_ms for ranker in loaded.values()),
    )
    # Baselines learn from the run what the rankers may have learned from it.
    from_ms = seen.from_ms if baselines else seen.until_ms
    samples = _samples(run, records, from_ms, samples_folder, show_progress)
    return judged_on(
        records,
        samples,
        seen,
        {name: ranker.predict for name, ranker in loaded.items()},
        run=str(run),
        positives={name: ranker.positives for name, ranker in loaded.items()},
        baselines=baselines,
        min_rows=min_rows,
    )


def judged_on(
    records: RunRecords,
    samples: SampleSet,
    seen: Seen,
    predictors: Mapping[str, Predict],
    *,
    run: str = "",
    positives: Mapping[str, dict[str, int]] | None = None,
    baselines: Sequence[str] = (),
    min_rows: int = MIN_ROWS,
) -> LearnedFigures:
    """Judge predictions on the slates of a run that began after everything that they have seen.

    Parameters
    ----------
    records, samples
        The run's, and of its log.
    seen
        Baselines learn from the first span and are calibrated on the second, as the counters are; all is judged on what
        comes later.
    predictors
        Predictions by name.
    run, positives
        For `LearnedFigures`.
    baselines
        Names of those that are fitted too.
    min_rows
        Slices of fewer rows are left out.

    Raises
    ------
    SourceDataError
        If there is nothing later, or the run's records know none of it.
    """
    newest = np.flatnonzero(samples.now_ms >= seen.validated_until_ms)
    validated = np.flatnonzero((samples.now_ms >= seen.until_ms) & (samples.now_ms < seen.validated_until_ms))
    places = samples.rows_of(newest)
    rows, is_judged = true_rows(records, samples, places)
    if not len(rows):
        raise SourceDataError(
            "run",
            value=run,
            problem=f"its records know no page from after {seen.validated_until_ms} ms, which the rankers have seen",
            remedy="train on an earlier part of it, let it run on, or run it with its items kept",
        )
    columns = [samples.meta.actions.index(action) for action in rows.actions]
    predictions: dict[str, npt.NDArray[np.floating]] = {
        COUNTERS: np.asarray(samples.baseline[places][is_judged][:, columns])
    }
    if len(validated):
        calibrated = fit_counters(samples, np.empty(0, dtype=np.int64), validated)
        predictions[CALIBRATED] = calibrated(samples, newest)[is_judged][:, columns]
    learned = np.flatnonzero((samples.now_ms >= seen.from_ms) & (samples.now_ms < seen.until_ms))
    fitted = fit_baselines(baselines, samples, learned, validated)
    for name, predict in {**predictors, **fitted}.items():
        predictions[name] = predict(samples, newest)[is_judged][:, columns]
    return LearnedFigures(
        run=run,
        rankers=dict(positives or {}),
        from_ms=seen.validated_until_ms,
        n_slates=len(newest),
        n_unjudged=int((~is_judged).sum()),
        n_calibrated=len(validated),
        judgement=judge_predictions(rows, predictions, min_rows=min_rows),
    )


def true_rows(records: RunRecords, samples: SampleSet, rows: Int64Array) -> tuple[TrueRows, npt.NDArray[np.bool_]]:
    """Return the truth of rows of samples, and of which of them there is one, shape (n,).

    A row is found by its request and its place on the page; what is not of this run (the history before it, another
    feed's pages) is not found. Actions are those of both.
    """
    actions = tuple(action for action in records.meta.actions if action in samples.meta.actions)
    slate_of = samples.slate_of[rows]
    wanted = pl.DataFrame(
        {
            "request": samples.requests[slate_of],
            "position": np.asarray(samples.positions[rows]).astype(np.int64),
            "media": _media(samples, rows),
            "row": np.arange(len(rows)),
        }
    )
    found = _items(records).join(wanted, on=("request", "position"), how="inner").sort("row")
    places = found["row"].to_numpy()
    is_judged = np.zeros(len(rows), dtype=np.bool_)
    is_judged[places] = True
    columns = [samples.meta.actions.index(action) for action in actions]
    truth = TrueRows(
        actions=actions,
        viewers=found["viewer"].to_numpy().astype(np.int64),
        truth=found.select(f"true_{action}" for action in actions).to_numpy(),
        did=np.asarray(samples.labels[rows[places]][:, columns] > 0),
        slices=_slices(found),
    )
    return truth, is_judged


class Ranker(NamedTuple):
    """A trained ranker: what it predicts, what it has seen, and the positives of each head among that."""

    predict: Predict
    seen: Seen
    positives: dict[str, int]


def load_rankers(folders: Mapping[str, Path]) -> dict[str, Ranker]:
    """Return rankers by name; see `learned_figures`."""
    return {name: _ranker(folder) for name, folder in folders.items()}


def _ranker(folder: Path) -> Ranker:
    from millrace.flywheel.train_ranker import REPORT_NAME, load_ranker, predicted

    if not (folder / REPORT_NAME).is_file():
        raise ConfigError(
            "ranker", value=str(folder), problem="no trained ranker is there", remedy="millrace train ranker --out it"
        )
    model, report = load_ranker(folder)
    if not report.validated_until_ms:
        raise ConfigError(
            "ranker", value=str(folder), problem="does not say until when it learned", remedy="train it anew"
        )
    return Ranker(
        lambda samples, slates: predicted(model, samples, slates),
        Seen(report.from_ms, report.until_ms, report.validated_until_ms),
        report.positives,
    )


def _samples(
    run: Path, records: RunRecords, from_ms: int, folder: Path | None, show_progress: ShowProgress
) -> SampleSet:
    """Return the samples of a run's newest slates, from a folder where they are kept."""
    if folder is not None and folder.exists():
        return SampleSet.load(folder)
    hours = max((records.meta.ended_ms - from_ms) / HOUR_MS, 1.0)
    home = run_home(run)
    if not home.exists():
        raise StoreError("run", value=str(run), problem="its home is not there", remedy="give its samples: --samples")
    samples = home_samples(load_settings(home), show_progress, hours=hours)
    if folder is not None:
        samples.save(folder)
    return samples


def _items(records: RunRecords) -> pl.DataFrame:
    """Return the looks of a run with their requests' inside ids and the columns that slices are made of."""
    pages = table(records, "pages").select("page", "time_ms", "request_id")
    requests = IdHasher().many(IdKind.REQUEST, pages["request_id"].to_list())
    items = sliced_items(records).join(
        pages.drop("request_id").with_columns(request=pl.Series(requests, dtype=pl.Int64)), on="page", how="inner"
    )
    looks = pl.col("is_examined").cast(pl.Int64)
    n_before = looks.cum_sum().over("post") - looks
    is_of_run = pl.col("age_ms") < pl.col("time_ms") - records.meta.began_ms
    return items.sort("time_ms", "page", "position").with_columns(
        pl.col("position").cast(pl.Int64),
        by_cold=pl.when(is_of_run & (n_before < N_COLD)).then(pl.lit("cold")).otherwise(pl.lit("known")),
    )


def _media(samples: SampleSet, rows: Int64Array) -> npt.NDArray[np.str_]:
    image, video = (
        np.asarray(samples.dense[rows, samples.meta.dense.index(field)]) > 0 for field in ("image", "video")
    )
    return np.where(video, "video", np.where(image, "image", "none"))


def _slices(found: pl.DataFrame) -> dict[str, Int64Array]:
    names = {column: column.removeprefix("by_") for column in _SLICES} | {"media": "media"}
    return {
        f"{kind}={name}": np.flatnonzero(found[column].to_numpy() == name)
        for column, kind in names.items()
        for name in found[column].unique().sort().to_list()
    }
