"""`real_sets`: the same quantities from the public data sets that a folder holds; it is only read.

No public set has everything, and each is what it is: what makes one unlike a feed's log is said where it is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from millrace.simulator.marginals import real_graphs, real_logs, real_texts
from millrace.simulator.marginals.statistics import Marginals

READERS: Final[dict[str, Callable[[Path, int | None], Marginals]]] = {
    "yelp-social": real_graphs.yelp_social,
    "lastfm-2k": real_graphs.lastfm_2k,
    "cascades-android": real_graphs.cascades_android,
    "mind-subset": real_logs.mind_subset,
    "obd-small": real_logs.obd_small,
    "ml-100k": real_logs.ml_100k,
    "ml-1m": real_logs.ml_1m,
    "reddit-posts": real_texts.reddit_posts,
    "tweeteval": real_texts.tweeteval,
    "xlm-t": real_texts.xlm_t,
    "langid17": real_texts.langid17,
}
"""Folder name → what reads it, in the order of a table's rows."""


def real_sets(folder: Path, window_ms: int | None = None) -> Iterator[tuple[str, Marginals]]:
    """Yield name and marginals of each public set that is there.

    Parameters
    ----------
    folder
        Its sub-folders are the sets.
    window_ms
        The length of the log that they stand beside, for gaps (`millrace.simulator.marginals.statistics.rhythm`).

    Raises
    ------
    SourceDataError
        If a set's folder is there and one of its files is not.
    """
    for name, read in READERS.items():
        if (folder / name).is_dir():
            yield name, {quantity: found for quantity, found in read(folder / name, window_ms).items() if found}
