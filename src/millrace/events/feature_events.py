"""What models saw when a page was made, as they saw it: large events that change no store.

They have a topic of their own, which no replica reads (`EventType.is_folded`): a restart passes over them.
Their arrays are written and read by `millrace.features.encoding.logged`. Of that layout, erasure must know where the
inside ids are: `AUTHORS` and `POSTS`. An array whose name begins with ``h_`` has a row a history token, one with
``v_`` is about the viewer as a whole, every other has a row a candidate.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, TypeVar

import numpy as np
import numpy.typing as npt
from msgspec import Meta
from msgspec.structs import replace

from millrace.base.errors import SchemaError
from millrace.base.ids import Int64Array
from millrace.events.envelope import Name, Payload, RequestId, UserId
from millrace.events.packed import PackedArrays, pack_arrays, unpack_arrays

HISTORY: Final = "h_"
WHOLE: Final = "v_"

AUTHORS: Final = "authors"
POSTS: Final = "posts"
CONTENTS: Final = "contents"
"""The post itself, or what a repost carries."""


class InputsLogged(Payload, frozen=True, kw_only=True):
    """What both types have; not an event by itself.

    Attributes
    ----------
    schema
        Hash of what every byte means (`millrace.features.encoding.candidates.schema_hash`).
    state_offset
        The log position that all stores were read at.
    models
        Who predicted: role to version, as far as it is known.
    share
        The probability with which requests are logged like this.
    surface
        Where the page was asked for, as the request said.
    arrays
        `millrace.events.packed`.
    """

    request_id: RequestId
    viewer_id: UserId
    pipeline: Name
    schema: Name
    state_offset: tuple[int, ...] = ()
    models: dict[str, str] = {}
    share: Annotated[float, Meta(ge=0, le=1)] = 1.0
    surface: Annotated[str, Meta(max_length=64)] = ""
    arrays: bytes


class FeaturesLogged(InputsLogged, frozen=True, kw_only=True):
    """The viewer and the posts of a page, encoded as models read them, beside what was predicted for them.

    Written by the server only. The event's time is the request's.
    """


class CandidatesLogged(InputsLogged, frozen=True, kw_only=True):
    """The same of a sampled request's candidates: all that were ranked, and some of those that a pre-ranker cut.

    Each row has the probability with which it is here, given that the request is.
    """


InputsT = TypeVar("InputsT", bound=InputsLogged)


def names_any(payload: InputsLogged, authors: Int64Array, posts: Int64Array) -> bool:
    """Whether one of some authors, or of some posts, is among the candidates or in the history; inside ids.

    Of damaged arrays nobody can tell, so they do.
    """
    try:
        arrays = unpack_arrays(payload.arrays)
    except SchemaError:
        return True
    return any(bool(_is_named(arrays, prefix, authors, posts).any()) for prefix in ("", HISTORY))


def without(payload: InputsT, authors: Int64Array, posts: Int64Array) -> InputsT:
    """Return the event without the candidates and history tokens of some authors and posts; inside ids.

    Damaged arrays are left out altogether.
    """
    try:
        arrays = unpack_arrays(payload.arrays)
    except SchemaError:
        return replace(payload, arrays=b"")
    kept = {prefix: ~_is_named(arrays, prefix, authors, posts) for prefix in ("", HISTORY)}
    if all(mask.all() for mask in kept.values()):
        return payload
    fresh = {
        name: array if name.startswith(WHOLE) else array[kept[HISTORY if name.startswith(HISTORY) else ""]]
        for name, array in arrays.items()
    }
    return replace(payload, arrays=pack_arrays(fresh))


def _is_named(arrays: PackedArrays, prefix: str, authors: Int64Array, posts: Int64Array) -> npt.NDArray[Any]:
    found = np.isin(arrays[prefix + AUTHORS], authors) | np.isin(arrays[prefix + POSTS], posts)
    return found if prefix else found | np.isin(arrays[CONTENTS], posts)
