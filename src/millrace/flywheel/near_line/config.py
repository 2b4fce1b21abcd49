"""``[near_line]``: how the near-line learner learns, and when what it has learned is used."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from millrace.base.errors import ConfigError


class NearLineConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[near_line]``: calibration and the fast layer over the learned ranker; docs/flywheel.md."""

    is_on: Annotated[
        bool,
        Meta(description="Learn from every impression beside the server, in a process of its own that guards, too"),
    ] = True
    n_slots: Annotated[
        int,
        Meta(ge=2, le=1 << 20, description="Rows of the fast layer's table of hashed weights, a power of two"),
    ] = 1 << 16
    alpha: Annotated[float, Meta(gt=0, le=10, description="FTRL: learning rate of each weight")] = 0.05
    beta: Annotated[float, Meta(gt=0, le=100, description="FTRL: slows the first steps of each weight")] = 1.0
    l1: Annotated[float, Meta(ge=0, le=100, description="FTRL: evidence below which a weight stays 0")] = 0.2
    l2: Annotated[float, Meta(ge=0, le=1000, description="FTRL: draws weights to 0")] = 2.0
    half_life_h: Annotated[
        float, Meta(gt=0, le=8760, description="Hours after which the evidence behind a weight counts half")
    ] = 24.0
    wait_s: Annotated[
        float,
        Meta(
            ge=0,
            le=3600,
            description="Event-time seconds after a look until its row counts as settled: for calibration, gates and "
            "guards; the fast layer learns at once and corrects itself",
        ),
    ] = 10.0
    max_pages: Annotated[
        int, Meta(ge=16, le=1_000_000, description="Pages that are kept until their looks and actions have come")
    ] = 4096
    calibration_rows: Annotated[
        int, Meta(ge=64, le=1_000_000, description="Newest settled rows that calibration is fitted to")
    ] = 8192
    gate_z: Annotated[
        float,
        Meta(
            ge=0,
            le=10,
            description="Standard errors by which a head's prequential gain must be above 0 before it is used; half "
            "as many keep it in use",
        ),
    ] = 3.0
    gate_positives: Annotated[
        int, Meta(ge=1, le=1_000_000, description="Actions of a head that must have been seen before it is used")
    ] = 30
    gate_pages: Annotated[
        int, Meta(ge=10, le=1_000_000, description="Pages after which what is behind a gate counts for a third")
    ] = 2000
    publish_every_ms: Annotated[
        int, Meta(ge=10, le=60_000, description="What has changed is sent to the servers this often")
    ] = 500

    def check(self) -> None:
        """Raise `ConfigError` unless the table can be addressed by bits of a hash."""
        if self.n_slots & (self.n_slots - 1):
            raise ConfigError(
                "[near_line] n_slots",
                value=self.n_slots,
                problem="is no power of two",
                remedy=f"give {1 << self.n_slots.bit_length() - 1} or {1 << self.n_slots.bit_length()}",
            )
