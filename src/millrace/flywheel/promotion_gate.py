"""The gate: whether a ranker that has learned on may serve in the place of the one that does.

Both predict the same pages, which neither has learned from; intervals are by viewer, over paired resamples. What has to
be better or worse is asked of the interval's bound, so that chance neither lets in nor keeps out. Every rule leaves its
value, its threshold and a line in words.

Better on the newest pages is not enough: an hour whose labels are lies makes lies look right on its own newest pages as
well. Three rules ask elsewhere. *memory*: pages of earlier rounds that serve well, and that nobody ever learned from,
must be predicted as well as before. *surprise*: the live model, which was right until now, must not be all wrong about
the new pages. *crowd*: what was done must not be the doing of a few.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np

from millrace.base.actions import CONTINUOUS, NEGATIVE, Action
from millrace.base.ids import Int64Array
from millrace.flywheel import metrics
from millrace.flywheel.bootstrap import Interval
from millrace.flywheel.decisions import HeadMetrics, RuleOutcome
from millrace.flywheel.learning_config import GateConfig
from millrace.flywheel.paired_gains import PairedGains
from millrace.flywheel.prequential import judged_heads
from millrace.flywheel.sample_set import Float32Array

_BY_LOOKING: Final = frozenset({int(Action.DWELL), int(Action.NOT_DWELLED), int(Action.COMPLETE)})
_MIN_VIEWERS: Final = 20
_MIN_DONE: Final = 50
_LEAST_BUSY: Final = 3
_USUAL_FACTOR: Final = 1.5


class JudgedRows(NamedTuple):
    """Rows of pages that neither model has learned from, n of them.

    Attributes
    ----------
    labels, live, candidate
        Shape (n, n_actions): what was done, and what both models predicted.
    viewers
        Shape (n,).
    slices
        Places among the rows, by name.
    """

    labels: Float32Array
    live: Float32Array
    candidate: Float32Array
    viewers: Int64Array
    slices: Mapping[str, Int64Array] = {}


class Cost(NamedTuple):
    """What a model costs to serve: milliseconds for 500 candidates of a viewer, and bytes."""

    ms: float
    n_bytes: int


def against_live(judged: JudgedRows, actions: Sequence[str], config: GateConfig) -> list[RuleOutcome]:
    """Return the rules about the newest pages: finite, entropy, AUC, calibration, rare heads, and each slice's."""
    if not np.isfinite(judged.candidate).all():
        words = "a prediction of the candidate is not finite"
        return [RuleOutcome(name="finite", value=None, threshold=0.0, is_kept=False, words=words)]
    gains, heads = _gains(judged, config), judged_heads(judged.labels, config.min_positives)
    rows = np.arange(len(judged.labels))
    if not heads:
        words = f"no action has {config.min_positives} positives among {len(rows):,} rows to judge by"
        return [RuleOutcome(name="evidence", value=0.0, threshold=1.0, is_kept=False, words=words)]
    entropy = gains.entropy(heads, rows)
    rules = [
        _rule(
            "entropy",
            entropy,
            config.min_entropy_gain,
            is_kept=entropy.value >= config.min_entropy_gain and _bound(entropy.low) >= -config.max_entropy_lost,
            words=f"normalised entropy on new pages {_better(entropy, less=True)}; asked: at least "
            f"{config.min_entropy_gain:g} gained, and surely no more than {config.max_entropy_lost:g} lost",
        )
    ]
    auc = gains.auc(heads, rows)
    rules.append(
        _rule(
            "auc",
            auc,
            -config.max_auc_lost,
            is_kept=_bound(auc.low) >= -config.max_auc_lost,
            words=f"AUC on new pages {_better(auc)}; asked: surely no more than {config.max_auc_lost:g} lost",
        )
    )
    rules.append(_calibration(gains, heads, rows, actions, config))
    rules.append(_rare(judged, heads, actions))
    for name, some in judged.slices.items():
        rules += _slice(gains, name, some, judged.labels, config)
    return rules


def memory(trusted: JudgedRows | None, config: GateConfig) -> RuleOutcome:
    """Return whether earlier pages are still predicted as well as before; without any the rule is kept."""
    heads = judged_heads(trusted.labels, config.min_positives) if trusted is not None else []
    if trusted is None or not heads:
        return _nothing("memory", config.max_memory_lost, "no earlier pages to judge by yet")
    gain = _gains(trusted, config).entropy(heads, np.arange(len(trusted.labels)))
    return _rule(
        "memory",
        gain,
        -config.max_memory_lost,
        # A few dozen pages differ by as much by chance, and an honest hour would be taken for a lie.
        is_kept=gain.value >= -config.max_memory_lost or gain.high >= 0.0,
        words=f"normalised entropy on earlier pages {_better(gain, less=True)}; asked: not surely worse, and by more "
        f"than {config.max_memory_lost:g}",
    )


def surprise(new: Sequence[HeadMetrics], known: Mapping[str, float], config: GateConfig) -> RuleOutcome:
    """Return whether the live model predicts the new pages about as well as it used to.

    Parameters
    ----------
    new
        Its prequential figures of the new pages.
    known
        By action: its AUC where it is known to be right: on earlier pages, or as its manifest says.
    config
        The gate's.
    """
    both = [(head.auc, known[head.action]) for head in new if math.isfinite(known.get(head.action, math.nan))]
    if not both:
        return _nothing("surprise", config.max_surprise, "nothing to compare the live model's AUC with yet")
    now, before = (float(np.mean(values)) for values in zip(*both, strict=True))
    return RuleOutcome(
        name="surprise",
        value=before - now,
        threshold=config.max_surprise,
        is_kept=before - now <= config.max_surprise,
        words=f"the live model's AUC on the new pages is {now:.3f}, on known ones {before:.3f}: "
        f"at most {config.max_surprise:g} less is believed",
    )


def crowd(
    labels: Float32Array,
    viewers: Int64Array,
    usual: tuple[Float32Array, Int64Array] | None,
    actions: Sequence[str],
    config: GateConfig,
) -> RuleOutcome:
    """Return whether any action was mostly the doing of a few viewers: a client gone mad, or a farm.

    Parameters
    ----------
    labels, viewers
        Shape (n, n_actions) and (n,): all new rows.
    usual
        The same of older rows: where a few always do most, half as much again is believed.
    actions
        Names of the columns.
    config
        The gate's.
    """
    worst, share, most = "", 0.0, config.max_crowd_share
    usual_shares = _busiest_shares(*usual, config) if usual is not None else {}
    for head, found in _busiest_shares(labels, viewers, config).items():
        allowed = min(max(config.max_crowd_share, _USUAL_FACTOR * usual_shares.get(head, 0.0)), 1.0)
        if not worst or found - allowed > share - most:
            worst, share, most = actions[head], found, allowed
    if not worst:
        return _nothing("crowd", config.max_crowd_share, "too little was done to tell by how many")
    n = _n_busiest(len(np.unique(viewers)), config)
    return RuleOutcome(
        name="crowd",
        value=share,
        threshold=most,
        is_kept=share <= most,
        words=f"the {n} busiest viewers did {share:.0%} of every {worst}; at most {most:.0%} is believed",
    )


def costs(live: Cost, candidate: Cost, config: GateConfig) -> list[RuleOutcome]:
    """Return whether the candidate is about as fast and as large as what serves."""
    ratio = candidate.ms / live.ms
    n_most = min(config.max_bytes, int(config.max_bytes_ratio * live.n_bytes))
    return [
        RuleOutcome(
            name="latency",
            value=ratio,
            threshold=config.max_latency_ratio,
            is_kept=ratio <= config.max_latency_ratio,
            words=f"500 candidates take {candidate.ms:.2f} ms, the live model's {live.ms:.2f} ms: "
            f"at most {config.max_latency_ratio:g} times as long",
        ),
        RuleOutcome(
            name="size",
            value=float(candidate.n_bytes),
            threshold=float(n_most),
            is_kept=candidate.n_bytes <= n_most,
            words=f"{candidate.n_bytes / 1e6:.1f} MB, the live model {live.n_bytes / 1e6:.1f} MB: "
            f"at most {n_most / 1e6:.1f}",
        ),
    ]


def _gains(judged: JudgedRows, config: GateConfig) -> PairedGains:
    return PairedGains(
        judged.labels,
        judged.live,
        judged.candidate,
        judged.viewers,
        n_resamples=config.n_resamples,
        seed=config.seed,
    )


def _calibration(
    gains: PairedGains, heads: Sequence[int], rows: Int64Array, actions: Sequence[str], config: GateConfig
) -> RuleOutcome:
    """Return whether any head is surely off by more than allowed, and farther than the live model's."""
    most = math.log1p(config.max_calibration_off)
    worst, off, found = "", -math.inf, Interval(1.0, 1.0, 1.0)
    for head in heads:
        before, after = gains.calibration(head, rows)
        surely = _surely_off(after)
        is_no_worse = abs(_log(after.value)) <= abs(_log(before.value))
        farness = 0.0 if is_no_worse else surely
        if farness > off:
            worst, off, found = actions[head], farness, after
    words = (
        f"{worst}: predicted {found.value:.2f} times what happened ({found.low:.2f} to {found.high:.2f}); asked: not "
        f"surely off by more than {config.max_calibration_off:.0%} and farther than the live model"
    )
    return _rule("calibration", found, 1.0 + config.max_calibration_off, is_kept=off <= most, words=words)


def _rare(judged: JudgedRows, heads: Sequence[int], actions: Sequence[str]) -> RuleOutcome:
    """Return whether a head that is done too seldom to be judged is predicted far more often than chance explains.

    Nothing else looks at such a head, and one that says "muted by everybody" ranks the feed by itself.
    """
    worst, ratio, n_done, n_told = "", 0.0, 0, 0.0
    for head in range(len(actions)):
        if head in heads or head in CONTINUOUS:
            continue
        happened = int((judged.labels[:, head] > 0).sum())
        before, after = (float(probs[:, head].sum(dtype=np.float64)) for probs in (judged.live, judged.candidate))
        # Of so many that happened, far more than are plausible (two roots of a Poisson's mean above), and no better
        # than what serves.
        most = max((math.sqrt(happened + 1.0) + 2.0) ** 2, before)
        if after / most > ratio:
            worst, ratio, n_done, n_told = actions[head], after / most, happened, after
    if not worst:
        return _nothing("rare", 1.0, "no action was done too seldom to be judged")
    words = (
        f"{worst}: predicted {n_told:.1f} times, happened {n_done} times; asked: no more than chance explains, or than "
        "the live model predicts"
    )
    return RuleOutcome(name="rare", value=ratio, threshold=1.0, is_kept=ratio <= 1.0, words=words)


def _slice(
    gains: PairedGains, name: str, rows: Int64Array, labels: Float32Array, config: GateConfig
) -> list[RuleOutcome]:
    heads = judged_heads(labels[rows], config.min_positives) if len(rows) >= config.min_slice_rows else []
    if not heads:
        return []
    gain = gains.entropy(heads, rows)
    is_kept = not _bound(gain.high, above=True) < -config.max_slice_entropy_lost
    words = f"{name}: normalised entropy {_better(gain, less=True)}; asked: surely no more than "
    return [
        _rule(
            f"slice {name}",
            gain,
            -config.max_slice_entropy_lost,
            is_kept=is_kept,
            words=f"{words}{config.max_slice_entropy_lost:g} lost",
        )
    ]


def _busiest_shares(labels: Float32Array, viewers: Int64Array, config: GateConfig) -> dict[int, float]:
    """Return which share of every positive action the busiest viewers did, by head; where there is enough of it."""
    unique, codes = np.unique(viewers, return_inverse=True)
    if len(unique) < _MIN_VIEWERS:
        return {}
    n = _n_busiest(len(unique), config)
    shares = {}
    for head in judged_heads(labels, 1):
        if head in _BY_LOOKING or head in NEGATIVE:
            continue
        done = np.bincount(codes, weights=np.asarray(labels[:, head] > 0), minlength=len(unique))
        if done.sum() >= _MIN_DONE:
            shares[head] = float(np.sort(done)[-n:].sum() / done.sum())
    return shares


def _n_busiest(n_viewers: int, config: GateConfig) -> int:
    return max(math.ceil(config.crowd_frac * n_viewers), _LEAST_BUSY)


def _surely_off(found: Interval) -> float:
    """Return by which logarithmic factor a ratio is at least away from 1; its own distance without an interval."""
    if not (math.isfinite(found.low) and math.isfinite(found.high)):
        return abs(_log(found.value))
    return max(_log(found.low), -_log(found.high), 0.0)


def _log(ratio: float) -> float:
    return math.log(max(ratio, metrics.SMALLEST_PROBABILITY)) if math.isfinite(ratio) else math.inf


def _bound(value: float, *, above: bool = False) -> float:
    """Return a bound; one that is not known says nothing in favour below, and nothing against above."""
    return value if math.isfinite(value) else (math.inf if above else -math.inf)


def _rule(name: str, found: Interval, threshold: float, *, is_kept: bool, words: str) -> RuleOutcome:
    value, low, high = (number if math.isfinite(number) else None for number in found)
    return RuleOutcome(name=name, value=value, low=low, high=high, threshold=threshold, is_kept=is_kept, words=words)


def _nothing(name: str, threshold: float, words: str) -> RuleOutcome:
    return RuleOutcome(name=name, value=None, threshold=threshold, is_kept=True, words=words)


def _better(gain: Interval, *, less: bool = False) -> str:
    better, worse = ("lower", "higher") if less else ("higher", "lower")
    span = f" ({gain.low:+.4f} to {gain.high:+.4f} gained)" if math.isfinite(gain.low) else ""
    return f"{abs(gain.value):.4f} {better if gain.value >= 0 else worse}{span}"
