"""`ViewerInputs`: what models read of a viewer; it changes when the viewer acts, never with the time of a request."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

import numpy as np

from millrace.content.ngrams import UInt16Array
from millrace.content.profile_texts import ProfileTexts
from millrace.features.encoding.buckets import UInt8Array, log_buckets
from millrace.features.encoding.history import MAX_HISTORY, HistoryTokens, history_tokens
from millrace.features.encoding.languages import LanguageRows
from millrace.stores.follow_graph import FollowGraph
from millrace.stores.histories import Histories
from millrace.stores.profiles import MAX_LANGUAGES, ProfileStore

PROFILE_DENSE: Final = ("n_following", "n_followers", "n_history", "is_verified")
"""Fields of `ViewerInputs.dense`, a byte each."""

_YES: Final = 32


@dataclass(frozen=True, slots=True)
class ViewerInputs:
    """One viewer, encoded.

    Attributes
    ----------
    viewer_id
        Inside id: no embedding is made of it; the social vector is looked up by it.
    history
        What they did, as tokens.
    languages
        Shape (4,), uint8: rows of the languages they understand, 0 for none.
    bio
        Shape (64,), uint16: rows of the embedding bag of their profile's text.
    dense
        Shape (4,), uint8: `PROFILE_DENSE`, in buckets.
    """

    viewer_id: int
    history: HistoryTokens
    languages: UInt8Array
    bio: UInt16Array
    dense: UInt8Array

    def version(self) -> bytes:
        """Return 16 bytes that are the same as long as nothing of this has changed: the key of cached encodings."""
        digest = hashlib.blake2b(digest_size=16)
        history = self.history
        for array in (
            history.post_ids,
            history.author_ids,
            history.actions,
            history.dense,
            history.surfaces,
            self.languages,
            self.bio,
            self.dense,
        ):
            digest.update(array.tobytes())
        digest.update(self.viewer_id.to_bytes(8, "little", signed=True))
        return digest.digest()


class ViewerEncoder:
    """Encodes viewers from the stores of one process.

    Parameters
    ----------
    histories, profiles, profile_texts, graph, languages
        The stores.
    max_history
        Newest posts of a history that are read.
    """

    def __init__(
        self,
        histories: Histories,
        profiles: ProfileStore,
        profile_texts: ProfileTexts,
        graph: FollowGraph,
        languages: LanguageRows,
        max_history: int = MAX_HISTORY,
    ) -> None:
        self._histories = histories
        self._profiles = profiles
        self._texts = profile_texts
        self._graph = graph
        self._languages = languages
        self._max_history = max_history

    def encode(self, viewer_id: int) -> ViewerInputs:
        """Return a viewer's inputs; of an unknown viewer they are empty."""
        ids = np.array([viewer_id], dtype=np.int64)
        history = history_tokens(self._histories.history(viewer_id), self._max_history)
        profile = self._profiles.profile(viewer_id)
        languages = np.zeros(MAX_LANGUAGES, dtype=np.uint8)
        languages[: len(profile.languages)] = self._languages.rows(profile.languages)
        amounts = np.array([self._graph.n_following(ids)[0], self._graph.n_followers(ids)[0], history.n, 0])
        dense = log_buckets(amounts)
        dense[3] = _YES * profile.is_verified
        return ViewerInputs(viewer_id, history, languages, self._texts.tokens(ids)[0], dense)
