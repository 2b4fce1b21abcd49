"""`HomeConfig`: what of the home feed needs a restart. What may differ by request is a `Param` beside its stage."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from millrace.inference.runner_choice import Precision, RunnerName, check_precision


class HomeConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Section ``[home]``."""

    value_profile: Annotated[
        str,
        Meta(
            min_length=1,
            description="The set of params that pages are valued by: x, classic, or a table [profiles.NAME]; "
            "a change takes effect without a restart, as one of [profiles] and [params] does",
        ),
    ] = "x"
    ranker: Annotated[
        str,
        Meta(
            description="Folder of a trained ranker (served of `millrace train ranker`); its predictions take "
            "the place of the counters-based ones. Empty: counters alone"
        ),
    ] = ""
    retrieval: Annotated[
        str, Meta(description="Folder of trained retrieval towers (served of `millrace train retrieval`); empty: none")
    ] = ""
    pre_ranker: Annotated[
        str, Meta(description="Folder of a pre-ranker (served of `millrace distill`); empty: everything is ranked")
    ] = ""
    logs_features: Annotated[
        bool, Meta(description="Log what models saw of each page, and of a share of requests all candidates")
    ] = True
    max_features_bytes: Annotated[
        int,
        Meta(
            ge=16_384,
            le=1 << 24,
            description="The most that is logged so of one request, before it is compressed; of a page the first posts "
            "stay, of candidates a random share",
        ),
    ] = 262_144
    runner: Annotated[
        RunnerName,
        Meta(
            description="What runs the ranker: onnx (ONNX Runtime); torch (a GPU where there is one; needs "
            "pip install -e '.[train]'); numpy (the reference, slow)"
        ),
    ] = "onnx"
    precision: Annotated[
        Precision,
        Meta(
            description="What the ranker multiplies in: fp32; int8 (runner onnx) or bf16 (runner torch) where a model "
            "lost next to nothing by it when it was trained (quantisation.json and quantisation_bf16.json beside its "
            "graphs tell), and fp32 elsewhere"
        ),
    ] = "fp32"
    rank_servers: Annotated[
        tuple[str, ...],
        Meta(description="host:port of `millrace rank-server`s that run the ranker; none: every worker runs it itself"),
    ] = ()
    unsafe_labels: Annotated[
        tuple[str, ...],
        Meta(description="Safety labels of posts and accounts that hide a post from everybody"),
    ] = ("spam", "abuse", "hate", "violence", "csam", "malware", "illegal", "suspended", "deactivated")
    unsafe_for_strangers_labels: Annotated[
        tuple[str, ...],
        Meta(description="Safety labels that hide a post from those who do not follow its author"),
    ] = ("nsfw", "gore", "insult", "low_quality", "impersonation", "compromised", "do_not_amplify")
    page_size: Annotated[int, Meta(ge=1, le=500, description="Posts on a page where the request names no limit")] = 35
    max_page_size: Annotated[int, Meta(ge=1, le=500, description="The largest limit a request may name")] = 50
    deadline_ms: Annotated[
        float, Meta(gt=0, le=60_000, description="Time given to a page; afterwards stages that can be skipped are")
    ] = 150.0
    max_refills: Annotated[
        int, Meta(ge=0, le=100, description="How often a page is chosen again after late filters dropped posts")
    ] = 32
    claim_ttl_ms: Annotated[
        int,
        Meta(ge=1_000, description="The seen window: for so long a post that left for a viewer never leaves again"),
    ] = 7 * 24 * 3_600_000
    max_claims: Annotated[
        int,
        Meta(
            ge=1_000,
            le=65_536,
            description="How many posts that left are kept track of for a viewer; when there are more, those published "
            "first are let go, and nothing older is ever sent to the viewer again",
        ),
    ] = 8_192
    page_ttl_ms: Annotated[
        int,
        Meta(ge=0, description="For so long the same cursor, or the same X-Request-ID, gives the same page once more"),
    ] = 600_000
    claim_timeout_ms: Annotated[
        float,
        Meta(
            gt=0,
            description="How long a page may wait for the claim store, all rounds together; then it does not leave "
            "(503). The state is held still meanwhile, so a store that hangs holds up a worker for this long",
        ),
    ] = 250.0
    content_timeout_ms: Annotated[
        float,
        Meta(
            gt=0,
            description="With content on a server: how long a page may wait for texts and names that are not at hand; "
            "posts whose text has not come by then are left out of it",
        ),
    ] = 250.0
    max_concurrent: Annotated[
        int,
        Meta(ge=1, le=1_000, description="Pages that a worker makes at a time; folding waits for these and no others"),
    ] = 2
    is_strict: Annotated[
        bool, Meta(description="Raise what a stage raises instead of serving without it (development, tests)")
    ] = False

    def __post_init__(self) -> None:
        check_precision(self.runner, self.precision)
