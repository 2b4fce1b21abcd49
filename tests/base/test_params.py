"""Params: default < config < experiment < degradation, within bounds."""

from __future__ import annotations

import pytest

from millrace.base.errors import ConfigError
from millrace.base.params import Param, ParamSet

DECAY = Param("author.decay", 0.5, 0.0, 1.0)
CAP = Param("in_network.max_posts", 500, 0, 2_000)
IS_ON = Param("recency.is_on", default=False)
DECLARED = {param.name: param for param in (DECAY, CAP, IS_ON)}


def test_what_nobody_set_has_its_default() -> None:
    params = ParamSet()
    assert params.get_float(DECAY) == 0.5
    assert params.get_int(CAP) == 500
    assert params.get_bool(IS_ON) is False
    assert params.level(DECAY) == "default"


def test_a_later_level_wins_and_is_remembered() -> None:
    params = ParamSet().override("config", {"author.decay": 0.4, "recency.is_on": True}, DECLARED)
    params = params.override("degradation", {"author.decay": 0.1}, DECLARED)
    assert params.get_float(DECAY) == 0.1
    assert params.level(DECAY) == "degradation"
    assert params.get_bool(IS_ON) is True
    assert params.level(IS_ON) == "config"


def test_overriding_leaves_the_old_set_alone() -> None:
    old = ParamSet()
    old.override("config", {"author.decay": 0.4}, DECLARED)
    assert old.get_float(DECAY) == 0.5


def test_a_whole_number_may_stand_for_a_float_and_not_the_other_way_round() -> None:
    assert DECAY.check(1) == 1.0
    assert type(DECAY.check(1)) is float
    with pytest.raises(ConfigError, match="not of type int"):
        CAP.check(1.5)


@pytest.mark.parametrize("value", [True, "0.5", None])
def test_another_type_is_refused(value: object) -> None:
    with pytest.raises(ConfigError, match="not of type float"):
        DECAY.check(value)


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_out_of_bounds_is_refused(value: float) -> None:
    with pytest.raises(ConfigError, match=r"keep it within \[0.0, 1.0\]"):
        DECAY.check(value)


def test_all_problems_are_named_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        ParamSet().override("config", {"author.decy": 1.0, "author.decay": 3.0}, DECLARED)
    assert len(caught.value.problems) == 2
    assert "'author.decy': not known" in caught.value.problems[0]
    assert "out of bounds" in caught.value.problems[1]


def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(ConfigError, match="param level 'whim'"):
        ParamSet().override("whim", {}, DECLARED)
