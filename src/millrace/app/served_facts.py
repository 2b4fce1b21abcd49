"""What a page's `Served` event says of how it was made: params, and which components' answers it did without.

A feature that a component would have given, had it not failed, been late or skipped, was logged with its fill. That is
what the model read, so it is true; but a replay, which has all the time, gives something else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from millrace.base.actions import ActionSpace
from millrace.base.params import Param, ParamSet
from millrace.events.feed_events import Served
from millrace.features.columns import INPUT_DENSE, POST_ID
from millrace.features.encoding.candidates import READS, fields_of
from millrace.features.query_fields import VIEWER_INPUTS
from millrace.pipeline.blueprint import Stages
from millrace.pipeline.outcome import Fate

_USED: Final = frozenset({Fate.OK.value, Fate.DISABLED.value, Fate.OVERRAN.value})

Component = tuple[str, str]
"""Stage and name, as outcomes have them."""


class ServedFacts(NamedTuple):
    """How a page was made: the values of params that were not the defaults, and the components that gave nothing."""

    params: ParamSet
    not_run: tuple[Component, ...]


class ServedFactsReader:
    """Reads facts off `Served` events.

    Parameters
    ----------
    declared
        The params of this version, by name; of others nobody asks.
    """

    def __init__(self, declared: Mapping[str, Param]) -> None:
        self._declared = declared
        self._known: dict[tuple[tuple[str, float], ...], ParamSet] = {}

    def facts(self, served: Served) -> ServedFacts:
        """Return what an event says; pages of the same params share them."""
        stamped = tuple(sorted(served.params.items()))
        params = self._known.get(stamped)
        if params is None:
            # Not checked against today's bounds: this is what was used.
            values = {
                name: type(self._declared[name].default)(value) for name, value in stamped if name in self._declared
            }
            params = self._known[stamped] = ParamSet(values, dict(served.param_levels))
        not_run = {(outcome.stage, outcome.component) for outcome in served.outcomes if outcome.fate not in _USED}
        return ServedFacts(params, tuple(sorted(not_run)))


def missed_features(stages: Stages, not_run: Iterable[Component], actions: ActionSpace) -> frozenset[str] | None:
    """Return the features that components which gave nothing, or whoever reads what they write, would have written.

    Parameters
    ----------
    stages
        Of the pipeline that serves.
    not_run
        The components.
    actions
        The known actions: names of counters.

    Returns
    -------
    frozenset of str
        Names as `millrace.features.encoding.candidates.dense_fields` has them; None where it is more than these: the
        viewer's features, or the encoding itself.
    """
    gone = set(not_run)
    if any((stage.kind, stage.name) in gone and INPUT_DENSE in stage.writes for stage in stages.late_hydrators):
        return None
    missing: set[Any] = set()
    for stage in (*stages.query_hydrators, *stages.sources, *stages.hydrators):
        if (stage.kind, stage.name) in gone or missing.intersection(stage.reads):
            missing.update(stage.writes)
            missing.discard(POST_ID)  # the page is given
    if VIEWER_INPUTS in missing:
        return None
    found: set[str] = set()
    for column in missing.intersection(READS):
        fields = fields_of(column, actions)
        if fields is None:
            return None
        found.update(fields)
    return frozenset(found)
