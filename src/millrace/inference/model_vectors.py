"""What a served model reads vectors by: the codebooks and the social encoder in its folder, and look-ups of them.

A model and its codebooks belong together: codes of others mean nothing to it. Both are named by digest in its config.
"""

from __future__ import annotations

from pathlib import Path

from millrace.base.errors import SchemaError
from millrace.content.semantic_id_cache import SemanticIdCache
from millrace.content.semantic_ids import Codebooks
from millrace.content.text_index import TextIndex
from millrace.features.encoding.vector_inputs import VectorInputs, VectorsOf
from millrace.features.social_lookup import SocialLookup
from millrace.features.social_vectors import SocialVectors


def own_codebooks(folder: Path, digest: str) -> Codebooks | None:
    """Return the codebooks of an exported model, None for a model that reads no semantic ids.

    Parameters
    ----------
    folder
        The model's.
    digest
        What its config says of them; empty: it reads none.

    Raises
    ------
    StoreError
        If they are missing or damaged.
    SchemaError
        If they are others.
    """
    if not digest:
        return None
    codebooks = Codebooks.load(folder)
    if (found := codebooks.digest()) != digest:
        raise _others("semantic-id codebooks", found, digest)
    return codebooks


def own_social_vectors(folder: Path, digest: str) -> SocialVectors | None:
    """Return the social encoder of an exported model with the vectors of its training, None if it reads none.

    Parameters
    ----------
    folder
        The model's, or one where `millrace.app.social_refresh` wrote newer vectors of the same encoder.
    digest
        What the model's config says of the encoder; empty: it reads none.

    Raises
    ------
    StoreError
        If it is missing or damaged.
    SchemaError
        If it is another.
    """
    if not digest:
        return None
    vectors = SocialVectors.load(folder)
    if (found := vectors.network.digest()) != digest:
        raise _others("social encoder", found, digest)
    return vectors


def vector_inputs(
    codebooks: Codebooks | None,
    social: SocialLookup | None,
    texts: TextIndex,
    media_of: VectorsOf | None = None,
) -> VectorInputs:
    """Return the look-ups of one model over the state of one process; to be made once, they keep what they find.

    Parameters
    ----------
    codebooks, social
        The model's (`own_codebooks`, `own_social_vectors` in a `SocialLookup`); None where it reads none.
    texts
        The state's text index.
    media_of
        Media vectors, where there are any.
    """
    return VectorInputs(
        codes_of=None if codebooks is None else SemanticIdCache(codebooks, texts).codes,
        social_of=None if social is None else social.vectors,
        media_of=media_of,
        texts_of=texts.whole_vectors,
        version=bytes if social is None else social.version,
    )


def _others(thing: str, found: str, wanted: str) -> SchemaError:
    return SchemaError(
        thing,
        value=found,
        problem=f"not those that the model was trained with, {wanted}",
        remedy="export the model again, or take its whole folder from the registry",
    )
