"""Who asks, and what they may do: the rules of access, without HTTP.

Development mode knows one caller, who may do everything; the server then answers this machine only. In tokens mode
a caller is a viewer (a JWT), a producer (an API key of role ingest) or an operator (one of role admin).
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from millrace.app.api_keys import PREFIX, ApiKeys
from millrace.app.tokens import ViewerTokens
from millrace.base.errors import ForbiddenError, SchemaError, UnauthenticatedError
from millrace.base.ids import normalise_id

Mode = Literal["development", "tokens"]
Role = Literal["viewer", "ingest", "admin"]


class Access(enum.Enum):
    """What a route asks of its callers. A route that does not say is for operators."""

    OPEN = "everybody"
    READ = "a viewer or an operator"
    SEND = "a viewer, a producer or an operator"
    METRICS = "an operator, or a program on this machine"
    ADMIN = "an operator"


_ROLES: Final[dict[Access, tuple[Role, ...]]] = {
    Access.READ: ("viewer", "admin"),
    Access.SEND: ("viewer", "ingest", "admin"),
    Access.METRICS: ("admin",),
    Access.ADMIN: ("admin",),
}


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks.

    Attributes
    ----------
    role
        What they are.
    name
        The viewer's id, or the API key's name.
    is_developer
        Whether this is development mode, where nobody has to say who they are.
    """

    role: Role
    name: str
    is_developer: bool = False

    def check(self, access: Access) -> None:
        """Refuse what this caller may not do.

        Raises
        ------
        ForbiddenError
            Saying who may.
        """
        if access is not Access.OPEN and self.role not in _ROLES[access]:
            raise ForbiddenError(
                f"{_WHAT[self.role]} {self.name!r}",
                problem="may not do this",
                remedy=f"it is for {access.value}",
            )

    def viewer_of(self, named: str | None) -> str:
        """Return whose timeline to read: a viewer their own, an operator the one that they name.

        Raises
        ------
        ForbiddenError
            If a viewer names somebody else.
        SchemaError
            If an operator names nobody, or the name cannot be an id.
        """
        if named is None:
            if self.role == "viewer":
                return self.name
            raise SchemaError("viewer", problem="missing", remedy="name one: ?viewer=ID")
        viewer = normalise_id(named, "viewer")
        if self.may_read(viewer):
            return viewer
        raise ForbiddenError("viewer", value=named, problem="is not you", remedy="leave it out: a token says who reads")

    def may_read(self, viewer: str) -> bool:
        """Whether this caller may read what belongs to a viewer."""
        return self.role == "admin" or (self.role == "viewer" and self.name == viewer)

    def check_debug(self) -> None:
        """Refuse to tell how a page was made to whoever is no operator.

        Raises
        ------
        ForbiddenError
            If they are none.
        """
        if self.role != "admin":
            raise ForbiddenError("debug", problem="is for operators", remedy="leave it out, or use an admin key")


_WHAT: Final[dict[Role, str]] = {"viewer": "viewer", "ingest": "ingest key", "admin": "admin key"}

DEVELOPER: Final = Caller("admin", "developer", is_developer=True)


class Gate:
    """Tells who a caller is by the credentials of a request.

    Parameters
    ----------
    tokens, keys
        Of this home; None is development mode.
    """

    def __init__(self, tokens: ViewerTokens | None = None, keys: ApiKeys | None = None) -> None:
        self._tokens = tokens
        self._keys = keys

    @property
    def mode(self) -> Mode:
        """Whether callers have to say who they are."""
        return "development" if self._tokens is None or self._keys is None else "tokens"

    def caller(self, authorizations: Sequence[str], api_keys: Sequence[str] = ()) -> Caller:
        """Return who asks.

        Parameters
        ----------
        authorizations
            Every ``Authorization`` header of the request.
        api_keys
            Every ``X-API-Key`` header.

        Raises
        ------
        UnauthenticatedError
            If there is not exactly one credential, or it cannot be used.
        NotReadyError
            If the keys cannot be read now.
        """
        if self._tokens is None or self._keys is None:
            return DEVELOPER
        given = len(authorizations) + len(api_keys)
        if given != 1:
            raise UnauthenticatedError(
                "credentials",
                problem="missing" if not given else f"{given} are given",
                remedy="send one: Authorization: Bearer, with a viewer's token or an API key",
            )
        if api_keys:
            return self._owner(api_keys[0].strip(), self._keys)
        scheme, _, credential = authorizations[0].strip().partition(" ")
        credential = credential.strip()
        if scheme.lower() != "bearer" or not credential:
            raise UnauthenticatedError(
                "credentials",
                problem="not of the kind that is spoken here",
                remedy="send Authorization: Bearer, with a viewer's token or an API key",
            )
        if credential.startswith(PREFIX):
            return self._owner(credential, self._keys)
        return Caller("viewer", self._tokens.viewer_of(credential))

    @staticmethod
    def _owner(key: str, keys: ApiKeys) -> Caller:
        found = keys.find(key)
        if found is None:
            raise UnauthenticatedError(
                "API key", problem="not known", remedy="ask the operator for one (`millrace keys add`)"
            )
        return Caller(found.role, found.name)
