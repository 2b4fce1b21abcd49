"""Viewers' tokens: JWTs that say who reads, signed with a key of this home.

Expiry is real time, even where event time is virtual: a simulation that runs through a year in an hour must not end
anybody's session.
"""

from __future__ import annotations

from typing import Final

import jwt

from millrace.base.clock import Clock, SystemClock
from millrace.base.errors import SchemaError, UnauthenticatedError
from millrace.base.ids import normalise_id

AUDIENCE: Final = "millrace"
PURPOSE: Final = "viewer tokens"
_ALGORITHM: Final = "HS256"
_MAX_TOKEN_CHARS: Final = 4_096
_REMEDY: Final = "ask for a new one (`millrace token VIEWER`)"


class ViewerTokens:
    """Makes and reads tokens.

    Parameters
    ----------
    key
        Signs them; see `millrace.app.secret.subkey`.
    clock_skew_s
        How far the clocks of makers and readers may differ.
    clock
        Real time.
    """

    def __init__(self, key: bytes, *, clock_skew_s: int = 0, clock: Clock | None = None) -> None:
        self._key = key
        self._clock_skew_s = clock_skew_s
        self._clock = clock or SystemClock()

    def make(self, viewer_id: str, ttl_s: int) -> str:
        """Return a token for a viewer, good for ``ttl_s`` seconds.

        Raises
        ------
        SchemaError
            If the viewer's id cannot be used.
        """
        viewer = normalise_id(viewer_id, "viewer id")
        now_s = self._clock.now_ms() // 1000
        claims = {"sub": viewer, "aud": AUDIENCE, "iat": now_s, "exp": now_s + ttl_s}
        return jwt.encode(claims, self._key, algorithm=_ALGORITHM)

    def viewer_of(self, token: str) -> str:
        """Return whose token this is.

        Raises
        ------
        UnauthenticatedError
            If it is not one of ours, is for somebody else, or has expired.
        """
        if len(token) > _MAX_TOKEN_CHARS:
            raise _refusal(f"{len(token)} characters long")
        try:
            claims = jwt.decode(
                token,
                self._key,
                algorithms=[_ALGORITHM],  # also keeps "none" and keys of other kinds out
                audience=AUDIENCE,
                leeway=self._clock_skew_s,
                options={"require": ["sub", "exp", "aud"], "verify_iat": False},
            )
            return normalise_id(claims["sub"], "viewer id")
        except jwt.ExpiredSignatureError:
            raise _refusal("has expired") from None
        except jwt.InvalidAudienceError:
            raise _refusal(f"is not for audience {AUDIENCE!r}") from None
        except jwt.MissingRequiredClaimError as error:
            raise _refusal(f"names no {error.claim!r}") from None
        except (jwt.InvalidSignatureError, jwt.InvalidAlgorithmError):
            raise _refusal("is not signed by this server's key") from None
        except (jwt.InvalidTokenError, SchemaError, ValueError, TypeError, OverflowError, RecursionError):
            # The token is of whoever sends it: its parts may be anything that JSON can say.
            raise _refusal("is neither a viewer's token nor an API key") from None


def _refusal(problem: str) -> UnauthenticatedError:
    return UnauthenticatedError("token", problem=problem, remedy=_REMEDY)
