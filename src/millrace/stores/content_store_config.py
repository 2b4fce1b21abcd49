"""`ContentStoreConfig`: where texts and names are kept (section ``[content_store]``)."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct


class ContentStoreConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the keeper writes texts and names, and how workers read them; docs/howto/postgres.md."""

    backend: Annotated[
        Literal["sqlite", "postgres"],
        Meta(description="sqlite (one machine, data/content.db) or postgres (several machines share a server)"),
    ] = "sqlite"
    postgres_url: Annotated[str, Meta(description="Used by the postgres backend: postgresql://user@host:port/db")] = (
        "postgresql://127.0.0.1:5432/millrace"
    )
    schema: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=63,
            description="Schema of its tables in that database; each feed has one of its own",
        ),
    ] = "millrace_content"
    timeout_ms: Annotated[int, Meta(ge=1, le=60_000, description="The longest that the server may work on a read")] = (
        1_000
    )
    cache_mb: Annotated[
        int,
        Meta(ge=1, le=100_000, description="With postgres: megabytes of posts that each worker keeps in its memory"),
    ] = 64
    cache_keep_s: Annotated[
        float,
        Meta(
            ge=1,
            le=3_600,
            description="With postgres: what is kept may be used for so long after its last use; as long, workers "
            "remember content events that the keeper has written already",
        ),
    ] = 60.0
    cache_redis_url: Annotated[
        str,
        Meta(description="With postgres: a Redis where workers share what they have read (redis://…); empty: none"),
    ] = ""
