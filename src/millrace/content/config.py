"""`ContentConfig`: how much is kept of what was understood (section ``[content]``)."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct


class ContentConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Sizes of what is derived from content. A change needs a state folded anew, as one of ``[stores]`` does."""

    max_posts: Annotated[
        int,
        Meta(
            ge=1,
            le=1 << 24,
            description="Newest posts, reposts aside, whose text vectors and tokens are kept; 250 bytes each",
        ),
    ] = 131_072
