"""The ranker in 8 bits and in bf16, and whether it may serve so: verdicts on what it never saw.

8 bits are post-training static quantisation: activations get scales from some slates of the training part (Jacob et
al. 2018), and the score graph is written once more with products of bytes. bf16 takes the weights as they are, in
torch, viewers and candidates both. All predict the same held-out slates as float32 does. A head that loses more
ranking, information or calibration than the bounds allow keeps the model in float32; the figures are written down
either way, for each precision by itself (`millrace.inference.precision`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import numpy as np
import torch
from msgspec import Meta, Struct

from millrace.base.actions import CONTINUOUS
from millrace.base.atomic_file import replacing
from millrace.base.ids import Int64Array
from millrace.flywheel import metrics
from millrace.flywheel.ranker_batches import assembled, ranker_batch
from millrace.flywheel.sample_set import SampleSet
from millrace.flywheel.sample_vectors import SampleVectors
from millrace.inference.onnx_runner import OnnxRunner, open_session, score_inputs
from millrace.inference.precision import BYTES_FILE, VERDICT_FILES, HeadLosses, Judged, Verdict
from millrace.inference.runner import Float32Array, RankRunner, Viewers
from millrace.inference.torch_runner import TorchRunner
from millrace.models.config import RankerConfig
from millrace.models.export import export_bytes, served_weights
from millrace.models.learned_ranker import LearnedRanker
from millrace.models.onnx_graph import save
from millrace.models.products import TAP, ranges_of
from millrace.models.ranker_graphs import score_graph

_TAPPED_FILE: Final = "tapped.onnx"
_N_SLATES: Final = 64


class QuantisationBounds(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a head may lose in a lower precision."""

    max_auc_lost: Annotated[float, Meta(ge=0, description="area under the ROC curve")] = 0.002
    max_entropy_gained: Annotated[float, Meta(ge=0, description="share of the normalised entropy")] = 0.002
    max_calibration_moved: Annotated[float, Meta(ge=0, description="share of the sum of predictions")] = 0.02
    min_positives: Annotated[int, Meta(ge=1, description="with fewer a head has no say")] = 50
    n_calibration_slates: Annotated[int, Meta(ge=1, description="slates that scales are taken from")] = 128
    max_judged_slates: Annotated[int, Meta(ge=1, description="newest held-out slates that are judged on")] = 2_000


def judge_precisions(
    model: LearnedRanker,
    samples: SampleSet,
    learned: Int64Array,
    held_out: Int64Array,
    folder: Path,
    bounds: QuantisationBounds | None = None,
) -> dict[Judged, Verdict]:
    """Write the forms of lower precision of an exported ranker that pass, and the verdicts; return those.

    Parameters
    ----------
    model
        As it was exported.
    samples
        Where the slates are.
    learned, held_out
        Slates that scales are taken from, and that are judged on.
    folder
        Of `millrace.models.export.export_ranker`.
    bounds
        What may be lost.
    """
    bounds = bounds or QuantisationBounds()
    for name in VERDICT_FILES.values():  # no verdict of before is one on what is written now
        (folder / name).unlink(missing_ok=True)
    export_bytes(model.ranker, activation_ranges(model, samples, learned, folder, bounds.n_calibration_slates), folder)
    device = next(model.parameters()).device.type
    runners: dict[str, RankRunner] = {
        "fp32": OnnxRunner.open(folder),
        "int8": OnnxRunner.open(folder, "int8"),
        "bf16": TorchRunner.open(folder, device, torch.bfloat16),
    }
    labels, predicted = _predictions(model, samples, held_out[-bounds.max_judged_slates :], runners)
    judged_on: dict[Judged, str] = {"int8": "cpu", "bf16": device}
    verdicts = {
        precision: msgspec.structs.replace(
            judge(samples.meta.actions, labels, predicted["fp32"], predicted[precision], bounds), device=on
        )
        for precision, on in judged_on.items()
    }
    if not verdicts["int8"].is_accepted:
        (folder / BYTES_FILE).unlink()
    for precision, verdict in verdicts.items():
        with replacing(folder / VERDICT_FILES[precision]) as file:
            file.write(msgspec.json.format(msgspec.json.encode(verdict)))
    return verdicts


def _predictions(
    model: LearnedRanker, samples: SampleSet, slates: Int64Array, runners: Mapping[str, RankRunner]
) -> tuple[Float32Array, dict[str, Float32Array]]:
    """Return labels, and what each runner predicts, of the rows of some slates: the same ones for all."""
    labels: list[Float32Array] = []
    predicted: dict[str, list[Float32Array]] = {name: [] for name in runners}
    for candidates, viewers, marks, is_row in _slates(model, samples, slates, runners["fp32"].config):
        labels.append(marks[is_row])
        for name, runner in runners.items():
            predicted[name].append(runner.score(candidates, runner.encode(viewers))[is_row])
    return np.concatenate(labels), {name: np.concatenate(parts) for name, parts in predicted.items()}


def activation_ranges(
    model: LearnedRanker, samples: SampleSet, slates: Int64Array, folder: Path, n_slates: int
) -> dict[str, float]:
    """Return the range of every product's input over some slates, evenly spread over those given."""
    at = np.unique(np.linspace(0, len(slates) - 1, min(n_slates, len(slates))).astype(np.int64))
    runner = OnnxRunner.open(folder)
    path = folder / _TAPPED_FILE
    save(score_graph(runner.config, served_weights(model.ranker), is_tapped=True), path)
    try:
        session = open_session(path)
    finally:
        path.unlink()
    taps = [each.name for each in session.get_outputs() if each.name.startswith(TAP)]
    wanted = [each.name for each in session.get_inputs()]

    def runs() -> Iterator[Mapping[str, Float32Array]]:
        for candidates, viewers, _, is_row in _slates(model, samples, slates[at], runner.config):
            found = session.run(taps, score_inputs(wanted, candidates, runner.encode(viewers)))
            # Padding is nobody's number.
            yield {name.removeprefix(TAP): x[is_row.ravel()] for name, x in zip(taps, found, strict=True)}

    return ranges_of(runs())


def judge(
    actions: tuple[str, ...],
    labels: Float32Array,
    before: Float32Array,
    after: Float32Array,
    bounds: QuantisationBounds,
) -> Verdict:
    """Return the verdict on predictions in a lower precision beside those in float32.

    Parameters
    ----------
    actions
        Names of the heads.
    labels, before, after
        Shape (n, n_actions): what came of it, predicted in float32, predicted in the lower precision.
    bounds
        What may be lost.
    """
    heads, reasons = {}, []
    is_probability = np.array([head not in {int(action) for action in CONTINUOUS} for head in range(len(actions))])
    for head, name in enumerate(actions):
        heads[name] = _losses(labels[:, head], before[:, head], after[:, head], bool(is_probability[head]), bounds)
        allowed = {
            "auc_lost": bounds.max_auc_lost,
            "entropy_gained": bounds.max_entropy_gained,
            "calibration_moved": bounds.max_calibration_moved,
        }
        for figure, most in allowed.items():
            lost = getattr(heads[name], figure)
            # What is no number must not pass.
            if lost is not None and not lost <= most:
                reasons.append(f"{name}: {figure} {lost:.4f}, at most {most}")
    changed = np.abs(after - before)[:, is_probability]
    if not np.isfinite(after).all():
        reasons.append("a prediction is not finite")
    if not any(losses.calibration_moved is not None for losses in heads.values()):
        reasons.append(f"no head has {bounds.min_positives} positives to judge by")
    return Verdict(
        is_accepted=not reasons,
        reasons=tuple(reasons),
        n_rows=len(labels),
        largest_change=float(changed.max(initial=0.0)),
        heads=heads,
    )


def _losses(
    labels: Float32Array,
    before: Float32Array,
    after: Float32Array,
    is_probability: bool,  # noqa: FBT001 - private
    bounds: QuantisationBounds,
) -> HeadLosses:
    is_positive = labels > 0
    n_positive = int(is_positive.sum())
    if n_positive < bounds.min_positives or len(labels) - n_positive < bounds.min_positives:
        return HeadLosses(n_positive=n_positive)
    moved = abs(float(after.sum(dtype=np.float64) / before.sum(dtype=np.float64)) - 1.0)
    if not is_probability:
        return HeadLosses(n_positive=n_positive, calibration_moved=moved)
    entropy = metrics.normalised_entropy(is_positive, after) / metrics.normalised_entropy(is_positive, before)
    return HeadLosses(
        n_positive=n_positive,
        auc_lost=metrics.auc(is_positive, before) - metrics.auc(is_positive, after),
        entropy_gained=entropy - 1.0,
        calibration_moved=moved,
    )


@torch.no_grad()
def _slates(model: LearnedRanker, samples: SampleSet, slates: Int64Array, config: RankerConfig) -> Iterator[Any]:
    """Yield candidates, viewers, labels and which rows are no padding, some slates at a time."""
    vectors = SampleVectors(samples, model.sources)
    device = next(model.parameters()).device.type
    for first in range(0, len(slates), _N_SLATES):
        batch = ranker_batch(samples, slates[first : first + _N_SLATES], config, vectors=vectors).to(device)
        profile, history, mask, candidates = assembled(batch, model.tables)
        projected, given = model.ranker.projected(candidates), (profile, history, mask == 0)
        yield (
            projected.cpu().numpy(),
            Viewers(*(tensor.cpu().numpy() for tensor in given)),
            batch.labels.cpu().numpy(),
            batch.weights.cpu().numpy() > 0,
        )
