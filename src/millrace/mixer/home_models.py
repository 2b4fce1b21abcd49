"""`HomeModels`: the learned models that a page is made with: all of one lane, held from its beginning to its end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from millrace.base.errors import NotReadyError
from millrace.base.params import Param
from millrace.features.encoding.candidates import CandidateInputs
from millrace.features.encoding.vector_inputs import NOTHING, VectorInputs
from millrace.features.encoding.viewers import ViewerInputs
from millrace.inference.assembler import TokensOf
from millrace.inference.live_models import LiveModels
from millrace.inference.tables import Float32Array
from millrace.pipeline.query import Query, QueryField
from millrace.registry.pointer import DEFAULT_LANE

if TYPE_CHECKING:
    from millrace.inference.content_cache import CacheCounts
    from millrace.inference.rank_servers import ServerStanding
    from millrace.inference.ranker_model import RankerCounts
    from millrace.inference.retrieval_model import RetrievalModel
    from millrace.mixer.pre_rankers.value_pre_ranker import PrePredictor

IS_ON: Final = Param("model.is_on", True, doc="whether the learned ranker predicts; else counters do")

ARM: Final = Param(
    "models.arm",
    0,
    low=0,
    high=99,
    doc="the models that an experiment gives the request: those of lane arm-N; 0: everybody's",
)


class Predictor(Protocol):
    """What predicts: `millrace.inference.ranker_model.RankerModel`, or whatever stands in its place."""

    def predict(
        self, viewer: ViewerInputs, candidates: CandidateInputs, tokens_of: TokensOf, vectors: VectorInputs = NOTHING
    ) -> Float32Array:
        """Return P(action), seconds for the continuous one, shape (n, n_actions)."""


VectorsFor = Callable[[Predictor], VectorInputs]
"""Gives the vectors that a model was trained with, looked up in the stores of this process."""


def nothing_for(model: Predictor) -> VectorInputs:  # noqa: ARG001 - whatever model asks
    """Return no vectors."""
    return NOTHING


@dataclass(frozen=True, slots=True)
class HomeModels:
    """One lane's models.

    Attributes
    ----------
    ranker
        None: counters predict.
    retrieval
        None: no post is found by learned vectors.
    pre_ranker
        None: all candidates are ranked, or the counters' best of them.
    versions
        Kind of model to its version, or the folder that it was opened from: written on every page.
    """

    ranker: Predictor | None = None
    retrieval: RetrievalModel | None = None
    pre_ranker: PrePredictor | None = None
    versions: Mapping[str, str] = field(default_factory=dict)

    def parts(self) -> tuple[object, ...]:
        """Return the models that are there."""
        return tuple(part for part in (self.ranker, self.retrieval, self.pre_ranker) if part is not None)

    def caches(self) -> Mapping[str, CacheCounts]:
        """Return how the ranker's caches fare, by name; empty where it keeps nothing."""
        counts: RankerCounts | None = getattr(self.ranker, "counts", None)
        return {} if counts is None else counts._asdict()

    def rank_servers(self) -> tuple[ServerStanding, ...]:
        """Return how the ranker stands with the servers that it runs on; none where it runs here."""
        standings: tuple[ServerStanding, ...] = getattr(self.ranker, "servers", ())
        return standings

    def close(self) -> None:
        """Give back what the models hold."""
        for part in self.parts():
            close: Callable[[], None] | None = getattr(part, "close", None)
            if close is not None:
                close()


NO_MODELS: Final = HomeModels()

MODELS: Final[QueryField[HomeModels]] = QueryField(
    "models", NO_MODELS, "the learned models of the request's lane; given by the service"
)


class ModelSource(Protocol):
    """Gives the models of a lane for as long as a page takes."""

    def lease(self, lane: str) -> AbstractContextManager[HomeModels]:
        """Give the models that serve a lane now; they stay open until the block ends. `NO_MODELS` where none serve."""

    def held(self) -> Sequence[HomeModels]:
        """Return the models of all lanes, each once, to look at and not to use."""

    def by_lane(self) -> Mapping[str, HomeModels]:
        """Return the models that each lane serves now, the default lane among them, to look at and not to use."""


class FixedModels:
    """The same models for every lane.

    Parameters
    ----------
    models
        Which.
    """

    def __init__(self, models: HomeModels = NO_MODELS) -> None:
        self._models = models

    @contextmanager
    def lease(self, lane: str) -> Iterator[HomeModels]:
        """Give the models."""
        yield self._models

    def held(self) -> Sequence[HomeModels]:
        """Return the models."""
        return (self._models,)

    def by_lane(self) -> Mapping[str, HomeModels]:
        """Return the models, of the default lane: every other one is served as that."""
        return {DEFAULT_LANE: self._models}


class LeasedModels:
    """The models that the registry's lanes name, swapped while pages are made.

    Parameters
    ----------
    live
        Follows the registry.
    """

    def __init__(self, live: LiveModels[HomeModels]) -> None:
        self._live = live

    @contextmanager
    def lease(self, lane: str) -> Iterator[HomeModels]:
        """Give what serves the lane now, or the default lane, or nothing."""
        try:
            held = self._live.lease(lane)
            models = held.__enter__()
        except NotReadyError:
            yield NO_MODELS
            return
        try:
            yield models
        finally:
            held.__exit__(None, None, None)

    def held(self) -> Sequence[HomeModels]:
        """Return what serves the lanes now."""
        return self._live.bundles()

    def by_lane(self) -> Mapping[str, HomeModels]:
        """Return what each lane serves now; empty where nothing does."""
        return self._live.bundles_by_lane()


def lane_of(lane: str, arm: int) -> str:
    """Return the lane of a request: the one that it asks for, else the one that an experiment gives it."""
    if lane != DEFAULT_LANE or not arm:
        return lane
    return f"arm-{arm}"


def is_learned(query: Query) -> bool:
    """Return whether a learned ranker predicts for a request."""
    return query[MODELS].ranker is not None and query.params.get_bool(IS_ON)


def pre_ranker_of(query: Query) -> PrePredictor | None:
    """Return the pre-ranker of a request; None where it has none."""
    return query[MODELS].pre_ranker


def shares_of(model: Predictor) -> tuple[float, ...]:
    """Return what of the counters' log-odds a ranker wants added to its own, by head; none: it speaks alone."""
    shares: tuple[float, ...] = getattr(model, "counters_shares", ())
    return shares


def versions_of(query: Query) -> Mapping[str, str]:
    """Return the versions of a request's models, by kind."""
    return query[MODELS].versions
