"""What can be wrong with the registry or with an artefact in it."""

from __future__ import annotations

from millrace.base.errors import MillraceError


class RegistryError(MillraceError):
    """The registry refused an operation, or its pointer cannot be read; nothing was changed."""


class ArtefactError(RegistryError):
    """An artefact is damaged, is not there, or must not serve."""
