"""One hierarchy of errors; every message names the thing, its value and the remedy.

::

    MillraceError
    ├── ConfigError          a setting is missing, unknown or out of bounds (all problems at once)
    ├── SchemaError          an event, id or column is not what its type says
    ├── LogError             the log refused an append or a read
    │   └── LogFullError     there is no room to make an append durable; nothing was acknowledged
    ├── StoreError           a state store refused an operation
    │   ├── NoSamplesError   there are no samples of what was asked for
    │   └── CheckpointError  a checkpoint is missing, damaged or of another version
    ├── PipelineError        stages do not fit together, or one broke its contract
    ├── SourceDataError      a file to import cannot be read at all
    ├── NotReadyError        a process cannot answer now; asked again in a moment, it may
    ├── AccessError          who asks may not have or do this
    │   ├── UnauthenticatedError  no credentials, or none that can be used
    │   └── ForbiddenError        the credentials are good, and not for this
    ├── TooManyError         a caller is over a limit; nothing was taken, and later it will be
    ├── NotFoundError        what is asked about was never heard of
    ├── FeedClientError      a server that is asked over HTTP does not answer, or not as it was asked
    ├── GoneError            what is asked about was here, and is not kept any more
    └── DeadlineExceeded     the time given to an operation is over
"""

from __future__ import annotations

from typing import Final

_MAX_VALUE_CHARS: Final = 120


class MillraceError(Exception):
    """Base of all errors that Millrace raises on purpose.

    Parameters
    ----------
    thing
        What is wrong, as the reader knows it: ``"post id"``, ``"config key server.port"``.
    value
        The offending value; shown with ``repr``, cut at 120 characters. None where there is none: nothing is shown.
    problem
        Why it cannot be used.
    remedy
        What to do about it.
    """

    def __init__(self, thing: str, *, value: object = None, problem: str, remedy: str) -> None:
        self.thing = thing
        self.value = value
        self.problem = problem
        self.remedy = remedy
        named = thing if value is None else f"{thing} {_short(value)}"
        super().__init__(f"{named}: {problem}; {remedy}")


class ConfigError(MillraceError):
    """A setting is missing, unknown or out of bounds."""

    def __init__(
        self,
        thing: str,
        *,
        value: object = None,
        problem: str,
        remedy: str,
        problems: tuple[str, ...] = (),
    ) -> None:
        super().__init__(thing, value=value, problem=problem, remedy=remedy)
        self.problems = problems or (str(self),)


class SchemaError(MillraceError):
    """An event, an id or a column is not what its type says."""


class LogError(MillraceError):
    """The log refused an append or a read."""


class LogFullError(LogError):
    """There is no room to make an append durable; nothing of it was acknowledged."""


class StoreError(MillraceError):
    """A state store refused an operation."""


class NoSamplesError(StoreError):
    """There are no samples of what was asked for; that they cannot be read is another `StoreError`."""


class CheckpointError(StoreError):
    """A checkpoint is missing, damaged or written by an incompatible version."""


class PipelineError(MillraceError):
    """Stages do not fit together, or one broke its contract."""


class SourceDataError(MillraceError):
    """A file that should be imported cannot be read at all."""


class NotReadyError(MillraceError):
    """A process cannot answer now: its state has not caught up, or what it needs for an answer does not answer."""


class AccessError(MillraceError):
    """Who asks may not have or do this; nothing was changed."""


class UnauthenticatedError(AccessError):
    """There are no credentials, or none that can be used."""


class ForbiddenError(AccessError):
    """The credentials are good, and not for this."""


class TooManyError(MillraceError):
    """A caller is over a limit: nothing was taken, and after ``retry_after_s`` seconds it will be."""

    def __init__(self, thing: str, *, value: object = None, problem: str, remedy: str, retry_after_s: float) -> None:
        super().__init__(thing, value=value, problem=problem, remedy=remedy)
        self.retry_after_s = retry_after_s


class NotFoundError(MillraceError):
    """What was asked for is not known here and never was, as far as can be told."""


class GoneError(MillraceError):
    """What was asked for was there once and is not kept any more."""


class FeedClientError(MillraceError):
    """A server that is asked over HTTP does not answer, or does not do what it is asked."""


class DeadlineExceeded(MillraceError):  # noqa: N818 - the field's name for it
    """The time given to an operation is over."""


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _MAX_VALUE_CHARS else text[: _MAX_VALUE_CHARS - 1] + "…"
