"""The batcher: 64 requests as one batch against 64 single ones, per item; in the process, and through a rank server.

An item is one viewer's request, encoded or not, with few candidates: where many small requests come at once
(notifications, sorting a thread, a candidate source's first few), a run costs more than what it computes, and joining
them pays. With a page's 500 candidates it is the other way round: the arithmetic is nearly all. Both are printed.

- ``in_process``: 64 calls of the runner, against one run of the joined 64 (joining and splitting counted);
- ``server``: one client with one request under way, against 64 threads with one each, through gRPC on loopback.

Sizes: d=128, two layers, history 128, one thread, ONNX Runtime. In the process CPU time counts, which other work on the
machine does not change; through the server the clock on the wall too (``ratio_wall``), as waiting is what is shared.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness import emit, note, without_options
from millrace.base.actions import ActionSpace
from millrace.features.encoding.candidates import dense_fields, schema_hash
from millrace.inference.batcher import BatcherConfig
from millrace.inference.grpc_runner import GrpcRunner
from millrace.inference.kept_viewers import KeptViewers
from millrace.inference.onnx_runner import OnnxRunner
from millrace.inference.rank_batches import RankBatches, RankJob
from millrace.inference.rank_wire import ranker_identity
from millrace.inference.served_rankers import ServedRanker
from millrace.models.config import RankerConfig, preset
from millrace.models.export import export_ranker
from millrace.models.ranker import Ranker
from millrace.testing.rank_runner_contract import some_candidates, some_viewers
from millrace.testing.rank_server_thread import RankServerThread

N = 64
N_HISTORY = 127  # and the profile
N_CANDIDATES = (1, 8, 32, 500)
TARGET = 3.0
N_ROUNDS = 5
N_SERVER_ROUNDS = 3


def a_folder(folder: Path) -> Path:
    """Export a ranker of the benchmark's size."""
    torch.manual_seed(1)
    torch.set_num_threads(1)
    actions = ActionSpace()
    config = RankerConfig(
        trunk=preset("small"), actions=actions.names, n_dense=len(dense_fields(actions)), schema=schema_hash(actions)
    )
    export_ranker(Ranker(config).eval(), folder)
    return folder


class Singles:
    """64 requests of one kind, singly and as a batch."""

    def __init__(self, runner: OnnxRunner, n_candidates: int | None) -> None:
        self._runner = runner
        self._batches = RankBatches(runner, KeptViewers(0))
        viewers = [some_viewers(runner.config, 1, N_HISTORY, seed) for seed in range(N)]
        if n_candidates is None:
            self._jobs = [RankJob(viewers=one) for one in viewers]
        else:
            encoded = [runner.encode(one) for one in viewers]
            rows = [some_candidates(runner.config, 1, n_candidates, seed) for seed in range(N)]
            self._jobs = [RankJob(encoded=e, candidates=c) for e, c in zip(encoded, rows, strict=True)]

    def single(self) -> list[np.ndarray]:
        return [self._one(job) for job in self._jobs]

    def batch(self) -> list[np.ndarray]:
        return [
            answer.predictions if answer.predictions is not None else answer.encoded.keys  # type: ignore[union-attr]
            for answer in self._batches.run(self._jobs)
        ]

    def _one(self, job: RankJob) -> np.ndarray:
        if job.candidates is None:
            return self._runner.encode(job.viewers).keys  # type: ignore[arg-type]
        return self._runner.score(job.candidates, job.encoded)  # type: ignore[arg-type]

    def are_equal(self) -> bool:
        pairs = zip(self.single(), self.batch(), strict=True)
        return all(a.shape == b.shape and np.allclose(a, b, rtol=1e-5, atol=1e-5) for a, b in pairs)


def per_item_us(runs: Mapping[str, Callable[[], Any]], n_rounds: int) -> dict[str, tuple[float, float]]:
    """Return the microseconds of an item, of this process's CPU and on the wall: medians over rounds, in turns."""
    took: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for number in range(-1, n_rounds):  # the first is a warm-up
        for name in list(runs)[:: 1 if number % 2 else -1]:
            cpu_s, wall_s = time.process_time(), time.perf_counter()
            runs[name]()
            if number >= 0:
                took[name].append((time.process_time() - cpu_s, time.perf_counter() - wall_s))
    found = {name: np.median(np.array(seconds), axis=0) / N * 1e6 for name, seconds in took.items()}
    return {name: (float(cpu), float(wall)) for name, (cpu, wall) in found.items()}


def through_server(
    folder: Path, n_candidates: int, max_batch: int
) -> tuple[dict[str, tuple[float, float]], bool, list[int]]:
    """Return `per_item_us` of requests one at a time and 64 at a time, whether answers agree, and sizes of batches."""
    sizes: list[int] = []

    class Sizes:
        def ran(self, queued_s: Any, _took_s: float) -> None:
            sizes.append(len(queued_s))

        def dropped(self, _n: int) -> None:
            raise AssertionError("stale")

        def refused(self) -> None:
            raise AssertionError("refused")

    ranker = ServedRanker(
        OnnxRunner.open(folder), ranker_identity(folder), config=BatcherConfig(max_batch=max_batch), observer=Sizes()
    )
    with RankServerThread(ranker) as server, ThreadPoolExecutor(N) as pool:
        runner = GrpcRunner.of_folder(folder, [server.address], timeout_ms=30_000)
        asked = [
            (some_viewers(runner.config, 1, N_HISTORY, seed), some_candidates(runner.config, 1, n_candidates, seed))
            for seed in range(N)
        ]

        def single() -> list[np.ndarray]:
            return [runner.predict(*one) for one in asked]

        def batch() -> list[np.ndarray]:
            return list(pool.map(lambda one: runner.predict(*one), asked))

        is_equal = all(np.allclose(a, b, rtol=1e-5, atol=1e-5) for a, b in zip(single(), batch(), strict=True))
        sizes.clear()
        took = per_item_us({"single": single, "batch": batch}, N_SERVER_ROUNDS)
        runner.close()
    return took, is_equal, [size for size in sizes if size > 1]


def main() -> None:
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as temporary:
        folder = a_folder(Path(temporary))
        runner = OnnxRunner.open(folder)
        ratio: dict[str, float] = {}
        ratio_wall: dict[str, float] = {}
        us: dict[str, dict[str, float]] = {"single": {}, "batch": {}}
        sizes: dict[str, float] = {}
        is_equal = True

        def take(name: str, took: dict[str, tuple[float, float]]) -> None:
            for kind, (cpu_us, _) in took.items():
                us[kind][name] = cpu_us
            ratio[name], ratio_wall[name] = (took["single"][at] / took["batch"][at] for at in (0, 1))
            note(f"{name}: {took}, {ratio[name]:.2f}x of CPU, {ratio_wall[name]:.2f}x on the wall")

        for n in (None, *N_CANDIDATES):
            singles = Singles(runner, n)
            is_equal &= singles.are_equal()
            rounds = 2 if n in {None, 500} else N_ROUNDS
            take(
                "encode" if n is None else f"score_{n}",
                per_item_us({"single": singles.single, "batch": singles.batch}, rounds),
            )
        for n in (1, 8):
            for max_batch in (32, 64):
                name = f"server_{n}_max_{max_batch}"
                took, agreed, ran = through_server(folder, n, max_batch)
                is_equal &= agreed
                take(name, took)
                sizes[name] = float(np.mean(ran)) if ran else 1.0
    emit(
        "batcher",
        equal=is_equal,
        ratio=ratio,
        ratio_wall=ratio_wall,
        target=TARGET,
        is_target_met={name: value >= TARGET for name, value in ratio.items()},
        cpu_us=us,
        mean_batch=sizes,
        n=N,
        took_s=time.perf_counter() - start,
    )


if __name__ == "__main__":
    without_options(__doc__)
    main()
