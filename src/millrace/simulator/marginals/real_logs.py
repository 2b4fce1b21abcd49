"""Real logs of what was shown, clicked and rated."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np

from millrace.simulator.marginals.attention import by_position
from millrace.simulator.marginals.collected import Codes
from millrace.simulator.marginals.of_events import activity
from millrace.simulator.marginals.real_files import lines, numbers, records
from millrace.simulator.marginals.statistics import Marginals, concentration, day_profile, rhythm, spread
from millrace.simulator.marginals.visits import visits

_MIND_TIME: Final = "%m/%d/%Y %I:%M:%S %p"
_ARMS: Final = ("men", "women")


def mind_subset(folder: Path, _window_ms: int | None = None) -> Marginals:
    """Return a news site's pages: clicks by position, articles a page, clicks of each reader's history.

    The publisher shuffled the order within each page, so within a page the clicks are flat by construction: it is the
    reference for "no effect of position", not for its size. The plain rate falls with position all the same, because
    only long pages have far positions and long pages are clicked less.
    """
    users = Codes()
    user, time_ms, length, history = [], [], [], []
    clicked: list[bool] = []
    for line in lines(folder, "behaviors.tsv"):
        _, user_id, when, past, shown = line.split("\t")
        items = shown.split()
        if user_id not in users:
            history.append(len(past.split()))
        user.append(users[user_id])
        time_ms.append(int(datetime.strptime(when, _MIND_TIME).replace(tzinfo=UTC).timestamp()) * 1000)
        length.append(len(items))
        clicked.extend(item.endswith("-1") for item in items)
    n_shown = np.array(length, dtype=np.int64)
    page = np.repeat(np.arange(len(n_shown)), n_shown)
    position = np.arange(len(page)) - np.repeat(np.cumsum(n_shown) - n_shown, n_shown)
    reader, moment = np.array(user, dtype=np.int64), np.array(time_ms, dtype=np.int64)
    past_clicks = np.array(history, dtype=np.int64)
    past_clicks = past_clicks[past_clicks > 0]
    return {
        "click rate by position": by_position(page, position, np.array(clicked)),
        "clicks per user": {**spread(past_clicks), **concentration(past_clicks)},
        "posts per visit": visits(np.repeat(reader, n_shown), np.repeat(moment, n_shown))["posts per visit"],
        "hours of the day, seen": day_profile(moment),
    }


def obd_small(folder: Path, _window_ms: int | None = None) -> Marginals:
    """Return clicks by position of a fashion shop's three places under its random policy (Open Bandit, ZOZO).

    What is shown is drawn by chance, so this is position and nothing else; but three places, and few clicks.
    """
    position, clicked, arm = [], [], []
    for number, name in enumerate(_ARMS):
        rows = records(folder / "random" / name, f"{name}.csv")
        header = next(rows)
        place, click = header.index("position"), header.index("click")
        for row in rows:
            position.append(int(row[place]) - 1)
            clicked.append(row[click] == "1")
            arm.append(number)
    # Which rows stood on one page is not told: each arm counts as one.
    return {"click rate by position": by_position(np.array(arm), np.array(position), np.array(clicked))}


def ml_100k(folder: Path, window_ms: int | None = None) -> Marginals:
    """Return MovieLens ratings: everybody rated at least 20 films, mostly on their first visit."""
    user, seconds = numbers(folder, "ml-100k.inter", (0, 3), separator="\t", n_header=1)
    time_ms = seconds * 1000
    found = visits(user, time_ms, window_ms)
    return {
        "engagements per user": activity(user),
        "engagements per visit": found["posts per visit"],
        "gaps between visits": found["gaps between visits"],
        "gaps between engagements of a user": rhythm(user, time_ms, window_ms),
        "hours of the day, seen": day_profile(time_ms),
    }


def ml_1m(folder: Path, _window_ms: int | None = None) -> Marginals:
    """Return MovieLens ratings per user; the file has the order but not the moments."""
    (user,) = numbers(folder, "ml-1m.txt", (0,), separator=None, n_header=0)
    return {"engagements per user": activity(user)}
