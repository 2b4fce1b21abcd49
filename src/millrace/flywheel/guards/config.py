"""``[guards]``: when a ranker that serves is taken away from the feed."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from millrace.base.actions import ActionSpace
from millrace.base.errors import ConfigError


class GuardsConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[guards]``: guards over the ranker that serves, on live traffic; docs/flywheel.md."""

    is_on: Annotated[bool, Meta(description="Watch the rankers that serve (in the near-line process)")] = True
    rolls_back: Annotated[
        bool,
        Meta(description="Take a ranker that a guard has tripped on away from the feed; false: only warn"),
    ] = True
    heads: Annotated[
        tuple[str, ...], Meta(description="Actions whose predictions are watched; of each alone, evidence permitting")
    ] = ("like", "dwell", "click", "repost", "reply")
    evaluate_every_s: Annotated[
        float, Meta(gt=0, le=600, description="The guards look at what has come this often, real seconds")
    ] = 5.0
    n_confirm: Annotated[
        int,
        Meta(ge=1, le=100, description="Looks in a row, each with new rows, that must find the same before it trips"),
    ] = 3
    n_new_rows: Annotated[
        int, Meta(ge=1, le=1_000_000, description="Settled rows that must be new for a look to count")
    ] = 50
    window_rows: Annotated[
        int, Meta(ge=100, le=1_000_000, description="Newest settled rows of a version that are looked at")
    ] = 12_000
    min_rows: Annotated[
        int, Meta(ge=10, le=1_000_000, description="Settled rows before which nothing is said of a version")
    ] = 500
    min_positives: Annotated[
        int, Meta(ge=5, le=1_000_000, description="Of a head, rows with and without the action that there must be")
    ] = 50
    z: Annotated[
        float, Meta(ge=1, le=10, description="Standard errors of the intervals, by viewer; all of one must lie beyond")
    ] = 4.0
    least_auc: Annotated[
        float, Meta(ge=0, le=1, description="AUC of live traffic that a head's interval must not lie wholly below")
    ] = 0.5
    max_auc_drop: Annotated[
        float,
        Meta(
            ge=0,
            le=1,
            description="How far a head's AUC may lie below that of the version before it, or of its own first rows "
            "where there was none",
        ),
    ] = 0.08
    max_auc_deficit: Annotated[
        float, Meta(ge=0, le=1, description="How far a head's AUC may lie below the counters' on the same rows")
    ] = 0.08
    max_calibration: Annotated[
        float,
        Meta(ge=1, le=1000, description="Most that predicted over happened may be, or the other way round, for a head"),
    ] = 2.0
    warn_calibration: Annotated[float, Meta(ge=1, le=1000, description="The same, from where on it is only said")] = 1.5
    reference_rows: Annotated[
        int, Meta(ge=100, le=1_000_000, description="First rows of a version that drift is measured against")
    ] = 4_000
    drift_rows: Annotated[
        int, Meta(ge=100, le=1_000_000, description="Newest rows that are compared with them, at least")
    ] = 2_000
    warn_psi: Annotated[
        float, Meta(ge=0, le=100, description="Population stability index from where on drift is said")
    ] = 0.25
    max_prediction_psi: Annotated[
        float,
        Meta(
            ge=0,
            le=100,
            description="Index of a head's predictions at which the ranker is taken away; 0: never for drift alone",
        ),
    ] = 0.0
    max_feature_psi: Annotated[
        float,
        Meta(ge=0, le=100, description="The same of a dense feature; another ranker would read the same features"),
    ] = 0.0

    def check(self, actions: ActionSpace) -> None:
        """Raise `ConfigError` unless the heads are actions that there are."""
        unknown = sorted(set(self.heads) - set(actions.names))
        if unknown:
            raise ConfigError(
                "[guards] heads",
                value=unknown,
                problem="no such actions",
                remedy=f"use names among {', '.join(actions.names)}",
            )
