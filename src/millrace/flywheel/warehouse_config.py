"""`WarehouseConfig`: tables made of the warehouse's events, and how long they are kept (section ``[warehouse]``)."""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta, Struct

from millrace.base.errors import ConfigError

Days = Annotated[int, Meta(ge=0, le=36_500)]

PROFILE_DAYS: Final = 28
"""How far back a daily snapshot looks for what a user did, or what an author was shown."""


class TierThresholds(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[warehouse.tiers]``: where creators begin to be ``micro``, ``macro``, ``mega``; below is ``nano``."""

    followers: Annotated[
        tuple[int, int, int], Meta(description="Followers from which a creator is micro, macro, mega")
    ] = (100, 1_000, 10_000)
    impressions: Annotated[
        tuple[int, int, int],
        Meta(description="Impressions of a creator's posts within 28 days from which they are micro, macro, mega"),
    ] = (1_000, 10_000, 100_000)

    def check(self) -> None:
        """Raise `ConfigError` unless both rise."""
        for name, steps in (("followers", self.followers), ("impressions", self.impressions)):
            if not 0 < steps[0] <= steps[1] <= steps[2]:
                raise ConfigError(
                    f"config key warehouse.tiers.{name}",
                    value=steps,
                    problem="does not rise",
                    remedy="give three numbers above 0, the smallest first",
                )


class WarehouseConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Tables over the raw events, retention, and their PostgreSQL form. A retention of 0 keeps everything."""

    keeps_tables: Annotated[
        bool, Meta(description="Whether a running server builds the tables, merges small files and drops old days")
    ] = True
    build_every_s: Annotated[
        float, Meta(gt=0, description="... so often; `millrace warehouse build` does it at once")
    ] = 3_600.0
    memory_mb: Annotated[int, Meta(ge=128, description="Most memory of a build; beyond it, it uses the disk")] = 1_024
    merge_files: Annotated[
        int, Meta(ge=2, description="A day or hour of at least so many files is merged into one")
    ] = 8
    raw_days: Annotated[
        Days, Meta(description="Days of raw events kept; trainings and evaluations read them, tables are made of them")
    ] = 0
    interactions_days: Annotated[Days, Meta(description="... of interactions and requests")] = 90
    user_post_day_days: Annotated[Days, Meta(description="... of user_post_day; at least 28 or 0")] = 400
    user_profile_days: Annotated[Days, Meta(description="... of daily snapshots of users")] = 90
    creator_tiers_days: Annotated[Days, Meta(description="... of daily snapshots of creators")] = 400
    post_metadata_days: Annotated[Days, Meta(description="... of posts, by the day of their creation")] = 400
    tiers: TierThresholds = TierThresholds()
    postgres_url: Annotated[
        str,
        Meta(
            description="Where `millrace warehouse postgres` keeps the interactions; "
            "postgresql://user:password@host/database; empty: nowhere"
        ),
    ] = ""
    postgres_days: Annotated[int, Meta(ge=2, le=3_650, description="Days of interactions kept in PostgreSQL")] = 30
    load_every_s: Annotated[float, Meta(gt=0, description="How often PostgreSQL is brought up to the log")] = 10.0
    refresh_trending_s: Annotated[float, Meta(gt=0, description="How often its `trending` is refreshed")] = 60.0

    def check(self) -> None:
        """Raise `ConfigError` if the settings do not go together."""
        self.tiers.check()
        if 0 < self.user_post_day_days < PROFILE_DAYS:
            raise ConfigError(
                "config key warehouse.user_post_day_days",
                value=self.user_post_day_days,
                problem=f"fewer than the {PROFILE_DAYS} days that user_profile and creator_tiers look back",
                remedy=f"give {PROFILE_DAYS} or more, or 0 to keep all",
            )
