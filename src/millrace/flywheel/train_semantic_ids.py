"""Learn semantic ids: k-means on the content vectors, then on what it left over, level by level.

Codes that nobody uses carry nothing. After each level's k-means they are moved onto the posts that are served worst
and the level is settled again, until every code has a post or there are no more different posts than codes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Meta, Struct

from millrace.base.atomic_file import replacing
from millrace.base.errors import SourceDataError
from millrace.content.semantic_ids import (
    MISSING,
    N_LEVELS,
    Codebooks,
    Float32Array,
    Int16Array,
    SemanticIdSettings,
    directions,
)
from millrace.flywheel.training_log import TrainingLog

REPORT_NAME: Final = "semantic_ids.json"
LEVELS_NAME: Final = "levels.npz"

_REVIVALS: Final = 8
_SETTLING: Final = 3

Int64Array = npt.NDArray[np.int64]


class SemanticIdConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How semantic ids are learned; the defaults are for worlds of some thousand posts."""

    n_levels: Annotated[int, Meta(ge=1, le=6, description="codes of a post")] = N_LEVELS
    n_codes: Annotated[int, Meta(ge=2, le=256, description="codes of a level")] = 64
    n_iterations: Annotated[int, Meta(ge=1, description="k-means iterations of a level")] = 25
    n_restarts: Annotated[int, Meta(ge=1, description="runs of k-means, of which the best counts")] = 3
    max_posts: Annotated[int, Meta(ge=1, description="posts that are learned from, drawn at random")] = 200_000
    held_out_frac: Annotated[float, Meta(ge=0, lt=1, description="posts that are only reported on")] = 0.1
    seed: int = 0


class LevelQuality(Struct, frozen=True, kw_only=True):
    """One level.

    Attributes
    ----------
    relative_mse
        Squared error of this level and those before it, by the squared length of the vectors.
    entropy_bits, perplexity
        Of how often each code is used; the perplexity is at most the number of codes.
    n_dead_codes
        Codes that no post has.
    """

    relative_mse: float
    entropy_bits: float
    perplexity: float
    n_dead_codes: int


class QualityReport(Struct, frozen=True, kw_only=True):
    """How much codes keep of the vectors, and how well they tell posts apart.

    Attributes
    ----------
    n_posts, n_missing
        Posts with a vector, and without one.
    relative_mse
        Squared error by the squared length of the vectors, all levels together.
    mean_cosine
        Between vectors and what their codes stand for.
    n_paths
        Different codes of all levels.
    unique_path_frac
        Share of the posts whose codes no other post has.
    largest_path
        Posts with the commonest codes.
    """

    n_posts: int
    n_missing: int
    relative_mse: float
    mean_cosine: float
    n_paths: int
    unique_path_frac: float
    largest_path: int
    levels: list[LevelQuality]


class SemanticIdReport(Struct, frozen=True, kw_only=True):
    """What came of learning: on the posts that were learned from, and on those held out."""

    config: SemanticIdConfig
    learned: QualityReport
    held_out: QualityReport


def train_semantic_ids(
    vectors: npt.NDArray[Any],
    config: SemanticIdConfig,
    *,
    folder: Path,
    learned_before: int = 0,
    on_progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> SemanticIdReport:
    """Learn codebooks, write them and the report into a folder, and return the report.

    Parameters
    ----------
    vectors
        Shape (n, d): content vectors of any length; rows without a direction are left out.
    config
        How.
    folder
        Where `Codebooks.load` finds them; an interrupted run of the same vectors goes on after its last whole level,
        one of others is begun anew.
    learned_before
        The log position where the vectors were taken, as the codebooks will tell; 0: not told.
    on_progress
        Called after each level with how many are done and how many there are.

    Raises
    ------
    SourceDataError
        If there are fewer vectors than codes.
    """
    rng = np.random.default_rng(config.seed)
    chosen, has_vector = directions(vectors)
    rows = rng.permutation(np.flatnonzero(has_vector))[: config.max_posts]
    n_held_out = int(len(rows) * config.held_out_frac)
    held_out, learned = np.sort(rows[:n_held_out]), np.sort(rows[n_held_out:])
    if len(learned) < config.n_codes:
        raise SourceDataError(
            "content vectors",
            value=len(learned),
            problem=f"fewer than the {config.n_codes} codes of a level",
            remedy="train when there are more posts, or with a smaller n_codes",
        )
    folder.mkdir(parents=True, exist_ok=True)
    levels = _Levels(folder / LEVELS_NAME, _stamp(chosen[learned], config))
    centres = _residual_k_means(chosen[learned], config, levels, folder, on_progress)
    settings = SemanticIdSettings(
        n_levels=config.n_levels,
        n_codes=config.n_codes,
        n_dims=centres.shape[2],
        seed=config.seed,
        n_posts=len(learned),
        learned_before=learned_before,
    )
    codebooks = Codebooks(settings, centres)
    report = SemanticIdReport(
        config=config,
        learned=quality(codebooks, chosen[learned]),
        held_out=quality(codebooks, chosen[held_out]),
    )
    codebooks.save(folder)
    with replacing(folder / REPORT_NAME) as file:
        file.write(msgspec.json.format(msgspec.json.encode(report)))
    levels.remove()
    return report


def quality(codebooks: Codebooks, vectors: npt.NDArray[Any]) -> QualityReport:
    """Return how well codebooks serve some content vectors, shape (n, d); rows without a direction are only counted."""
    unit, has_vector = directions(vectors)
    unit = unit[has_vector]
    codes = codebooks.encode(unit)
    n, decoded = len(unit), codebooks.decode(codes)
    n_posts_of_path = np.unique(codes, axis=0, return_counts=True)[1] if n else np.zeros(0, dtype=np.int64)
    lengths = np.linalg.norm(decoded, axis=1)
    cosines = (unit * decoded).sum(axis=1) / np.where(lengths > 0, lengths, 1.0)
    levels = [_level_quality(codebooks, unit, codes[:, : level + 1]) for level in range(codebooks.settings.n_levels)]
    return QualityReport(
        n_posts=n,
        n_missing=len(has_vector) - n,
        relative_mse=levels[-1].relative_mse,
        mean_cosine=float(cosines.mean(dtype=np.float64)) if n else 0.0,
        n_paths=len(n_posts_of_path),
        unique_path_frac=float((n_posts_of_path == 1).sum() / n) if n else 0.0,
        largest_path=int(n_posts_of_path.max(initial=0)),
        levels=levels,
    )


def _level_quality(codebooks: Codebooks, unit: Float32Array, codes: Int16Array) -> LevelQuality:
    used = np.bincount(codes[codes[:, -1] != MISSING, -1], minlength=codebooks.settings.n_codes)
    shares = used[used > 0] / max(len(unit), 1)
    entropy = float(-(shares * np.log2(shares)).sum()) + 0.0  # not -0.0
    errors = np.square(unit - codebooks.decode(codes), dtype=np.float64).sum()
    return LevelQuality(
        relative_mse=float(errors / max(np.square(unit, dtype=np.float64).sum(), 1e-12)),
        entropy_bits=entropy,
        perplexity=float(2.0**entropy),
        n_dead_codes=int((used == 0).sum()),
    )


class _Levels:
    """Levels that are learned, in a file, so that a run that is killed goes on after them."""

    def __init__(self, path: Path, stamp: str) -> None:
        self._path, self._stamp = path, stamp

    def read(self) -> list[Float32Array]:
        """Return the levels of a run of the same stamp; none where there was no such run."""
        try:
            with np.load(self._path) as saved:
                return list(saved["levels"]) if str(saved["stamp"]) == self._stamp else []
        except FileNotFoundError:
            return []

    def keep(self, levels: list[Float32Array]) -> None:
        """Write the levels that are there."""
        with replacing(self._path) as file:
            np.savez(file, levels=np.stack(levels), stamp=np.array(self._stamp))

    def remove(self) -> None:
        """Remove the file: the run is over, the next one begins anew."""
        self._path.unlink(missing_ok=True)


def _stamp(vectors: Float32Array, config: SemanticIdConfig) -> str:
    """Return a name of everything that the levels depend on."""
    return hashlib.blake2b(vectors.tobytes() + msgspec.json.encode((vectors.shape, config)), digest_size=16).hexdigest()


def _residual_k_means(
    vectors: Float32Array,
    config: SemanticIdConfig,
    levels: _Levels,
    folder: Path,
    on_progress: Callable[[int, int], None],
) -> Float32Array:
    """Return the vectors of all codes, shape (n_levels, n_codes, d), float32; log what each level leaves over."""
    rest, whole = vectors.copy(), float(np.square(vectors, dtype=np.float64).sum())
    learned = levels.read()
    with TrainingLog(folder, len(learned)) as log, _one_thread():
        for centres in learned:
            rest -= centres[_nearest(rest, centres)[0]]
        for level in range(len(learned), config.n_levels):
            centres = _revived(rest, _k_means(rest, config, level))
            learned.append(centres)
            nearest = _nearest(rest, centres)[0]
            rest -= centres[nearest]
            levels.keep(learned)
            left = float(np.square(rest, dtype=np.float64).sum())
            n_dead = int((np.bincount(nearest, minlength=config.n_codes) == 0).sum())
            log.write(level + 1, {"relative_mse": left / max(whole, 1e-12), "n_dead_codes": n_dead})
            on_progress(level + 1, config.n_levels)
    return np.stack(learned)


def _k_means(points: Float32Array, config: SemanticIdConfig, level: int) -> Float32Array:
    """Return the best of a few runs of k-means, shape (n_codes, d), float32."""
    import faiss

    rng = np.random.default_rng((config.seed, level))
    best, least = np.empty(0, dtype=np.float32), np.inf
    for _ in range(config.n_restarts):
        k_means = faiss.Kmeans(
            points.shape[1],
            config.n_codes,
            niter=config.n_iterations,
            seed=config.seed + 1,
            min_points_per_centroid=1,
            max_points_per_centroid=config.max_posts,
        )
        error = k_means.train(points, init_centroids=points[_spread_rows(points, config.n_codes, rng)])
        if error < least:
            best, least = np.array(k_means.centroids, dtype=np.float32), error
    return best.reshape(config.n_codes, -1)


def _spread_rows(points: Float32Array, n: int, rng: np.random.Generator) -> Int64Array:
    """Return ``n`` rows far from each other: k-means++ (Arthur and Vassilvitskii 2007)."""
    rows = np.empty(n, dtype=np.int64)
    rows[0] = rng.integers(len(points))
    gaps = np.full(len(points), np.inf)
    for i in range(1, n):
        gaps = np.minimum(gaps, np.square(points - points[rows[i - 1]], dtype=np.float64).sum(axis=1))
        cumulative = np.cumsum(gaps)
        at = np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right")
        rows[i] = min(at, len(points) - 1)
    return rows


def _revived(points: Float32Array, centres: Float32Array) -> Float32Array:
    """Return centres of which each has a point, as far as there are enough different points."""
    for _ in range(_REVIVALS):
        nearest, errors = _nearest(points, centres)
        dead = np.flatnonzero(np.bincount(nearest, minlength=len(centres)) == 0)
        worst = _worst_different(points, errors, len(dead))
        if not len(dead) or not len(worst):
            break
        centres[dead[: len(worst)]] = points[worst]
        for _ in range(_SETTLING):
            centres = _means(points, _nearest(points, centres)[0], centres)
    return centres


def _worst_different(points: Float32Array, errors: Float32Array, n: int) -> Int64Array:
    """Return up to ``n`` rows of different points with the greatest errors above rounding, greatest first."""
    order = np.lexsort((np.arange(len(errors)), -errors))
    order = order[errors[order] > 1e-6]
    _, first = np.unique(points[order], axis=0, return_index=True)
    rows: Int64Array = order[np.sort(first)[:n]]
    return rows


def _means(points: Float32Array, nearest: Int64Array, centres: Float32Array) -> Float32Array:
    """Return each centre moved to the mean of its points; one without any stays."""
    n_points = np.bincount(nearest, minlength=len(centres))
    sums = np.zeros(centres.shape, dtype=np.float64)
    np.add.at(sums, nearest, points)
    means = sums / np.maximum(n_points, 1)[:, None]
    moved: Float32Array = np.where(n_points[:, None] > 0, means, centres).astype(np.float32)
    return moved


def _nearest(points: Float32Array, centres: Float32Array) -> tuple[Int64Array, Float32Array]:
    """Return the nearest centre of each point, (n,), int64, and the squared distance to it."""
    import faiss

    index = faiss.IndexFlatL2(centres.shape[1])
    index.add(np.ascontiguousarray(centres))
    distances, nearest = index.search(np.ascontiguousarray(points), 1)
    return nearest[:, 0], distances[:, 0]


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let faiss use one thread: with more, sums come in another order and runs differ in their last bits."""
    import faiss

    n_threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(n_threads)
