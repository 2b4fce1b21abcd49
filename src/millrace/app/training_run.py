"""`TrainingRun`: how far a `millrace train` has come, on disk, so that one that is killed ends with the same models.

::

    data/training/unfinished/
      run.json          what is trained, on which log and up to where; another training begins anew
      samples/          as they were read
      ranker.stage      a finished stage: what it told, and the sum of the files that it left

Within a stage each training keeps its own checkpoint (`millrace.flywheel.checkpointing`). A run that comes to its end
removes the folder: the next one begins anew, on the log as it is then. Trainings of one model by its name keep theirs
beside it, in folders of their own (``unfinished-ranker``).
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

import millrace
from millrace.app import wiring
from millrace.app.settings import Settings
from millrace.base.atomic_file import replacing
from millrace.base.errors import MillraceError, SourceDataError, StoreError
from millrace.features.encoding.candidates import schema_hash
from millrace.stream.log import total

_FOLDER: Final = "unfinished"
_RUN: Final = "run.json"
_LOCK: Final = ".lock"
_SUFFIX: Final = ".stage"
_MODELS: Final = ("ranker", "retrieval", "pre_ranker")
"""Stages that took long."""
_NOT_LEARNED_FROM: Final = ("server", "auth", "claims", "traces", "flywheel")
"""Sections of the config that change no sample: a demo that starts again has another port."""

T = TypeVar("T")

logger = logging.getLogger(__name__)


class RunKey(msgspec.Struct, frozen=True, kw_only=True):
    """What a run depends on, beside where the log ends: a run of another key begins anew.

    Attributes
    ----------
    log_id, schema, config, version
        The log, the meaning of features, a digest of the config, the version of this package.
    options
        What was asked for, by name.
    """

    log_id: str
    schema: str
    config: str
    version: str
    options: dict[str, Any]


class _Begun(msgspec.Struct, frozen=True):
    """What ``run.json`` holds."""

    key: RunKey
    log_end: int


class _Stage(msgspec.Struct, frozen=True):
    """What the file of a finished stage holds."""

    told: msgspec.Raw
    files: str


class TrainingRun:
    """A run that has begun, or goes on.

    Parameters
    ----------
    folder
        Where it keeps what it has come to.
    log_end
        How many records the log held when the run began: later ones are not learned from.
    """

    def __init__(self, folder: Path, log_end: int) -> None:
        self.folder = folder
        self.log_end = log_end

    def stage(self, name: str, kind: Any, make: Callable[[], T], leaves: Path | None = None) -> T:
        """Return what a stage told; it is run unless it is finished and the files that it left are as it left them.

        Parameters
        ----------
        name
            Of the stage.
        kind
            The type of what it tells: a struct or what else MessagePack can say.
        make
            The stage.
        leaves
            A folder with all that it writes.
        """
        path = self.folder / f"{name}{_SUFFIX}"
        if (told := _finished(path, kind, leaves)) is not None:
            found: T = told[0]
            return found
        made = make()
        self.refuse_forgotten()
        data = msgspec.msgpack.encode(made, enc_hook=_plain)
        with replacing(path) as file:
            file.write(msgspec.msgpack.encode(_Stage(msgspec.Raw(data), sum_of(leaves))))
        return made

    def has_finished(self, *names: str) -> bool:
        """Return whether any of some stages is finished."""
        return any((self.folder / f"{name}{_SUFFIX}").exists() for name in names)

    def refuse_forgotten(self) -> None:
        """Raise if what the run had read was to be forgotten meanwhile: nothing made of it is to be published.

        Raises
        ------
        StoreError
            If an erasure removed the folder (`forget_training`); the samples that are mapped hold whom it forgot.
        """
        if not (self.folder / _RUN).exists():
            raise StoreError(
                "training",
                value=str(self.folder),
                problem="what it had read was forgotten meanwhile, since somebody in it was erased",
                remedy="train again: it reads what may still be learned from",
            )


@contextmanager
def training_run(
    settings: Settings,
    options: dict[str, Any],
    *,
    begins_anew: bool = False,
    name: str = "",
    writes: Path | None = None,
) -> Iterator[TrainingRun]:
    """Give the run that was interrupted, or else one that begins; when the block ends well, the run is over.

    So it is when there was too little to learn from (`SourceDataError`), or anything else failed of which we know
    before a model was finished: the next one reads what there is then.

    Parameters
    ----------
    settings
        The home.
    options
        What was asked for: a run that was asked for something else is not gone on with.
    begins_anew
        Whatever was interrupted is forgotten.
    name
        Of the model that is trained alone; empty: all of them.
    writes
        Its folder; None: those of the home.

    Raises
    ------
    StoreError
        If another process trains this home's models, or writes into the folder.
    """
    folder = _folder_of(settings, name, writes)
    with training_lock(settings, writes):
        key, log_end = _key(settings, options)
        begun = None if begins_anew else _begun(folder)
        done = sorted(path.stem for path in folder.glob(f"*{_SUFFIX}"))
        if begun is not None and done and begun.key == key and begun.log_end <= log_end:
            logger.warning("going on with a training that was interrupted; done: %s", ", ".join(done))
        else:
            _forget(folder)
            folder.mkdir(parents=True)
            begun = _Begun(key, log_end)
            with replacing(folder / _RUN) as file:
                file.write(msgspec.json.encode(begun))
        run = TrainingRun(folder, begun.log_end)
        try:
            yield run
        except MillraceError as error:
            # Where something else fails, a full disk say, a ranker that took an hour is not lost for it.
            if isinstance(error, SourceDataError) or not run.has_finished(*_MODELS):
                _forget(folder)
            raise
        _forget(folder)


@contextmanager
def training_lock(settings: Settings, writes: Path | None = None) -> Iterator[None]:
    """Hold the lock of a training: that of the home where it writes among the home's models, else its folder's own.

    Parameters
    ----------
    settings
        The home.
    writes
        The folder that the training writes; None: those of the home.

    Raises
    ------
    StoreError
        If another process trains this home's models, or writes into the folder.
    """
    is_at_home = writes is None or _is_below(writes, settings.training_dir)
    parent = settings.training_dir if writes is None or is_at_home else writes
    parent.mkdir(parents=True, exist_ok=True)
    with (parent / _LOCK).open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the system lets go of it, however the process ends
        except BlockingIOError:
            raise StoreError(
                "training",
                value=str(parent),
                problem="another process trains " + ("this home's models" if is_at_home else "into this folder"),
                remedy="wait until it is done, or end it: what it has come to is kept",
            ) from None
        yield


def forget_training(settings: Settings) -> None:
    """Remove what unfinished runs keep, samples above all: somebody in them is to be forgotten."""
    for folder in settings.training_dir.glob(f"{_FOLDER}*"):
        _forget(folder)


def _forget(folder: Path) -> None:
    # First the file without which nothing is gone on with: half of a folder is nobody's run.
    (folder / _RUN).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def _is_below(folder: Path, parent: Path) -> bool:
    return folder.resolve().is_relative_to(parent.resolve())


def _folder_of(settings: Settings, name: str, writes: Path | None) -> Path:
    """Return where a run keeps what it has come to: within the home, where an erasure looks, wherever it writes."""
    parts = [_FOLDER, name] if name else [_FOLDER]
    if writes is not None and not _is_below(writes, settings.training_dir):
        # Twins that are trained side by side, each into its folder, are runs of their own.
        parts.append(hashlib.blake2b(str(writes.resolve()).encode(), digest_size=4).hexdigest())
    return settings.training_dir / "-".join(parts)


def sum_of(folder: Path | None) -> str:
    """Return a digest of the names and bytes of all files below a folder; of none where there is no folder."""
    digest = hashlib.blake2b(digest_size=16)
    if folder is None:
        return digest.hexdigest()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            digest.update(path.relative_to(folder).as_posix().encode() + b"\0")
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "blake2b").digest())
    return digest.hexdigest()


def _key(settings: Settings, options: dict[str, Any]) -> tuple[RunKey, int]:
    """Return what a run would depend on that began now, and where the log ends."""
    config = msgspec.to_builtins(settings.config)
    for section in _NOT_LEARNED_FROM:
        config.pop(section)
    log = wiring.build_log(settings)
    try:
        key = RunKey(
            log_id=log.log_id,
            schema=schema_hash(wiring.build_actions(settings)),
            config=hashlib.blake2b(msgspec.json.encode(config, order="sorted"), digest_size=16).hexdigest(),
            version=millrace.__version__,
            options=msgspec.json.decode(msgspec.json.encode(options)),  # as they are read again
        )
        return key, total(log.end())
    finally:
        log.close()


def _begun(folder: Path) -> _Begun | None:
    try:
        return msgspec.json.decode((folder / _RUN).read_bytes(), type=_Begun)
    except (FileNotFoundError, msgspec.MsgspecError):  # none, or of another version
        return None


def _finished(path: Path, kind: Any, leaves: Path | None) -> tuple[Any] | None:
    """Return what a finished stage told; None if it is to be run."""
    try:
        stage = msgspec.msgpack.decode(path.read_bytes(), type=_Stage)
        return (msgspec.msgpack.decode(stage.told, type=kind),) if stage.files == sum_of(leaves) else None
    except (FileNotFoundError, msgspec.MsgspecError):
        return None


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):  # a number of NumPy's
        return value.tolist()
    raise NotImplementedError(type(value).__name__)
