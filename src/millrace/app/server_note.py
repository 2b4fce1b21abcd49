"""The note that a server leaves in its home: under which address it answers, and the name by which it is known again.

Its workers tell the same name under ``/healthz``. Whoever asks an address so finds out whether the server of this home
answers there, of another home, or another program.
"""

from __future__ import annotations

import http.client
import secrets
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from millrace.app.settings import Settings
from millrace.base.atomic_file import replacing

if TYPE_CHECKING:
    from pathlib import Path

    from millrace.app.supervisor import Address

_NAME: Final = "server.json"
_TIMEOUT_S: Final = 1.0
_MAX_BYTES: Final = 4_096
_EVERYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - bound to all, asked for on this machine

Answerer = Literal["this", "other_home", "other_program", "nobody"]


class ServerNote(msgspec.Struct, frozen=True, kw_only=True):
    """A server that was started on a home; whether it still runs, its keeper's lock tells.

    Attributes
    ----------
    server_id
        Drawn at each start.
    host, port
        What it is bound to.
    learns
        Whether something learns on beside it: a demo decides that itself, whatever the home's config says.
    """

    server_id: str
    host: str
    port: int
    learns: bool = False


class _Health(msgspec.Struct):
    """What ``/healthz`` of any Millrace answers; those without a supervisor have no name."""

    status: str
    server: str = ""


def note_path(settings: Settings) -> Path:
    """Return where a home's note is."""
    return settings.run_dir / _NAME


def leave_note(settings: Settings, address: Address, *, learns: bool = False) -> ServerNote:
    """Write the note of a server that begins, under a new name; return it."""
    note = ServerNote(server_id=secrets.token_hex(8), host=address.host, port=address.port, learns=learns)
    settings.run_dir.mkdir(parents=True, exist_ok=True)
    with replacing(note_path(settings)) as file:
        file.write(msgspec.json.encode(note))
    return note


def read_note(settings: Settings) -> ServerNote | None:
    """Return the note of the home's newest server; None where there is none that can be read."""
    try:
        return msgspec.json.decode(note_path(settings).read_bytes(), type=ServerNote)
    except (OSError, msgspec.DecodeError):
        return None


def who_answers(host: str, port: int, server_id: str = "") -> Answerer:
    """Return who answers HTTP under an address of this machine: ``this`` is the server of that name."""
    connection = http.client.HTTPConnection(_EVERYWHERE.get(host, host), port, timeout=_TIMEOUT_S)
    try:
        connection.connect()
    except OSError:
        return "nobody"
    try:
        connection.request("GET", "/healthz")
        found = msgspec.json.decode(connection.getresponse().read(_MAX_BYTES), type=_Health)
    except (OSError, http.client.HTTPException, msgspec.DecodeError):
        return "other_program"
    finally:
        connection.close()
    if found.status != "ok":
        return "other_program"
    return "this" if server_id and found.server == server_id else "other_home"
