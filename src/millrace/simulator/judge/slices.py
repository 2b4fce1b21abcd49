"""What a change did to some of the people: effects in slices, with Holm's correction for how many are asked."""

from __future__ import annotations

from typing import Final

import msgspec
import polars as pl

from millrace.simulator.judge.effects import Effect, apart, paired_effect
from millrace.simulator.judge.intervals import Estimate, holm

_MIN_IN_SLICE: Final = 5
_ACTIVITIES: Final = ("low", "middle", "high")


class SliceEffect(msgspec.Struct, frozen=True, kw_only=True):
    """What a change did to some of the people.

    Attributes
    ----------
    slice
        ``"<kind>=<name>"``: of language, activity (thirds by sessions per day), account (new: joined during the run)
        and voice (silent: never posts).
    p_adjusted
        Of `effect`'s p-value, by Holm over all slices.
    is_harmed, is_helped
        Whether it is significant, and which way.
    against_rest
        Relative effect in the slice minus that on everybody else: harm that is special to the slice.
    """

    slice: str
    effect: Effect
    p_adjusted: float
    is_harmed: bool
    is_helped: bool
    against_rest: Estimate


def people_slices(people: pl.DataFrame, languages: tuple[str, ...] = ()) -> dict[str, pl.Series]:
    """Return who is in which slice, as masks by name, from the columns of `millrace.simulator.judge.tables.viewers`."""
    if "sessions_per_day" not in people.columns:
        return {}
    names = [languages[code] if 0 <= code < len(languages) else str(code) for code in people["language"].to_list()]
    # Ranks, not cuts: thirds stay thirds where many have the same rate.
    rank = people["sessions_per_day"].rank("ordinal").cast(pl.Int64) - 1
    third = rank * 3 // max(len(people), 1)
    kinds = {
        "language": pl.Series(names, dtype=pl.String),
        "activity": third.replace_strict([0, 1, 2], list(_ACTIVITIES), return_dtype=pl.String),
        "account": _either(people["is_new"], "new", "old"),
        "voice": _either(people["is_silent"], "silent", "posts"),
    }
    return {
        f"{kind}={name}": values == name for kind, values in kinds.items() for name in sorted(set(values.to_list()))
    }


def slice_effects(pairs: pl.DataFrame, languages: tuple[str, ...], alpha: float) -> tuple[SliceEffect, ...]:
    """Return the effects in all slices of at least five people, those with the smallest p-value first.

    Parameters
    ----------
    pairs
        People's outcomes ``before`` and ``after``, as of `millrace.simulator.judge.compare.viewer_differences`.
    alpha
        Level of significance, over all slices together.
    """
    found: list[tuple[str, Effect, Estimate]] = []
    for name, mask in people_slices(pairs, languages).items():
        inside, outside = (_paired(pairs.filter(rows)) for rows in (mask, ~mask))
        if inside.n >= _MIN_IN_SLICE:
            found.append((name, inside, apart(inside.relative, outside.relative)[0]))
    adjusted = holm([effect.p_value for _, effect, _ in found])
    slices = [
        SliceEffect(
            slice=name,
            effect=effect,
            p_adjusted=float(p),
            is_harmed=bool(p < alpha and effect.difference.value < 0),
            is_helped=bool(p < alpha and effect.difference.value > 0),
            against_rest=against_rest,
        )
        for (name, effect, against_rest), p in zip(found, adjusted, strict=True)
    ]
    return tuple(sorted(slices, key=lambda part: (part.effect.p_value, part.slice)))


def _paired(pairs: pl.DataFrame) -> Effect:
    return paired_effect(pairs["before"].to_numpy(), pairs["after"].to_numpy())


def _either(flags: pl.Series, yes: str, no: str) -> pl.Series:
    return flags.fill_null(value=False).replace_strict([True, False], [yes, no], return_dtype=pl.String)
