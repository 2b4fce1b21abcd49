"""`Action`: the one enum, in the one order, of what people do with a post.

The order is that of prediction heads, of counter columns and of every ``(n, n_actions)`` matrix. It is part of
the format of checkpoints and models: actions are only ever appended.

Three families:

* *sent* actions arrive in `Engagement` events;
* *derived* actions (the dwell family and ``complete``) are computed from `Impression` events and refused in
  `Engagement`;
* *business* actions (a purchase, a gift) are declared in the configuration, carry an ``amount`` and stand
  after the built-in ones, in the order of their declaration.
"""

from __future__ import annotations

import enum
from typing import Final

from millrace.base.errors import ConfigError, SchemaError


class Action(enum.IntEnum):
    """What a viewer can do with a post; the value is the position in every per-action array."""

    LIKE = 0
    REPLY = 1
    REPOST = 2
    QUOTE = 3
    SHARE = 4
    SHARE_DM = 5
    COPY_LINK = 6
    BOOKMARK = 7
    CLICK = 8
    PROFILE_CLICK = 9
    LINK_OPEN = 10
    PHOTO_EXPAND = 11
    VIDEO_VIEW = 12
    QUOTE_CLICK = 13
    DWELL = 14
    DWELL_TIME = 15
    COMPLETE = 16
    FOLLOW_AUTHOR = 17
    NOT_INTERESTED = 18
    MUTE_AUTHOR = 19
    BLOCK_AUTHOR = 20
    REPORT = 21
    NOT_DWELLED = 22

    @property
    def label(self) -> str:
        """The name on the wire, in metrics and in tables: ``"like"``."""
        return self.name.lower()


N_ACTIONS: Final = len(Action)

NEGATIVE: Final = frozenset(
    {Action.NOT_INTERESTED, Action.MUTE_AUTHOR, Action.BLOCK_AUTHOR, Action.REPORT, Action.NOT_DWELLED}
)
"""Signals of dislike; their weights in the value model are at most 0."""

CONTINUOUS: Final = frozenset({Action.DWELL_TIME})
"""Predicted as an amount (seconds), not as a probability."""

DERIVED: Final = frozenset({Action.DWELL, Action.DWELL_TIME, Action.COMPLETE, Action.NOT_DWELLED})
"""Computed from `Impression`, never sent. Thresholds: `millrace.stores.dwell`."""

POSITIVE: Final = frozenset(set(Action) - NEGATIVE - CONTINUOUS)
"""Signals of liking, as probabilities."""

SOCIAL_PROOF: Final = frozenset({Action.LIKE, Action.REPLY, Action.REPOST, Action.QUOTE, Action.SHARE})
"""Public enough to be told to followers ("liked by ...")."""


class ActionSpace:
    """The built-in actions plus the operator's business actions, with codes in one order.

    Parameters
    ----------
    business
        Names of business actions, in the order of their codes after the built-in ones. Append only: a code is
        a column in checkpoints and models.
    """

    def __init__(self, business: tuple[str, ...] = ()) -> None:
        names = [action.label for action in Action]
        for name in business:
            if not name.isidentifier() or name != name.lower() or name in names:
                raise ConfigError(
                    "business action",
                    value=name,
                    problem="not a new lower-case name",
                    remedy="use a name such as 'purchase' that no other action has",
                )
            names.append(name)
        self.names: tuple[str, ...] = tuple(names)
        self.business = business
        self._code_by_name = {name: code for code, name in enumerate(names)}
        self._sendable = {
            name: code for name, code in self._code_by_name.items() if code >= N_ACTIONS or code not in DERIVED
        }

    def __len__(self) -> int:
        return len(self.names)

    def code(self, name: str) -> int:
        """Return the code of any action."""
        try:
            return self._code_by_name[name]
        except KeyError:
            raise self._unknown(name) from None

    def sendable_code(self, name: str) -> int:
        """Return the code of an action that an `Engagement` may carry."""
        try:
            return self._sendable[name]
        except KeyError:
            raise self._unknown(name) from None

    def _unknown(self, name: str) -> SchemaError:
        if name in self._code_by_name:
            return SchemaError(
                "action",
                value=name,
                problem="derived from impressions, never sent",
                remedy="send an Impression with dwell_ms instead",
            )
        return SchemaError("action", value=name, problem="not known", remedy=f"use one of {', '.join(self._sendable)}")
