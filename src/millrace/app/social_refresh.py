"""Social vectors, refreshed in batches: the keeper writes everybody's anew, workers take them over.

A refresh is no training: an encoder runs over the follow graph as it is now. It is a folder for each encoder
(``data/social/<digest>``), so that models of several encoders can be served at once; in between, `SocialLookup` makes
vectors of whoever is new.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from weakref import WeakKeyDictionary, ref

from millrace.app.settings import Settings
from millrace.base.errors import ConfigError, SchemaError, StoreError
from millrace.features.social_graph import SocialGraph
from millrace.features.social_lookup import SocialLookup
from millrace.features.social_vectors import FILE_NAME, SocialVectors
from millrace.inference.model_vectors import own_social_vectors
from millrace.inference.numpy_runner import load_config
from millrace.mixer.feed_state import FeedState
from millrace.registry.registry import Registry

logger = logging.getLogger(__name__)


def newest_vectors(settings: Settings, folder: Path, digest: str) -> SocialVectors | None:
    """Return the vectors of a model's encoder as of the last refresh, or of its training; None if it reads none.

    Parameters
    ----------
    settings
        The home, whose keeper refreshes.
    folder
        The model's exported folder: it has the encoder, and the vectors of its training.
    digest
        What the model's config says of the encoder; empty: it reads none.

    Raises
    ------
    StoreError, SchemaError
        If the model's own encoder is missing, damaged, or another than it was trained with.
    """
    own = own_social_vectors(folder, digest)
    fresh = settings.social_dir / digest
    if own is not None and (fresh / FILE_NAME).exists():
        try:
            return own_social_vectors(fresh, digest)
        except (StoreError, SchemaError) as error:  # the next refresh writes it anew
            logger.warning("%s", error)
    return own


class SocialRefresher:
    """Writes the vectors of some encoders anew; the keeper's part.

    Parameters
    ----------
    folders
        Says which encoders there are: digests, and folders that hold them.
    out
        Where to: `Settings.social_dir`.
    """

    def __init__(self, folders: Callable[[], Mapping[str, Path]], out: Path) -> None:
        self._folders = folders
        self._out = out

    def refresh(self, state: FeedState) -> int:
        """Write everybody's vectors as of now, and remove those of encoders that are not there any more.

        Returns
        -------
        int
            How many encoders there are.

        Raises
        ------
        StoreError, SchemaError
            If an encoder cannot be read.
        """
        folders = self._folders()
        for left in self._out.iterdir() if self._out.is_dir() else ():
            if left.name not in folders:
                shutil.rmtree(left, ignore_errors=True)
        if not folders:
            return 0
        graph = SocialGraph.of(state.follow_graph, state.texts)
        for digest, folder in folders.items():
            vectors = own_social_vectors(folder, digest)
            if vectors is not None:
                vectors.refresh(graph.edges, graph.known)
                vectors.save(self._out / digest)
        return len(folders)


class SocialFollower:
    """Gives a worker's look-ups the vectors of the newest refresh; off the path of requests: a file is read.

    Parameters
    ----------
    lookup
        Whose vectors are replaced.
    folder
        ``social_dir / digest`` of its encoder.
    digest
        Of its encoder.
    """

    def __init__(self, lookup: SocialLookup, folder: Path, digest: str) -> None:
        self._lookup = ref(lookup)  # a model that is gone must not be kept by what follows for it
        self._folder = folder
        self._digest = digest
        self._seen = self._stamp()

    def poll(self) -> bool:
        """Take over what was refreshed since the last call; return whether there was anything.

        Raises
        ------
        StoreError, SchemaError
            If what is there cannot be read: the old vectors go on, and the next call tries again.
        """
        stamp = self._stamp()
        if stamp is None or stamp == self._seen:
            return False
        vectors, lookup = own_social_vectors(self._folder, self._digest), self._lookup()
        if vectors is not None and lookup is not None:
            lookup.replace(vectors)
        self._seen = stamp
        return True

    def _stamp(self) -> tuple[int, int] | None:
        try:
            stat = (self._folder / FILE_NAME).stat()
        except FileNotFoundError:
            return None
        return stat.st_ino, stat.st_mtime_ns


class SocialFollowers:
    """All look-ups of a worker that follow the keeper; those of models that are gone are forgotten.

    Parameters
    ----------
    social_dir
        `Settings.social_dir`.
    """

    def __init__(self, social_dir: Path) -> None:
        self._social_dir = social_dir
        self._followers: WeakKeyDictionary[SocialLookup, SocialFollower] = WeakKeyDictionary()

    def follow(self, lookup: SocialLookup, digest: str) -> None:
        """Let a look-up have what is refreshed from now on, by the encoder of a digest."""
        self._followers[lookup] = SocialFollower(lookup, self._social_dir / digest, digest)

    def poll(self) -> int:
        """Take over what was refreshed; return for how many look-ups. Off the path of requests: files are read."""
        n_taken = 0
        for follower in list(self._followers.values()):
            try:
                n_taken += follower.poll()
            except (StoreError, SchemaError) as error:  # the old vectors go on
                logger.warning("%s", error)
        return n_taken


def live_encoders(settings: Settings) -> dict[str, Path]:
    """Return the social encoders of the rankers that serve, by digest, and a folder that holds each.

    Those are the config's ranker, and what any lane of the registry serves or would be rolled back to.
    """
    pointer = (registry := Registry(settings.models_dir)).pointer()
    named = sorted(pointer.named()) if pointer else []
    found: dict[str, Path] = {}
    for kind, version in named:
        if kind == "ranker":
            try:
                found |= _encoder_of(registry.folder(kind, version))
            except ConfigError as error:  # whoever serves it refuses it too; the others are refreshed
                logger.warning("%s", error)
    return found | configured_encoders(settings)


def configured_encoders(settings: Settings) -> dict[str, Path]:
    """Return the encoder of the config's ranker by its digest, if it reads one.

    Raises
    ------
    ConfigError
        If the ranker's files are missing or damaged.
    """
    if not settings.config.home.ranker:
        return {}
    return _encoder_of(Path(settings.home, settings.config.home.ranker))


def _encoder_of(folder: Path) -> dict[str, Path]:
    digest = load_config(folder).social
    return {digest: folder} if digest else {}
