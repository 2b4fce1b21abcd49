from __future__ import annotations

import numpy as np
import pytest

from millrace.base.actions import Action
from millrace.events.content_events import PostCreated
from millrace.events.envelope import Event
from millrace.simulator.loop import Loop
from millrace.simulator.mechanisms.situation import COLUMN
from millrace.simulator.policies import Policy
from millrace.simulator.recorder import Recorder
from millrace.testing.small_worlds import HOME, NOW_MS, SmallWorld, a_small_world

A_FOREIGN_POST = Event(
    event_id="foreign-1",
    event_time_ms=NOW_MS - 1,  # the newest of all: it tops every page
    source="somebody",
    payload=PostCreated(post_id="not-of-this-world", author_id="stranger", kind="original", text="hello"),
)


def recorded(*policies: Policy, keeps_items: bool = True) -> tuple[SmallWorld, Recorder]:
    small = a_small_world(patience=200.0)
    small.client.send([A_FOREIGN_POST])
    small.client.advance(NOW_MS)
    recorder = Recorder(small.world, small.atlas, ("newest",), limit=10, keeps_items=keeps_items)
    chosen = policies or (HOME,)
    small.loop = Loop(small.world, small.client, chosen, atlas=small.atlas, limit=10, listen=recorder.hear)
    return small, recorder


def test_a_slices_tables_agree_with_the_slice_and_numbers_go_on() -> None:
    small, recorder = recorded()
    first_page = first_session = 0
    for _ in range(4):
        (done,) = small.run(1)
        tables = recorder.close(done)
        n = len(done.sessions.viewer)
        assert tables["sessions"]["session"].tolist() == list(range(first_session, first_session + n))
        assert tables["sessions"]["viewer"].tolist() == done.sessions.viewer.tolist()
        n_pages = sum(len(round_.pages) for round_ in done.rounds)
        if n_pages:
            assert tables["pages"]["page"].tolist() == list(range(first_page, first_page + n_pages))
            by_session = np.bincount(tables["pages"]["session"] - first_session, minlength=n)
            assert tables["sessions"]["n_pages"].tolist() == by_session.tolist()
        first_page, first_session = first_page + n_pages, first_session + n
    assert (recorder.n_pages, recorder.n_sessions) == (first_page, first_session)
    assert first_page > 3


def test_posts_that_are_not_of_this_world_are_on_no_page_of_the_judge() -> None:
    small, recorder = recorded()
    (done,) = small.run(1)
    shown = [page.post_ids for round_ in done.rounds for page in round_.pages]
    assert any("not-of-this-world" in posts for posts in shown)
    items = recorder.close(done)["items"]
    expected = [(p, post) for p, posts in enumerate(shown) for post in posts if post != "not-of-this-world"]
    assert items["page"].tolist() == [page for page, _ in expected]
    assert items["post"].tolist() == [small.atlas.row(post) for _, post in expected]
    scores = [s for round_ in done.rounds for page in round_.pages for s in page.scores]
    kept = [
        s for s, (_, post) in zip(scores, [(0, q) for posts in shown for q in posts], strict=True) if post[0] == "p"
    ]
    assert items["score"].tolist() == kept
    assert set(items["sources"].tolist()) == {1}


def test_items_hold_the_truth_beside_what_was_done_and_nothing_where_nothing_was_predicted() -> None:
    small, recorder = recorded()
    (done,) = small.run(1)
    items = recorder.close(done)["items"]
    looks = done.rounds[0].looks
    n = len(looks.slates)
    np.testing.assert_allclose(items["true_like"][:n], looks.response.probs[:, COLUMN[Action.LIKE]], rtol=1e-6)
    did_like = (items["did"][:n] >> COLUMN[Action.LIKE]) & 1
    assert did_like.tolist() == looks.did[:, COLUMN[Action.LIKE]].astype(int).tolist()
    assert np.isnan(items["pred_like"]).all()
    np.testing.assert_allclose(items["examine"][:n], looks.examine, rtol=1e-6)


def test_items_may_be_left_out() -> None:
    small, recorder = recorded(keeps_items=False)
    (done,) = small.run(1)
    assert set(recorder.close(done)) == {"pages", "sessions"}


def test_what_must_not_be_on_a_page_is_counted() -> None:
    small, recorder = recorded()
    world = small.world
    # Everybody has blocked everybody: whatever is shown breaks that rule.
    n = world.people.n_users
    world.estranged = np.arange(n * n, dtype=np.int64)
    (done,) = small.run(1)
    pages = recorder.close(done)["pages"]
    assert pages["n_blocked"].tolist() == pages["n_items"].tolist()
    assert pages["n_own"].sum() == 0
    assert pages["n_repeated"].sum() == 0  # the feed has heard of all that was seen, of the history too


def test_the_census_counts_everybody_and_every_post() -> None:
    small, recorder = recorded()
    small.run(2)
    census = recorder.census(small.loop.arm_of_user)
    assert census["posts"]["post"].tolist() == list(range(small.world.posts.n_posts))
    assert census["users"]["n_following"].sum() == len(small.world.follows.keys)
    assert census["users"]["n_followers"].sum() == census["users"]["n_following"].sum()
    assert len(census["users"]["arm"]) == small.world.people.n_users


@pytest.mark.parametrize("readiness", [1.0, 1.5])
def test_the_value_of_a_page_is_what_its_looks_are_worth_and_as_likely_to_be_seen(readiness: float) -> None:
    small, recorder = recorded(Policy(name="planted", readiness=readiness))
    (done,) = small.run(1)
    tables = recorder.close(done)
    value = np.bincount(tables["items"]["page"], tables["items"]["value"] * tables["items"]["examine"])
    np.testing.assert_allclose(tables["pages"]["value"], value, rtol=1e-4, atol=1e-5)
