"""`PostInputs`: what a model reads of a post alone, whoever looks at it and whenever: the same today and tomorrow."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from millrace.base.ids import Int64Array
from millrace.base.int_table import Int32Array
from millrace.content.ngrams import UInt16Array
from millrace.content.text_index import TextIndex
from millrace.content.text_kernels import HAS_AUDIO, HAS_IMAGE, HAS_LINK, HAS_VIDEO
from millrace.features.encoding.buckets import UInt8Array, second_buckets
from millrace.features.encoding.languages import LanguageRows
from millrace.stores.post_kernels import QUOTE, REPLY
from millrace.stores.post_store import PostStore

POST_TRAITS: Final = ("reply", "quote", "image", "video", "audio", "link", "duration")
"""Fields of `PostInputs.traits`, a byte each: those of `millrace.features.encoding.candidates.SCALARS` that last."""

_YES: Final = 32
_ATTACHED: Final = (HAS_IMAGE, HAS_VIDEO, HAS_AUDIO, HAS_LINK)


class PostInputs(NamedTuple):
    """Posts, encoded; row by row, shape (n, ...).

    Attributes
    ----------
    post_ids, author_ids
        int64.
    languages
        uint8 rows (`LanguageRows`).
    traits
        Shape (n, 7), uint8: `POST_TRAITS`.
    tokens
        Shape (n, 64), uint16: rows of the embedding bag of their texts.
    """

    post_ids: Int64Array
    author_ids: Int64Array
    languages: UInt8Array
    traits: UInt8Array
    tokens: UInt16Array

    @property
    def n(self) -> int:
        """How many posts."""
        return len(self.post_ids)

    def take(self, rows: npt.NDArray[np.integer]) -> PostInputs:
        """Return some of the rows."""
        return PostInputs(*(column[rows] for column in self))


class PostEncoder:
    """Encodes posts from the stores of one process.

    Parameters
    ----------
    posts, texts, languages
        The stores.
    """

    def __init__(self, posts: PostStore, texts: TextIndex, languages: LanguageRows) -> None:
        self._posts = posts
        self._texts = texts
        self._languages = languages

    def encode(self, rows: Int32Array) -> PostInputs:
        """Return the inputs of the posts in some rows of the post store (`PostStore.find`), none of them -1."""
        found = self._posts.gather(rows)
        tokens, attached = self._texts.content(found.post_id)
        flags = (found.kind == REPLY, found.kind == QUOTE, *(attached & trait != 0 for trait in _ATTACHED))
        traits = np.empty((len(rows), len(POST_TRAITS)), dtype=np.uint8)
        for i, flag in enumerate(flags):
            traits[:, i] = flag * np.uint8(_YES)
        traits[:, -1] = second_buckets(found.duration_ms)
        return PostInputs(found.post_id, found.author_id, self._languages.rows(found.language), traits, tokens)
