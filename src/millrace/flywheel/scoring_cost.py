"""What a served ranker costs: processor time for a page of candidates, beside another on the same inputs, and bytes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

import numpy as np

from millrace.base.ids import Int64Array
from millrace.features.encoding.vector_inputs import VectorInputs
from millrace.flywheel.promotion_gate import Cost
from millrace.flywheel.sample_set import SampleSet
from millrace.flywheel.timed_page import TimedPage
from millrace.inference.ranker_model import RankerModel

N_CANDIDATES: Final = 500
_N_ROUNDS: Final = 25
_N_WARM: Final = 3


def serving_costs(samples: SampleSet, slates: Int64Array, live: Path, candidate: Path) -> tuple[Cost, Cost]:
    """Return what two rankers cost, measured in turns: medians of processor time, by ONNX Runtime.

    Not of time on the clock: a round works at the lowest priority beside a server, and how often somebody else is given
    the core says nothing about a ranker. Who is first in a turn changes, since the second finds more in caches.

    The viewer of the slates with the longest history is asked for `N_CANDIDATES` of their posts, over and over until
    they are enough; what models keep of viewers and posts is kept, as when they serve.

    Parameters
    ----------
    samples, slates
        Where viewer and candidates are taken from.
    live, candidate
        Exported forms, or artefacts.
    """
    page = TimedPage.of(samples, slates, N_CANDIDATES)

    models = [RankerModel.open(folder, samples.meta.schema) for folder in (live, candidate)]
    inputs = []
    for model in models:
        books = model.codebooks
        codes_of = None if books is None else lambda post_ids, books=books: books.encode(page.texts_of(post_ids))
        inputs.append(VectorInputs(codes_of=codes_of, social_of=None, texts_of=page.texts_of))
    taken: list[list[float]] = [[] for _ in models]
    try:
        for round_number in range(-_N_WARM, _N_ROUNDS):
            turns = list(zip(models, inputs, taken, strict=True))
            for model, own, took in turns if round_number % 2 else reversed(turns):
                start_s = time.process_time()
                model.predict(page.viewer, page.candidates, page.tokens_of, own)
                if round_number >= 0:
                    took.append(time.process_time() - start_s)
    finally:
        for model in models:
            model.close()
    first, second = (float(np.median(took)) * 1e3 for took in taken)
    return Cost(first, bytes_of(live)), Cost(second, bytes_of(candidate))


def bytes_of(folder: Path) -> int:
    """Return the size of all files below a folder, but the registry's own."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and path.name != "manifest.json")
