"""Config sections of the app itself: server, auth, events, claims, traces. Other rooms keep their own."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct


class ServerConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[server]``: the HTTP service."""

    host: Annotated[str, Meta(min_length=1, description="Address to bind; in development mode loopback only")] = (
        "127.0.0.1"
    )
    port: Annotated[int, Meta(ge=0, le=65_535, description="TCP port; 0 takes a free one")] = 8000
    n_workers: Annotated[int, Meta(ge=1, le=256, description="Serving processes")] = 1
    max_body_bytes: Annotated[int, Meta(ge=1024, description="Largest accepted request body")] = 64 << 20
    max_events_per_post: Annotated[int, Meta(ge=1, le=10_000, description="Most events of one POST /api/v1/events")] = (
        10_000
    )
    served_batch_ms: Annotated[
        int,
        Meta(ge=1, le=1_000, description="Served events are appended in batches this far apart"),
    ] = 20


class AuthConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[auth]``: who may ask for what; docs/http.md."""

    mode: Annotated[
        Literal["development", "tokens"],
        Meta(
            description="development: this machine only, no credentials, everybody may do everything; tokens: viewers "
            "carry JWTs (`millrace token`), producers and operators API keys (`millrace keys`)"
        ),
    ] = "development"
    token_ttl_s: Annotated[
        int, Meta(ge=1, le=366 * 86_400, description="How long a viewer's token is good, if --ttl does not say")
    ] = 43_200
    clock_skew_s: Annotated[
        int, Meta(ge=0, le=3_600, description="How far other machines' clocks may be off when a token's times are read")
    ] = 30


class EventsConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[events]``: the operator's own event types and actions."""

    modules: Annotated[
        tuple[str, ...], Meta(description="Importable modules that hold EVENT_TYPES, tuples of EventType")
    ] = ()
    business_actions: Annotated[
        tuple[str, ...],
        Meta(description="Further actions, such as purchase; append only, in order"),
    ] = ()


class ClaimsConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[claims]``: the transactional store for what must be atomic across workers."""

    backend: Annotated[Literal["sqlite", "redis"], Meta(description="sqlite (one machine) or redis (several)")] = (
        "sqlite"
    )
    redis_url: Annotated[str, Meta(description="Used by the redis backend")] = "redis://127.0.0.1:6379/0"


class LimitsConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[limits]``: how fast each client may send events, over all workers; more is answered with 429."""

    viewer_events_per_s: Annotated[float, Meta(ge=0, description="Of one viewer's tokens, on average; 0: no limit")] = (
        20.0
    )
    viewer_burst: Annotated[int, Meta(ge=1, description="Of one viewer at once, after a rest")] = 1_000
    producer_events_per_s: Annotated[
        float, Meta(ge=0, description="Of one API key, or of everybody in development mode; 0: no limit")
    ] = 50_000.0
    producer_burst: Annotated[int, Meta(ge=1, description="Of one API key at once, after a rest")] = 500_000


class TracesConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[traces]``: what explains every request, kept for a while."""

    is_on: Annotated[
        bool, Meta(description="Keep a trace of every request, so that it can be asked how its page was made and why")
    ] = True
    max_mb: Annotated[
        int,
        Meta(
            ge=1,
            le=100_000,
            description="Most megabytes of traces per serving process (a page leaves 30 to 150 kB); the oldest are "
            "overwritten",
        ),
    ] = 128
