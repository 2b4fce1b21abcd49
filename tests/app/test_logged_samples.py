"""What live pages log becomes samples: the bytes of an offline replay, and nothing of what happened later."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest

from millrace.app import wiring
from millrace.app.join_role import follow_by_hand
from millrace.app.lessons import home_candidates
from millrace.app.training import home_samples
from millrace.base.actions import Action
from millrace.base.errors import StoreError
from millrace.base.ids import IdHasher, IdKind
from millrace.base.surfaces import Surface
from millrace.events.envelope import AnyEvent
from millrace.events.packed import pack_arrays, unpack_arrays
from millrace.features.encoding.encoders import Encoders
from millrace.features.encoding.logged import viewer_arrays
from millrace.flywheel.join import StreamJoin
from millrace.flywheel.join_config import JoinConfig
from millrace.flywheel.join_rows import JoinedRows
from millrace.flywheel.join_status import join_status
from millrace.flywheel.sample_set import SampleSet
from millrace.stores.applier import decode_records
from millrace.stores.fold import effective_time_ms
from millrace.testing.builders import (
    NOW_MS,
    a_clock_tick,
    a_post_created,
    a_post_edited,
    an_engagement,
    an_impression,
)
from millrace.testing.logged_world import HOUR_MS, MINUTE_MS, differences
from millrace.testing.progress import in_silence

pytestmark = [pytest.mark.timeout(600)]


def test_what_live_pages_log_is_what_the_replay_encodes_byte_for_byte(make_live_home: Callable[..., Any]) -> None:
    home = make_live_home()
    home.serve_three()
    logged, replayed = home.logged(), home.replayed()
    assert len(logged) == 3
    assert logged.n_rows >= 9
    assert logged.labels[:, Action.LIKE].sum() == 3
    assert differences(logged, replayed) == []
    assert set(logged.history_surfaces.tolist()) == {Surface.UNKNOWN, Surface.HOME, Surface.SEARCH}
    # Not the same: the counters-based rates lean towards those of all candidates, whom the replay does not have.
    assert (logged.baseline[:, Action.LIKE] > 0).all()
    assert np.diff(logged.history_starts).tolist()[0] < np.diff(logged.history_starts).tolist()[2]
    assert logged.meta.schema == replayed.meta.schema


def test_what_happens_after_a_page_changes_nothing_of_its_sample(make_live_home: Callable[..., Any]) -> None:
    quiet, eventful = make_live_home(), make_live_home()
    for home in (quiet, eventful):
        home.page(20, "r1", (eventful.later) if home is eventful else (lambda: ()))
    one, other = quiet.logged(), eventful.logged()
    assert differences(one, other) == []
    assert one.text_tokens.any()
    for home in (quiet, eventful):
        home.rest()
    assert differences(quiet.samples(), eventful.samples()) == []
    assert differences(quiet.samples(), eventful.samples(replays=True)) == []


def test_inputs_that_know_what_came_later_are_found(make_live_home: Callable[..., Any]) -> None:
    """The alarm itself: the same page, logged with the viewer as of now instead of as of the page."""
    home = make_live_home()
    encoders = Encoders.of(home.replica.state, home.replica.state.texts, home.replica.state.profile_texts)

    def leak() -> list[AnyEvent]:
        events = home.later()
        home.take(events)
        home.replica.catch_up()
        (event,) = home.features.events
        viewer = encoders.viewers.encode(IdHasher().users(["20"])[0])
        arrays = {**unpack_arrays(event.payload.arrays), **viewer_arrays(viewer)}
        payload = msgspec.structs.replace(event.payload, arrays=pack_arrays(arrays))
        home.features.events[:] = [msgspec.structs.replace(event, payload=payload)]
        return []

    home.page(20, "r1", leak)
    found = differences(home.logged(), home.replayed())
    assert {"history_posts", "newest_ms", "bios", "profile_dense"} <= set(found)
    assert "dense" not in found
    home.rest()
    assert {"history_posts", "newest_ms", "bios"} <= set(differences(home.samples(), home.samples(replays=True)))


def test_texts_that_were_read_too_late_are_found(
    make_live_home: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The alarm itself: the same pages, joined with the texts of the log's end."""
    home = make_live_home()
    home.serve_three()
    from millrace.flywheel.logged_texts import LoggedTexts

    read = LoggedTexts.read

    def read_late(texts: Any, builder: Any, cut: int, *posts: Any) -> None:
        read(texts, builder, cut + (1 << 40), *posts)

    monkeypatch.setattr(LoggedTexts, "read", read_late)
    assert set(differences(home.logged(), home.replayed())) == {"text_tokens", "text_vectors"}


def test_the_streaming_joins_store_gives_the_same_samples_bit_for_bit(make_live_home: Callable[..., Any]) -> None:
    home = make_live_home()
    home.page(20, "r1", home.later)
    between_ms = home.clock.now_ms()
    home.clock.set_ms(between_ms + 2 * HOUR_MS)
    home.page(21, "r2", lambda: [a_post_edited(2, text="once more", at_ms=home.clock.now_ms(), event_id="again")])
    home.page(20, "r3")
    end_ms = home.clock.now_ms() + 2 * HOUR_MS
    home.clock.set_ms(end_ms)
    home.take([a_clock_tick(end_ms, event_id=f"tick-{i}") for i in range(20)])  # all windows are over
    logged = home.logged()
    follow_by_hand(home.settings, once=True)
    store = wiring.build_sample_store(home.settings)
    found = store.samples()
    assert len(found) == 3
    assert [*differences(found, logged), *(["baseline"] if (found.baseline != logged.baseline).any() else [])] == []
    assert found.meta == logged.meta

    # Hour by hour, as a learner reads: texts as of each page, whatever was read before.
    first, rest = store.samples(until_ms=between_ms), store.samples(from_ms=between_ms)
    assert (len(first), len(rest)) == (1, 2)
    reader = wiring.build_logged_samples(home.settings, IdHasher(), window_ms=24 * HOUR_MS)
    assert differences(first, reader.samples(until_ms=between_ms)) == []
    assert store.n_pages(until_ms=between_ms) == len(first)
    assert store.n_pages() == len(found)
    kept = store.samples(keep=lambda now_ms: np.flatnonzero(now_ms < between_ms))
    assert kept.requests.tolist() == first.requests.tolist()
    assert differences(rest, reader.samples(from_ms=between_ms)) == []
    reader.close()
    assert differences(store.samples(), logged) == []

    # What a model saw stays when the log no longer has it.
    home.log.trim(home.log.end())
    assert differences(store.samples(), logged) == []
    status = join_status(home.settings.samples_dir)
    assert status is not None
    assert (status.n_samples, status.n_pages, status.rate.looks_frac) == (logged.n_rows, 3, 1.0)
    assert status.mean_page_bytes > 100
    assert 100 < status.page_bytes_p50 <= status.page_bytes_p99


def test_candidates_of_sampled_requests_come_with_the_teachers_scores(make_live_home: Callable[..., Any]) -> None:
    home = make_live_home(("params.candidates_log.share", "1.0"))
    posts = home.page(20, "r1")
    found = home.candidates()
    samples = found.samples
    assert samples.n_rows > len(posts)
    assert found.is_served.sum() == len(posts)
    assert found.has_labels.sum() == len(posts) - 1
    assert found.teacher.shape == samples.labels.shape
    assert np.isfinite(found.teacher).all()
    assert (found.teacher > 0).any()
    assert samples.labels[found.has_labels, Action.LIKE].sum() == 1
    assert not samples.labels[~found.has_labels].any()
    assert (samples.weights == 1).all()
    logged = home.logged()
    rows = [samples.post_ids.tolist().index(post) for post in logged.post_ids.tolist()]
    assert np.array_equal(samples.dense[rows], logged.dense)


def requests_of(samples: SampleSet) -> list[str]:
    names = {IdHasher().one(IdKind.REQUEST, name): name for name in ("r1", "r2", "r3")}
    return [names[request] for request in samples.requests.tolist()]


def test_candidates_are_as_old_as_pages_must_be(make_live_home: Callable[..., Any]) -> None:
    home = make_live_home(("params.candidates_log.share", "1.0"))
    posts = home.page(20, "r1")
    home.clock.set_ms(NOW_MS + MINUTE_MS // 2)  # made before the first page was looked at, and looked at after it
    home.page(21, "r2")
    home.page(20, "r3")
    late_ms = NOW_MS + MINUTE_MS + 3 + HOUR_MS  # an hour after the last look of the first page
    home.clock.set_ms(late_ms)
    home.take([an_engagement(20, posts[3], "reply", request_id="r1", at_ms=late_ms, event_id="late")])
    found = home_candidates(home.settings, in_silence, hours=1.5)
    assert found is not None
    assert requests_of(found.samples) == requests_of(home.samples(1.5)) == ["r1"]


def test_what_is_read_up_to_a_position_does_not_know_what_was_logged_since(make_live_home: Callable[..., Any]) -> None:
    home = make_live_home(("params.candidates_log.share", "1.0"))
    home.page(20, "r1")
    home.page(21, "r2")
    home.rest()
    end = sum(home.log.end())

    def read(until: int | None = None) -> tuple[SampleSet, SampleSet]:
        candidates = home_candidates(home.settings, in_silence, until=until)
        assert candidates is not None
        return home_samples(home.settings, in_silence, until=until), candidates.samples

    before = read()
    home.page(20, "r3", home.later)
    home.clock.set_ms(home.clock.now_ms() + HOUR_MS)
    home.take([a_post_created("news", 14, at_ms=home.clock.now_ms(), event_id="news")])
    for then, again, now in zip(before, read(end), read(), strict=True):
        assert differences(again, then) == []
        assert len(now) == len(then) + 1


def test_what_others_say_of_a_request_is_not_its_viewers(make_live_home: Callable[..., Any]) -> None:
    home = make_live_home()
    posts = home.page(20, "r1")
    home.look(99, "r1", [*posts, "30"])
    samples = home.logged()
    assert len(samples) == 1
    assert samples.n_rows == len(posts) - 1
    assert samples.labels[:, Action.LIKE].sum() == 1


def test_without_logged_pages_one_is_told_what_to_do(make_live_home: Callable[..., Any]) -> None:
    home = make_live_home(("home.logs_features", "false"))
    home.page(20, "r1")
    with pytest.raises(StoreError, match="logs_features"):
        home.logged()


def streamed(home: Any) -> JoinedRows:
    """Return what the streaming join lets out of the home's log, its windows over."""
    join = StreamJoin(IdHasher(), home.codec.actions, config=JoinConfig(n_witnesses=1))
    consumer = home.log.subscribe("join", start=home.log.begin())
    while len(records := consumer.poll(100)):
        batch, _ = decode_records(records, home.codec.decode)
        times = effective_time_ms(np.array([event.event_time_ms for event in batch.events]), batch.appended_ms)
        for offset, time_ms, event in zip(batch.offsets.tolist(), times.tolist(), batch.events, strict=True):
            join.hear(offset, time_ms, event)
    consumer.close()
    end_ms = home.clock.now_ms() + 2 * HOUR_MS
    join.hear(1 << 40, end_ms, a_clock_tick(end_ms))
    return join.let_out()


def test_the_newest_revisions_of_the_streaming_join_are_the_logged_samples(make_live_home: Callable[..., Any]) -> None:
    home = make_live_home()
    home.serve_three()
    posts = home.page(20, "r4")
    now_ms = home.clock.now_ms()
    like = an_engagement(20, posts[0], at_ms=now_ms + 100, event_id="like")
    undo = an_engagement(20, posts[0], is_undo=True, at_ms=now_ms + 50, request_id="r4", event_id="undo")
    home.clock.set_ms(now_ms + 200)
    long_look = an_impression(20, posts[0], request_id="r4", dwell_ms=9_000, at_ms=now_ms + 190, event_id="long look")
    home.take([like, undo, long_look])
    samples, rows = home.logged(), streamed(home)
    newest = {
        (request, post): (row, rows.labels[i].tolist())
        for i, (request, post, *row) in enumerate(
            zip(
                rows.requests.tolist(),
                rows.posts.tolist(),
                rows.viewers.tolist(),
                rows.page_ms.tolist(),
                rows.positions.tolist(),
                strict=True,
            )
        )
    }
    slates = samples.slate_of
    expected = {
        (int(samples.requests[slate]), int(samples.post_ids[i])): (
            [int(samples.viewers[slate]), int(samples.now_ms[slate]), int(samples.positions[i])],
            samples.labels[i].tolist(),
        )
        for i, slate in enumerate(slates.tolist())
    }
    assert len(expected) == samples.n_rows >= 12
    assert newest == expected
    assert rows.labels[:, Action.LIKE].sum() >= 5
