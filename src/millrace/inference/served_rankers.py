"""`ServedRanker`: one ranker with its batcher and the viewers it keeps; `ServedRankers`: those that a server holds.

A ranker that nothing promotes any more stays until the next one has come to be like that: its clients follow the same
pointer as the server, a moment earlier or later, and neither may find the other's model gone.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from millrace.base.clock import Clock
from millrace.base.errors import NotReadyError
from millrace.inference.batcher import Batcher, BatcherConfig, BatchObserver
from millrace.inference.kept_viewers import MAX_BYTES, KeptViewers
from millrace.inference.rank_batches import RankAnswer, RankBatches, RankJob
from millrace.inference.rank_wire import NOT_HELD, WIRE_VERSION, Description
from millrace.inference.runner import RankRunner, Viewers

_N_RETIRED: Final = 1
_N_WARM: Final = 100

logger = logging.getLogger(__name__)


class ServedRanker:
    """Answers jobs for one model on one thread.

    Parameters
    ----------
    runner
        Runs it; closed with this.
    identity, name
        The sum of its files (`ranker_identity`), and what people call it.
    config
        Of the batcher.
    max_kept_bytes
        Of encoded viewers.
    clock, observer
        See `Batcher`.
    """

    def __init__(
        self,
        runner: RankRunner,
        identity: str,
        name: str = "",
        *,
        config: BatcherConfig | None = None,
        max_kept_bytes: int = MAX_BYTES,
        clock: Clock | None = None,
        observer: BatchObserver | None = None,
    ) -> None:
        self.config = runner.config
        self.description = Description(WIRE_VERSION, identity, name, runner.config)
        self.kept = KeptViewers(max_kept_bytes)
        self.batcher: Batcher[RankJob, RankAnswer] = Batcher(
            RankBatches(runner, self.kept).run, config, clock=clock, observer=observer
        )
        self._runner = runner

    @property
    def identity(self) -> str:
        """The sum of its files."""
        return self.description.identity

    def warm(self) -> None:
        """Run once through both graphs, so that no request pays for that."""
        config, n = self.config, self.config.trunk.max_history
        viewers = Viewers(
            np.zeros((1, config.profile_width), dtype=np.float32),
            np.zeros((1, n, config.history_width), dtype=np.float32),
            np.ones((1, n + 1), dtype=np.bool_),
        )
        candidates = np.zeros((1, _N_WARM, config.scored_width), dtype=np.float32)
        self._runner.score(candidates, self._runner.encode(viewers))

    def close(self) -> None:
        """Answer what waits, then give everything back."""
        self.batcher.close()
        self._runner.close()


@dataclass(slots=True)
class _Use:
    ranker: ServedRanker
    n: int


class ServedRankers:
    """The rankers of one server, by identity; any thread may ask.

    Parameters
    ----------
    n_retired
        How many that nobody holds stay all the same; when there is one more, the first of them is closed.
    """

    def __init__(self, n_retired: int = _N_RETIRED) -> None:
        self._n_retired = n_retired
        self._lock = threading.Lock()
        self._uses: dict[str, _Use] = {}
        self._default = ""

    def hold(self, identity: str, load: Callable[[], ServedRanker]) -> ServedRanker:
        """Return a ranker and hold it; loaded and started, in this thread, if it is not there. For one thread."""
        with self._lock:
            use = self._uses.get(identity)
            if use is not None:
                use.n += 1
                return use.ranker
        ranker = load()
        ranker.batcher.start()
        with self._lock:
            self._uses[identity] = _Use(ranker, 1)
        return ranker

    def let_go(self, identity: str) -> None:
        """Hold a ranker once less; the longest retired is closed if that makes one too many."""
        with self._lock:
            use = self._uses.pop(identity)
            use.n -= 1
            self._uses[identity] = use  # the last to have been used
            retired = [name for name, other in self._uses.items() if other.n <= 0]
            leaving = [self._uses.pop(name) for name in retired[: max(0, len(retired) - self._n_retired)]]
        for gone in leaving:
            logger.info("ranker %s is closed", gone.ranker.description.name or gone.ranker.identity)
            gone.ranker.close()

    def let_serve(self, identity: str) -> None:
        """Say which ranker serves those who name none."""
        self._default = identity

    @property
    def default(self) -> str:
        """Which ranker serves those who name none; empty if none does yet."""
        return self._default if self._default in self._uses else ""

    def get(self, identity: str) -> ServedRanker:
        """Return a ranker; for an empty identity, the default one.

        Raises
        ------
        NotReadyError
            If the server does not hold it.
        """
        with self._lock:
            use = self._uses.get(identity or self._default)
            names = [other.ranker.description.name or name for name, other in self._uses.items()]
        if use is None:
            raise NotReadyError(
                NOT_HELD,
                value=identity or "default",
                problem=f"is not among those that the rank server holds ({', '.join(names) or 'none yet'})",
                remedy="let it follow the registry that the feed server follows, or give both the same folder",
            )
        return use.ranker

    def all(self) -> list[ServedRanker]:
        """Return all rankers that are held, or retired and not closed."""
        with self._lock:
            return [use.ranker for use in self._uses.values()]

    def close(self) -> None:
        """Close all."""
        with self._lock:
            leaving, self._uses = list(self._uses.values()), {}
        for use in leaving:
            use.ranker.close()
