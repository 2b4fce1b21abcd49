"""`Encoders`: the encoders over one process's stores, built in one place."""

from __future__ import annotations

from dataclasses import dataclass

from millrace.content.profile_texts import ProfileTexts
from millrace.content.text_index import TextIndex
from millrace.features.encoding.candidates import CandidateEncoder
from millrace.features.encoding.history import MAX_HISTORY
from millrace.features.encoding.languages import LanguageRows
from millrace.features.encoding.viewers import ViewerEncoder
from millrace.stores.state import State


@dataclass(frozen=True, slots=True)
class Encoders:
    """What turns stores into what models read.

    Attributes
    ----------
    viewers, candidates
        The encoders.
    """

    viewers: ViewerEncoder
    candidates: CandidateEncoder

    @classmethod
    def of(
        cls, state: State, texts: TextIndex, profile_texts: ProfileTexts, max_history: int = MAX_HISTORY
    ) -> Encoders:
        """Return the encoders over a state."""
        languages = LanguageRows(state.codes.languages)
        viewers = ViewerEncoder(
            state.engagements.histories,
            state.profiles,
            profile_texts,
            state.follow_graph,
            languages,
            max_history,
        )
        return cls(viewers, CandidateEncoder(texts, state.profiles, languages))
