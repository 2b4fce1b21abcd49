"""Value profiles: sets of params by name, below the explicit ones."""

import pytest

from millrace.base.actions import Action
from millrace.base.errors import ConfigError
from millrace.base.params import Param
from millrace.mixer.value_model.profiles import CLASSIC, PROFILES, params_in_effect, values_in_effect

DECLARED = {
    param.name: param
    for param in (Param("a.rate", 0.5, 0.0, 1.0), Param("b.n", 3, 0, 9), Param("c.is_on", default=True))
}
OWN = {"mine": {"a.rate": 1, "b.n": 4}, "calm": {"a.rate": 0.0}}


def test_a_profile_is_below_the_explicit_params_and_both_are_config() -> None:
    params = params_in_effect("mine", OWN, {"b.n": 5}, DECLARED)
    assert params.values == {"a.rate": 1.0, "b.n": 5}
    assert set(params.level_by_name.values()) == {"config"}
    assert params_in_effect("x", OWN, {}, DECLARED).values == {}
    assert values_in_effect("calm", OWN, {}) == {"a.rate": 0.0}


def test_all_problems_of_all_profiles_come_at_once() -> None:
    own = {"mine": {"a.rate": 2.0, "a.rat": 1.0}, "x": {}, "my own": {}}
    with pytest.raises(ConfigError) as caught:
        params_in_effect("main", own, {"b.n": 0.5}, DECLARED)
    problems = caught.value.problems
    assert len(problems) == 6
    assert "home.value_profile 'main': no such profile; use one of classic, mine, my own, x" in problems[0]
    assert problems[1].startswith("profile mine: param a.rate 2.0: out of bounds")
    assert problems[2].startswith("profile mine: param 'a.rat': not known")
    assert "profiles.x: a built-in profile has this name" in problems[3]
    assert "profiles.'my own': not a name" in problems[4]
    assert problems[5].startswith("param b.n 0.5: not of type int")


def test_classic_is_the_published_formula() -> None:
    weights = {action.label: CLASSIC[f"value.weight_{action.label}"] for action in Action}
    assert {name: weight for name, weight in weights.items() if weight} == {
        "click": 0.3,
        "like": 0.2,
        "repost": 0.2,
        "dwell": 0.2,
        "not_interested": -0.1,
        "mute_author": -0.1,
        "block_author": -0.1,
        "report": -0.1,
    }
    others = {name: value for name, value in CLASSIC.items() if not name.startswith("value.weight_")}
    assert others == {
        "value.mutual_reply_boost": 0.0,
        "recency.rate_per_h": 0.1,
        "social.followed_bonus": 1.0,
        "social.proof_bonus": 0.5,
        "lift.is_on": False,
        "author_decay.decay": 1.0,
        "network.out_of_network_factor": 1.0,
    }
    assert PROFILES["x"] == {}
