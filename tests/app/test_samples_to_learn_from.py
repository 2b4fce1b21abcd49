"""What a training learns from: logged pages where there are any, replayed ones for those that were lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest

from millrace.app import wiring
from millrace.base.actions import Action
from millrace.base.errors import StoreError
from millrace.base.ids import IdHasher, IdKind
from millrace.events.envelope import AnyEvent
from millrace.testing.builders import (
    NOW_MS,
    a_post_created,
    an_engagement,
    an_impression,
)
from millrace.testing.logged_world import HOUR_MS, MINUTE_MS, differences

pytestmark = [pytest.mark.timeout(600)]

REPLAY = "replaying the log (records)"
SINCE_THE_FIRST_PAGE = 0.5


def unlogged(home: Any) -> list[AnyEvent]:
    """Lose what was logged of a page, as a worker that is killed does."""
    home.features.events.clear()
    return []


def of_another_schema(home: Any) -> list[AnyEvent]:
    """Log a page as another version of the features would."""
    (event,) = home.features.events
    payload = msgspec.structs.replace(event.payload, schema="another")
    home.features.events[:] = [msgspec.structs.replace(event, payload=payload)]
    return []


def test_a_log_whose_pages_all_have_features_is_not_replayed(make_live_home: Callable[..., Any]) -> None:
    home = make_live_home()
    home.serve_three()
    home.rest()
    samples = home.samples(SINCE_THE_FIRST_PAGE)
    assert len(samples) == 3
    assert REPLAY not in home.steps
    assert np.array_equal(samples.baseline, home.logged().baseline)
    assert differences(samples, home.samples(SINCE_THE_FIRST_PAGE, replays=True)) == []
    assert REPLAY in home.steps
    assert samples.meta == home.samples(SINCE_THE_FIRST_PAGE, replays=True).meta


def test_pages_without_features_are_replayed_in_their_places_among_the_others(
    make_live_home: Callable[..., Any],
) -> None:
    home = make_live_home()
    home.page(20, "r1", lambda: unlogged(home))
    home.page(21, "r2", home.later)  # what r1 has read is edited meanwhile
    home.take([an_impression(22, 9, surface="search", at_ms=home.clock.now_ms(), event_id="of no page")])
    home.clock.set_ms(home.clock.now_ms() + MINUTE_MS)
    home.page(20, "r3", lambda: of_another_schema(home))
    home.page(22, "r4")
    home.rest()
    samples = home.samples()
    assert REPLAY in home.steps
    one = IdHasher().one
    r1, r2, r3, r4 = (one(IdKind.REQUEST, name) for name in ("r1", "r2", "r3", "r4"))
    assert samples.requests.tolist() == [r1, r2, 0, r3, r4]
    assert samples.now_ms.tolist() == sorted(samples.now_ms.tolist())
    replayed = home.samples(replays=True)
    assert differences(samples, replayed) == []
    assert samples.meta == replayed.meta
    logged = home.logged()
    for slate, own in ((1, 0), (4, 1)):
        rows, mine = samples.rows_of(np.array([slate])), logged.rows_of(np.array([own]))
        assert np.array_equal(samples.baseline[rows], logged.baseline[mine])


def test_where_all_is_replayed_nothing_that_was_logged_is_opened(
    make_live_home: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    home = make_live_home()
    home.page(20, "r1", lambda: of_another_schema(home))
    home.rest()
    assert home.samples(replays=True).n_rows
    assert "of other features" not in caplog.text
    assert home.samples().n_rows
    assert "1 logged requests are left out: of other features" in caplog.text


def test_few_lost_pages_are_left_out_rather_than_the_whole_log_replayed(
    make_live_home: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    home = make_live_home()
    home.page(20, "r1", lambda: unlogged(home))
    home.page(21, "r2")
    home.page(20, "r3")
    home.rest()
    assert len(home.samples(SINCE_THE_FIRST_PAGE)) == 3
    monkeypatch.setattr("millrace.app.training.MAX_LEFT_OUT", 0.34)
    assert len(home.samples(SINCE_THE_FIRST_PAGE)) == 2
    assert REPLAY not in home.steps
    assert len(home.samples(SINCE_THE_FIRST_PAGE, replays=True)) == 3


def test_logged_pages_outlive_the_log(make_live_home: Callable[..., Any], caplog: pytest.LogCaptureFixture) -> None:
    home = make_live_home()
    home.serve_three()
    home.rest()
    whole = home.samples(SINCE_THE_FIRST_PAGE)
    home.log.trim(home.log.end())
    assert differences(home.samples(SINCE_THE_FIRST_PAGE), whole) == []
    assert differences(home.samples(), whole) == []  # the look from before the first page cannot be replayed any more
    assert "1 pages whose features were not logged are left out" in caplog.text
    with pytest.raises(StoreError, match="trimmed"):
        home.samples(replays=True)


def test_pages_that_are_younger_than_actions_take_are_left_out_until_they_are_not(
    make_live_home: Callable[..., Any],
) -> None:
    home = make_live_home()
    posts = home.page(20, "r1")
    home.page(21, "r2")
    home.page(20, "r3")
    late_ms = NOW_MS + MINUTE_MS + 3 + HOUR_MS  # an hour after the last look of the first page
    home.clock.set_ms(late_ms)
    home.take([an_engagement(20, posts[3], "reply", request_id="r1", at_ms=late_ms, event_id="late")])
    samples = home.samples(1.5)
    assert samples.requests.tolist() == [IdHasher().one(IdKind.REQUEST, "r1")]
    assert samples.labels[:, Action.REPLY].sum() == 1
    home.clock.set_ms(late_ms + 2 * MINUTE_MS)
    home.rest()
    assert len(home.samples(1.5)) == 3


def test_a_home_in_which_nothing_was_seen_says_so(make_live_home: Callable[..., Any]) -> None:
    with pytest.raises(StoreError, match="no impressions of pages within the span"):
        make_live_home().samples(0.1)


def test_of_a_long_log_the_wanted_hours_are_read_and_no_others(make_live_home: Callable[..., Any]) -> None:
    home = make_live_home()
    home.serve_three()
    home.clock.set_ms(NOW_MS + 40 * HOUR_MS)
    home.take([a_post_created("newer", 10, text="newer cats", at_ms=home.clock.now_ms())])
    home.page(22, "r4")
    home.rest()
    whole, newest = home.samples(), home.samples(1.0)
    assert newest.requests.tolist() == [IdHasher().one(IdKind.REQUEST, "r4")]
    last = whole.take(np.array([len(whole) - 1]))
    assert [name for name in differences(newest, last) if not name.startswith("text_")] == []
    reader = wiring.build_logged_samples(home.settings, IdHasher(), window_ms=24 * HOUR_MS, hours=1.0)
    assert len(reader.slates) == 1
    reader.close()
