"""``millrace bench rank``: what a page costs the ranker: 500 candidates, a history of 128, d = 128, one thread.

The model is the preset ``small``; its weights are random, which no figure depends on. Times are of the thread's own
processor time, medians of interleaved runs (``least_ms`` the shortest of each: what other work on the machine takes out
of shared caches is in the medians):

* ``fp32_ms``: 500 candidates, projected, against a viewer whose encoding is kept; ``int8_ms`` the same in 8 bits
  (``int8_change`` is the most that a probability changes); ``encode_ms`` what it takes to encode a viewer;
* ``page_ms``: from encoded inputs to predictions, in float32, the posts' projections kept and the viewer's encoding
  not; ``page_kept_ms`` with both kept;
* ``bf16_ms`` is null where ONNX Runtime has no product of bfloat16 for this processor; ``bf16_note`` is what it says;
* ``naive_mask_500``, ``naive_mask_2000``: how many times as long candidates and history take as one sequence under one
  mask (`naive_ranker`), against encoding and scoring, nothing kept; same weights, same runtime, outputs equal first;
* ``products_ms``: the matrix products of ``fp32_ms`` alone, in NumPy, nothing between them: what this machine, in the
  state that it is in, takes at least;
* ``batch64_per_item``: how many times as long 64 viewers with 8 candidates each take one by one as in one run.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import helper

from harness import emit, interleave, median_ms, note, without_options
from millrace.base.actions import CONTINUOUS, ActionSpace
from millrace.content.ngrams import MAX_TOKENS
from millrace.features.encoding.buckets import SCALE
from millrace.features.encoding.candidates import CandidateInputs, dense_fields
from millrace.features.encoding.history import HistoryTokens
from millrace.features.encoding.vector_inputs import VectorInputs
from millrace.features.encoding.viewers import ViewerInputs
from millrace.inference.onnx_runner import OnnxRunner, open_session, score_inputs
from millrace.inference.ranker_model import RankerModel
from millrace.inference.runner import EncodedViewers, Viewers
from millrace.models.config import PRESETS, RankerConfig
from millrace.models.export import export_bytes, export_ranker, export_tables, served_weights
from millrace.models.learned_ranker import LearnedRanker
from millrace.models.onnx_graph import save
from millrace.models.products import TAP, Ranges, ranges_of
from millrace.models.ranker_graphs import score_graph
from naive_ranker import naive_graph, naive_mask

N: Final = 500
N_LARGE: Final = 2_000
N_HISTORY: Final = 128
N_VIEWERS: Final = 64
N_EACH: Final = 8
N_ROUNDS: Final = 20

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
    """Return candidates: posts projected, dense fields as the bytes they are."""
    rng = np.random.default_rng(n)
    posts = rng.standard_normal((n_viewers, n, config.trunk.d)).astype(np.float32)
    dense = rng.integers(0, 100, (n_viewers, n, config.n_dense)) * np.float32(SCALE)
    return np.concatenate([posts, dense.astype(np.float32)], axis=2)


def naive_session(config: RankerConfig, weights: dict[str, Array], n: int, folder: Path) -> Any:
    """Return a session of the naive form, as ours are opened."""
    save(naive_graph(config, weights, N_HISTORY, n), folder / f"naive{n}.onnx")
    return open_session(folder / f"naive{n}.onnx")


def a_page(config: RankerConfig) -> tuple[ViewerInputs, CandidateInputs, Any, VectorInputs]:
    """Return encoded inputs of a page, and what tells texts and their vectors."""
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
    whole = rng.integers(-30, 30, (len(ids), config.trunk.text_width), dtype=np.int8)
    vectors = VectorInputs(texts_of=lambda wanted: whole[np.searchsorted(ids, wanted)])
    return viewer, candidates, lambda wanted: texts[np.searchsorted(ids, wanted)], vectors


def activation_ranges(config: RankerConfig, weights: dict[str, Array], encoded: EncodedViewers, folder: Path) -> Ranges:
    """Return the ranges of other candidates than those that are timed."""
    save(score_graph(config, weights, is_tapped=True), folder / "tapped.onnx")
    session = open_session(folder / "tapped.onnx")
    taps = [each.name for each in session.get_outputs() if each.name.startswith(TAP)]
    wanted = [each.name for each in session.get_inputs()]
    given = score_inputs(wanted, some_candidates(config, 1, N + 1), encoded)
    found = zip(taps, session.run(taps, given), strict=True)
    return ranges_of([{name.removeprefix(TAP): x for name, x in found}])


def bf16_note() -> str:
    """Return what ONNX Runtime says to a product of bfloat16 on this processor; empty where it takes it."""
    shape, kind = [8, 8], onnx.TensorProto.BFLOAT16
    given = [helper.make_tensor_value_info(name, kind, shape) for name in ("a", "b")]
    node = helper.make_node("MatMul", ["a", "b"], ["c"])
    graph = helper.make_graph([node], "bf16", given, [helper.make_tensor_value_info("c", kind, shape)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    try:
        onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001 - ONNX Runtime's errors share no base of their own
        return str(error).split("\n")[0]
    return ""


def measured(folder: Path) -> tuple[bool, dict[str, float], dict[str, Any]]:
    """Return whether all agree, ratios, and other figures."""
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
        naive_gap = float(np.abs(naive.run(None, given)[0] - runner.score(candidates, encoded)).max())
        note(f"{n} candidates: the naive form differs by {naive_gap:.1e}")
        is_equal &= naive_gap < 1e-5
        runs[f"naive_{n}"] = lambda _, naive=naive, given=given: naive.run(None, given)
        runs[f"shared_{n}"] = lambda _, candidates=candidates: runner.score(candidates, runner.encode(viewer))
    candidates = some_candidates(config, 1, N)
    runs["fp32"] = lambda _: runner.score(candidates, encoded)
    runs["products"] = products_of(config)
    runs["encode"] = lambda _: runner.encode(viewer)
    export_bytes(model.ranker, activation_ranges(config, weights, encoded, folder), folder)
    in_bytes = OnnxRunner.open(folder, "int8")
    runs["int8"] = lambda _: in_bytes.score(candidates, encoded)
    (dwell,) = (int(action) for action in CONTINUOUS)
    gap = np.abs(np.delete(in_bytes.score(candidates, encoded) - runner.score(candidates, encoded), dwell, axis=2))
    note(f"8 bits: probabilities change by {gap.max():.1e} at most")
    is_equal &= bool(gap.max() < 0.05)

    many, few = runner.encode(some_viewers(config, N_VIEWERS)), some_candidates(config, N_VIEWERS, N_EACH)
    singles = [(few[i : i + 1], many.take(i)) for i in range(N_VIEWERS)]
    together = runner.score(few, many)
    apart = float(np.abs(np.concatenate([runner.score(*single) for single in singles]) - together).max())
    note(f"{N_VIEWERS} viewers together: differ by {apart:.1e} from one by one")
    is_equal &= apart < 1e-6
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
    ratio["products_alone"] = ms["products"] / ms["fp32"]
    ratio["fp32_over_int8"] = ms["fp32"] / ms["int8"]
    least = {name: float(values.min()) * 1e3 for name, values in seconds.items()}
    figures = {f"{name}_ms": value for name, value in ms.items()}
    return is_equal, ratio, {**figures, "int8_change": float(gap.max()), "least_ms": least}


def products_of(config: RankerConfig) -> Callable[[int], None]:
    """Return a run of all matrix products that scoring ``N`` candidates needs, of other numbers."""
    trunk, rng = config.trunk, np.random.default_rng(6)
    d, d_head, n_tokens = trunk.d, trunk.d // trunk.n_heads, N_HISTORY + 1
    layer = [(d, 3 * d), (d, d), (d, trunk.ffn_factor * d), (trunk.ffn_factor * d, d)]
    layer += trunk.n_heads * [(d_head, n_tokens), (n_tokens, d_head)]
    shapes = [(config.n_dense, 2 * d), (2 * d, d), *(trunk.n_layers * layer), (d, len(config.actions))]
    left = {size: rng.standard_normal((N, size)).astype(np.float32) for size, _ in shapes}
    right = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
    out = {size: np.empty((N, size), dtype=np.float32) for _, size in shapes}

    def run(_: int) -> None:
        for weight in right:
            np.matmul(left[len(weight)], weight, out=out[weight.shape[1]])

    return run


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
        is_equal, ratio, figures = measured(Path(folder))
    emit(
        "rank",
        equal=is_equal,
        ratio=ratio,
        **figures,
        bf16_ms=None,
        bf16_note=bf16_note(),
        preranker_ms=preranker_ms(),
        n_candidates=N,
        n_history=N_HISTORY,
        onnxruntime=onnxruntime.__version__,
        load_before=load,
        load_after=os.getloadavg()[0],
    )


if __name__ == "__main__":
    without_options(__doc__)
    main()
