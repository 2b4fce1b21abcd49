"""The models of a home: the registry, what opens and follows it, the vectors models read, the lanes requests ask for.

A part of `millrace.app.wiring`, which gives all of it on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from millrace.app.settings import Settings
from millrace.app.store_wiring import build_actions, build_clock
from millrace.base.errors import MillraceError
from millrace.registry.pointer import DEFAULT_LANE

if TYPE_CHECKING:
    from millrace.app.home_model_loading import HomeModelLoader
    from millrace.app.social_refresh import SocialFollowers
    from millrace.content.semantic_ids import Codebooks
    from millrace.features.encoding.vector_inputs import VectorInputs
    from millrace.inference.live_models import LiveModels
    from millrace.inference.model_events import ModelEvent
    from millrace.mixer.feed_state import FeedState
    from millrace.mixer.home_models import HomeModels, ModelSource, Predictor, VectorsFor
    from millrace.registry.lanes import LaneReader
    from millrace.registry.manifest import Kind
    from millrace.registry.registry import Registry

logger = logging.getLogger(__name__)


def build_registry(settings: Settings) -> Registry:
    """Return the registry of the home's models."""
    from millrace.registry.registry import Registry

    return Registry(settings.models_dir)


def build_model_loader(settings: Settings) -> HomeModelLoader:
    """Return what opens models of the home feed.

    Raises
    ------
    ConfigError
        If the runner of the config cannot run here.
    """
    from millrace.app.home_model_loading import HomeModelLoader
    from millrace.features.encoding.candidates import dense_fields, schema_hash

    actions = build_actions(settings)
    home = settings.config.home
    return HomeModelLoader(
        schema_hash(actions), len(dense_fields(actions)), home.precision, home.rank_servers, home.runner
    )


def build_live_models(
    settings: Settings, observe: Callable[[ModelEvent], None] = lambda _event: None
) -> LiveModels[HomeModels]:
    """Return the models that the registry's lanes name; `LiveModels.start` lets them follow it."""
    from millrace.inference.live_models import LiveModels

    loader, home = build_model_loader(settings), settings.config.home
    return LiveModels(
        build_registry(settings),
        loader.load,
        check=loader.check,
        warm=loader.warm,
        close=lambda models: models.close(),
        observe=observe,
        clock=build_clock(),
        gives_way=home.runner != "torch" and not home.rank_servers,  # these start threads that answer pages
    )


def build_models(settings: Settings, live: LiveModels[HomeModels] | None = None) -> ModelSource:
    """Return what gives pages their models: folders that the config names, else what the registry names.

    Parameters
    ----------
    settings
        The home.
    live
        Follows the registry for as long as its owner lets it; None: the registry is looked at once, now.

    Raises
    ------
    ConfigError, SchemaError
        If a folder of the config holds no model, or one that was trained on other features.
    """
    from millrace.mixer.home_models import FixedModels, LeasedModels

    if folders := model_folders(settings):
        return FixedModels(_opened_models(build_model_loader(settings), folders))
    if live is None:
        live = build_live_models(settings)
        live.poll()
    return LeasedModels(live)


def build_vectors(settings: Settings, state: FeedState, followers: SocialFollowers | None = None) -> VectorsFor:
    """Return what gives each model the vectors that it was trained with, over a state; made once a model and state.

    ``followers`` takes over what the keeper refreshes; None: the vectors stay as they are now.

    It raises `StoreError` or `SchemaError` where a ranker's social encoder is missing, damaged, or another than it was
    trained with.
    """
    from weakref import WeakKeyDictionary

    from millrace.app.social_refresh import newest_vectors
    from millrace.features.encoding.vector_inputs import NOTHING
    from millrace.features.social_lookup import SocialLookup
    from millrace.inference.model_vectors import vector_inputs

    made: WeakKeyDictionary[Predictor, VectorInputs] = WeakKeyDictionary()

    def vectors_for(model: Predictor) -> VectorInputs:
        from millrace.inference.ranker_model import RankerModel  # a model is there, and ONNX Runtime with it

        if not isinstance(model, RankerModel):
            return NOTHING
        found = made.get(model)
        if found is None:
            social = newest_vectors(settings, model.folder, model.config.social)
            lookup = None if social is None else SocialLookup(social, state.follow_graph)
            if lookup is not None and followers is not None:
                followers.follow(lookup, model.config.social)
            found = made[model] = vector_inputs(model.codebooks, lookup, state.texts)
        return found

    return vectors_for


_OPENED: dict[Hashable, HomeModels] = {}


def _opened_models(loader: HomeModelLoader, folders: dict[Kind, Path]) -> HomeModels:
    """Return the models of folders, opened once a process: simulations build their service anew every slice."""
    files = [file for folder in folders.values() if folder.is_dir() for file in folder.iterdir()]
    written = max((file.stat().st_mtime_ns for file in files), default=0)
    key = (loader.settings, *folders.items(), written)  # one that was trained anew is another one
    if key not in _OPENED:
        _OPENED[key] = loader.open(folders, {kind: str(folder) for kind, folder in folders.items()})
    return _OPENED[key]


def model_folders(settings: Settings) -> dict[Kind, Path]:
    """Return the folders of models that the config names, by kind; relative ones are below the home."""
    home = settings.config.home
    named: dict[Kind, str] = {"ranker": home.ranker, "retrieval": home.retrieval, "pre_ranker": home.pre_ranker}
    return {kind: Path(settings.home, folder) for kind, folder in named.items() if folder}


def everybodys_ranker(settings: Settings) -> Path | None:
    """Return the folder of the ranker that the config or the registry's default lane names; None where neither does."""
    if folder := model_folders(settings).get("ranker"):
        return folder
    registry = build_registry(settings)
    pointer = registry.pointer()
    version = pointer.serving(DEFAULT_LANE).get("ranker") if pointer is not None else None
    return None if version is None else registry.folder("ranker", version)


def serving_codebooks(settings: Settings) -> Codebooks | None:
    """Return the codebooks of semantic ids of what serves everybody: the towers', else the ranker's, else None.

    A registry or a file that is damaged gives none, and a warning; doctor tells more.
    """
    from millrace.content.semantic_ids import FILE_NAME

    try:
        folders, registry = model_folders(settings), build_registry(settings)
        serving = {} if folders else registry.serving()
        kinds: tuple[Kind, ...] = ("retrieval", "ranker")
        for kind in kinds:
            folder = registry.folder(kind, serving[kind]) if kind in serving else folders.get(kind)
            if folder is not None and (path := folder / FILE_NAME).exists():
                return _codebooks(folder, path.stat().st_mtime_ns)
    except (MillraceError, OSError) as error:
        logger.warning("no semantic ids among the features: %s", error)
    return None


@lru_cache(maxsize=4)
def _codebooks(folder: Path, _written_ns: int) -> Codebooks:
    from millrace.content.semantic_ids import Codebooks

    return Codebooks.load(folder)


def build_lanes(settings: Settings) -> LaneReader:
    """Return what tells the lane that a request asks for."""
    from millrace.app.secret import load_or_make_secret, subkey
    from millrace.registry.lanes import PURPOSE, LaneReader

    return LaneReader(subkey(load_or_make_secret(settings), PURPOSE), build_clock())
