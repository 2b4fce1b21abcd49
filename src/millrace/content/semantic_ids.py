"""Semantic ids: a content vector as a few codes, coarse first, so that posts about one thing share their first codes.

Residual quantisation: the first level keeps the nearest of its codes' vectors, the second the nearest to what the
first left over, and so on. Learned offline (`millrace.flywheel.train_semantic_ids`); here is what serves. An extra
level, a hash of the post's id, lets a model tell posts of one path apart a little.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Meta, Struct

from millrace.base.atomic_file import replacing
from millrace.base.errors import SchemaError, StoreError
from millrace.base.ids import Int64Array
from millrace.base.kernels import njit
from millrace.base.tokens import mixed

Int16Array = npt.NDArray[np.int16]
Float32Array = npt.NDArray[np.float32]

MISSING: Final = -1
"""The code at every level of a post without a content vector."""

FILE_NAME: Final = "semantic_ids.npz"

_HASH_SALT: Final = np.uint64(0x5E3A71C09D4F2B86)


N_LEVELS: Final = 3
"""Codes of a post, where nobody asks for another number."""


class SemanticIdSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the codes were learned from and how.

    Attributes
    ----------
    learned_before
        Log records up to and without which the posts are; 0: not told. As of an earlier position the codes would know
        what came later. It is no part of the digest: the same codes are the same.
    """

    n_levels: Annotated[int, Meta(ge=1, le=6)]
    n_codes: Annotated[int, Meta(ge=2, le=256)]
    n_dims: Annotated[int, Meta(ge=1)]
    seed: int = 0
    n_posts: Annotated[int, Meta(ge=0)] = 0
    learned_before: Annotated[int, Meta(ge=0)] = 0


@dataclass(frozen=True, slots=True, eq=False)
class Codebooks:
    """The vectors of all codes of all levels.

    Attributes
    ----------
    settings
        Their shape and origin.
    vectors
        Shape (n_levels, n_codes, n_dims), float32.
    """

    settings: SemanticIdSettings
    vectors: Float32Array

    def __post_init__(self) -> None:
        settings = self.settings
        shape = (settings.n_levels, settings.n_codes, settings.n_dims)
        if self.vectors.shape != shape or self.vectors.dtype != np.float32 or not np.isfinite(self.vectors).all():
            raise SchemaError(
                "semantic-id codebooks",
                value=(self.vectors.shape, self.vectors.dtype.str),
                problem=f"not finite float32 of shape {shape}",
                remedy="train them anew: millrace train semantic-ids",
            )

    def digest(self) -> str:
        """Return 32 hexadecimal digits that are other ones for other codebooks: a model names those it reads."""
        settings: dict[str, Any] = msgspec.to_builtins(self.settings)
        del settings["learned_before"]
        digest = hashlib.blake2b(msgspec.json.encode(settings), digest_size=16)
        digest.update(np.ascontiguousarray(self.vectors).tobytes())
        return digest.hexdigest()

    def encode(self, vectors: npt.NDArray[Any]) -> Int16Array:
        """Return the codes of content vectors, shape (n, n_levels), int16; -1 at every level where there is none.

        Greedy; of codes that are equally near the lowest is taken. A row's codes depend on nothing but the row.

        Parameters
        ----------
        vectors
            Shape (n, n_dims), of any length: only their direction counts, so that whole-number vectors of
            `millrace.content.vectors` and those of length 1 give the same codes. Zeros, or anything that is not
            finite, is no vector.
        """
        directions, has_vector = self._directions(vectors)
        return _encode(directions, has_vector, self.vectors)

    def encode_reference(self, vectors: npt.NDArray[Any]) -> Int16Array:
        """Return what `encode` returns, in NumPy."""
        directions, has_vector = self._directions(vectors)
        codes = np.full((len(directions), len(self.vectors)), MISSING, dtype=np.int16)
        rest = directions[has_vector].astype(np.float64)
        for level, centres in enumerate(self.vectors.astype(np.float64)):
            nearest = np.square(rest[:, None, :] - centres).sum(axis=2).argmin(axis=1)
            codes[has_vector, level] = nearest
            rest -= centres[nearest]
        return codes

    def decode(self, codes: npt.NDArray[np.integer]) -> Float32Array:
        """Return what codes stand for, the sum over levels, shape (n, n_dims), float32; zeros for missing ones.

        Parameters
        ----------
        codes
            Shape (n, k) with k up to n_levels: the first levels alone give a coarser vector.
        """
        decoded = np.zeros((len(codes), self.settings.n_dims), dtype=np.float32)
        has_codes = (codes >= 0).all(axis=1)
        for level in range(codes.shape[1]):
            decoded[has_codes] += self.vectors[level, codes[has_codes, level]]
        return decoded

    def encode_with_hash(self, vectors: npt.NDArray[Any], post_ids: Int64Array) -> Int16Array:
        """Return codes and, as one more level, `hash_level`, shape (n, n_levels + 1), int16; all -1 where missing."""
        codes = self.encode(vectors)
        last = hash_level(post_ids, self.settings.n_codes)
        last[codes[:, 0] == MISSING] = MISSING
        return np.concatenate([codes, last[:, None]], axis=1)

    def save(self, folder: Path) -> None:
        """Write the codebooks into a folder, in place of those that are there."""
        folder.mkdir(parents=True, exist_ok=True)
        settings = np.frombuffer(msgspec.json.encode(self.settings), dtype=np.uint8)
        with replacing(folder / FILE_NAME) as file:
            np.savez(file, settings=settings, vectors=self.vectors)

    @classmethod
    def load(cls, folder: Path) -> Codebooks:
        """Return the codebooks of a folder.

        Raises
        ------
        StoreError
            If there are none that can be read.
        """
        path = folder / FILE_NAME
        try:
            with np.load(path, allow_pickle=False) as file:
                settings = msgspec.json.decode(file["settings"].tobytes(), type=SemanticIdSettings)
                return cls(settings, file["vectors"])
        except (OSError, ValueError, KeyError, EOFError, msgspec.MsgspecError, SchemaError) as error:
            raise StoreError(
                "semantic-id codebooks",
                value=str(path),
                problem=f"cannot be read ({error})",
                remedy="train them: millrace train semantic-ids",
            ) from error

    def _directions(self, vectors: npt.NDArray[Any]) -> tuple[Float32Array, npt.NDArray[np.bool_]]:
        if vectors.ndim != 2 or vectors.shape[1] != self.settings.n_dims:
            raise SchemaError(
                "content vectors",
                value=vectors.shape,
                problem=f"not of shape (n, {self.settings.n_dims})",
                remedy="encode vectors of the kind that the codebooks were trained on",
            )
        return directions(vectors)


def directions(vectors: npt.NDArray[Any]) -> tuple[Float32Array, npt.NDArray[np.bool_]]:
    """Return vectors at length 1, (n, d), float32, zeros for those without a direction; and which have one, (n,)."""
    plain = np.asarray(vectors, dtype=np.float64)
    has_vector: npt.NDArray[np.bool_] = np.logical_and(np.isfinite(plain).all(axis=1), plain.any(axis=1))
    plain = np.where(has_vector[:, None], plain, 0.0)
    # Scaled by the largest first: squares of very large and very small numbers leave the range.
    plain /= np.where(has_vector, np.abs(plain).max(axis=1, initial=0.0), 1.0)[:, None]
    lengths = np.sqrt(np.square(plain).sum(axis=1))
    return (plain / np.where(has_vector, lengths, 1.0)[:, None]).astype(np.float32), has_vector


def table_rows(codes: npt.NDArray[np.integer], n_codes: int) -> npt.NDArray[np.int64]:
    """Return the rows of codes in one table of all levels, same shape, int64: row 0 is that of missing ones.

    Code ``c`` of level ``l`` is row ``1 + l * n_codes + c``.

    Parameters
    ----------
    codes
        Shape (n, n_levels); -1 for missing.
    n_codes
        Codes of a level.
    """
    firsts = 1 + n_codes * np.arange(codes.shape[1], dtype=np.int64)
    return np.where(codes >= 0, codes + firsts, 0)


def hash_level(post_ids: Int64Array, n_codes: int) -> Int16Array:
    """Return a code of the post's id alone, shape (n,), int16, within [0, n_codes)."""
    return _hash_codes(np.asarray(post_ids, dtype=np.int64), n_codes)


@njit(cache=True)
def _hash_codes(post_ids: Int64Array, n_codes: int) -> Int16Array:
    codes = np.empty(len(post_ids), dtype=np.int16)
    for i in range(len(post_ids)):
        codes[i] = np.int16(mixed(np.uint64(post_ids[i]) ^ _HASH_SALT) % np.uint64(n_codes))
    return codes


@njit(cache=True)
def _encode(directions: Float32Array, has_vector: npt.NDArray[np.bool_], centres: Float32Array) -> Int16Array:
    # Plain loops, not a matrix product: those round differently with the number of rows, and a post's codes must not
    # depend on which others it is encoded with.
    n_levels, n_codes, n_dims = centres.shape
    codes = np.full((len(directions), n_levels), np.int16(MISSING), dtype=np.int16)
    rest = np.empty(n_dims, dtype=np.float64)
    for i in range(len(directions)):
        if not has_vector[i]:
            continue
        for d in range(n_dims):
            rest[d] = np.float64(directions[i, d])
        for level in range(n_levels):
            best, nearest = np.inf, 0
            for code in range(n_codes):
                distance = 0.0
                for d in range(n_dims):
                    gap = rest[d] - np.float64(centres[level, code, d])
                    distance += gap * gap
                if distance < best:
                    best, nearest = distance, code
            codes[i, level] = np.int16(nearest)
            for d in range(n_dims):
                rest[d] -= np.float64(centres[level, nearest, d])
    return codes
