from __future__ import annotations

from typing import Any

import numpy as np

from millrace.simulator.config import HOUR_MS, WorldConfig
from millrace.simulator.draws import Draws
from millrace.simulator.people import N_TOPICS, make_people
from millrace.simulator.posts import VIDEO, Columns, PostTable, draw_originals
from millrace.simulator.topics import Stories

CONFIG = WorldConfig(n_users=1_000)
DRAWS = Draws(CONFIG.seed)
PEOPLE = make_people(CONFIG, DRAWS)


def originals_of_a_day(**drivers: Any) -> Columns:
    n_written = np.zeros(PEOPLE.n_users, dtype=np.int64)
    return draw_originals(CONFIG, DRAWS, PEOPLE, n_written, 0, 24 * HOUR_MS, **drivers)


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
    originals = draw_originals(CONFIG, DRAWS, PEOPLE, np.zeros(PEOPLE.n_users, dtype=np.int64), HOUR_MS, 2 * HOUR_MS)
    created = originals["created_ms"]
    assert (np.diff(created) >= 0).all()
    assert HOUR_MS <= created[0] <= created[-1] < 2 * HOUR_MS


def test_topics_are_among_the_authors_interests_and_only_videos_have_durations() -> None:
    originals = originals_of_a_day()
    assert (PEOPLE.interests[originals["author"], originals["topic"]] > 0).all()
    assert ((originals["duration_ms"] > 0) == (originals["media"] == VIDEO)).all()


def test_silent_people_write_nothing() -> None:
    originals = originals_of_a_day()
    assert (PEOPLE.originals_per_day[originals["author"]] > 0).all()


def test_who_makes_no_effort_writes_nothing_and_who_makes_more_writes_more() -> None:
    effort = np.ones(PEOPLE.n_users)
    effort[:500], effort[500:] = 0.0, 2.0
    usual, bent = (
        np.bincount(o["author"], minlength=PEOPLE.n_users)
        for o in (originals_of_a_day(), originals_of_a_day(effort=effort))
    )
    assert bent[:500].sum() == 0
    assert (bent[500:] >= usual[500:]).all()
    assert bent[500:].sum() > 1.7 * usual[500:].sum()


def test_a_topic_in_fashion_is_written_about_more_by_those_who_care_for_it() -> None:
    trend = np.ones(N_TOPICS)
    trend[3] = 5.0
    usual, bent = originals_of_a_day(), originals_of_a_day(trend=trend)
    assert (bent["topic"] == 3).sum() > 1.5 * (usual["topic"] == 3).sum()
    assert (PEOPLE.interests[bent["author"], bent["topic"]] > 0).all()


def test_a_hot_story_draws_posts_of_its_topic_and_no_advertising() -> None:
    story = Stories(np.array([0]), np.array([3]), np.array([4.0]), np.array([1e12]))
    originals = originals_of_a_day(stories=story)
    told = originals["story"] >= 0
    assert set(originals["topic"][told].tolist()) == {3}
    assert not originals["is_spam"][told].any()
    assert told[originals["topic"] == 3].mean() > 0.7
    assert (originals_of_a_day()["story"] == -1).all()


def test_a_table_that_was_loaded_goes_on_growing() -> None:
    table, again = PostTable(capacity=2), PostTable()
    table.append({"author": np.array([5, 6, 7]), "parent": np.array([-1, 0, 1])})
    again.load({name: table[name] for name in table.names})
    assert again.append({"author": np.array([8])}).tolist() == [3]
    assert again["author"].tolist() == [5, 6, 7, 8]
    assert again["root"].tolist() == [0, 1, 2, 3]
    assert table["author"].tolist() == [5, 6, 7]
