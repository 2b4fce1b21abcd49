from __future__ import annotations

import numpy as np

from millrace.simulator.config import HOUR_MS, WorldConfig
from millrace.simulator.draws import Draws
from millrace.simulator.people import make_people
from millrace.simulator.posts import VIDEO, PostTable, draw_originals

CONFIG = WorldConfig(n_users=1_000)
DRAWS = Draws(CONFIG.seed)
PEOPLE = make_people(CONFIG, DRAWS)


def test_a_table_keeps_rows_while_it_grows() -> None:
    table = PostTable(capacity=2)
    first = table.append({"author": np.array([5, 6]), "parent": np.array([-1, -1])})
    second = table.append({"author": np.array([7, 8, 9]), "parent": np.array([0, 1, 1]), "root": np.array([0, 1, -1])})
    assert first.tolist() == [0, 1]
    assert second.tolist() == [2, 3, 4]
    assert table["author"].tolist() == [5, 6, 7, 8, 9]
    assert table["root"].tolist() == [0, 1, 0, 1, 4]


def test_an_authors_posts_are_numbered_through_all_slices() -> None:
    n_written = np.zeros(PEOPLE.n_users, dtype=np.int64)
    first = draw_originals(CONFIG, DRAWS, PEOPLE, n_written, 0, 6 * HOUR_MS)
    second = draw_originals(CONFIG, DRAWS, PEOPLE, n_written, 6 * HOUR_MS, 12 * HOUR_MS)
    keys = np.concatenate([first["key"], second["key"]])
    assert len(np.unique(keys)) == len(keys)
    assert n_written.sum() == len(keys)


def test_originals_lie_in_their_slice_in_order() -> None:
    originals = draw_originals(CONFIG, DRAWS, PEOPLE, np.zeros(1_000, dtype=np.int64), HOUR_MS, 2 * HOUR_MS)
    created = originals["created_ms"]
    assert (np.diff(created) >= 0).all()
    assert HOUR_MS <= created[0] <= created[-1] < 2 * HOUR_MS


def test_topics_are_among_the_authors_interests_and_only_videos_have_durations() -> None:
    originals = draw_originals(CONFIG, DRAWS, PEOPLE, np.zeros(1_000, dtype=np.int64), 0, 24 * HOUR_MS)
    assert (PEOPLE.interests[originals["author"], originals["topic"]] > 0).all()
    assert ((originals["duration_ms"] > 0) == (originals["media"] == VIDEO)).all()


def test_silent_people_write_nothing() -> None:
    originals = draw_originals(CONFIG, DRAWS, PEOPLE, np.zeros(1_000, dtype=np.int64), 0, 24 * HOUR_MS)
    assert (PEOPLE.originals_per_day[originals["author"]] > 0).all()
