"""The join's part of a backup, and what ``millrace doctor`` says of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Literal

from millrace.app.human_time import event_time
from millrace.app.roles_beside import join_problem
from millrace.app.settings import Settings
from millrace.app.virtual_time import has_virtual_time
from millrace.flywheel.file_snapshot import take
from millrace.flywheel.join_checkpoint import JoinCheckpoints
from millrace.flywheel.join_status import join_status
from millrace.flywheel.sample_files import LABELS, PAGES, STATE, SampleFiles
from millrace.stream.log import total


def copy_samples(source: Path, target: Path, on_file: Callable[[str], None]) -> int | None:
    """Copy what is committed; return the log position that it stands at, None where nothing is.

    The files get second names under their lock, and are copied without it: a join goes on meanwhile. What is merged,
    rewritten or removed since is copied as it was.
    """
    files = SampleFiles(source)
    if not files.state_folder.is_dir():
        return None
    on_file(source.name)
    (target / STATE).mkdir(parents=True)
    with files.locked():
        checkpoints = JoinCheckpoints(files.state_folder)
        head = checkpoints.newest_head()
        if head is None:
            return None
        snapshot, paths = take(
            source, lambda: [path for kind in (PAGES, LABELS) for path in files.paths(kind, up_to=head.epoch)]
        )
        for path in (*checkpoints.paths(), *source.glob("*.json")):
            shutil.copyfile(path, target / path.relative_to(source))
    with closing(snapshot):
        for path in paths:
            copy = target / path.relative_to(snapshot.folder)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
    return total(head.position)


def join_finding(settings: Settings, now_ms: int) -> tuple[Literal["ok", "warning"], str, str]:
    """Return a verdict on the join ("ok", "warning"), what is to be said, and a remedy; ``now_ms`` is real time."""
    if not settings.config.flywheel.joins:
        return "ok", "switched off (flywheel.joins)", ""
    if problem := join_problem(settings, now_ms):
        return "warning", problem, "correct what they name: the feed serves on, but no samples are made"
    status = join_status(settings.samples_dir)
    if status is None:
        return "ok", "nothing joined yet; the server's joiner does it", ""
    rate, told_at = status.rate, event_time(status.told_ms, is_virtual=has_virtual_time(settings))
    detail = (
        f"epoch {status.epoch}: {status.n_samples:,} samples of {status.n_pages:,} pages, {rate.looks_frac:.1%} of "
        f"looks joined, {status.lag_records:,} log records behind, at {told_at}"
    )
    if rate.alarm:
        return "warning", f"{detail}; alarm: {rate.alarm}", "see docs/flywheel.md, When the join rate falls"
    return "ok", detail, ""
