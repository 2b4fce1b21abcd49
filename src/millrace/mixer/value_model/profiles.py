"""Value profiles: named sets of params, of which the config chooses one (``[home] value_profile``).

``x`` is the defaults: the published values of the X release and e^(-0.05 x age in hours). ``classic`` is the formula
that feeds were ranked by before there were two dozen heads:

==========================  =========  ===============================================================
part                        classic    params
==========================  =========  ===============================================================
P(click)                    0.3        ``value.weight_click``
P(like)                     0.2        ``value.weight_like``
P(repost)                   0.2        ``value.weight_repost``
P(dwell)                    0.2        ``value.weight_dwell``
each explicit dislike       -0.1       ``value.weight_not_interested``, ``_mute_author``, ``_block_author``,
                                       ``_report``
every other head            0          the other ``value.weight_...``, ``value.mutual_reply_boost``
age                         x e^-0.1a  ``recency.rate_per_h`` 0.1
followed author             + 1.0      ``social.followed_bonus``
somebody followed publicly  + 0.5      ``social.proof_bonus``: any of like, reply, repost, quote and share
engaged with it
new-author lift             off        ``lift.is_on``
author decay                none       ``author_decay.decay`` 1.0
strangers                   x 1.0      ``network.out_of_network_factor``
==========================  =========  ===============================================================

An operator's own profile is a table ``[profiles.NAME]``. A profile stands at level ``config``, below ``[params]``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from millrace.base.actions import Action
from millrace.base.errors import ConfigError
from millrace.base.params import Param, ParamSet, ParamValue
from millrace.mixer.value_model.author_decay import DECAY
from millrace.mixer.value_model.lift import IS_ON
from millrace.mixer.value_model.multipliers import OUT_OF_NETWORK, RECENCY_RATE
from millrace.mixer.value_model.social import FOLLOWED_BONUS, PROOF_BONUS
from millrace.mixer.value_model.weighted_sum import MUTUAL_REPLY_BOOST

Values = Mapping[str, ParamValue]

_NAME: Final = re.compile(r"[A-Za-z0-9_-]+")

_CLASSIC_WEIGHTS: Final = {
    Action.CLICK: 0.3,
    Action.LIKE: 0.2,
    Action.REPOST: 0.2,
    Action.DWELL: 0.2,
    Action.NOT_INTERESTED: -0.1,
    Action.MUTE_AUTHOR: -0.1,
    Action.BLOCK_AUTHOR: -0.1,
    Action.REPORT: -0.1,
}

CLASSIC: Final[Values] = {
    **{f"value.weight_{action.label}": _CLASSIC_WEIGHTS.get(action, 0.0) for action in Action},
    MUTUAL_REPLY_BOOST.name: 0.0,
    RECENCY_RATE.name: 0.1,
    FOLLOWED_BONUS.name: 1.0,
    PROOF_BONUS.name: 0.5,
    IS_ON.name: False,
    DECAY.name: 1.0,
    OUT_OF_NETWORK.name: 1.0,
}

PROFILES: Final[Mapping[str, Values]] = {"x": {}, "classic": CLASSIC}
"""The built-in profiles, by name."""


def values_in_effect(profile: str, own_profiles: Mapping[str, Values], params: Values) -> Values:
    """Return the values that a config adds up to: those of its profile, and over them its own; none is checked.

    Parameters
    ----------
    profile
        The chosen profile's name.
    own_profiles
        The operator's profiles, by name.
    params
        The config's explicit params.

    Raises
    ------
    ConfigError
        If there is no such profile.
    """
    known = {**own_profiles, **PROFILES}
    if profile not in known:
        raise ConfigError(
            "config key home.value_profile",
            value=profile,
            problem="no such profile",
            remedy=f"use one of {', '.join(sorted(known))}, or make a table [profiles.{profile}]",
        )
    return {**known[profile], **params}


def params_in_effect(
    profile: str, own_profiles: Mapping[str, Values], params: Values, declared: Mapping[str, Param]
) -> ParamSet:
    """Return the same as `values_in_effect`, checked: every profile is, also those that are not chosen.

    Raises
    ------
    ConfigError
        With all problems at once: an unknown profile, a profile whose name cannot be used, and every param of any
        profile or of the config that is not known or out of bounds.
    """
    problems: list[str] = []
    try:
        values = values_in_effect(profile, own_profiles, params)
    except ConfigError as error:
        problems += error.problems
    for name, own in own_profiles.items():
        if name in PROFILES:
            problems.append(f"config section profiles.{name}: a built-in profile has this name; choose another")
        if not _NAME.fullmatch(name):
            problems.append(f"config section profiles.{name!r}: not a name; use letters, digits, _ and -")
        problems += [f"profile {name}: {problem}" for problem in _problems(own, declared)]
    problems += _problems(params, declared)
    if problems:
        raise ConfigError(
            "params",
            value=f"{len(problems)} problem{'s' if len(problems) > 1 else ''}",
            problem=" | ".join(problems),
            remedy="correct them; `millrace pipeline show` lists all params",
            problems=tuple(problems),
        )
    return ParamSet().override("config", values, declared)


def _problems(values: Values, declared: Mapping[str, Param]) -> tuple[str, ...]:
    try:
        ParamSet().override("config", values, declared)
    except ConfigError as error:
        return error.problems
    return ()
