"""Learn the social encoder: given a user's follows but some, tell whom else they follow.

The whole loop is here. Every `SocialTraining.report_every` steps the encoder is run over the whole graph as it serves
(NumPy, all neighbours), held-out follows are ranked, the best weights so far are kept, and a checkpoint takes the place
of the one before: a run that is killed goes on from there and ends, on a CPU, with the same bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
import numpy as np
import torch
from msgspec import Meta, Struct
from torch import Tensor

from millrace.base.atomic_file import replacing
from millrace.base.errors import SourceDataError
from millrace.features.follow_edges import FollowEdges
from millrace.features.social_network import Degrees, SocialNetwork, UserContent, user_inputs
from millrace.features.social_vectors import SocialVectors
from millrace.flywheel.checkpointing import CHECKPOINT_NAME, Checkpoint
from millrace.flywheel.follow_batches import FollowBatch, FollowBatches
from millrace.flywheel.link_baselines import LinkBaseline, baseline_scores
from millrace.flywheel.link_metrics import LinkMetrics, ScoreRows, link_metrics
from millrace.flywheel.link_split import LinkSplit, LinkSplitConfig, joined, split_edges
from millrace.flywheel.mixed_precision import mixed_precision
from millrace.flywheel.neighbour_sampling import SampledBlock
from millrace.flywheel.optimisers import pace
from millrace.flywheel.training_log import TrainingLog
from millrace.models.social import Block, Neighbours, SocialConfig, SocialEncoder, follow_loss
from millrace.pipeline.ragged import Ragged

REPORT_NAME: Final = "report.json"
ENCODER: Final = "social_encoder"


class SocialTraining(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the encoder is learned; the encoder's seed decides everything that is left to chance."""

    encoder: SocialConfig = SocialConfig()
    split: LinkSplitConfig = LinkSplitConfig()
    n_steps: Annotated[int, Meta(ge=1)] = 800
    n_edges: Annotated[int, Meta(ge=1, description="follows of a step")] = 512
    n_random: Annotated[int, Meta(ge=0, description="random candidates of a step, beside the followed ones")] = 512
    learning_rate: Annotated[float, Meta(gt=0)] = 3e-3
    n_warm_up: Annotated[int, Meta(ge=0, description="steps until the learning rate is reached")] = 50
    schedule: Literal["cosine", "constant"] = "cosine"
    weight_decay: Annotated[float, Meta(ge=0)] = 1e-3
    max_norm: Annotated[float, Meta(gt=0, description="gradients are clipped to it")] = 1.0
    report_every: Annotated[int, Meta(ge=1, description="steps between validations, which are checkpoints too")] = 100
    max_validation_users: Annotated[int, Meta(ge=1)] = 500
    max_test_users: Annotated[int, Meta(ge=1)] = 2_000


class SocialReport(Struct, frozen=True, kw_only=True):
    """What came of it.

    Attributes
    ----------
    best_step, validation_auc
        After how many steps validation was best, and how good it was: those weights are kept.
    test, newcomers
        By name of the scorer: follows held out, and those of users who were not there while it learned and whose
        vectors were aggregated from half of their follows. Touched once, after everything is chosen.
    """

    config: SocialTraining
    n_users: int
    n_edges: int
    best_step: int
    validation_auc: float
    test: dict[str, LinkMetrics]
    newcomers: dict[str, LinkMetrics]


def train_social(
    graph: FollowEdges,
    features: UserContent,
    config: SocialTraining,
    *,
    folder: Path,
    device: str | None = None,
    on_progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> SocialReport:
    """Learn the encoder, write it with everybody's vectors and the report into a folder, and return the report.

    Parameters
    ----------
    graph
        Who follows whom.
    features
        What else is known of ``graph.user_ids``.
    config
        How.
    folder
        Where `SocialVectors.load` finds the encoder; an interrupted run of the same inputs goes on from what is there,
        one of others is begun anew.
    device
        Where torch computes; None: a GPU if there is one, in mixed precision.
    on_progress
        Called after each step with how many are done and how many there are.

    Raises
    ------
    SourceDataError
        If there are no edges to learn from.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    split = split_edges(graph, config.split)
    learned = split.learned
    if not learned.n_edges:
        raise SourceDataError(
            "follow graph", value=graph.n_edges, problem="has no follows to learn from", remedy="train when it has some"
        )
    folder.mkdir(parents=True, exist_ok=True)
    degrees = Degrees(learned.n_following, learned.n_followers)
    inputs = torch.from_numpy(user_inputs(graph.user_ids, degrees, features, config.encoder.shape)).to(device)
    batches = FollowBatches(learned, config.encoder.fanouts, config.n_edges, config.n_random, seed=config.encoder.seed)
    encoder = SocialEncoder(config.encoder).to(device)
    optimiser = torch.optim.AdamW(encoder.parameters(), config.learning_rate, weight_decay=config.weight_decay)
    stamp = _stamp(graph, features, config)
    state = Checkpoint(folder / CHECKPOINT_NAME, stamp, encoder, {"dense": optimiser})
    state.restore(device)
    with TrainingLog(folder, state.step) as log, _deterministic(device):
        losses: list[float] = []
        for step in range(state.step, config.n_steps):
            loss = _loss(encoder, inputs, batches.draw(step), device)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(encoder.parameters(), config.max_norm)
            for group in optimiser.param_groups:
                group["lr"] = config.learning_rate * pace(step, config.n_steps, config.n_warm_up, config.schedule)
            optimiser.step()
            losses.append(float(loss.detach()))
            done = step + 1
            if done % config.report_every == 0 or done == config.n_steps:
                found = _validate(encoder.network(), features, split, config)
                state.keep(done, -found.auc)
                recall = {f"validation/recall{cutoff}": value for cutoff, value in found.recall.items()}
                log.write(done, {"loss": float(np.mean(losses)), "validation/auc": found.auc, **recall})
                losses.clear()
            on_progress(done, config.n_steps)
    state.take_best()
    network = encoder.network()
    report = SocialReport(
        config=config,
        n_users=graph.n_users,
        n_edges=graph.n_edges,
        best_step=state.best_step,
        validation_auc=-state.best_loss,
        test=_test(network, features, split, config),
        newcomers=_test_newcomers(network, features, split, config),
    )
    vectors = SocialVectors(network)
    vectors.refresh(graph, features)
    vectors.save(folder)
    with replacing(folder / REPORT_NAME) as file:
        file.write(msgspec.json.format(msgspec.json.encode(report)))
    state.remove()
    return report


def _loss(encoder: SocialEncoder, inputs: Tensor, batch: FollowBatch, device: str) -> Tensor:
    blocks = [on_device(block, device) for block in batch.sample.blocks]
    with mixed_precision(device):
        vectors = encoder(inputs[torch.from_numpy(batch.sample.users).to(device)], blocks)
        scores = encoder.follow_scores(
            vectors[torch.from_numpy(batch.followers).to(device)],
            vectors[torch.from_numpy(batch.candidates).to(device)],
        )
    return follow_loss(
        scores.float(),
        torch.from_numpy(batch.positives).to(device),
        torch.from_numpy(batch.log_frequencies).to(device),
        torch.from_numpy(batch.is_left_out).to(device),
    )


def on_device(block: SampledBlock, device: str) -> Block:
    """Return a block as tensors on a device."""

    def lists(neighbours: Ragged) -> Neighbours:
        return Neighbours(
            torch.from_numpy(neighbours.values).to(device), torch.from_numpy(neighbours.offsets).to(device)
        )

    return Block(torch.from_numpy(block.own).to(device), lists(block.following), lists(block.followers))


def _validate(network: SocialNetwork, features: UserContent, split: LinkSplit, config: SocialTraining) -> LinkMetrics:
    vectors = SocialVectors(network)
    vectors.refresh(split.learned, features)
    return link_metrics(
        _encoder_scores(vectors),
        split.learned,
        split.validation,
        max_users=config.max_validation_users,
        seed=config.encoder.seed,
    )


def _test(
    network: SocialNetwork, features: UserContent, split: LinkSplit, config: SocialTraining
) -> dict[str, LinkMetrics]:
    known = joined(split.learned, split.validation)
    vectors = SocialVectors(network)
    vectors.refresh(known, features)
    return _compared(_encoder_scores(vectors), known, split.test, config)


def _test_newcomers(
    network: SocialNetwork, features: UserContent, split: LinkSplit, config: SocialTraining
) -> dict[str, LinkMetrics]:
    old = joined(split.learned, split.validation)
    vectors = SocialVectors(network)
    vectors.refresh(old, features)
    everybody = vectors.vectors(old.user_ids)[0]
    shown = split.newcomers_known.following()

    def scores(users: np.ndarray[Any, np.dtype[np.int64]]) -> np.ndarray[Any, np.dtype[np.float32]]:
        lists = shown.take(users)
        followees = Ragged(old.user_ids[lists.values], lists.offsets)
        known = UserContent(
            None if features.content is None else features.content[users],
            None if features.languages is None else features.languages[users],
        )
        fresh, _ = vectors.aggregate_new(old.user_ids[users], followees, known=known)
        return network.follow_scores(fresh, everybody)

    return _compared(scores, joined(old, split.newcomers_known), split.newcomers_test, config)


def _compared(
    scores: ScoreRows, known: FollowEdges, held_out: FollowEdges, config: SocialTraining
) -> dict[str, LinkMetrics]:
    """Return how well the encoder and the baselines find held-out edges."""
    scorers = {ENCODER: scores, **{baseline.value: baseline_scores(known, baseline) for baseline in LinkBaseline}}
    return {
        name: link_metrics(scorer, known, held_out, max_users=config.max_test_users, seed=config.encoder.seed)
        for name, scorer in scorers.items()
    }


def _encoder_scores(vectors: SocialVectors) -> ScoreRows:
    everybody = vectors.vectors(vectors.user_ids)[0]
    return lambda users: vectors.network.follow_scores(everybody[users], everybody)


def _stamp(graph: FollowEdges, features: UserContent, config: SocialTraining) -> str:
    """Return a name of everything that a run depends on."""
    digest = hashlib.blake2b(msgspec.json.encode(config), digest_size=16)
    for array in (graph.user_ids, graph.followers, graph.followees, *features):
        digest.update(b"none" if array is None else np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


@contextmanager
def _deterministic(device: str) -> Iterator[None]:
    """On a CPU, let torch choose only kernels whose result does not depend on chance."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(device == "cpu" or before)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
