"""`VectorSources`: the artefacts that a model in training reads vectors from, and carries with it from then on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from millrace.base.errors import SchemaError
from millrace.content import semantic_ids
from millrace.content.semantic_ids import Codebooks
from millrace.features import social_history, social_vectors
from millrace.features.social_history import SocialHistory
from millrace.features.social_vectors import SocialVectors

_FILES: Final = (semantic_ids.FILE_NAME, social_vectors.FILE_NAME, social_history.FILE_NAME)


@dataclass(frozen=True, slots=True, eq=False)
class VectorSources:
    """What semantic ids and social vectors are made of; None where a model reads none.

    Attributes
    ----------
    codebooks
        Of semantic ids.
    social
        The social encoder, and everybody's vectors as of its training.
    social_history
        Its vectors as of several moments: there is one if and only if there is an encoder.
    """

    codebooks: Codebooks | None = None
    social: SocialVectors | None = None
    social_history: SocialHistory | None = None

    def __post_init__(self) -> None:
        encoder = self.social.network.digest() if self.social else ""
        history = self.social_history.encoder if self.social_history else ""
        if encoder != history:
            raise SchemaError(
                "social vectors of several moments",
                value=history or None,
                problem=f"are not of the encoder {encoder or None}",
                remedy="train it anew: millrace train social",
            )

    @property
    def semantic_ids_digest(self) -> str:
        """The digest of the codebooks; empty where there are none."""
        return self.codebooks.digest() if self.codebooks else ""

    @property
    def social_digest(self) -> str:
        """The digest of the social encoder; empty where there is none."""
        return self.social_history.encoder if self.social_history else ""

    @property
    def social_width(self) -> int:
        """The width of a social vector; 0 where there are none."""
        return self.social_history.dim if self.social_history else 0

    @classmethod
    def open(cls, semantic_ids: Path | None, social: Path | None) -> VectorSources:
        """Return the artefacts of two folders, each None for none.

        Raises
        ------
        StoreError
            If one cannot be read.
        SchemaError
            If vectors and encoder of the social folder are of two trainings.
        """
        return cls(
            None if semantic_ids is None else Codebooks.load(semantic_ids),
            None if social is None else SocialVectors.load(social),
            None if social is None else SocialHistory.load(social),
        )

    @classmethod
    def load(cls, folder: Path) -> VectorSources:
        """Return what `save` wrote into a folder; nothing where there is no folder."""
        names = (semantic_ids.FILE_NAME, social_vectors.FILE_NAME)
        return cls.open(*(folder if (folder / name).exists() else None for name in names))

    def save(self, folder: Path) -> None:
        """Write everything into a folder, in place of what is there: for whoever trains or evaluates on samples."""
        self.save_served(folder)
        if self.social_history is not None:
            self.social_history.save(folder)

    def save_served(self, folder: Path) -> None:
        """Write what a model that serves carries with it; what an earlier training left there is removed."""
        for name in _FILES:
            (folder / name).unlink(missing_ok=True)
        if self.codebooks is not None:
            self.codebooks.save(folder)
        if self.social is not None:
            self.social.save(folder)
