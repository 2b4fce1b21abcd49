"""When a home's first ranker is trained again: one that was refused waits until there is twice as much to learn from.

A refusal is honest, and little new does not change it: each try but the first waits until as many pages more are logged
as there were (or as it learned from), so that tries become rarer by themselves. Pages count, not records: of likes, a
single client can send as many as it wants, and nobody learns more from them. Where nothing joins, or no page is logged,
nothing tells of pages, and the log has to be twice as long. It hangs on the ranker alone: towers may serve long
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
from millrace.flywheel.join_status import join_status
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


def logged_pages(settings: Settings) -> int:
    """Return how many pages were logged, as far as the join has come; 0 where nothing joins."""
    status = join_status(settings.samples_dir) if settings.config.flywheel.joins else None
    return 0 if status is None else status.n_pages


def why_to_wait(settings: Settings) -> str:
    """Return why the first ranker is not to be trained again yet; empty: it is, or for the first time."""
    last = last_outcome(settings)
    if last is None or not last.asked_to_serve or not last.n_records:
        return ""
    now, before = logged_pages(settings), last.n_logged
    if now >= before > 0:
        n_wanted = before + (GROWTH - 1) * max(before, last.n_pages)
        is_enough, again = now >= n_wanted, f"again when {n_wanted:,} pages are logged"
    else:  # nothing joined then, or joins now; or the join began anew
        n_wanted = GROWTH * last.n_records
        is_enough, again = log_length(settings) >= n_wanted, f"again when the log has {n_wanted:,} records"
    if is_enough:
        return ""
    if last.problem:
        return f"training the first models failed: {last.problem}; {again}"
    why = last.refused.get("ranker", "taken back by a guard")
    return f"the ranker trained on {last.n_pages:,} pages was {why}; {again}"
