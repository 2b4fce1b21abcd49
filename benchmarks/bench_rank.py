"""``millrace bench rank``: what a page costs the ranker: 500 candidates, a history of 128, d = 128, one thread.

The model is the preset ``small``; its weights are random, which no figure depends on. Times are of the thread's own
processor time, medians of interleaved runs:

* ``fp32_ms``: 500 candidates, projected, against a viewer whose encoding is kept; ``encode_ms`` what it takes to encode
  one, ``page_ms`` both and the assembly, from encoded inputs to predictions, posts kept (``page_kept_ms``: the viewer,
  too);
* ``naive_mask_500``, ``naive_mask_2000``: how many times as long candidates and history take as one sequence under one
  mask (`naive_ranker`), against encoding and scoring, nothing kept; same weights, same runtime, outputs equal first;
* ``batch64_per_item``: how many times as long 64 viewers with 8 candidates each take one by one as in one run.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime
import torch

from harness import emit, interleave, median_ms, note
from millrace.base.actions import ActionSpace
from millrace.content.ngrams import MAX_TOKENS
from millrace.features.encoding.candidates import CandidateInputs, dense_fields
from millrace.features.encoding.history import HistoryTokens
from millrace.features.encoding.viewers import ViewerInputs
from millrace.inference.onnx_runner import OnnxRunner
from millrace.inference.ranker_model import RankerModel
from millrace.inference.runner import EncodedViewers, Viewers
from millrace.models.config import PRESETS, RankerConfig
from millrace.models.export import export_ranker, export_tables, served_weights
from millrace.models.learned_ranker import LearnedRanker
from millrace.models.onnx_graph import save
from naive_ranker import naive_graph, naive_mask

N: Final = 500
N_LARGE: Final = 2_000
N_HISTORY: Final = 128
N_VIEWERS: Final = 64
N_EACH: Final = 8
N_ROUNDS: Final = 40

Array = np.ndarray


def a_model() -> LearnedRanker:
    """Return a ranker of the preset, not trained."""
    actions = ActionSpace()
    config = RankerConfig(trunk=PRESETS["small"], actions=actions.names, n_dense=len(dense_fields(actions)))
    torch.manual_seed(1)
    return LearnedRanker(config).eval()


def some_viewers(config: RankerConfig, n: int) -> Viewers:
    """Return viewers with full histories."""
    rng = np.random.default_rng(2)
    history = rng.standard_normal((n, N_HISTORY, config.history_width)).astype(np.float32)
    profile = rng.standard_normal((n, config.profile_width)).astype(np.float32)
    return Viewers(profile, history, np.ones((n, N_HISTORY + 1), dtype=np.bool_))


def some_candidates(config: RankerConfig, n_viewers: int, n: int) -> Array:
    """Return candidates, projected."""
    return np.random.default_rng(n).standard_normal((n_viewers, n, config.scored_width)).astype(np.float32)


def naive_session(config: RankerConfig, weights: dict[str, Array], n: int, folder: Path) -> Any:
    """Return a session of the naive form, as ours are opened."""
    from millrace.inference.onnx_runner import open_session

    save(naive_graph(config, weights, N_HISTORY, n), folder / f"naive{n}.onnx")
    return open_session(folder / f"naive{n}.onnx")


def a_page(config: RankerConfig) -> tuple[ViewerInputs, CandidateInputs, Any]:
    """Return encoded inputs of a page, and what tells texts."""
    rng = np.random.default_rng(4)
    ids = rng.integers(1, 2**62, N_HISTORY + N)
    texts = rng.integers(1, 1_000, (len(ids), MAX_TOKENS)).astype(np.uint16)
    order = np.argsort(ids)
    ids, texts = ids[order], texts[order]
    own, shown = np.split(rng.permutation(ids), [N_HISTORY])
    history = HistoryTokens(
        own,
        rng.integers(1, 2**62, N_HISTORY),
        rng.integers(1, 64, N_HISTORY).astype(np.uint64),
        rng.integers(0, 99, (N_HISTORY, 3)).astype(np.uint8),
        np.zeros(N_HISTORY, dtype=np.uint8),
        1,
    )
    viewer = ViewerInputs(5, history, np.ones(4, np.uint8), np.ones(MAX_TOKENS, np.uint16), np.ones(4, np.uint8))
    candidates = CandidateInputs(
        shown,
        rng.integers(1, 2**62, N),
        np.ones(N, dtype=np.uint8),
        rng.integers(0, 99, (N, config.n_dense)).astype(np.uint8),
    )
    return viewer, candidates, lambda wanted: texts[np.searchsorted(ids, wanted)]


def measured(folder: Path) -> tuple[bool, dict[str, float], dict[str, float]]:
    """Return whether all agree, ratios, and milliseconds."""
    model = a_model()
    config, weights = model.ranker.config, served_weights(model.ranker)
    export_ranker(model.ranker, folder)
    export_tables(model.tables, folder)
    runner = OnnxRunner.open(folder)
    viewer = some_viewers(config, 1)
    encoded = runner.encode(viewer)
    runs: dict[str, Any] = {}
    is_equal = True
    for n in (N, N_LARGE):
        candidates = some_candidates(config, 1, n)
        naive = naive_session(config, weights, n, folder)
        given = {
            "profile": viewer.profile,
            "history": viewer.history,
            "candidates": candidates,
            "mask": naive_mask(N_HISTORY, n),
        }
        gap = float(np.abs(naive.run(None, given)[0] - runner.score(candidates, encoded)).max())
        note(f"{n} candidates: the naive form differs by {gap:.1e}")
        is_equal &= gap < 1e-5
        runs[f"naive_{n}"] = lambda _, naive=naive, given=given: naive.run(None, given)
        runs[f"shared_{n}"] = lambda _, candidates=candidates: runner.score(candidates, runner.encode(viewer))
    candidates = some_candidates(config, 1, N)
    runs["fp32"] = lambda _: runner.score(candidates, encoded)
    runs["encode"] = lambda _: runner.encode(viewer)

    many, few = runner.encode(some_viewers(config, N_VIEWERS)), some_candidates(config, N_VIEWERS, N_EACH)
    singles = [(few[i : i + 1], many.take(i)) for i in range(N_VIEWERS)]
    together = runner.score(few, many)
    gap = float(np.abs(np.concatenate([runner.score(*single) for single in singles]) - together).max())
    note(f"{N_VIEWERS} viewers together: differ by {gap:.1e} from one by one")
    is_equal &= gap < 1e-6
    runs["batch"] = lambda _: runner.score(few, many)
    runs["singles"] = lambda _: _one_by_one(runner, singles)

    served = RankerModel.open(folder, config.schema)
    page = a_page(config)
    unkept = RankerModel(runner, served.tables, weights["sparse_in.weight"], viewer_bytes=0)
    is_equal &= np.array_equal(served.predict(*page), unkept.predict(*page))
    runs["page"] = lambda _: unkept.predict(*page)
    runs["page_kept"] = lambda _: served.predict(*page)

    seconds = interleave(runs, n_rounds=N_ROUNDS, n_warmup=4, clock=time.thread_time)
    ms = {name: median_ms(values) for name, values in seconds.items()}
    ratio = {
        f"naive_mask_{N}": ms[f"naive_{N}"] / ms[f"shared_{N}"],
        f"naive_mask_{N_LARGE}": ms[f"naive_{N_LARGE}"] / ms[f"shared_{N_LARGE}"],
        "batch64_per_item": ms["singles"] / ms["batch"],
    }
    return is_equal, ratio, {f"{name}_ms": value for name, value in ms.items()}


def _one_by_one(runner: OnnxRunner, singles: list[tuple[Array, EncodedViewers]]) -> None:
    for single in singles:
        runner.score(*single)


def preranker_ms() -> float | None:
    """Return what the pre-ranker takes for 2,000 candidates; None where that benchmark is not there."""
    try:
        from bench_pre_ranker import preranker_ms as of_pre_ranker
    except ImportError:
        return None
    return float(of_pre_ranker(2_000))


def main() -> None:
    torch.set_num_threads(1)
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        is_equal, ratio, ms = measured(Path(folder))
    emit(
        "rank",
        equal=is_equal,
        ratio=ratio,
        **ms,
        preranker_ms=preranker_ms(),
        n_candidates=N,
        n_history=N_HISTORY,
        onnxruntime=onnxruntime.__version__,
        load_before=load,
        load_after=os.getloadavg()[0],
    )


if __name__ == "__main__":
    main()
