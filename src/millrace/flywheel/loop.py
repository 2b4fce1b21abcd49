"""How the feed learns: from what was served to what is served better, one round an hour. The whole story is here.

A round takes the pages of the hours since the last one, with what the model saw and what people did (joined by
`millrace.flywheel.join`), and

1. **predicts** them with the ranker that serves, before anything learns from them (`prequential`);
2. **learns on**: a copy of that ranker goes a few steps on them and on older pages, and its heads are calibrated
   on newer ones (`fine_tuning`, `round_pages`);
3. **judges** the copy beside the one that serves, on pages newer still, and on earlier ones that nobody has learned
   from (`promotion_gate`): better, no harm to anybody, nothing forgotten, no lies in the hour, no dearer to serve;
4. **lets it serve**, or not: published and promoted by the registry's pointer, which running servers follow;
5. **says why** (`decisions`).

The learner itself is kept from round to round, beside the version that it goes with: an hour teaches little, less than
an hour's pages can prove, so that a copy that was refused for nothing but that it is not yet better is not lost, only
not served yet. When something else serves, after a rollback by hand or by a guard, learning begins anew with that. What
was withdrawn (`Registry.withdrawn`) is neither learned on from nor promoted again, nor are the hours that it learned
from replayed. A round that is killed goes on where it was, and ends with the same bytes; what it decided is carried out
once.
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
from millrace.base.errors import NoSamplesError
from millrace.base.ids import Int64Array
from millrace.base.progress import Shown, ShowStage, moving
from millrace.flywheel.decisions import Decision, DecisionLog, HeadMetrics, RuleOutcome
from millrace.flywheel.earlier_pages import EarlierPages
from millrace.flywheel.fine_tuning import fine_tune
from millrace.flywheel.learning_config import GateConfig, LearningConfig
from millrace.flywheel.learning_round import Learner, Round, RoundFolder, SampleSource, Waiting
from millrace.flywheel.live_ranker import open_live_ranker
from millrace.flywheel.prequential import head_metrics
from millrace.flywheel.round_judging import MeasureCosts, judge_round, reason_for
from millrace.flywheel.round_pages import HOUR_MS, RoundPages, is_harmless, is_worse, sampled
from millrace.flywheel.round_stages import Timed
from millrace.flywheel.sample_set import Float32Array, SampleSet
from millrace.flywheel.scoring_cost import serving_costs
from millrace.flywheel.train_ranker import SERVED_NAME, RankerReport, predicted
from millrace.models.learned_ranker import LearnedRanker
from millrace.registry.errors import RegistryError
from millrace.registry.manifest import Description
from millrace.registry.registry import Registry

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
        samples, pages = self._folder.pages(config)
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
                learner=None if this.learner is None else self._folder.learner_path,
                folder=self._folder.candidate,
                seed=config.seed * 1_000 + this.number,
                on_progress=moving(step),
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
        if version in self._withdrawn():  # whoever withdrew it was killed before the pointer moved
            why = (
                f"ranker {version} serves and was withdrawn: millrace models promote ranker=VERSION lets another serve"
            )
            return Waiting(until_ms=0, why=why)
        begin_ms, known_ms = self._begin_ms(version), self._source.known_until_ms
        n_rounds = max(known_ms - begin_ms, 0) // self._round_ms
        if not n_rounds:
            why = f"what people do with the pages of the next {self._config.hours_per_round:g} h is not known yet"
            return Waiting(until_ms=begin_ms + self._round_ms, why=why)
        until_ms = begin_ms + n_rounds * self._round_ms
        from_ms = max(begin_ms, until_ms - int(self._config.max_hours * HOUR_MS))
        if (n_pages := self._source.n_pages(from_ms, until_ms)) < self._config.min_pages:
            return self._too_few(n_pages, from_ms, until_ms)
        last = self._decisions.newest(1)
        this = Round(
            number=1 + (last[0].number if last else 0),
            from_version=version,
            from_ms=from_ms,
            until_ms=until_ms,
            skipped_ms=from_ms - begin_ms,
            settings=self._settings,
            learner=self._folder.learner_of(version),
        )
        with self._timed("reading pages (pages)"):
            rng = np.random.default_rng((self._config.seed, this.number))
            older, trusted, trusted_from_ms = self._earlier(from_ms, rng)  # first: a source reads on, and hardly back
            this = msgspec.structs.replace(this, trusted_from_ms=trusted_from_ms)
            try:
                n_most = self._config.max_pages
                new = self._source.samples(from_ms, until_ms, lambda now_ms: sampled(len(now_ms), n_most, rng))
            except NoSamplesError:
                return self._too_few(0, from_ms, until_ms)
            if len(new) < self._config.min_pages:
                return self._too_few(len(new), from_ms, until_ms)
            self._folder.begin(this, new, older, trusted)
        return this

    def _too_few(self, n_pages: int, from_ms: int, until_ms: int) -> Waiting:
        """Say that hours are waited for; where no further hour makes a round longer, what to set instead."""
        hours, max_hours, min_pages = (until_ms - from_ms) / HOUR_MS, self._config.max_hours, self._config.min_pages
        why = f"{n_pages:,} new pages in {hours:g} h, and a round needs {min_pages:,}"
        if hours + self._config.hours_per_round > max_hours:
            why += (
                f"; a round takes max_hours = {max_hours:g} at most and skips what is older: for a home with so few "
                "pages set a lower min_pages or a higher max_hours in [flywheel.learning]"
            )
        return Waiting(until_ms=until_ms + self._round_ms, why=why)

    def _earlier(self, until_ms: int, rng: np.random.Generator) -> tuple[SampleSet | None, SampleSet | None, int]:
        """Return earlier pages: those to be learned from again, and judged ones, which are not from when on."""
        begin_ms = max(until_ms - int(self._config.replay_hours * HOUR_MS), 0)
        pages = EarlierPages(self._decisions.all(), self._withdrawn(), until_ms, self._config, rng)
        try:
            earlier = self._source.samples(begin_ms, until_ms, pages.keep)
        except NoSamplesError:
            return None, None, pages.trusted_from_ms
        is_trusted = pages.is_trusted(earlier.now_ms)
        older, trusted = (
            earlier.take(np.flatnonzero(mask)) if mask.any() else None for mask in (~is_trusted, is_trusted)
        )
        return older, trusted, pages.trusted_from_ms

    def _resumed(self) -> Round | None:
        """Return the interrupted round, unless something else serves since, or it is asked for otherwise."""
        this = self._folder.begun()
        if this is None or this.settings != self._settings:
            return None
        if this.from_version in self._withdrawn():
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
            against, version = [f"{version} was withdrawn before"], ""
        why = "; ".join(against) or reason_for(rules)
        if this.skipped_ms:
            why += f" ({this.skipped_ms / HOUR_MS:.1f} h before were skipped: more had gathered than a round takes)"
        return Decision(
            number=this.number,
            at_ms=self._clock.now_ms(),
            from_ms=this.from_ms,
            until_ms=this.until_ms,
            judged_from_ms=int(samples.now_ms[pages.judged].min()),
            trusted_from_ms=this.trusted_from_ms,
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
            n_carried=0 if this.learner is None else this.learner.n_carried,
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
        elif decision.verdict == "refused" and self._registry.serving().get("ranker") != decision.from_version:
            decision = _void(decision, f"ranker {decision.from_version}, beside which it was judged, serves no more")
        if decision.verdict == "promoted":
            self._folder.keep_learner(Learner(number=decision.number, version=decision.to_version, n_carried=0))
        elif is_worse(decision):
            self._folder.drop_learner()
        elif is_harmless(decision):
            n = decision.n_carried + 1
            self._folder.keep_learner(Learner(number=decision.number, version=decision.from_version, n_carried=n))
        self._decisions.append(decision)
        self._folder.clear()
        logger.info("flywheel round %d: %s: %s", decision.number, decision.verdict, decision.why)
        return decision

    def _is_done(self, decision: Decision) -> bool:
        """Whether it was promoted before this process was killed; even if it was rolled back since."""
        return self._registry.serving().get("ranker") == decision.to_version or decision.to_version in self._withdrawn()

    def _withdrawn(self) -> frozenset[str]:
        return frozenset(version for kind, version in self._registry.withdrawn() if kind == "ranker")

    def _timed(self, what: str) -> AbstractContextManager[Shown]:
        return Timed(what, self._show, self._clock, self._seconds)


def _predicts(model: LearnedRanker, samples: SampleSet) -> Callable[[Int64Array], Float32Array]:
    return lambda slates: predicted(model, samples, slates)


def _void(decision: Decision, why: str) -> Decision:
    return msgspec.structs.replace(decision, verdict="void", why=why, to_version="")
