"""How the feed learns: from what was served to what is served better, one round an hour. The whole story is here.

A round takes the pages of the hours since the last one, with what the model saw and what people did (joined by
`millrace.flywheel.join`), and

1. **predicts** them with the ranker that serves, before anything learns from them (`prequential`);
2. **learns on**: a copy of that ranker goes a few small steps on them and on older pages, and its heads are calibrated
   on newer ones (`fine_tuning`, `round_pages`);
3. **judges** the copy beside the one that serves, on pages newer still, and on earlier ones that nobody ever learned
   from (`promotion_gate`): better, no harm to anybody, nothing forgotten, no lies in the hour, no dearer to serve;
4. **lets it serve**, or not: published and promoted by the registry's pointer, which running servers follow;
5. **says why** (`decisions`).

Learning always goes on from what serves: after a rollback that is the version that was rolled back to, and what was
rolled back is neither learned on from nor promoted again, nor are the hours that it learned from replayed. A round that
is killed goes on where it was, and ends with the same bytes; what it decided is carried out once.
"""

from __future__ import annotations

import hashlib
import logging
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final, Protocol

import msgspec
import numpy as np

from millrace.base.atomic_file import replacing
from millrace.base.clock import Clock
from millrace.base.errors import StoreError
from millrace.base.ids import Int64Array
from millrace.flywheel.decisions import Decision, DecisionLog, HeadMetrics, RuleOutcome
from millrace.flywheel.fine_tuning import fine_tune
from millrace.flywheel.learning_config import GateConfig, LearningConfig
from millrace.flywheel.live_ranker import open_live_ranker
from millrace.flywheel.prequential import head_metrics
from millrace.flywheel.promotion_gate import Cost, JudgedRows, against_live, costs, crowd, memory, surprise
from millrace.flywheel.round_pages import (
    HOUR_MS,
    RoundPages,
    drawn_older,
    is_within,
    judged_spans,
    parted,
    sampled,
    untrusted_spans,
)
from millrace.flywheel.sample_set import SampleSet
from millrace.flywheel.sample_slices import rows_by_slice
from millrace.flywheel.scoring_cost import serving_costs
from millrace.flywheel.train_ranker import SERVED_NAME, RankerReport, predicted
from millrace.models.learned_ranker import LearnedRanker
from millrace.registry.errors import RegistryError
from millrace.registry.manifest import Description
from millrace.registry.registry import Registry
from millrace.registry.withdrawals import withdrawn

CANDIDATE: Final = "candidate"
_ROUND: Final = "round.json"
_DECIDED: Final = "decision.json"
_NEW: Final = "new"
_OLDER: Final = "older"

logger = logging.getLogger(__name__)


class SampleSource(Protocol):
    """Where pages come from, with what the model saw and what people did."""

    @property
    def known_until_ms(self) -> int:
        """The moment before which pages must have been made for their labels to be known."""

    def samples(self, from_ms: int, until_ms: int) -> SampleSet:
        """Return the pages that were made within a span; raises `StoreError` if there are none."""


class Shown(Protocol):
    """A line of progress."""

    def total(self, n: int | None) -> None: ...  # noqa: D102 - as a progress bar has them
    def advance(self, n: int = 1) -> None: ...  # noqa: D102


ShowStage = Callable[[str], AbstractContextManager[Shown]]
MeasureCosts = Callable[[SampleSet, Int64Array, Sequence[Path]], list[Cost]]


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """Nothing to learn from yet.

    Attributes
    ----------
    until_ms
        Event time before which nobody need ask again.
    why
        In words.
    """

    until_ms: int
    why: str


class Round(msgspec.Struct, frozen=True, kw_only=True):
    """What a round is of; kept on disk from its beginning.

    Attributes
    ----------
    number, from_version, from_ms, until_ms
        As of `Decision`.
    skipped_ms
        How much time before it nobody learns from: more had gathered than one round takes.
    settings
        Digest of the config.
    """

    number: int
    from_version: str
    from_ms: int
    until_ms: int
    skipped_ms: int
    settings: str


class LearningLoop:
    """Learns on, round after round.

    Parameters
    ----------
    registry
        What serves, and where a better one is published.
    source
        Pages.
    decisions
        What was decided, and why.
    folder
        Where an unfinished round keeps what it has come to. If somebody removes it (an erasure must), the round is
        void: nothing of it is published.
    config, gate
        How a round learns, and what is asked of what it made.
    clock
        Real time, for the registry and the decisions.
    show
        Tells the person waiting.
    measure_costs
        What serving costs, model by model.
    language_names
        Of the rows of languages, for the names of slices.
    """

    def __init__(
        self,
        registry: Registry,
        source: SampleSource,
        decisions: DecisionLog,
        folder: Path,
        config: LearningConfig,
        gate: GateConfig,
        clock: Clock,
        show: ShowStage,
        *,
        measure_costs: MeasureCosts = serving_costs,
        language_names: Mapping[int, str] | None = None,
    ) -> None:
        self._registry = registry
        self._source = source
        self._decisions = decisions
        self._folder = folder
        self._config = config
        self._gate = gate
        self._clock = clock
        self._show = show
        self._measure_costs = measure_costs
        self._names = language_names
        self._seconds: dict[str, float] = {}

    def run_round(self) -> Decision | Waiting:
        """Do one round, or finish the one that was interrupted; return what it came to, or why there is none yet.

        Raises
        ------
        StoreError, SchemaError, RegistryError
            If samples, the artefact that serves, or the registry cannot be read.
        """
        if (decided := self._undone()) is not None:
            return self._carried_out(decided)
        this = self._resumed() or self._planned()
        if isinstance(this, Waiting):
            return this
        samples, pages = self._gathered()
        live_folder = self._registry.folder("ranker", this.from_version)
        live = open_live_ranker(live_folder, samples.meta.schema)

        with self._timed("predicting before learning (pages)"):
            before = predicted(live, samples, pages.new)
        told = head_metrics(
            samples.labels[samples.rows_of(pages.new)], before, samples.meta.actions, self._gate.min_positives
        )
        candidate, report = self._learned(live_folder, this, samples, pages)
        with self._timed("judging (pages)"):
            rules = self._judged(this, samples, pages, live, candidate, before, told)
        return self._carried_out(self._decided(this, samples, pages, report, told, rules))

    def due_ms(self) -> int:
        """Return the event time before which no round can be due; 0: one may be."""
        if (self._folder / _ROUND).exists():
            return 0
        version = self._registry.serving().get("ranker")
        return 0 if version is None else self._begin_ms(version) + self._round_ms

    @property
    def _round_ms(self) -> int:
        return int(self._config.hours_per_round * HOUR_MS)

    def _begin_ms(self, version: str) -> int:
        """Return where the next round begins: behind all that a round took, and all that the version learned from."""
        taken = max((each.until_ms for each in self._decisions.all()), default=0)
        return max(taken, self._registry.manifest("ranker", version).until_ms)

    def _planned(self) -> Round | Waiting:
        """Return what the next round is of: all whole hours since the last, of whose pages the labels are known."""
        version = self._registry.serving().get("ranker")
        if version is None:
            return Waiting(until_ms=0, why="no ranker serves; millrace train --promote lets one")
        begin_ms, known_ms = self._begin_ms(version), self._source.known_until_ms
        n_hours = max(known_ms - begin_ms, 0) // self._round_ms
        if not n_hours:
            until_ms = begin_ms + self._round_ms
            return Waiting(until_ms=until_ms, why=f"the next {self._config.hours_per_round:g} hours are not over yet")
        until_ms = begin_ms + n_hours * self._round_ms
        from_ms = max(begin_ms, until_ms - int(self._config.max_hours * HOUR_MS))
        try:
            new = self._source.samples(from_ms, until_ms)
        except StoreError:
            new = None
        n_pages = 0 if new is None else len(new)
        if new is None or n_pages < self._config.min_pages:
            why = f"{n_pages:,} new pages, and a round needs {self._config.min_pages:,}"
            return Waiting(until_ms=until_ms + self._round_ms, why=why)
        last = self._decisions.newest(1)
        this = Round(
            number=1 + (last[0].number if last else 0),
            from_version=version,
            from_ms=from_ms,
            until_ms=until_ms,
            skipped_ms=from_ms - begin_ms,
            settings=self._settings,
        )
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)
        with self._timed("reading pages (pages)"):
            rng = np.random.default_rng((self._config.seed, this.number))
            sampled(new, self._config.max_pages, rng).save(self._folder / _NEW)
            self._keep_older(this, rng)
        with replacing(self._folder / _ROUND) as file:  # last: without it nothing is gone on with
            file.write(msgspec.json.encode(this))
        return this

    def _keep_older(self, this: Round, rng: np.random.Generator) -> None:
        """Keep the older pages of a round: those to be learned from again, and those that judge what was forgotten."""
        begin_ms = max(this.from_ms - int(self._config.replay_hours * HOUR_MS), 0)
        try:
            older = self._source.samples(begin_ms, this.from_ms)
        except StoreError:  # there are none: the first hour of a home
            return
        decisions = self._decisions.all()
        is_judge = is_within(older.now_ms, judged_spans(decisions))
        is_sound = ~is_within(older.now_ms, untrusted_spans(decisions, self._withdrawn()))
        replayed = drawn_older(older.take(np.flatnonzero(is_sound & ~is_judge)), this.from_ms, self._config, rng)
        trusted = older.take(np.flatnonzero(is_sound & is_judge)[-self._config.max_trusted_pages :])
        replayed.joined(trusted).save(self._folder / _OLDER)

    def _gathered(self) -> tuple[SampleSet, RoundPages]:
        """Return a round's pages as they were kept, and how they are parted."""
        samples = SampleSet.load(self._folder / _NEW)
        n_new = len(samples)
        fresh, chosen_by, judged = parted(samples.now_ms, self._config.chosen_by_frac, self._config.judged_frac)
        older: Int64Array = np.empty(0, dtype=np.int64)
        trusted = older
        if (self._folder / _OLDER).exists():
            earlier = SampleSet.load(self._folder / _OLDER)
            samples = samples.joined(earlier)
            is_judge = is_within(earlier.now_ms, judged_spans(self._decisions.all()))
            older, trusted = n_new + np.flatnonzero(~is_judge), n_new + np.flatnonzero(is_judge)
        new = np.concatenate([fresh, chosen_by, judged])
        return samples, RoundPages(new, fresh, chosen_by, judged, older, trusted)

    def _learned(
        self, live: Path, this: Round, samples: SampleSet, pages: RoundPages
    ) -> tuple[LearnedRanker, RankerReport]:
        with self._timed("learning on (steps)") as step:
            return fine_tune(
                live,
                samples,
                pages,
                self._config,
                folder=self._folder / CANDIDATE,
                seed=self._config.seed * 1_000 + this.number,
                on_progress=_moving(step),
            )

    def _judged(
        self,
        this: Round,
        samples: SampleSet,
        pages: RoundPages,
        live: LearnedRanker,
        candidate: LearnedRanker,
        before: np.ndarray[tuple[int, int], np.dtype[np.float32]],
        told: Sequence[HeadMetrics],
    ) -> tuple[RuleOutcome, ...]:
        """Ask every rule of the gate."""
        actions = samples.meta.actions
        rows = samples.rows_of(pages.judged)
        newest = JudgedRows(
            labels=np.asarray(samples.labels[rows]),
            live=before[-len(rows) :],  # the judged pages are the last of the new ones
            candidate=predicted(candidate, samples, pages.judged),
            viewers=samples.viewers[samples.slate_of[rows]],
            slices=rows_by_slice(samples, pages.judged, self._names),
        )
        trusted, known = None, self._known_by_manifest(this.from_version)
        if len(pages.trusted):
            rows = samples.rows_of(pages.trusted)
            said = predicted(live, samples, pages.trusted)
            trusted = JudgedRows(
                labels=np.asarray(samples.labels[rows]),
                live=said,
                candidate=predicted(candidate, samples, pages.trusted),
                viewers=samples.viewers[samples.slate_of[rows]],
            )
            found = head_metrics(trusted.labels, said, actions, self._gate.min_positives)
            known |= {head.action: head.auc for head in found}
        new_rows, usual = samples.rows_of(pages.new), None
        if len(pages.older):
            old_rows = samples.rows_of(pages.older)
            usual = (np.asarray(samples.labels[old_rows]), samples.viewers[samples.slate_of[old_rows]])
        viewers = samples.viewers[samples.slate_of[new_rows]]
        live_folder = self._registry.folder("ranker", this.from_version)
        dear = self._measure_costs(samples, pages.judged, [live_folder, self._folder / CANDIDATE / SERVED_NAME])
        return (
            surprise(told, known, self._gate),
            crowd(np.asarray(samples.labels[new_rows]), viewers, usual, actions, self._gate),
            *against_live(newest, actions, self._gate),
            memory(trusted, self._gate),
            *costs(*dear, self._gate),
        )

    def _known_by_manifest(self, version: str) -> dict[str, float]:
        """Return the AUC of the live model by action, as it was when it was published."""
        metrics = self._registry.manifest("ranker", version).metrics
        return {name.removeprefix("auc/"): value for name, value in metrics.items() if name.startswith("auc/")}

    def _decided(
        self,
        this: Round,
        samples: SampleSet,
        pages: RoundPages,
        report: RankerReport,
        told: tuple[HeadMetrics, ...],
        rules: tuple[RuleOutcome, ...],
    ) -> Decision:
        """Return the decision, kept on disk before anything of it is done; publish what is to serve."""
        broken = [rule for rule in rules if not rule.is_kept]
        version = "" if broken else self._published(this, report, told, rules)
        if version and version in self._withdrawn():
            broken = [_rolled_back_before(version)]
        verdict, why = ("refused", "; ".join(rule.words for rule in broken)) if broken else ("promoted", _good(rules))
        if this.skipped_ms:
            why += f" ({this.skipped_ms / HOUR_MS:.1f} hours before were skipped: more had gathered than a round takes)"
        decision = Decision(
            number=this.number,
            at_ms=self._clock.now_ms(),
            from_ms=this.from_ms,
            until_ms=this.until_ms,
            judged_from_ms=int(samples.now_ms[pages.judged].min()),
            verdict=verdict,
            why=why,
            n_pages=len(pages.new),
            n_rows=len(samples.rows_of(pages.new)),
            n_learned=len(pages.fresh),
            n_replayed=len(pages.older),
            n_judged=len(pages.judged),
            n_trusted=len(pages.trusted),
            n_steps=report.n_steps,
            best_step=report.best_step,
            from_version=this.from_version,
            to_version="" if broken else version,
            rules=rules,
            prequential=told,
            seconds=dict(self._seconds),
        )
        if (self._folder / _ROUND).exists():
            with replacing(self._folder / _DECIDED) as file:
                file.write(msgspec.json.encode(decision))
        return decision

    def _published(
        self, this: Round, report: RankerReport, told: Sequence[HeadMetrics], rules: Sequence[RuleOutcome]
    ) -> str:
        """Publish the candidate and return its version; of the same files and figures there is one only."""
        live = self._registry.manifest("ranker", this.from_version)
        figures = {f"prequential_auc/{head.action}": head.auc for head in told}
        figures |= {f"gate/{rule.name.replace(' ', '_')}": rule.value for rule in rules if rule.value is not None}
        # What depends on the moment, as time does, would make another version of the same files.
        figures = {name: value for name, value in figures.items() if math.isfinite(value) and name != "gate/latency"}
        known = {name: value for name, value in live.metrics.items() if name.startswith("auc/")}
        description = Description(
            kind="ranker",
            feature_schema_hash=live.feature_schema_hash,
            from_ms=live.from_ms,
            until_ms=this.until_ms,
            data=f"{live.data.partition(' + ')[0]} + round {this.number}",
            metrics=known | figures,
            settings={"learned_on_from": this.from_version, "training": msgspec.to_builtins(report.config)},
        )
        return self._registry.publish(
            self._folder / CANDIDATE / SERVED_NAME, description, now_ms=self._clock.now_ms()
        ).version

    def _carried_out(self, decision: Decision) -> Decision:
        """Do what was decided, write it down, and let go of the round; said twice, it is done once."""
        if not (self._folder / _ROUND).exists():
            why = "void: what it had read was to be forgotten meanwhile"
            decision = msgspec.structs.replace(decision, verdict="void", why=why, to_version="")
        elif decision.verdict == "promoted" and not self._is_done(decision):
            try:
                self._registry.promote(
                    {"ranker": decision.to_version},
                    now_ms=self._clock.now_ms(),
                    note=f"flywheel round {decision.number}: {decision.why}",
                    instead_of={"ranker": decision.from_version},
                )
            except RegistryError as error:
                decision = msgspec.structs.replace(decision, verdict="void", why=f"void: {error}", to_version="")
        self._decisions.append(decision)
        (self._folder / _ROUND).unlink(missing_ok=True)
        shutil.rmtree(self._folder, ignore_errors=True)
        logger.info("flywheel round %d: %s: %s", decision.number, decision.verdict, decision.why)
        return decision

    def _is_done(self, decision: Decision) -> bool:
        """Whether it was promoted before this process was killed; even if it was rolled back since."""
        return self._registry.serving().get("ranker") == decision.to_version or decision.to_version in self._withdrawn()

    def _undone(self) -> Decision | None:
        """Return what an interrupted round had decided."""
        try:
            return msgspec.json.decode((self._folder / _DECIDED).read_bytes(), type=Decision)
        except (FileNotFoundError, msgspec.MsgspecError):
            return None

    def _resumed(self) -> Round | None:
        """Return the interrupted round, unless something else serves since, or it is asked for otherwise."""
        try:
            this = msgspec.json.decode((self._folder / _ROUND).read_bytes(), type=Round)
        except (FileNotFoundError, msgspec.MsgspecError):
            return None
        is_same = this.from_version == self._registry.serving().get("ranker") and this.settings == self._settings
        return this if is_same else None

    @property
    def _settings(self) -> str:
        data = msgspec.json.encode((self._config, self._gate), order="deterministic")
        return hashlib.blake2b(data, digest_size=16).hexdigest()

    def _withdrawn(self) -> frozenset[str]:
        return withdrawn(self._registry.history(), "ranker")

    def _timed(self, what: str) -> AbstractContextManager[Shown]:
        return _Timed(what, self._show, self._clock, self._seconds)


class _Timed(AbstractContextManager[Shown]):
    """A stage that is shown, and whose seconds are kept by its name."""

    def __init__(self, what: str, show: ShowStage, clock: Clock, seconds: dict[str, float]) -> None:
        self._name = what.partition(" (")[0]
        self._shown = show(what)
        self._clock = clock
        self._seconds = seconds

    def __enter__(self) -> Shown:
        self._begun_s = self._clock.monotonic_s()
        return self._shown.__enter__()

    def __exit__(self, *error: object) -> None:
        self._seconds[self._name] = round(self._clock.monotonic_s() - self._begun_s, 3)
        self._shown.__exit__(*error)  # type: ignore[arg-type] # as they were given


def _good(rules: Sequence[RuleOutcome]) -> str:
    """Return why a candidate serves, in a line."""
    by_name = {rule.name: rule for rule in rules}
    entropy, auc = by_name["entropy"], by_name["auc"]
    n_slices = sum(name.startswith("slice ") for name in by_name)
    memory_words = "" if by_name["memory"].value is None else f", on earlier pages {by_name['memory'].value:+.4f}"
    return (
        f"gains {entropy.value:+.4f} of normalised entropy and {auc.value or 0.0:+.4f} of AUC on the newest pages"
        f"{memory_words}; no harm in {n_slices} slices"
    )


def _rolled_back_before(version: str) -> RuleOutcome:
    return RuleOutcome(
        name="withdrawn", value=None, threshold=0.0, is_kept=False, words=f"{version} was rolled back before"
    )


def _moving(step: Shown) -> Callable[[int, int], None]:
    n_done = 0

    def move(done: int, all_: int) -> None:
        nonlocal n_done
        step.total(all_)
        step.advance(done - n_done)
        n_done = done

    return move
