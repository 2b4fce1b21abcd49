"""Every query field of the feed pipelines, declared once: what is known of the viewer."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from millrace.base.ids import Int64Array
from millrace.events.envelope import Context
from millrace.features.encoding.viewers import ViewerInputs
from millrace.pipeline.query import QueryField

Int32Array = npt.NDArray[np.int32]


class Boundary(NamedTuple):
    """A stretch of a timeline that lies behind a viewer who scrolls, both ends included; newest first, ties by id.

    Attributes
    ----------
    top_ms, top_id
        When its newest post was published, and its inside id.
    end_ms, end_id
        The same of its oldest post: the next page begins after it.
    """

    top_ms: int
    top_id: int
    end_ms: int
    end_id: int


_LAST: Final = 2**63 - 1
BEGINNING: Final = Boundary(_LAST, -_LAST, _LAST, -_LAST)
"""Nothing lies behind."""


def _no_ids() -> Int64Array:
    ids = np.empty(0, dtype=np.int64)
    ids.setflags(write=False)
    return ids


def _no_codes() -> Int32Array:
    codes = np.empty(0, dtype=np.int32)
    codes.setflags(write=False)
    return codes


VIEWER: Final[QueryField[str]] = QueryField("viewer", "", "the viewer's outside id; given by the service")
CONTEXT: Final[QueryField[Context]] = QueryField(
    "context", Context(), "where and how the request was made; given by the service"
)
BOUNDARY: Final[QueryField[Boundary]] = QueryField(
    "boundary", BEGINNING, "what of the timeline lies behind the viewer; given by the service"
)
FOLLOWING: Final[QueryField[Int64Array]] = QueryField("following", _no_ids(), "whom the viewer follows")
BLOCKED: Final[QueryField[Int64Array]] = QueryField("blocked", _no_ids(), "whom the viewer blocks")
BLOCKED_BY: Final[QueryField[Int64Array]] = QueryField("blocked_by", _no_ids(), "who blocks the viewer")
MUTED: Final[QueryField[Int64Array]] = QueryField("muted", _no_ids(), "whom the viewer mutes")
SEEN: Final[QueryField[Int64Array]] = QueryField("seen", _no_ids(), "posts the viewer has seen")
SERVED: Final[QueryField[Int64Array]] = QueryField("served", _no_ids(), "posts sent to the viewer lately")
CLAIMED: Final[QueryField[Int64Array]] = QueryField(
    "claimed", _no_ids(), "contents that left for the viewer within the seen window, in any worker"
)
FLOOR_MS: Final[QueryField[int]] = QueryField(
    "floor_ms", 0, "contents published before this are never eligible again for the viewer"
)
KEYWORDS: Final[QueryField[Int64Array]] = QueryField("keywords", _no_ids(), "hashes of the keywords the viewer mutes")
LIKED_POSTS: Final[QueryField[Int64Array]] = QueryField(
    "liked_posts",
    _no_ids(),
    "posts the viewer liked: those acted on first, newest first, then those looked at for long",
)
LIKED_TOPICS: Final[QueryField[Int32Array]] = QueryField(
    "liked_topics", _no_codes(), "topics of those posts and of the viewer's profile, most liked first"
)
LANGUAGES: Final[QueryField[Int32Array]] = QueryField(
    "languages", _no_codes(), "language codes the viewer understands; none means unknown"
)
SHOWS_SENSITIVE: Final[QueryField[bool]] = QueryField(
    "shows_sensitive", default=False, doc="the viewer wants sensitive media"
)
SHOWS_ALL_LANGUAGES: Final[QueryField[bool]] = QueryField(
    "shows_all_languages", default=False, doc="the viewer wants posts in languages that they did not name, too"
)
VIEWER_INPUTS: Final[QueryField[ViewerInputs | None]] = QueryField(
    "viewer_inputs", None, "what models read of the viewer; None where nobody asks for it"
)
