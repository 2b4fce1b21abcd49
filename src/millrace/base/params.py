"""Params: settings read per request, declared beside the code that reads them.

A `Param` has a name, a default and bounds. Its value for one request is decided by one rule, lowest to
highest: default < config < experiment < degradation. `ParamSet` holds the outcome and who decided.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from millrace.base.errors import ConfigError

LEVELS: Final = ("default", "config", "experiment", "degradation")

ParamValue = float | int | bool


@dataclass(frozen=True, slots=True)
class Param:
    """One number or switch that may differ from request to request.

    Parameters
    ----------
    name
        ``"<stage>.<what>"``, unique over all pipelines.
    default
        Its type (bool, int or float) is the type of every value.
    low, high
        Inclusive bounds; ignored for bools.
    doc
        One line for ``millrace pipeline show``.
    """

    name: str
    default: ParamValue
    low: float = float("-inf")
    high: float = float("inf")
    doc: str = ""

    def check(self, value: object) -> ParamValue:
        """Return ``value`` in this param's type, or raise `ConfigError`."""
        kind = type(self.default)
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind:
            raise ConfigError(
                f"param {self.name}",
                value=value,
                problem=f"not of type {kind.__name__}",
                remedy=f"give a {kind.__name__}, such as the default {self.default}",
            )
        if kind is not bool and not self.low <= value <= self.high:
            raise ConfigError(
                f"param {self.name}",
                value=value,
                problem="out of bounds",
                remedy=f"keep it within [{self.low}, {self.high}]",
            )
        return value


@dataclass(frozen=True, slots=True)
class ParamSet:
    """The values that hold for one request, and the level that set each.

    Only overridden params are kept; every other has its default.
    """

    values: Mapping[str, ParamValue] = field(default_factory=dict)
    level_by_name: Mapping[str, str] = field(default_factory=dict)

    def get_float(self, param: Param) -> float:
        """Return a numeric param as a float."""
        return float(self.values.get(param.name, param.default))

    def get_int(self, param: Param) -> int:
        """Return an integer param."""
        return int(self.values.get(param.name, param.default))

    def get_bool(self, param: Param) -> bool:
        """Return a switch."""
        return bool(self.values.get(param.name, param.default))

    def level(self, param: Param) -> str:
        """Return which of `LEVELS` decided the value."""
        return self.level_by_name.get(param.name, "default")

    def override(self, level: str, values: Mapping[str, object], declared: Mapping[str, Param]) -> ParamSet:
        """Return a set in which ``level`` has the say over ``values``.

        Raises
        ------
        ConfigError
            Naming every unknown name and every value out of bounds.
        """
        if level not in LEVELS:
            raise ConfigError("param level", value=level, problem="not known", remedy=f"use one of {LEVELS}")
        new_values = dict(self.values)
        new_levels = dict(self.level_by_name)
        problems: list[str] = []
        for name, value in values.items():
            param = declared.get(name)
            if param is None:
                problems.append(f"param {name!r}: not known; see `millrace pipeline show` for the names")
                continue
            try:
                new_values[name] = param.check(value)
            except ConfigError as error:
                problems.append(str(error))
                continue
            new_levels[name] = level
        if problems:
            raise ConfigError(
                "params",
                value=list(values),
                problem=" | ".join(problems),
                remedy="correct or remove them",
                problems=tuple(problems),
            )
        return ParamSet(new_values, new_levels)
