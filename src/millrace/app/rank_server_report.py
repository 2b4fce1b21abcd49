"""How rank servers do, as their clients see it: metrics of a worker, and findings of ``millrace doctor``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from millrace.app.metrics import Metrics
from millrace.base.errors import MillraceError

if TYPE_CHECKING:
    from millrace.mixer.home_models import HomeModels

_PATIENCE_MS: Final = 2_000.0


class RankServerReport:
    """Tells metrics how a worker's rankers stand with their servers.

    Parameters
    ----------
    metrics
        Where to.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._told: set[str] = set()

    def tell(self, held: Sequence[HomeModels]) -> None:
        """Report the models that serve now, of all lanes: of each server, how the worst of them stands with it."""
        worst = dict.fromkeys(self._told, (0, False))
        for models in held:
            for server in models.rank_servers():
                n_failures, rests = worst.get(server.address, (0, False))
                worst[server.address] = max(n_failures, server.n_failures), rests or server.rests_s > 0
        for address, (n_failures, rests) in worst.items():
            self._metrics.rank_server(address, n_failures=n_failures, rests=rests)
        self._told = set(worst)


def asked_servers(folder: Path, addresses: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Ask each rank server for a ranker; yield its address, and what is wrong with it: empty where it holds that.

    Raises
    ------
    ConfigError
        If grpcio is not installed, an address is none, or the folder holds no ranker.
    """
    from millrace.inference.grpc_runner import GrpcRunner

    for address in addresses:
        runner = GrpcRunner.of_folder(folder, (address,), timeout_ms=_PATIENCE_MS)
        try:
            runner.describe()
        except MillraceError as error:
            yield address, error.problem
        else:
            yield address, ""
        finally:
            runner.close()
