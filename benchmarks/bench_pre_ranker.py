"""The pre-ranker: 2,000 and 10,000 candidates of one viewer with a history of 128, on one thread, as a page asks.

* ``ours_ms``: everything from encoded candidates to predictions: the viewer's floats and matrix, the candidates' floats
  (post vectors kept), scoring; and its parts, ``viewer_ms``, ``assemble_ms``, ``score_ms``;
* ``cold_ms``: as ours, no post's vector made before;
* ``ours_cpu_ms`` and its like: the processor's own time, which noisy neighbours do not lengthen;
* ``teacher_ms``: the ranker (``nano``, what it is distilled from by default) on the same candidates in ONNX Runtime.

Weights are random: they change no time. Outputs are compared first: in pieces, in another order, kept and made anew.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from harness import emit, interleave, median_ms, note, without_options
from millrace.base.actions import ActionSpace
from millrace.base.ids import IdHasher, IdKind
from millrace.content.config import ContentConfig
from millrace.content.text_index import TextIndex
from millrace.features.encoding.candidates import CandidateInputs, dense_fields, schema_hash
from millrace.features.encoding.history import HistoryTokens
from millrace.features.encoding.vector_inputs import VectorInputs
from millrace.features.encoding.viewers import ViewerInputs
from millrace.inference.post_vectors import KeptVectors, MadeVectors
from millrace.inference.pre_ranker_model import PreRankerModel
from millrace.inference.ranker_model import RankerModel
from millrace.models.config import PRESETS, PreRankerConfig, RankerConfig
from millrace.testing.builders import a_batch_of, a_post_created

N_POSTS: Final = 20_000
N_HISTORY: Final = 128
N_ROUNDS: Final = 60
_WORDS: Final = [
    "feed",
    "wheel",
    "river",
    "water",
    "cats",
    "bread",
    "goal",
    "star",
    "light",
    "song",
    "code",
    "paper",
    "field",
    "train",
    "cloud",
    "stone",
]


class Setting(NamedTuple):
    """Models, a viewer, and what the posts say."""

    light: PreRankerModel
    teacher: RankerModel
    viewer: ViewerInputs
    texts: TextIndex
    post_ids: np.ndarray


def a_setting(folder: Path, seed: int = 1) -> Setting:
    """Return exported models of random weights, a viewer, and an index of posts."""
    import torch

    from millrace.models.export import export_ranker, export_tables
    from millrace.models.learned_ranker import LearnedRanker
    from millrace.models.pre_ranker import PreRanker
    from millrace.models.pre_ranker_export import export_pre_ranker

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    actions = ActionSpace()
    n_dense, schema = len(dense_fields(actions)), schema_hash(actions)
    export_pre_ranker(PreRanker(PreRankerConfig(actions=actions.names, n_dense=n_dense, schema=schema)), folder)
    ranker = LearnedRanker(RankerConfig(trunk=PRESETS["nano"], actions=actions.names, n_dense=n_dense, schema=schema))
    export_ranker(ranker.ranker, folder / "teacher")
    export_tables(ranker.tables, folder / "teacher")
    hasher = IdHasher()
    texts = TextIndex(ContentConfig(max_posts=N_POSTS), hasher)
    for first in range(0, N_POSTS, 5_000):
        posts = [
            a_post_created(post, post % 5_000, text=" ".join(rng.choice(_WORDS, 14)) + f" {post}")
            for post in range(first, first + 5_000)
        ]
        texts.apply(a_batch_of(posts, first_offset=first))
    post_ids = np.array([hasher.one(IdKind.POST, str(post)) for post in range(N_POSTS)])
    history = HistoryTokens(
        rng.choice(post_ids, N_HISTORY),
        rng.integers(1, 2**62, N_HISTORY),
        rng.integers(1, 2**20, N_HISTORY).astype(np.uint64),
        rng.integers(0, 90, (N_HISTORY, 3)).astype(np.uint8),
        np.zeros(N_HISTORY, dtype=np.uint8),
        1,
    )
    viewer = ViewerInputs(
        7, history, np.ones(4, dtype=np.uint8), np.ones(64, dtype=np.uint16), np.ones(4, dtype=np.uint8)
    )
    return Setting(
        PreRankerModel.open(folder, schema), RankerModel.open(folder / "teacher", schema), viewer, texts, post_ids
    )


def a_request(setting: Setting, n: int, number: int) -> CandidateInputs:
    """Return candidates of a request: others for each number."""
    rng = np.random.default_rng((number + 10, n))
    n_dense = setting.light.config.n_dense
    dense = np.where(rng.random((n, n_dense)) < 0.5, 0, rng.integers(0, 120, (n, n_dense)))
    authors = rng.integers(1, 2**62, max(n // 3, 1))
    return CandidateInputs(
        rng.choice(setting.post_ids, n, replace=False),
        authors[rng.integers(0, len(authors), n)],
        rng.integers(0, 9, n).astype(np.uint8),
        dense.astype(np.uint8),
    )


def agrees(setting: Setting, n: int) -> bool:
    """Whether kept vectors, pieces and another order change nothing."""
    light, viewer = setting.light, setting.viewer
    kept = light.vectors_over(setting.texts)
    made = MadeVectors(light.tables, lambda ids: setting.texts.content(ids)[0])
    candidates = a_request(setting, n, 999)
    whole = light.predict(viewer, candidates, kept)
    order = np.random.default_rng(1).permutation(n)
    parts = [light.predict(viewer, candidates.take(part), kept) for part in np.array_split(np.arange(n), 7)]
    return bool(
        np.abs(light.predict(viewer, candidates, made) - whole).max() < 1e-6
        and np.abs(light.predict(viewer, candidates.take(order), kept) - whole[order]).max() < 1e-6
        and np.abs(np.concatenate(parts) - whole).max() < 1e-6
    )


def figures(setting: Setting, n: int, n_rounds: int = N_ROUNDS) -> dict[str, float]:
    """Return the medians in milliseconds of everything for ``n`` candidates, taken in turns."""
    light, viewer = setting.light, setting.viewer
    kept = light.vectors_over(setting.texts)
    requests = [a_request(setting, n, number) for number in range(16)]
    for request in requests:
        light.assemble(request, kept)
    floats = [light.assemble(request, kept) for request in requests]
    encoded = light.encode(viewer, kept)
    cold: list[KeptVectors] = []

    def ask_cold(number: int) -> Any:
        cold.append(light.vectors_over(setting.texts))
        return light.predict(viewer, requests[number % 16], cold.pop())

    def tokens_of(ids: np.ndarray) -> np.ndarray:
        return setting.texts.content(ids)[0]

    vectors = VectorInputs(texts_of=setting.texts.whole_vectors)
    runs: dict[str, Callable[[int], Any]] = {
        "ours": lambda number: light.predict(viewer, requests[number % 16], kept),
        "viewer": lambda _number: light.encode(viewer, kept),
        "assemble": lambda number: light.assemble(requests[number % 16], kept),
        "score": lambda number: light.score(floats[number % 16], encoded),
    }
    slow: dict[str, Callable[[int], Any]] = {
        "cold": ask_cold,
        "teacher": lambda number: setting.teacher.predict(viewer, requests[number % 16], tokens_of, vectors),
    }
    n_slow = max(n_rounds // 12, 3)
    took = interleave(runs, n_rounds=n_rounds, n_warmup=3, n_per_turn=4)
    took.update(interleave(slow, n_rounds=n_slow, n_warmup=1))
    found = {f"{name}_ms": median_ms(seconds) for name, seconds in took.items()}
    for name, run in {**runs, **slow}.items():
        found[f"{name}_cpu_ms"] = cpu_ms(run, n_slow if name in slow else n_rounds)
    return found


def cpu_ms(run: Callable[[int], Any], n_runs: int) -> float:
    """Return the median of this thread's own milliseconds on the processor."""
    took = []
    for number in range(n_runs):
        start_s = time.thread_time()
        run(number)
        took.append(time.thread_time() - start_s)
    return float(np.median(took)) * 1e3


def preranker_ms(n: int = 2_000, n_rounds: int = N_ROUNDS) -> float:
    """Return the median milliseconds of processor time for ``n`` candidates of one viewer, assembly included."""
    with tempfile.TemporaryDirectory() as folder:
        return figures(a_setting(Path(folder)), n, n_rounds)["ours_cpu_ms"]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        note("making models and posts ...")
        setting = a_setting(Path(folder))
        equal = agrees(setting, 2_000)
        small, large = figures(setting, 2_000), figures(setting, 10_000, N_ROUNDS // 4)
    emit(
        "pre_ranker",
        equal=equal,
        ratio={
            "teacher": small["teacher_cpu_ms"] / small["ours_cpu_ms"],
            "teacher_10000": large["teacher_cpu_ms"] / large["ours_cpu_ms"],
        },
        **small,
        **{name.replace("_ms", "_10000_ms"): value for name, value in large.items()},
    )


if __name__ == "__main__":
    without_options(__doc__)
    main()
