"""The weights of the value model: one param a head, the published ones of the X release as defaults.

==================  ========  ==========================================================
our head            weight    X's head (release of August 2026)
==================  ========  ==========================================================
like                   0.5    favorite
reply                  5.0    reply
repost                 1.0    retweet
quote                  5.0    quote
share                  2.0    share
share_dm               5.0    share via DM
copy_link             20.0    share via copy link
bookmark               0      (no such head)
click                  0.4    click
profile_click          0      profile click
link_open              0.2    open link
photo_expand           0.05   photo expand
video_view             0.05   video open
quote_click            0.05   quoted click
dwell                  0      dwell (binary)
dwell_time             0.004  dwell time, per second
complete               0.05   video quality view; counts for videos longer than 10 s only
follow_author          4.0    follow author
not_interested       -43.2    not interested
mute_author          -58.8    mute author
block_author         -31.2    block author
report              -234.0    report
not_dwelled           -0.02   not dwelled
==================  ========  ==========================================================

Weights multiply predicted probabilities, never counts: a report is a thousand times rarer than a like. X's further
heads (post unexplored, quoted video view, click dwell time, active seconds) have no counterpart here or weigh 0 there.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from millrace.base.actions import CONTINUOUS, N_ACTIONS, NEGATIVE, Action, ActionSpace
from millrace.base.params import Param, ParamSet

Float32Array = npt.NDArray[np.float32]

X_WEIGHTS: Final = {
    Action.LIKE: 0.5,
    Action.REPLY: 5.0,
    Action.REPOST: 1.0,
    Action.QUOTE: 5.0,
    Action.SHARE: 2.0,
    Action.SHARE_DM: 5.0,
    Action.COPY_LINK: 20.0,
    Action.BOOKMARK: 0.0,
    Action.CLICK: 0.4,
    Action.PROFILE_CLICK: 0.0,
    Action.LINK_OPEN: 0.2,
    Action.PHOTO_EXPAND: 0.05,
    Action.VIDEO_VIEW: 0.05,
    Action.QUOTE_CLICK: 0.05,
    Action.DWELL: 0.0,
    Action.DWELL_TIME: 0.004,
    Action.COMPLETE: 0.05,
    Action.FOLLOW_AUTHOR: 4.0,
    Action.NOT_INTERESTED: -43.2,
    Action.MUTE_AUTHOR: -58.8,
    Action.BLOCK_AUTHOR: -31.2,
    Action.REPORT: -234.0,
    Action.NOT_DWELLED: -0.02,
}

_MOST: Final = 10_000.0


class Weights:
    """One weight param per head.

    Parameters
    ----------
    actions
        The known actions; business actions weigh 0 until an operator says otherwise.
    """

    def __init__(self, actions: ActionSpace) -> None:
        self.params: tuple[Param, ...] = tuple(_param(code, name) for code, name in enumerate(actions.names))
        self._names = frozenset(param.name for param in self.params)
        self._defaults = np.array([param.default for param in self.params], dtype=np.float32)
        self._defaults.setflags(write=False)
        self._default_sums = signed_sums(self._defaults)

    def read(self, params: ParamSet) -> Float32Array:
        """Return the weights of one request in `Action` order, shape (n_actions,), float32."""
        if self._names.isdisjoint(params.values):
            return self._defaults
        return np.array([params.get_float(param) for param in self.params], dtype=np.float32)

    def sums(self, weights: Float32Array) -> tuple[float, float]:
        """Return `signed_sums` of weights that `read` gave; the defaults' are known."""
        return self._default_sums if weights is self._defaults else signed_sums(weights)


def signed_sums(weights: Float32Array) -> tuple[float, float]:
    """Return the summed sizes of negative and of positive weights, continuous heads left out."""
    discrete = weights.astype(np.float64)
    discrete[sorted(CONTINUOUS)] = 0.0
    return float(-discrete[discrete < 0].sum()), float(discrete[discrete > 0].sum())


def _param(code: int, name: str) -> Param:
    default = X_WEIGHTS[Action(code)] if code < N_ACTIONS else 0.0
    is_negative = code < N_ACTIONS and Action(code) in NEGATIVE
    low, high = (-_MOST, 0.0) if is_negative else (0.0, _MOST)
    return Param(f"value.weight_{name}", default, low, high, f"weight of P({name})")
