"""Learn the ranker: what a viewer will do with each post of a slate. The whole loop is here.

Slates are held out by time: what is validated on lies after what is learned from. Each report the validation loss is
taken, the best weights so far are kept, and a checkpoint takes the place of the one before: a run that is killed goes
on from there and ends, on a CPU, with the same bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
import numpy as np
import torch
from msgspec import Meta, Struct
from torch import Tensor

from millrace.base.atomic_file import replacing
from millrace.base.errors import ConfigError, SourceDataError
from millrace.features.encoding.vector_sources import VectorSources
from millrace.flywheel.checkpointing import CHECKPOINT_NAME, Checkpoint
from millrace.flywheel.mixed_precision import mixed_precision
from millrace.flywheel.optimisers import Optimisers
from millrace.flywheel.quantisation_gate import QuantisationBounds, judge_precisions
from millrace.flywheel.ranker_batches import RankerBatch, alike_in_length, assembled, ranker_batch
from millrace.flywheel.ranker_loss import ranker_loss
from millrace.flywheel.sample_set import SampleSet
from millrace.flywheel.sample_vectors import SampleVectors, sized
from millrace.flywheel.topic_tokens import begin_with_topics
from millrace.flywheel.training_log import TrainingLog
from millrace.models.blending import blended, log_odds
from millrace.models.config import PRESETS, RankerConfig, TrunkConfig
from millrace.models.export import export_places, export_ranker, export_tables
from millrace.models.learned_ranker import (
    LearnedRanker,
    calibrate,
    fitted_scales,
    known_scales,
    scaled,
    with_scales,
)
from millrace.models.losses import head_losses, plain_losses

MODEL_NAME: Final = "model.pt"
REPORT_NAME: Final = "report.json"
SERVED_NAME: Final = "served"
SOURCES_NAME: Final = "sources"
_EVAL_SLATES: Final = 128


class RankerTraining(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the ranker is learned."""

    trunk: TrunkConfig = PRESETS["nano"]
    n_epochs: Annotated[float, Meta(gt=0)] = 3.0
    n_slates: Annotated[int, Meta(ge=1, description="slates of a step")] = 64
    learning_rate: Annotated[float, Meta(gt=0)] = 1e-3
    table_learning_rate: Annotated[float, Meta(gt=0)] = 0.005
    n_warm_up: Annotated[int, Meta(ge=0, description="steps until the learning rate is reached")] = 100
    schedule: Literal["cosine", "constant"] = "cosine"
    weight_decay: Annotated[float, Meta(ge=0)] = 1e-2
    max_norm: Annotated[float, Meta(gt=0, description="gradients of dense weights are clipped to it")] = 1.0
    report_every: Annotated[int, Meta(ge=1, description="steps between validations, which are checkpoints too")] = 200
    validation_frac: Annotated[float, Meta(gt=0, lt=1, description="newest slates that are held out")] = 0.1
    min_history_frac: Annotated[
        float, Meta(ge=0, le=1, description="each history is cut to a random share of at least this, in training")
    ] = 0.3
    post_dropout: Annotated[
        float,
        Meta(ge=0, lt=1, description="share of posts whose own rows are left out, in training: a new post has none"),
    ] = 0.5
    dropout: Annotated[float, Meta(ge=0, lt=1, description="share of each layer's output that is left out")] = 0.1
    borrowed_weight: Annotated[
        float, Meta(ge=0, description="weight of another viewer's slate as negatives; 0: none are borrowed")
    ] = 0.2
    is_position_debiased: Annotated[
        bool, Meta(description="learn what the place on the page does, and leave it out")
    ] = True
    is_uncertainty_weighted: Annotated[bool, Meta(description="weigh heads by learned uncertainty")] = False
    is_blended: Annotated[
        bool, Meta(description="let counters speak beside the network, as much as helps on held-out pages")
    ] = True
    heads: Annotated[
        tuple[str, ...], Meta(description="heads that are learned; none named: all. One: a single-task twin")
    ] = ()
    begins_with_topics: Annotated[
        bool, Meta(description="begin with words alike that the same authors use; else by chance")
    ] = True
    quantisation: QuantisationBounds = QuantisationBounds()
    seed: int = 1


class RankerReport(Struct, frozen=True, kw_only=True):
    """What came of it.

    Attributes
    ----------
    best_step, validation_loss
        After how many steps the validation loss was least, and how small: those weights are kept.
    calibration
        By head: the slope and the shift of its logits that were built in.
    from_ms, until_ms
        The span in which the slates began that were learned from.
    validated_until_ms
        Until when the held-out slates began: what began later the ranker has never seen. 0: not told (an older report).
    """

    config: RankerTraining
    ranker: RankerConfig
    n_slates: int
    n_rows: int
    n_steps: int
    best_step: int
    validation_loss: float
    positives: dict[str, int]
    calibration: dict[str, tuple[float, float]]
    from_ms: int = 0
    until_ms: int = 0
    validated_until_ms: int = 0


def train_ranker(
    samples: SampleSet,
    config: RankerTraining,
    *,
    folder: Path,
    sources: VectorSources | None = None,
    device: str | None = None,
    on_progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> tuple[LearnedRanker, RankerReport]:
    """Learn the ranker, write it, its exported form (``served``) and the report into a folder; return both.

    Parameters
    ----------
    samples
        What to learn from and to validate on.
    config
        How.
    folder
        An interrupted run of the same inputs goes on from what is there; one of others is begun anew.
    sources
        Codebooks and social vectors that it is to read; the trunk gets their places, and the folder a copy.
    device
        Where torch computes; None: a GPU if there is one, in mixed precision.
    on_progress
        Called after each step with how many are done and how many there are.

    Raises
    ------
    SourceDataError
        If there is nothing to learn from, or the social encoder knows what is validated on.
    ConfigError
        If a head is not an action.
    """
    sources = sources or VectorSources()
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    order = np.argsort(samples.now_ms, kind="stable")
    n_held_out = max(int(len(samples) * config.validation_frac), 1)
    learned, held_out = order[:-n_held_out], order[-n_held_out:]
    if not len(learned):
        raise SourceDataError(
            "samples",
            value=len(samples),
            problem="too few slates to learn from",
            remedy="take a longer span of the log",
        )
    _check_time(sources, int(samples.now_ms[held_out[0]]))
    ranker_config = RankerConfig(
        trunk=sized(config.trunk, sources),
        actions=samples.meta.actions,
        n_dense=samples.dense.shape[1],
        n_profile_dense=samples.profile_dense.shape[1],
        schema=samples.meta.schema,
        semantic_ids=sources.semantic_ids_digest,
        social=sources.social_digest,
    )
    head_weights = _head_weights(ranker_config, config).to(device)
    vectors = SampleVectors(samples, sources)
    torch.manual_seed(config.seed)
    model = LearnedRanker(ranker_config, sources).to(device)
    model.ranker.trunk.set_dropout(config.dropout)
    if config.begins_with_topics:
        begin_with_topics(model.tables.tokens, samples.take(learned), seed=config.seed)
    rows = samples.rows_of(learned)
    rates = torch.from_numpy(np.asarray(samples.labels[rows]).mean(axis=0))
    model.ranker.start_from(rates)
    plain = plain_losses(rates, model.ranker.continuous)
    scales = plain if config.is_uncertainty_weighted else torch.ones_like(plain)
    model.uncertainty.start_from(plain)
    per_epoch = max(len(learned) // config.n_slates, 1)
    n_steps = max(round(per_epoch * config.n_epochs), 1)
    folder.mkdir(parents=True, exist_ok=True)
    optimisers = Optimisers(model.dense_parameters(), model.tables.parameters(), config, n_steps)
    stamp = _stamp(samples, config, ranker_config)
    state = Checkpoint(folder / CHECKPOINT_NAME, stamp, model, optimisers.by_name)
    state.restore(device)
    # Where no place is known, a bias of "not known" would be nothing but a second bias of the head.
    has_places = bool((samples.positions[rows] >= 0).any())
    losing = msgspec.structs.replace(config, is_position_debiased=config.is_position_debiased and has_places)
    with TrainingLog(folder, state.step) as log:
        losses: list[float] = []
        for step in range(state.step, n_steps):
            batch = _drawn(samples, learned, ranker_config, config, step, per_epoch, vectors).to(device)
            torch.manual_seed(config.seed * 1_000_003 + step)  # of dropout: a run that is resumed draws the same
            with mixed_precision(device):
                loss = ranker_loss(model, batch, losing, head_weights)
            optimisers.take(step, loss)
            losses.append(float(loss.detach()))
            done = step + 1
            if done % config.report_every == 0 or done == n_steps:
                found = validation_loss(model, samples, held_out, head_weights / scales.to(device), config, device)
                state.keep(done, found)
                log.write(done, {"loss": float(np.mean(losses)), "validation/loss": found})
                losses.clear()
            on_progress(done, n_steps)
    state.take_best()
    logits, labels, weights = held_out_logits(model, samples, held_out, device)
    counters = _counters(samples, held_out) if config.is_blended else None
    fitted = calibrate(model.ranker, logits, labels, weights, counters)
    model.ranker.config = ranker_config = with_scales(ranker_config, fitted)
    report = RankerReport(
        config=config,
        ranker=ranker_config,
        n_slates=len(learned),
        n_rows=len(rows),
        n_steps=n_steps,
        best_step=state.best_step,
        validation_loss=state.best_loss,
        positives={
            name: int((samples.labels[rows, head] > 0).sum()) for head, name in enumerate(ranker_config.actions)
        },
        calibration={name: (a, b) for name, (a, b, _) in zip(ranker_config.actions, fitted.tolist(), strict=True)},
        from_ms=int(samples.now_ms[learned].min()),
        until_ms=int(samples.now_ms[learned].max()) + 1,
        validated_until_ms=int(samples.now_ms[held_out].max()) + 1,
    )
    write_ranker(model, report, samples, learned, held_out, folder)
    state.remove()
    return model, report


def write_ranker(
    model: LearnedRanker,
    report: RankerReport,
    samples: SampleSet,
    learned: np.ndarray[Any, np.dtype[np.int64]],
    held_out: np.ndarray[Any, np.dtype[np.int64]],
    folder: Path,
) -> None:
    """Write a trained ranker into a folder: weights, exported form with its verdicts on lower precisions, report.

    Parameters
    ----------
    model, report
        Calibrated, and what came of its training.
    samples, learned, held_out
        Slates that activations' ranges are taken from, and that lower precisions are judged on.
    folder
        Made if it is missing; the report is written last.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / MODEL_NAME) as file:
        torch.save(model.state_dict(), file)
    export_ranker(model.ranker, folder / SERVED_NAME)
    export_tables(model.tables, folder / SERVED_NAME)
    export_places(model.ranker, folder / SERVED_NAME)
    model.sources.save_served(folder / SERVED_NAME)
    model.sources.save(folder / SOURCES_NAME)
    judge_precisions(model, samples, learned, held_out, folder / SERVED_NAME, report.config.quantisation)
    with replacing(folder / REPORT_NAME) as file:
        file.write(msgspec.json.format(msgspec.json.encode(report)))


def load_ranker(folder: Path) -> tuple[LearnedRanker, RankerReport]:
    """Return a ranker that `train_ranker` wrote, and its report."""
    report = msgspec.json.decode((folder / REPORT_NAME).read_bytes(), type=RankerReport)
    model = LearnedRanker(report.ranker, VectorSources.load(folder / SOURCES_NAME))
    model.load_state_dict(torch.load(folder / MODEL_NAME, map_location="cpu", weights_only=True))
    return model.eval(), report


@torch.no_grad()
def predicted(
    model: LearnedRanker, samples: SampleSet, slates: np.ndarray[Any, np.dtype[np.int64]]
) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return the predictions for the rows of some slates, in the order of `SampleSet.rows_of`, (n, n_actions)."""
    device = str(model.ranker.head.weight.device)
    parts = [model.ranker.linked(logits).float().cpu() for logits, _ in _walk(model, samples, slates, device)]
    if not parts:
        return np.empty((0, len(samples.meta.actions)), dtype=np.float32)
    counters = np.asarray(samples.baseline[samples.rows_of(slates)])
    return blended(torch.cat(parts).numpy(), counters, model.ranker.config.counters)


@torch.no_grad()
def held_out_logits(
    model: LearnedRanker, samples: SampleSet, slates: np.ndarray[Any, np.dtype[np.int64]], device: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Return logits, labels and weights of the rows of some slates."""
    logits, labels, weights = [], [], []
    for found, batch in _walk(model, samples, slates, device):
        is_row = batch.weights > 0
        logits.append(found.float().cpu())
        labels.append(batch.labels[is_row].cpu())
        weights.append(batch.weights[is_row].cpu())
    return torch.cat(logits), torch.cat(labels), torch.cat(weights)


def _walk(
    model: LearnedRanker, samples: SampleSet, slates: np.ndarray[Any, np.dtype[np.int64]], device: str
) -> Iterator[tuple[Tensor, RankerBatch]]:
    model.eval()
    config, vectors = model.ranker.config, SampleVectors(samples, model.sources)
    for first in range(0, len(slates), _EVAL_SLATES):
        batch = ranker_batch(samples, slates[first : first + _EVAL_SLATES], config, vectors=vectors).to(device)
        profile, history, mask, candidates = assembled(batch, model.tables)
        logits = model.ranker.logits(candidates, model.ranker.encode(profile, history, mask))
        yield logits[batch.weights > 0], batch
    model.train()


def _drawn(
    samples: SampleSet,
    learned: np.ndarray[Any, np.dtype[np.int64]],
    ranker: RankerConfig,
    config: RankerTraining,
    step: int,
    per_epoch: int,
    vectors: SampleVectors,
) -> RankerBatch:
    """Return a step's slates: every epoch in another order, every history cut at another place."""
    epoch, place = divmod(step, per_epoch)
    order = alike_in_length(
        np.diff(samples.history_starts)[learned], config.n_slates, np.random.default_rng((config.seed, epoch))
    )
    slates = learned[order[place * config.n_slates : (place + 1) * config.n_slates]]
    return cut_batch(samples, slates, ranker, config, np.random.default_rng((config.seed, epoch, place)), vectors)


def cut_batch(
    samples: SampleSet,
    slates: np.ndarray[Any, np.dtype[np.int64]],
    ranker: RankerConfig,
    config: RankerTraining,
    rng: np.random.Generator,
    vectors: SampleVectors,
) -> RankerBatch:
    """Return slates as a step learns from them: every history cut somewhere, some posts without rows of their own."""
    share = rng.uniform(config.min_history_frac, 1.0, len(slates))
    taken = np.rint(share * ranker.trunk.max_history).astype(np.int64)
    batch = ranker_batch(samples, slates, ranker, taken, vectors)
    if not config.post_dropout:
        return batch
    return batch._replace(
        posts=batch.posts * torch.from_numpy(rng.random(batch.posts.shape[:2]) >= config.post_dropout)[..., None],
        history_posts=batch.history_posts
        * torch.from_numpy(rng.random(batch.history_posts.shape[:2]) >= config.post_dropout)[..., None],
    )


@torch.no_grad()
def validation_loss(
    model: LearnedRanker,
    samples: SampleSet,
    held_out: np.ndarray[Any, np.dtype[np.int64]],
    head_weights: Tensor,
    config: RankerTraining,
    device: str,
) -> float:
    """Return the loss on held-out slates as it would be calibrated: what serves is what weights are chosen by.

    With borrowed slates predictions are far too low until then.
    """
    logits, labels, weights = held_out_logits(model, samples, held_out, device)
    counters = _counters(samples, held_out) if config.is_blended else None
    continuous = model.ranker.continuous
    fitted = fitted_scales(logits, labels, weights, continuous, counters, known_scales(model.ranker.config))
    calibrated = scaled(logits, fitted, continuous, counters)
    per_head = weights[:, None] * head_weights.cpu()
    return float(head_losses(calibrated, labels, per_head, continuous).sum())


def _counters(samples: SampleSet, slates: np.ndarray[Any, np.dtype[np.int64]]) -> Tensor:
    """Return the log-odds of what counters predicted for the rows of some slates, shape (n, n_actions)."""
    return torch.from_numpy(log_odds(np.asarray(samples.baseline[samples.rows_of(slates)])))


def _head_weights(ranker: RankerConfig, config: RankerTraining) -> Tensor:
    if not config.heads:
        return torch.ones(len(ranker.actions))
    for name in config.heads:
        if name not in ranker.actions:
            raise ConfigError(
                "head", value=name, problem="not an action", remedy=f"use some of {', '.join(ranker.actions)}"
            )
    return torch.tensor([float(name in config.heads) for name in ranker.actions])


def _check_time(sources: VectorSources, validated_from_ms: int) -> None:
    """Raise `SourceDataError` if the social encoder was learned from follows of the time that is validated on."""
    history = sources.social_history
    if history is not None and history.learned_until_ms > validated_from_ms:
        raise SourceDataError(
            "social encoder",
            value=history.learned_until_ms,
            problem=f"was learned from a graph newer than the first page that is validated on, {validated_from_ms}",
            remedy="train it on an earlier graph: millrace train social, with the same --hours",
        )


def _stamp(samples: SampleSet, config: RankerTraining, ranker: RankerConfig) -> str:
    """Return a name of everything that a run depends on."""
    digest = hashlib.blake2b(msgspec.json.encode((config, ranker, samples.meta)), digest_size=16)
    for array in (samples.viewers, samples.now_ms, samples.post_ids, samples.labels, samples.text_posts):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
