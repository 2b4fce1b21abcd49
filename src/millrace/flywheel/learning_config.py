"""How the feed learns on, and what the gate asks: ``[flywheel.learning]`` and ``[flywheel.gate]``."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct


class LearningConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[flywheel.learning]``: rounds, and how a round learns."""

    hours_per_round: Annotated[float, Meta(gt=0, le=168, description="Hours of pages that a round waits for")] = 1.0
    max_hours: Annotated[
        float,
        Meta(gt=0, le=720, description="Most hours of one round; where more have gathered, the oldest are skipped"),
    ] = 24.0
    min_pages: Annotated[int, Meta(ge=20, description="With fewer new pages a round waits: too few to judge by")] = 400
    max_pages: Annotated[int, Meta(ge=20, description="Most new pages of a round; of more an even sample is taken")] = (
        6_000
    )
    replay_hours: Annotated[
        float, Meta(ge=0, le=720, description="How far back older pages are learned from again")
    ] = 72.0
    replay_share: Annotated[
        float, Meta(ge=0, lt=1, description="Share of older pages in every step; the rest is new")
    ] = 0.85
    replay_half_life_h: Annotated[
        float, Meta(gt=0, description="An older page is drawn half as often for every so many hours of its age")
    ] = 24.0
    max_trusted_pages: Annotated[
        int,
        Meta(
            ge=20,
            description="Judged pages of earlier rounds, the newest, that stay unlearned: half of them calibrate, half "
            "judge",
        ),
    ] = 2_000
    min_judged_pages: Annotated[
        int,
        Meta(
            ge=1, description="Where the gate has fewer new pages to judge by, it takes the newest of those of before"
        ),
    ] = 600
    max_replay_pages: Annotated[
        int, Meta(ge=20, description="Most older pages that a round reads, drawn by the same half-life")
    ] = 6_000
    n_epochs: Annotated[float, Meta(gt=0, le=10, description="How often a round sees each new page")] = 1.0
    max_steps: Annotated[int, Meta(ge=1, le=10_000, description="Most steps of a round")] = 120
    n_slates: Annotated[int, Meta(ge=2, description="Pages of a step")] = 64
    learning_rate: Annotated[
        float, Meta(gt=0, lt=1, description="Of what is dense: as in a whole training, for steps are averaged")
    ] = 1e-3
    table_learning_rate: Annotated[float, Meta(gt=0, lt=1, description="Of embedding tables")] = 5e-3
    mean_decay: Annotated[
        float,
        Meta(gt=0, lt=1, description="What comes out is a running mean of the weights: what of it is kept each step"),
    ] = 0.98
    chosen_by_frac: Annotated[
        float,
        Meta(
            gt=0, lt=0.5, description="Share of new pages, newer than those learned from, that calibrates and chooses"
        ),
    ] = 0.15
    judged_frac: Annotated[
        float,
        Meta(gt=0, lt=0.5, description="Newest share of new pages: the gate judges on them, nobody learns from them"),
    ] = 0.25
    poll_s: Annotated[float, Meta(gt=0, le=3600, description="Seconds between looks for new hours")] = 5.0
    distils_every: Annotated[
        int, Meta(ge=0, description="Promoted rankers until the pre-ranker is distilled anew; 0: never")
    ] = 24
    seed: Annotated[int, Meta(ge=0, description="Of what is drawn")] = 1


class GateConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[flywheel.gate]``: what a ranker that learned on may lose, and must not do, to serve."""

    min_entropy_gain: Annotated[
        float,
        Meta(
            ge=-1,
            lt=1,
            description="Normalised entropy gained on the newest pages, mean over heads, must be at least this",
        ),
    ] = 0.0
    max_entropy_lost: Annotated[
        float, Meta(ge=0, description="The lower bound of that gain must not be below minus this")
    ] = 0.01
    max_auc_lost: Annotated[
        float,
        Meta(ge=0, description="The lower bound of the AUC gained, mean over heads, must not be below minus this"),
    ] = 0.01
    max_calibration_off: Annotated[
        float,
        Meta(
            gt=0, description="No head may surely predict off by more than this factor less 1, unless the live one does"
        ),
    ] = 0.25
    max_slice_entropy_lost: Annotated[
        float, Meta(ge=0, description="No slice may surely lose more normalised entropy than this")
    ] = 0.005
    max_memory_lost: Annotated[
        float,
        Meta(ge=0, description="Normalised entropy lost, at most, on pages of earlier rounds that nobody learned from"),
    ] = 0.01
    max_surprise: Annotated[
        float,
        Meta(gt=0, description="The live model's AUC may be this much lower on the new pages than on trusted ones"),
    ] = 0.08
    max_crowd_share: Annotated[
        float, Meta(gt=0, le=1, description="Most of an action's doings that the few busiest viewers may have done")
    ] = 0.4
    crowd_frac: Annotated[
        float, Meta(gt=0, le=0.5, description="The busiest viewers are this share of all, at least three")
    ] = 0.01
    max_latency_ratio: Annotated[
        float, Meta(gt=0, description="Time to score 500 candidates beside the live model's")
    ] = 1.25
    max_bytes: Annotated[int, Meta(ge=1, description="Size of the artefact")] = 1 << 30
    max_bytes_ratio: Annotated[float, Meta(gt=0, description="Size of the artefact beside the live one's")] = 1.1
    min_positives: Annotated[int, Meta(ge=5, description="With fewer positives, or others, a head has no say")] = 20
    min_slice_rows: Annotated[int, Meta(ge=1, description="With fewer rows a slice has no say")] = 300
    n_resamples: Annotated[int, Meta(ge=20, le=10_000, description="Of the bootstrap by viewer")] = 200
    seed: Annotated[int, Meta(ge=0, description="Of the bootstrap")] = 1
