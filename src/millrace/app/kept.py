"""What a student would leave its ranker of what that likes best, on pages newer than all that either has seen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import numpy as np

from millrace.app.lessons import counted
from millrace.app.settings import Settings
from millrace.base.ids import Int64Array
from millrace.flywheel.kept_share import KeptShare, kept_share
from millrace.flywheel.sample_set import Float32Array, SampleSet

if TYPE_CHECKING:
    from millrace.flywheel.logged_samples import LoggedCandidates

_MAX_PAGES: Final = 300


def newest_pages(samples: SampleSet, newest: Int64Array, candidates: LoggedCandidates | None) -> SampleSet:
    """Return the pages to judge by: requests since the held-out pages began whose candidates were logged.

    Where none were, the held-out pages themselves, of which what was seen is there and no more. At most the newest
    `_MAX_PAGES` of them.
    """
    pages = samples.take(newest)
    if candidates is not None:
        since = np.flatnonzero(candidates.samples.now_ms >= samples.now_ms[newest[0]])
        if len(since):
            pages = counted(candidates.samples.take(since))
    order = np.argsort(pages.now_ms, kind="stable")
    return pages.take(np.sort(order[-_MAX_PAGES:]))


def kept_of_best(
    pages: SampleSet, teacher: Float32Array, student: Float32Array, weights: Mapping[str, float] | None
) -> KeptShare:
    """Return what of the teacher's best the student keeps; both put candidates in order by value.

    Parameters
    ----------
    pages
        Candidates of pages as slates, n in all.
    teacher, student
        Shape (n, n_actions): what either says of them.
    weights
        What each action is worth, by name; None: by default.
    """
    worth = action_worth(pages.meta.actions, weights or {})
    return kept_share(
        teacher @ worth,
        student @ worth,
        np.asarray(pages.post_ids),
        np.asarray(pages.weights),
        np.asarray(pages.starts),
    )


def action_worth(actions: tuple[str, ...], weights: Mapping[str, float]) -> Float32Array:
    """Return what each action is worth, shape (n_actions,), float32: as given, else as the value model has it."""
    from millrace.base.actions import Action
    from millrace.mixer.value_model.weights import X_WEIGHTS

    defaults = {action.label: X_WEIGHTS.get(action, 0.0) for action in Action}
    return np.array([weights.get(name, defaults.get(name, 0.0)) for name in actions], dtype=np.float32)


def home_weights(settings: Settings) -> dict[str, float]:
    """Return what a home's config says that actions are worth, by name; those of which it says nothing are left out."""
    from millrace.mixer.value_model.profiles import values_in_effect

    config, prefix = settings.config, "value.weight_"
    values = values_in_effect(config.home.value_profile, config.profiles, config.params)
    return {name.removeprefix(prefix): float(value) for name, value in values.items() if name.startswith(prefix)}
