"""What ``millrace rank-server`` runs: the rankers of a folder or of a registry's lanes, until it is told to stop.

With a registry it follows the same pointer as the feed servers (`LiveModels`): what a promotion brings is checked,
loaded and warmed beside what serves. Every lane's ranker is held; clients name theirs by the sum of its files.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from msgspec import Struct
from prometheus_client import start_http_server

from millrace.app.rank_metrics import RankMetrics
from millrace.base.clock import Clock
from millrace.base.errors import ConfigError
from millrace.inference.batcher import BatcherConfig
from millrace.inference.kept_viewers import MAX_BYTES
from millrace.inference.live_models import Artefacts, LiveModels
from millrace.inference.model_events import ModelEvent
from millrace.inference.rank_server import RankServer
from millrace.inference.rank_wire import ranker_identity
from millrace.inference.runner_choice import Precision, RunnerName, check_runner, open_runner
from millrace.inference.served_rankers import ServedRanker, ServedRankers
from millrace.registry.pointer import DEFAULT_LANE
from millrace.registry.registry import Registry

GRACE_S: Final = 10.0

logger = logging.getLogger(__name__)


class RankServing(Struct, frozen=True, kw_only=True):
    """What a rank server is told.

    Attributes
    ----------
    folder
        An exported ranker; None: the registry's.
    models_dir
        The registry; read where there is no folder.
    address
        ``host:port`` to listen on; port 0 takes a free one.
    metrics_address
        ``(host, port)`` of the metrics, over HTTP; None: nowhere.
    runner, precision
        What runs the rankers, and what it multiplies in where their gates let it.
    batcher
        How requests are put together.
    max_kept_bytes
        Of encoded viewers, for each ranker.
    """

    folder: Path | None
    models_dir: Path
    address: str
    metrics_address: tuple[str, int] | None = None
    runner: RunnerName = "onnx"
    precision: Precision = "fp32"
    batcher: BatcherConfig = BatcherConfig()
    max_kept_bytes: int = MAX_BYTES


def serve_rankers(serving: RankServing, announce: Callable[[str, str], None]) -> None:
    """Serve until SIGTERM or SIGINT; then answer what is under way, and end.

    Parameters
    ----------
    serving
        What, where and how.
    announce
        Told, once calls are answered, the address and the name of what serves; empty where nothing does yet.

    Raises
    ------
    ConfigError
        If the runner cannot run here, an address cannot be listened on, or the folder holds no ranker.
    """
    check_runner(serving.runner, serving.precision)
    asyncio.run(_serve(serving, announce))


async def _serve(serving: RankServing, announce: Callable[[str, str], None]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    metrics, rankers = RankMetrics(), ServedRankers()
    metrics.watch(rankers.all)
    with ExitStack() as ends:
        ends.callback(rankers.close)
        if serving.folder is not None:
            hold_folder(rankers, serving.folder, serving, metrics)
        else:
            live = follow_registry(rankers, Registry(serving.models_dir), serving, metrics)
            ends.callback(live.close)
            await asyncio.to_thread(live.poll)
            live.start()
        if serving.metrics_address is not None:
            ends.callback(_open_metrics(metrics, serving.metrics_address))
        server = RankServer(rankers, serving.address, observer=metrics)
        port = await server.start()
        host = serving.address.rpartition(":")[0]
        name = rankers.get("").description.name if rankers.default else ""
        announce(f"{host}:{port}", name)
        await stop.wait()
        await server.stop(GRACE_S)


def hold_folder(rankers: ServedRankers, folder: Path, serving: RankServing, metrics: RankMetrics) -> None:
    """Let an exported ranker serve everybody.

    Raises
    ------
    ConfigError
        If it cannot be loaded.
    """
    identity = ranker_identity(folder)
    rankers.hold(identity, lambda: _loaded(folder, identity, str(folder), serving, metrics))
    rankers.let_serve(identity)


def follow_registry(
    rankers: ServedRankers,
    registry: Registry,
    serving: RankServing,
    metrics: RankMetrics,
    clock: Clock | None = None,
) -> LiveModels[str]:
    """Return what keeps rankers up to date with a registry; a bundle is the ranker's identity, empty for none.

    A ranker that is refused is tried again after a while, by the clock's real time.
    """

    def load(artefacts: Artefacts) -> str:
        artefact = artefacts.get("ranker")
        if artefact is None:
            return ""
        identity = ranker_identity(artefact.path)
        version = artefact.manifest.version
        rankers.hold(identity, lambda: _loaded(artefact.path, identity, version, serving, metrics))
        identity_by_version[version] = identity
        return identity

    def close(identity: str) -> None:
        if identity:
            rankers.let_go(identity)

    def observe(event: ModelEvent) -> None:
        metrics.models(event)
        if event.what == "swapped" and event.lane == DEFAULT_LANE:
            rankers.let_serve(identity_by_version.get(event.versions.get("ranker", ""), ""))

    identity_by_version: dict[str, str] = {}
    return LiveModels(registry, load, close=close, observe=observe, clock=clock)


def _loaded(folder: Path, identity: str, name: str, serving: RankServing, metrics: RankMetrics) -> ServedRanker:
    ranker = ServedRanker(
        open_runner(folder, serving.runner, serving.precision),
        identity,
        name,
        config=serving.batcher,
        max_kept_bytes=serving.max_kept_bytes,
        observer=metrics,
    )
    ranker.warm()
    return ranker


def _open_metrics(metrics: RankMetrics, address: tuple[str, int]) -> Callable[[], None]:
    host, port = address
    try:
        server, thread = start_http_server(port, host, metrics.registry)
    except OSError as error:
        raise ConfigError(
            "address of the rank server's metrics",
            value=f"{host}:{port}",
            problem=f"cannot be listened on ({error.strerror or error})",
            remedy="end the program that uses the port, or name another",
        ) from error

    def close() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return close
