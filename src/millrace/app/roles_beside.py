"""Whether what works beside the feed is at work: joiner, near-line process and guards, learner.

They tell how they stand in files, and a file says nothing of its process having died since. So each holds a lock while
it lives, and what it told has an age. The feed serves on without them: what is found here is a warning, never more.
"""

from __future__ import annotations

import contextlib
import fcntl
from pathlib import Path
from typing import Final

import msgspec

from millrace.app.human_time import ago, event_time
from millrace.app.keeper_lock import running_keeper
from millrace.app.near_line import LOCK_FILE as NEAR_LINE_LOCK
from millrace.app.near_line import is_wanted, read_report
from millrace.app.server_note import read_note
from millrace.app.settings import Settings
from millrace.app.virtual_time import has_virtual_time
from millrace.base.atomic_file import replacing
from millrace.base.errors import MillraceError
from millrace.flywheel.join_process import SILENCE_MS
from millrace.flywheel.join_status import join_status

JOINER_LOCK: Final = "joiner.lock"
LEARNER_LOCK: Final = "learner.lock"
_FAILURE_FILE: Final = "learner-failed.json"
_MISSED: Final = 3
"""So often may something that comes in steps be missing before it is told."""
_LOOKS_MISSED: Final = 24
_LEAST_S: Final = 120.0


class LearnerFailure(msgspec.Struct, frozen=True, kw_only=True):
    """That what learns on ended by itself, and nothing has come of it since: its exit code, and when (real time)."""

    code: int
    at_ms: int


def join_problem(settings: Settings, now_ms: int) -> str:
    """Return what is wrong with the join of a home whose server runs; empty if nothing is, or no server runs.

    Parameters
    ----------
    settings
        The home.
    now_ms
        Real time.
    """
    if not settings.config.flywheel.joins or running_keeper(settings.data_dir) is None:
        return ""
    status = join_status(settings.samples_dir)
    told = "nothing was joined yet"
    if status is not None:
        told_at = event_time(status.told_ms, is_virtual=has_virtual_time(settings))
        told = f"the join last told at {told_at}"
    if not is_held(settings.data_dir / JOINER_LOCK):
        return f"no joiner is at work ({told}): the server's messages tell why it ended"
    # Virtual time may go by quickly or stand still: the lock alone tells there.
    if status is None or has_virtual_time(settings):
        return ""
    patience_ms = _MISSED * max(SILENCE_MS, int(settings.config.flywheel.samples.epoch_every_s * 1000))
    if now_ms - status.told_ms > patience_ms:
        return f"{told}, though a joiner is at work: the server's messages tell what it cannot do"
    return ""


def near_line_problem(settings: Settings, now_ms: int) -> str:
    """Return what is wrong with near-line learning and the guards; see `join_problem`.

    Raises
    ------
    MillraceError
        If what the guards said is damaged.
    """
    if not is_wanted(settings) or running_keeper(settings.data_dir) is None:
        return ""
    report = read_report(settings)
    if not is_held(settings.data_dir / NEAR_LINE_LOCK):
        told = "they never looked" if report is None else f"the guards last looked {ago(now_ms - report.at_ms)}"
        return f"the near-line process is not at work ({told}): the server's messages tell why it ended"
    patience_s = max(_LOOKS_MISSED * settings.config.guards.evaluate_every_s, _LEAST_S)
    if settings.config.guards.is_on and report is not None and now_ms - report.at_ms > 1000 * patience_s:
        return f"the guards last looked {ago(now_ms - report.at_ms)}"
    return ""


def learns_on(settings: Settings) -> bool:
    """Return whether something learns on beside the server that runs; where none runs, whether one would."""
    if running_keeper(settings.data_dir) is not None and (note := read_note(settings)) is not None:
        return note.learns
    return settings.config.flywheel.learns


def learner_problem(settings: Settings, now_ms: int) -> str:
    """Return what is wrong with learning on beside the server; see `join_problem`."""
    if running_keeper(settings.data_dir) is None or not learns_on(settings):
        return ""
    if not is_held(settings.run_dir / LEARNER_LOCK):
        return "nothing learns on, though [flywheel] learns: the server's messages tell why"
    failure = learner_failure(settings)
    if failure is None:
        return ""
    ended = f"ended with exit code {failure.code}, {ago(now_ms - failure.at_ms)}"
    return f"what learns on {ended}, and is started again: run/flywheel.log tells why"


def problems(settings: Settings, now_ms: int) -> tuple[str, ...]:
    """Return all that is wrong beside the feed; what the guards said and is damaged is doctor's to tell."""
    found = [join_problem(settings, now_ms)]
    with contextlib.suppress(MillraceError):
        found.append(near_line_problem(settings, now_ms))
    found.append(learner_problem(settings, now_ms))
    return tuple(filter(None, found))


def is_held(lock: Path) -> bool:
    """Return whether a process holds a lock file."""
    try:
        with lock.open("r") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def keep_failure(settings: Settings, failure: LearnerFailure | None) -> None:
    """Write down that what learns on ended; None: that something has come of it since."""
    path = settings.run_dir / _FAILURE_FILE
    if failure is None:
        path.unlink(missing_ok=True)
        return
    with replacing(path) as file:
        file.write(msgspec.json.encode(failure))


def learner_failure(settings: Settings) -> LearnerFailure | None:
    """Return what was written down last, if it still holds."""
    try:
        return msgspec.json.decode((settings.run_dir / _FAILURE_FILE).read_bytes(), type=LearnerFailure)
    except (OSError, msgspec.DecodeError):
        return None
