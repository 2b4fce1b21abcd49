"""When a home's first ranker is trained again: one that was refused waits until there is twice as much to learn from.

A refusal is honest, and little new does not change it: each try but the first waits until the log is twice as long as
where the last one ended, so that tries become rarer by themselves. It hangs on the ranker alone: towers may serve long
before it does. So it is where a guard took away the only ranker that there was: otherwise nothing would ever learn
again of itself. What came of the last try is on disk (`millrace.app.training_outcome`), so that whoever goes on after a
restart waits no less.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from millrace.app import wiring
from millrace.app.settings import Settings
from millrace.app.training_outcome import last_outcome
from millrace.flywheel.guards.readings import BY_GUARD
from millrace.stream.log import total

if TYPE_CHECKING:
    from millrace.registry.registry import Registry

GROWTH: Final = 2


def needs_first_ranker(registry: Registry) -> bool:
    """Whether none serves, and none ever did or a guard took the last one away; where a person did, they decide."""
    if "ranker" in registry.serving():
        return False
    withdrawn = [said for (kind, _), said in registry.withdrawn().items() if kind == "ranker"]
    if withdrawn:
        return max(withdrawn, key=lambda said: (said.at_ms, said.serial)).reason.startswith(BY_GUARD)
    return not any("ranker" in change.versions for change in registry.history())


def log_length(settings: Settings) -> int:
    """Return how many records the home's log ever had."""
    log = wiring.build_log(settings)
    try:
        return total(log.end())
    finally:
        log.close()


def why_to_wait(settings: Settings) -> str:
    """Return why the first ranker is not to be trained again yet; empty: it is, or for the first time."""
    last = last_outcome(settings)
    if last is None or not last.asked_to_serve or not last.n_records:
        return ""
    n_wanted = GROWTH * last.n_records
    if log_length(settings) >= n_wanted:
        return ""
    again = f"again when the log has {n_wanted:,} records"
    if last.problem:
        return f"training the first models failed: {last.problem}; {again}"
    why = last.refused.get("ranker", "taken back by a guard")
    return f"the ranker trained on {last.n_pages:,} pages was {why}; {again}"
