"""Learn on: some steps on new pages and older ones from where the learner stands, averaged, and calibrated anew.

Steps are as large as in a whole training, so that an hour moves anything, and go back and forth around where they lead.
What comes out is the running mean of the weights over the last hours' steps (Polyak and Juditsky 1992; here an
exponential one, as of Izmailov et al. 2018 and many since), which keeps the way and drops the noise: on a drifting
world it gains half as much again as the newest weights do.

The learner (weights, mean, optimisers) is kept between rounds. It begins with the artefact that serves, its calibration
taken out: a network is learned without the counters beside it, and one whose heads were calibrated beside them, learned
on and calibrated again, round after round, shrinks to nothing. Where no step helps on pages that nobody learned from,
the mean as it was before the round comes out, calibrated anew.

Nobody borrows rows here. A full training learns from other viewers' pages, too, and predicts far too little until its
heads are calibrated; the rare heads, for which an hour has no positives to calibrate by, would stay there.
"""

from __future__ import annotations

import hashlib
import logging
import struct
from collections.abc import Callable
from pathlib import Path
from pickle import UnpicklingError
from typing import Final

import msgspec
import numpy as np
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from millrace.base.atomic_file import replacing
from millrace.base.ids import Int64Array
from millrace.flywheel.checkpointing import CHECKPOINT_NAME, Checkpoint
from millrace.flywheel.learning_config import LearningConfig
from millrace.flywheel.learning_round import LEARNER_FILE
from millrace.flywheel.live_ranker import open_live_ranker
from millrace.flywheel.optimisers import Optimisers
from millrace.flywheel.ranker_loss import ranker_loss
from millrace.flywheel.round_pages import RoundPages, replay_odds
from millrace.flywheel.sample_set import SampleSet
from millrace.flywheel.sample_vectors import SampleVectors
from millrace.flywheel.train_ranker import (
    REPORT_NAME,
    RankerReport,
    RankerTraining,
    cut_batch,
    held_out_logits,
    load_ranker,
    validation_loss,
    write_ranker,
)
from millrace.models.blending import log_odds
from millrace.models.export import WEIGHTS_FILE
from millrace.models.learned_ranker import LearnedRanker, calibrate, known_scales, uncalibrate, with_scales

_N_WARM_UP: Final = 5
_DROPOUT: Final = 0.1
_REPORT_EVERY: Final = 24
_STAMP_NAME: Final = "stamp"
_UNREADABLE: Final = (
    OSError,
    EOFError,
    RuntimeError,
    LookupError,
    TypeError,
    AttributeError,
    ValueError,
    UnpicklingError,
    struct.error,
)
"""What reading a file that is empty, cut off or garbage raises: `torch.load` interprets what it finds."""

logger = logging.getLogger(__name__)


def fine_tune(
    live: Path,
    samples: SampleSet,
    pages: RoundPages,
    config: LearningConfig,
    *,
    learner: Path | None = None,
    folder: Path,
    seed: int,
    on_progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> tuple[LearnedRanker, RankerReport]:
    """Learn on from a ranker that serves, write what came of it into a folder, and return it with its report.

    On one thread of a processor the same inputs give the same bytes, however often it was killed in between.

    Parameters
    ----------
    live
        The artefact that serves.
    samples, pages
        What to learn from.
    config
        How.
    learner
        Where the learner of the last round lies, that goes with that artefact; None: it begins with the artefact.
    folder
        An interrupted run of the same inputs goes on from what is there; a finished one is read.
    seed
        Of what is drawn.
    on_progress
        Called after each step with how many are done and how many there are.

    Raises
    ------
    SchemaError, StoreError
        If the artefact cannot be learned on from.
    """
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    stamp = _stamp(live, learner, samples, pages, config, seed)
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / REPORT_NAME).exists() and _read(folder / _STAMP_NAME) == stamp:
        return load_ranker(folder)
    n_older = round(config.n_slates * config.replay_share) if len(pages.older) else 0
    n_fresh = config.n_slates - n_older
    n_steps = min(max(round(config.n_epochs * len(pages.fresh) / n_fresh), 1), config.max_steps)
    model, mean, optimisers, training = _learner(live, learner, samples.meta.schema, config, n_steps, seed)
    both = nn.ModuleList([model, mean])
    state = Checkpoint(folder / CHECKPOINT_NAME, stamp, both, optimisers.by_name)
    state.restore("cpu")
    averaged: LearnedRanker = mean.module  # type: ignore[assignment] # a copy of the model
    head_weights = torch.ones(len(model.ranker.config.actions))
    if not state.step:
        state.keep(0, validation_loss(averaged, samples, pages.chosen_by, head_weights, training, "cpu"))
    vectors = SampleVectors(samples, model.sources)
    has_places = bool((samples.positions[samples.rows_of(pages.fresh)] >= 0).any())
    losing = msgspec.structs.replace(training, is_position_debiased=has_places)
    model.train()  # a run that goes on has not validated yet, which leaves it so
    for step in range(state.step, n_steps):
        rng = np.random.default_rng((seed, step))
        slates = _drawn(samples, pages, config, step, n_fresh, n_older, seed, rng)
        batch = cut_batch(samples, slates, model.ranker.config, training, rng, vectors)
        torch.manual_seed(seed * 1_000_003 + step)  # of dropout: a run that is resumed draws the same
        optimisers.take(step, ranker_loss(model, batch, losing, head_weights))
        mean.update_parameters(model)
        done = step + 1
        if done % training.report_every == 0 or done == n_steps:
            state.keep(done, validation_loss(averaged, samples, pages.chosen_by, head_weights, training, "cpu"))
        on_progress(done, n_steps)
    states = {name: optimiser.state_dict() for name, optimiser in optimisers.by_name.items()}
    with replacing(folder / LEARNER_FILE) as file:  # on the disk before the note that will name it
        torch.save({"weights": both.state_dict(), **states}, file)
    state.take_best()
    model = averaged
    logits, labels, weights = held_out_logits(model, samples, pages.chosen_by, "cpu")
    counters = torch.from_numpy(log_odds(np.asarray(samples.baseline[samples.rows_of(pages.chosen_by)])))
    fitted = calibrate(model.ranker, logits, labels, weights, counters, known_scales(model.ranker.config))
    model.ranker.config = with_scales(model.ranker.config, fitted)
    learned = np.concatenate([pages.fresh, pages.older])
    rows = samples.rows_of(pages.fresh)
    actions = model.ranker.config.actions
    report = RankerReport(
        config=training,
        ranker=model.ranker.config,
        n_slates=len(pages.fresh),
        n_rows=len(rows),
        n_steps=n_steps,
        best_step=state.best_step,
        validation_loss=state.best_loss,
        positives={name: int((samples.labels[rows, head] > 0).sum()) for head, name in enumerate(actions)},
        calibration={name: (a, b) for name, (a, b, _) in zip(actions, fitted.tolist(), strict=True)},
        from_ms=int(samples.now_ms[learned].min()),
        until_ms=int(samples.now_ms[learned].max()) + 1,
        validated_until_ms=int(samples.now_ms[pages.chosen_by].max()) + 1,
    )
    (folder / _STAMP_NAME).write_text(stamp)
    write_ranker(model, report, samples, learned, pages.chosen_by, folder)
    state.remove()
    return model.eval(), report


def _training(model: LearnedRanker, config: LearningConfig, n_steps: int, n_warm_up: int, seed: int) -> RankerTraining:
    """Return a round's learning as a training of the ranker says it."""
    return RankerTraining(
        trunk=model.ranker.config.trunk,
        n_epochs=config.n_epochs,
        n_slates=config.n_slates,
        learning_rate=config.learning_rate,
        table_learning_rate=config.table_learning_rate,
        n_warm_up=n_warm_up,
        schedule="constant",
        report_every=min(n_steps, _REPORT_EVERY),
        borrowed_weight=0.0,
        seed=seed,
    )


def _drawn(
    samples: SampleSet,
    pages: RoundPages,
    config: LearningConfig,
    step: int,
    n_fresh: int,
    n_older: int,
    seed: int,
    rng: np.random.Generator,
) -> Int64Array:
    """Return a step's pages: new ones, every epoch in another order, and older ones, newer rather."""
    places = np.arange(step * n_fresh, (step + 1) * n_fresh)
    epochs, within = np.divmod(places, len(pages.fresh))
    fresh = [
        pages.fresh[
            np.random.default_rng((seed, 1 << 20, int(epoch))).permutation(len(pages.fresh))[within[epochs == epoch]]
        ]
        for epoch in np.unique(epochs)
    ]
    if not n_older:
        return np.concatenate(fresh)
    until_ms = int(samples.now_ms[pages.new].min())
    odds = replay_odds(samples.now_ms[pages.older], until_ms, config.replay_half_life_h)
    older = rng.choice(pages.older, min(n_older, len(pages.older)), replace=False, p=odds)
    return np.concatenate([*fresh, older])


def _learner(
    live: Path, left: Path | None, schema: str, config: LearningConfig, n_steps: int, seed: int
) -> tuple[LearnedRanker, AveragedModel, Optimisers, RankerTraining]:
    """Return weights, their mean and optimisers as the last round left them, or else as the artefact has them."""
    model = open_live_ranker(live, schema)
    model.ranker.config = uncalibrate(model.ranker, model.ranker.config)
    model.ranker.trunk.set_dropout(_DROPOUT)
    n_warm_up = 0 if left is not None else min(_N_WARM_UP, n_steps)
    training = _training(model, config, n_steps, n_warm_up, seed)
    optimisers = Optimisers(model.dense_parameters(), model.tables.parameters(), training, n_steps)
    decay = get_ema_multi_avg_fn(config.mean_decay)  # type: ignore[no-untyped-call]
    mean = AveragedModel(model, multi_avg_fn=decay)
    mean.update_parameters(model)
    if left is not None:
        try:
            saved = torch.load(left, map_location="cpu", weights_only=True)
            nn.ModuleList([model, mean]).load_state_dict(saved["weights"])
            for name, optimiser in optimisers.by_name.items():
                optimiser.load_state_dict(saved[name])
        except _UNREADABLE as error:
            logger.warning("the learner of the last round, %s, cannot be read (%s): learning begins anew", left, error)
            return _learner(live, None, schema, config, n_steps, seed)
    return model, mean, optimisers, training


def _stamp(
    live: Path, learner: Path | None, samples: SampleSet, pages: RoundPages, config: LearningConfig, seed: int
) -> str:
    """Return a name of everything that a round's learning depends on."""
    digest = hashlib.blake2b(msgspec.json.encode((config, samples.meta, seed)), digest_size=16)
    digest.update((live / WEIGHTS_FILE).read_bytes())
    if learner is not None:
        digest.update(learner.read_bytes())
    for array in (*pages, samples.viewers, samples.now_ms, samples.post_ids, samples.labels, samples.text_posts):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _read(path: Path) -> str:
    return path.read_text() if path.exists() else ""
