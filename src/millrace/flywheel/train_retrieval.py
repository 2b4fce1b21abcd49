"""Learn the two towers: of all live posts, which will a viewer act on. The whole loop is here.

Pages are held out by time. Each report the towers rank every live post for held-out viewers; the weights that found
most positives are kept, and a checkpoint takes the place of the one before: a run that is killed goes on from there
and ends, on a CPU, with the same bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
import numpy as np
import torch
from msgspec import Meta, Struct
from msgspec.structs import replace
from torch import Tensor

from millrace.base.atomic_file import replacing
from millrace.base.errors import ConfigError, SourceDataError
from millrace.base.ids import Int64Array
from millrace.features.encoding.vector_sources import VectorSources
from millrace.flywheel.catalogue import BoolArray, Catalogue, catalogue_of, is_content_row
from millrace.flywheel.checkpointing import CHECKPOINT_NAME, Checkpoint
from millrace.flywheel.mixed_precision import mixed_precision
from millrace.flywheel.optimisers import Optimisers
from millrace.flywheel.recall import Recall, held_out_ranks, recall_of, shown_before
from millrace.flywheel.retrieval_batches import (
    BatchMaker,
    RetrievalBatch,
    assembled_posts,
    assembled_viewers,
)
from millrace.flywheel.sample_set import SampleSet
from millrace.flywheel.sample_vectors import SampleVectors, sized
from millrace.flywheel.topic_tokens import topic_tokens
from millrace.flywheel.tower_vectors import tower_scores
from millrace.flywheel.training_log import TrainingLog
from millrace.models.config import PRESETS, TrunkConfig
from millrace.models.export import export_tables
from millrace.models.retrieval import LearnedRetrieval, sampled_softmax
from millrace.models.retrieval_config import COLD, PostPart, RetrievalConfig
from millrace.models.retrieval_export import export_retrieval

MODEL_NAME: Final = "model.pt"
REPORT_NAME: Final = "report.json"
SERVED_NAME: Final = "served"
SOURCES_NAME: Final = "sources"

POSITIVES: Final = (
    "like",
    "reply",
    "repost",
    "quote",
    "share",
    "share_dm",
    "copy_link",
    "bookmark",
    "follow_author",
    "dwell",
)
"""What counts as wanting a post, unless it was disliked as well."""

_HOUR_MS: Final = 3_600_000
_DISLIKES: Final = ("not_interested", "mute_author", "block_author", "report")


class RetrievalTraining(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the towers are learned."""

    trunk: TrunkConfig = PRESETS["nano"]
    width: Annotated[int, Meta(ge=4, description="length of vectors")] = 64
    hidden: Annotated[int, Meta(ge=1)] = 256
    table_width: Annotated[
        int, Meta(ge=1, description="width of embedding tables: directions in which texts may differ; not the trunk's")
    ] = 64
    reads: Annotated[tuple[PostPart, ...], Meta(description="what is read of a post")] = COLD
    positives: Annotated[tuple[str, ...], Meta(description="actions that say that a post was wanted")] = POSITIVES
    n_epochs: Annotated[float, Meta(gt=0)] = 2.0
    n_slates: Annotated[int, Meta(ge=1, description="pages of a step")] = 64
    n_random: Annotated[int, Meta(ge=1, description="posts of a step that are drawn evenly from all live ones")] = 512
    log_q_scale: Annotated[
        float,
        Meta(ge=0, description="1: a post that is shown often is no worse for that; 0: it counts as shown often"),
    ] = 1.0
    page_weight: Annotated[
        float,
        Meta(ge=0, description="weight of telling what was wanted from the rest of its page, which was shown as well"),
    ] = 1.0
    no_author_frac: Annotated[
        float, Meta(ge=0, le=1, description="posts of a step whose author is left out, so that their texts must do")
    ] = 0.3
    n_ahead: Annotated[
        int, Meta(ge=0, description="wanted posts of a viewer's next pages that are told beside those of the page")
    ] = 8
    is_author_debiased: Annotated[
        bool, Meta(description="learn what the author does to who is shown a post, and leave it out when served")
    ] = True
    no_history_frac: Annotated[
        float, Meta(ge=0, le=1, description="histories that are left out whole, so that new viewers are known too")
    ] = 0.1
    min_history_frac: Annotated[
        float, Meta(ge=0, le=1, description="the others are cut to a random share of at least this")
    ] = 0.1
    max_history_frac: Annotated[
        float, Meta(gt=0, le=1, description="and at most this: what takes longest is to encode long histories")
    ] = 0.4
    has_fixed_texts: Annotated[
        bool, Meta(description="rows of tokens are made of texts and their authors, and stay; else they are learned")
    ] = True
    max_age_h: Annotated[float, Meta(gt=0, description="how old a live post may be, hours")] = 48.0
    learning_rate: Annotated[float, Meta(gt=0)] = 3e-3
    table_learning_rate: Annotated[float, Meta(gt=0)] = 0.03
    n_warm_up: Annotated[int, Meta(ge=0, description="steps until the learning rate is reached")] = 20
    schedule: Literal["cosine", "constant"] = "cosine"
    weight_decay: Annotated[float, Meta(ge=0)] = 1e-2
    max_norm: Annotated[float, Meta(gt=0, description="gradients of dense weights are clipped to it")] = 1.0
    report_every: Annotated[int, Meta(ge=1, description="steps between validations, which are checkpoints too")] = 100
    recall_at: Annotated[int, Meta(ge=1, description="the weights with the best recall at so many are kept")] = 500
    validation_frac: Annotated[float, Meta(gt=0, lt=1, description="newest pages that are held out")] = 0.1
    max_validation_slates: Annotated[int, Meta(ge=1, description="as many of them are looked at")] = 500
    seed: int = 1


class RetrievalReport(Struct, frozen=True, kw_only=True):
    """What came of it.

    Attributes
    ----------
    n_slates, n_positives
        Pages with a positive that were learned from, and their positives.
    from_ms, until_ms
        The span of the pages that were learned from and validated on.
    best_step, validation
        After how many steps the held-out recall was best, and what it was: those weights are kept.
    """

    config: RetrievalTraining
    retrieval: RetrievalConfig
    n_slates: int
    n_positives: int
    n_posts: int
    from_ms: int
    until_ms: int
    n_steps: int
    best_step: int
    temperature: float
    validation: Recall


def train_retrieval(
    samples: SampleSet,
    config: RetrievalTraining,
    *,
    folder: Path,
    sources: VectorSources | None = None,
    device: str | None = None,
    on_progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> tuple[LearnedRetrieval, RetrievalReport]:
    """Learn the towers, write them, their exported form (``served``) and the report into a folder; return both.

    Parameters
    ----------
    samples
        What to learn from and to validate on.
    config
        How.
    folder
        An interrupted run of the same inputs goes on from what is there; one of others is begun anew.
    sources
        Codebooks of the semantic ids that posts are read with; the folder gets a copy. Nothing else is read of them.
    device
        Where torch computes; None: a GPU if there is one, in mixed precision.
    on_progress
        Called after each step with how many are done and how many there are.

    Raises
    ------
    SourceDataError
        If there is nothing to learn from.
    ConfigError
        If a positive is not an action.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    is_positive = positives_of(samples, config.positives)
    catalogue = catalogue_of(samples)
    learned, held_out = split_by_time(samples, is_positive, config)
    if not len(learned) or not len(held_out):
        raise SourceDataError(
            "samples",
            value=len(samples),
            problem="too few pages with something that was liked to learn from",
            remedy="take a longer span of the log",
        )
    sources = VectorSources(codebooks=sources.codebooks if sources else None)
    retrieval = retrieval_config(samples, config, sources)
    vectors = SampleVectors(samples, sources)
    torch.manual_seed(config.seed)
    model = LearnedRetrieval(retrieval, sources)
    if config.has_fixed_texts:
        begin_with_texts(model, samples, config.seed)
    model = model.to(device)
    max_age_ms = int(config.max_age_h * _HOUR_MS)
    batches = BatchMaker(
        samples,
        catalogue,
        is_positive,
        retrieval,
        vectors,
        n_random=config.n_random,
        max_age_ms=max_age_ms,
        no_author_frac=config.no_author_frac,
        n_ahead=config.n_ahead,
        ahead_of=learned,
    )
    per_epoch = max(len(learned) // config.n_slates, 1)
    n_steps = max(round(per_epoch * config.n_epochs), 1)
    folder.mkdir(parents=True, exist_ok=True)
    learned_tables = [table for table in model.tables.parameters() if table.requires_grad]
    optimisers = Optimisers(model.dense_parameters(), learned_tables, config, n_steps)
    stamp = _stamp(samples, config, retrieval)
    state = Checkpoint(folder / CHECKPOINT_NAME, stamp, model, optimisers.by_name)
    state.restore(device)
    found = Recall(n=0, n_live=0.0, at={}, n_cold=0, cold_at={})
    with TrainingLog(folder, state.step) as log:
        losses: list[float] = []
        for step in range(state.step, n_steps):
            batch = _drawn(samples, batches, learned, config, step, per_epoch).to(device)
            with mixed_precision(device):
                loss = _loss(model, batch, config)
            optimisers.take(step, loss)
            losses.append(float(loss.detach()))
            done = step + 1
            if done % config.report_every == 0 or done == n_steps:
                with _as_served(model, config):
                    found = held_out_recall(model, samples, catalogue, is_positive, held_out, config, vectors)
                state.keep(done, -found.at[config.recall_at])
                log.write(done, {"loss": float(np.mean(losses)), **_told(found, model)})
                losses.clear()
            on_progress(done, n_steps)
    state.take_best()
    if config.is_author_debiased:
        model.leave_out("author")
    found = held_out_recall(model, samples, catalogue, is_positive, held_out, config, vectors)
    report = RetrievalReport(
        config=config,
        retrieval=model.config,
        n_slates=len(learned),
        n_positives=int(is_positive[samples.rows_of(learned)].sum()),
        n_posts=len(catalogue),
        from_ms=int(samples.now_ms.min()),
        until_ms=int(samples.now_ms.max()) + 1,
        n_steps=n_steps,
        best_step=state.best_step,
        temperature=float(model.temperature().detach()),
        validation=found,
    )
    with replacing(folder / MODEL_NAME) as file:
        torch.save(model.state_dict(), file)
    export_retrieval(model, folder / SERVED_NAME)
    export_tables(model.tables, folder / SERVED_NAME)
    sources.save_served(folder / SERVED_NAME)
    sources.save(folder / SOURCES_NAME)
    with replacing(folder / REPORT_NAME) as file:
        file.write(msgspec.json.format(msgspec.json.encode(report)))
    state.remove()
    return model, report


def load_retrieval(folder: Path) -> tuple[LearnedRetrieval, RetrievalReport]:
    """Return towers that `train_retrieval` wrote, and their report.

    Raises
    ------
    ConfigError
        If an earlier version wrote them, whose towers had other weights.
    """
    report = msgspec.json.decode((folder / REPORT_NAME).read_bytes(), type=RetrievalReport)
    model = LearnedRetrieval(report.retrieval, VectorSources.load(folder / SOURCES_NAME))
    try:
        model.load_state_dict(torch.load(folder / MODEL_NAME, map_location="cpu", weights_only=True))
    except RuntimeError as error:  # torch's, of weights that are missing
        raise ConfigError(
            "retrieval towers",
            value=str(folder),
            problem="were trained by another version",
            remedy="train them anew: millrace train retrieval",
        ) from error
    return model.eval(), report


def begin_with_texts(model: LearnedRetrieval, samples: SampleSet, seed: int) -> None:
    """Give towers rows of tokens that are made of texts and their authors (`topic_tokens`), and stay as they are.

    Where there are too few authors to tell topics by, rows are learned after all.
    """
    tables = model.tables
    if "post" not in model.config.reads:
        tables.posts.weight.requires_grad_(False)
    found = topic_tokens(samples, tables.width, seed=seed)
    if found is None:
        return
    with torch.no_grad():
        # A word that hardly anybody uses says nothing, rather than something at random.
        tables.tokens.weight.zero_()
        tables.tokens.weight[torch.from_numpy(found.rows)] = torch.from_numpy(found.vectors)
    tables.tokens.weight.requires_grad_(False)


def positives_of(samples: SampleSet, positives: tuple[str, ...]) -> BoolArray:
    """Return which rows show a post that its viewer wanted, shape (n_rows,): acted on, and not disliked.

    Raises
    ------
    ConfigError
        If a name is not an action.
    """
    names = samples.meta.actions
    for name in positives:
        if name not in names:
            raise ConfigError("positive", value=name, problem="not an action", remedy=f"use some of {', '.join(names)}")
    wanted = np.asarray(samples.labels[:, [names.index(name) for name in positives]] > 0).any(axis=1)
    disliked = np.asarray(samples.labels[:, [names.index(name) for name in _DISLIKES]] > 0).any(axis=1)
    is_positive: BoolArray = wanted & ~disliked & is_content_row(samples)
    return is_positive


def split_by_time(
    samples: SampleSet, is_positive: BoolArray, config: RetrievalTraining
) -> tuple[Int64Array, Int64Array]:
    """Return the slates with a positive that are learned from, and of the newest slates some that are held out."""
    order = np.argsort(samples.now_ms, kind="stable")
    n_held_out = max(int(len(samples) * config.validation_frac), 1)
    has_positive = np.zeros(len(samples), dtype=np.bool_)
    has_positive[samples.slate_of[is_positive]] = True
    learned, held_out = order[:-n_held_out], order[-n_held_out:]
    learned, held_out = learned[has_positive[learned]], held_out[has_positive[held_out]]
    if len(held_out) > config.max_validation_slates:
        rng = np.random.default_rng(config.seed)
        held_out = np.sort(rng.choice(held_out, config.max_validation_slates, replace=False))
    return learned, held_out


def retrieval_config(samples: SampleSet, config: RetrievalTraining, sources: VectorSources) -> RetrievalConfig:
    """Return what towers a training of these samples makes."""
    trunk = sized(config.trunk, sources)
    tables = replace(trunk.tables, width=config.table_width)
    if "post" not in config.reads:  # nobody reads ids of posts: there is no table to learn, to store and to map
        tables = replace(tables, n_post_rows=2)
    return RetrievalConfig(
        trunk=replace(trunk, tables=tables),
        width=config.width,
        hidden=config.hidden,
        reads=config.reads,
        actions=samples.meta.actions,
        n_profile_dense=samples.profile_dense.shape[1],
        schema=samples.meta.schema,
        semantic_ids=sources.semantic_ids_digest,
    )


def held_out_recall(
    model: LearnedRetrieval,
    samples: SampleSet,
    catalogue: Catalogue,
    is_positive: BoolArray,
    slates: Int64Array,
    config: RetrievalTraining,
    vectors: SampleVectors | None = None,
) -> Recall:
    """Return how much of what viewers of some slates wanted the towers find among all live posts."""
    max_age_ms = int(config.max_age_h * _HOUR_MS)
    scores = tower_scores(model, samples, catalogue, vectors)
    rows, places, n_live = held_out_ranks(scores, samples, catalogue, is_positive, slates, max_age_ms)
    cutoffs = tuple(sorted({100, 500, config.recall_at}))
    return recall_of(places, n_live, shown_before(samples, rows), cutoffs)


@contextmanager
def _as_served(model: LearnedRetrieval, config: RetrievalTraining) -> Iterator[None]:
    """Let towers read what they will read when they serve: weights are chosen by that."""
    reads = model.config.reads
    if config.is_author_debiased:
        model.leave_out("author")
    try:
        yield
    finally:
        model.read(reads)


def _drawn(
    samples: SampleSet,
    batches: BatchMaker,
    learned: Int64Array,
    config: RetrievalTraining,
    step: int,
    per_epoch: int,
) -> RetrievalBatch:
    """Return a step's batch: pages of about the same time, whose posts were live together; other ones every epoch."""
    epoch, place = divmod(step, per_epoch)
    rng = np.random.default_rng((config.seed, epoch))
    jitter = rng.uniform(-0.5, 0.5, len(learned)) * config.max_age_h * _HOUR_MS / 4
    order = np.argsort(np.asarray(samples.now_ms)[learned] + jitter, kind="stable")
    at = int(rng.permutation(per_epoch)[place])
    slates = learned[order[at * config.n_slates : (at + 1) * config.n_slates]]
    rng = np.random.default_rng((config.seed, epoch, place))
    at_least = min(config.min_history_frac, config.max_history_frac)
    share = rng.uniform(at_least, config.max_history_frac, len(slates))
    share[rng.random(len(slates)) < config.no_history_frac] = 0.0
    max_history = np.rint(share * config.trunk.max_history).astype(np.int64)
    return batches.make(slates, max_history, rng)


def _loss(model: LearnedRetrieval, batch: RetrievalBatch, config: RetrievalTraining) -> Tensor:
    viewers = model.encode_viewers(*assembled_viewers(batch.viewers, model.tables))
    posts = model.posts(assembled_posts(batch.posts, model.tables))
    with torch.autocast(viewers.device.type, enabled=False):  # over the temperature, a bfloat16 is off by tenths
        scores = (viewers.float() @ posts.float().T)[batch.slate_of] / model.temperature()
    loss = sampled_softmax(scores, batch.targets, config.log_q_scale * batch.log_q, batch.is_masked, batch.weights)
    if config.page_weight == 0.0:
        return loss
    # All of a page was shown: here it does not count how likely a post was to be shown to this viewer.
    nothing = torch.zeros_like(batch.log_q)
    return loss + config.page_weight * sampled_softmax(scores, batch.targets, nothing, ~batch.is_beside, batch.weights)


def _told(found: Recall, model: LearnedRetrieval) -> dict[str, float]:
    recall = {f"validation/recall{k}": value for k, value in found.at.items()}
    cold = {f"validation/cold{k}": value for k, value in found.cold_at.items()}
    return {**recall, **cold, "temperature": float(model.temperature().detach())}


def _stamp(samples: SampleSet, config: RetrievalTraining, retrieval: RetrievalConfig) -> str:
    """Return a name of everything that a run depends on."""
    digest = hashlib.blake2b(msgspec.json.encode((config, retrieval, samples.meta)), digest_size=16)
    for array in (samples.viewers, samples.now_ms, samples.post_ids, samples.labels, samples.text_posts):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
