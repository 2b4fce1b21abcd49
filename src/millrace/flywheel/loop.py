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
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Final

import msgspec
import numpy as np

from millrace.base.clock import Clock
from millrace.base.errors import StoreError
from millrace.base.ids import Int64Array
from millrace.flywheel.decisions import Decision, DecisionLog, HeadMetrics, RuleOutcome
from millrace.flywheel.fine_tuning import fine_tune
from millrace.flywheel.learning_config import GateConfig, LearningConfig
from millrace.flywheel.learning_round import Round, RoundFolder, SampleSource, Shown, ShowStage, Waiting
from millrace.flywheel.live_ranker import open_live_ranker
from millrace.flywheel.prequential import head_metrics
from millrace.flywheel.round_judging import MeasureCosts, judge_round, reason_for
from millrace.flywheel.round_pages import (
    HOUR_MS,
    RoundPages,
    drawn_older,
    is_within,
    judged_spans,
    sampled,
    untrusted_spans,
)
from millrace.flywheel.sample_set import Float32Array, SampleSet
from millrace.flywheel.scoring_cost import serving_costs
from millrace.flywheel.train_ranker import SERVED_NAME, RankerReport, predicted
from millrace.models.learned_ranker import LearnedRanker
from millrace.registry.errors import RegistryError
from millrace.registry.manifest import Description
from millrace.registry.registry import Registry
from millrace.registry.rollbacks import taken_back

_AUC: Final = "auc/"

logger = logging.getLogger(__name__)


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
        Where an unfinished round keeps what it has come to.
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
        folder: RoundFolder,
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
        self._seconds = {}
        if (decided := self._folder.decided()) is not None:
            return self._carried_out(decided)
        this = self._resumed() or self._planned()
        if isinstance(this, Waiting):
            return this
        config = self._config
        spans = judged_spans(self._decisions.all())
        samples, pages = self._folder.pages(spans, config.chosen_by_frac, config.judged_frac)
        live_folder = self._registry.folder("ranker", this.from_version)
        live = open_live_ranker(live_folder, samples.meta.schema)

        with self._timed("predicting before learning (pages)"):
            before = predicted(live, samples, pages.new)
            labels = samples.labels[samples.rows_of(pages.new)]
            told = head_metrics(labels, before, samples.meta.actions, self._gate.min_positives)

        with self._timed("learning on (steps)") as step:
            candidate, report = fine_tune(
                live_folder,
                samples,
                pages,
                config,
                folder=self._folder.candidate,
                seed=config.seed * 1_000 + this.number,
                on_progress=_moving(step),
            )

        with self._timed("judging (pages)"):
            rules = judge_round(
                samples,
                pages,
                _predicts(live, samples),
                _predicts(candidate, samples),
                told,
                self._known_aucs(this.from_version),
                self._measure_costs(samples, pages.judged, live_folder, self._folder.candidate / SERVED_NAME),
                self._gate,
                self._names,
            )

        decision = self._decided(this, samples, pages, report, told, rules)
        self._folder.decide(decision)
        return self._carried_out(decision)

    def due_ms(self) -> int:
        """Return the event time before which no round can be due; 0: one may be."""
        version = self._registry.serving().get("ranker")
        return 0 if version is None or self._folder.is_there else self._begin_ms(version) + self._round_ms

    @property
    def _round_ms(self) -> int:
        return int(self._config.hours_per_round * HOUR_MS)

    def _begin_ms(self, version: str) -> int:
        """Return where the next round begins: behind all that a round took, and all that the version learned from."""
        taken = max((each.until_ms for each in self._decisions.all() if each.verdict != "void"), default=0)
        return max(taken, self._registry.manifest("ranker", version).until_ms)

    def _planned(self) -> Round | Waiting:
        """Begin the next round: of all whole hours since the last one, of whose pages the labels are known."""
        version = self._registry.serving().get("ranker")
        if version is None:
            return Waiting(until_ms=0, why="no ranker serves to learn on from; millrace train --promote lets one")
        begin_ms, known_ms = self._begin_ms(version), self._source.known_until_ms
        n_rounds = max(known_ms - begin_ms, 0) // self._round_ms
        if not n_rounds:
            why = f"what people do with the pages of the next {self._config.hours_per_round:g} h is not known yet"
            return Waiting(until_ms=begin_ms + self._round_ms, why=why)
        until_ms = begin_ms + n_rounds * self._round_ms
        from_ms = max(begin_ms, until_ms - int(self._config.max_hours * HOUR_MS))
        new = _or_none(self._source, from_ms, until_ms)
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
        with self._timed("reading pages (pages)"):
            rng = np.random.default_rng((self._config.seed, this.number))
            self._folder.begin(this, sampled(new, self._config.max_pages, rng), self._older(from_ms, rng))
        return this

    def _older(self, until_ms: int, rng: np.random.Generator) -> SampleSet | None:
        """Return earlier pages: those to be learned from again, and those that judge what was forgotten."""
        begin_ms = max(until_ms - int(self._config.replay_hours * HOUR_MS), 0)
        older = _or_none(self._source, begin_ms, until_ms)
        if older is None:
            return None
        decisions = self._decisions.all()
        is_judge = is_within(older.now_ms, judged_spans(decisions))
        is_sound = ~is_within(older.now_ms, untrusted_spans(decisions, self._withdrawn()))
        replayed = drawn_older(older.take(np.flatnonzero(is_sound & ~is_judge)), until_ms, self._config, rng)
        trusted = older.take(np.flatnonzero(is_sound & is_judge)[-self._config.max_trusted_pages :])
        return replayed.joined(trusted)

    def _resumed(self) -> Round | None:
        """Return the interrupted round, unless something else serves since, or it is asked for otherwise."""
        this = self._folder.begun()
        if this is None or this.settings != self._settings:
            return None
        return this if this.from_version == self._registry.serving().get("ranker") else None

    @property
    def _settings(self) -> str:
        data = msgspec.json.encode((self._config, self._gate), order="deterministic")
        return hashlib.blake2b(data, digest_size=16).hexdigest()

    def _known_aucs(self, version: str) -> dict[str, float]:
        """Return the AUC of a version by action, as it was when it was published."""
        metrics = self._registry.manifest("ranker", version).metrics
        return {name.removeprefix(_AUC): value for name, value in metrics.items() if name.startswith(_AUC)}

    def _decided(
        self,
        this: Round,
        samples: SampleSet,
        pages: RoundPages,
        report: RankerReport,
        told: tuple[HeadMetrics, ...],
        rules: tuple[RuleOutcome, ...],
    ) -> Decision:
        """Return the decision; what is to serve is published."""
        against = [rule.words for rule in rules if not rule.is_kept]
        version = "" if against or not self._folder.is_there else self._published(this, report, told, rules)
        if version in self._withdrawn():
            against, version = [f"{version} was rolled back before"], ""
        why = "; ".join(against) or reason_for(rules)
        if this.skipped_ms:
            why += f" ({this.skipped_ms / HOUR_MS:.1f} h before were skipped: more had gathered than a round takes)"
        return Decision(
            number=this.number,
            at_ms=self._clock.now_ms(),
            from_ms=this.from_ms,
            until_ms=this.until_ms,
            judged_from_ms=int(samples.now_ms[pages.judged].min()),
            verdict="refused" if against else "promoted",
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
            to_version=version,
            rules=rules,
            prequential=told,
            seconds=dict(self._seconds),
        )

    def _published(
        self, this: Round, report: RankerReport, told: Sequence[HeadMetrics], rules: Sequence[RuleOutcome]
    ) -> str:
        """Publish the candidate and return its version; of the same files and figures there is one only."""
        live = self._registry.manifest("ranker", this.from_version)
        metrics = {name: value for name, value in live.metrics.items() if name.startswith(_AUC)}
        metrics |= {f"prequential_auc/{head.action}": head.auc for head in told}
        # Not the latency, which is of the moment: a round that is killed behind it publishes the same version again.
        metrics |= {
            f"gate/{rule.name.replace(' ', '_')}": rule.value
            for rule in rules
            if rule.value is not None and rule.name != "latency"
        }
        description = Description(
            kind="ranker",
            feature_schema_hash=live.feature_schema_hash,
            from_ms=live.from_ms,
            until_ms=this.until_ms,
            data=f"{live.data.partition(' + ')[0]} + round {this.number}",
            metrics=metrics,
            settings={"learned_on_from": this.from_version, "training": msgspec.to_builtins(report.config)},
        )
        served = self._folder.candidate / SERVED_NAME
        return self._registry.publish(served, description, now_ms=self._clock.now_ms()).version

    def _carried_out(self, decision: Decision) -> Decision:
        """Do what was decided, write it down, and let go of the round; said twice, it is done once."""
        if not self._folder.is_there:
            decision = _void(decision, "what it had read was to be forgotten meanwhile")
        elif decision.verdict == "promoted" and not self._is_done(decision):
            try:
                self._registry.promote(
                    {"ranker": decision.to_version},
                    now_ms=self._clock.now_ms(),
                    note=f"flywheel round {decision.number}: {decision.why}",
                    instead_of={"ranker": decision.from_version},
                )
            except RegistryError as error:
                decision = _void(decision, str(error))
        self._decisions.append(decision)
        self._folder.clear()
        logger.info("flywheel round %d: %s: %s", decision.number, decision.verdict, decision.why)
        return decision

    def _is_done(self, decision: Decision) -> bool:
        """Whether it was promoted before this process was killed; even if it was rolled back since."""
        return self._registry.serving().get("ranker") == decision.to_version or decision.to_version in self._withdrawn()

    def _withdrawn(self) -> frozenset[str]:
        by_guards = {version for kind, version in self._registry.withdrawn() if kind == "ranker"}
        return taken_back(self._registry.history(), "ranker") | by_guards

    def _timed(self, what: str) -> AbstractContextManager[Shown]:
        return _Timed(what, self._show, self._clock, self._seconds)


class _Timed(AbstractContextManager[Shown]):
    """A stage that is shown, and whose seconds are kept by its name."""

    def __init__(self, what: str, show: ShowStage, clock: Clock, seconds: dict[str, float]) -> None:
        self._name = what.partition(" (")[0]
        self._shown = show(what)
        self._clock = clock
        self._seconds = seconds
        self._begun_s = 0.0

    def __enter__(self) -> Shown:
        self._begun_s = self._clock.monotonic_s()
        return self._shown.__enter__()

    def __exit__(self, *error: object) -> None:
        self._seconds[self._name] = round(self._clock.monotonic_s() - self._begun_s, 3)
        self._shown.__exit__(*error)  # type: ignore[arg-type] # as they were given


def _predicts(model: LearnedRanker, samples: SampleSet) -> Callable[[Int64Array], Float32Array]:
    return lambda slates: predicted(model, samples, slates)


def _or_none(source: SampleSource, from_ms: int, until_ms: int) -> SampleSet | None:
    """Return the pages of a span; None if there are none."""
    try:
        return source.samples(from_ms, until_ms)
    except StoreError:
        return None


def _void(decision: Decision, why: str) -> Decision:
    return msgspec.structs.replace(decision, verdict="void", why=why, to_version="")


def _moving(step: Shown) -> Callable[[int, int], None]:
    n_done = 0

    def move(done: int, all_: int) -> None:
        nonlocal n_done
        step.total(all_)
        step.advance(done - n_done)
        n_done = done

    return move
