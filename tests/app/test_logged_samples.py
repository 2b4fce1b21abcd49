"""What live pages log becomes samples: the bytes of an offline replay, and nothing of what happened later."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from millrace.app import wiring
from millrace.app.commands.init import make_home
from millrace.app.evaluation import hear_log
from millrace.app.join_role import follow_by_hand
from millrace.app.lessons import home_candidates
from millrace.app.sampling import samples_as_of
from millrace.app.settings import Settings, load_settings
from millrace.app.training import home_samples
from millrace.base.actions import Action
from millrace.base.clock import ManualClock
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
from millrace.flywheel.logged_samples import LoggedCandidates
from millrace.flywheel.sample_set import SampleSet
from millrace.flywheel.warehouse import Warehouse
from millrace.mixer.feed import FeedRequest
from millrace.stores.applier import decode_records
from millrace.stores.fold import effective_time_ms
from millrace.testing.builders import (
    NOW_MS,
    a_clock_tick,
    a_follow,
    a_post_annotated,
    a_post_created,
    a_post_edited,
    a_profile_updated,
    a_video,
    an_engagement,
    an_impression,
)
from millrace.testing.progress import in_silence

pytestmark = [pytest.mark.timeout(600)]

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
NOT_LOGGED_EXACTLY = ("meta", "baseline")
PATIENT = [("home.deadline_ms", "60000"), ("home.claim_timeout_ms", "60000"), ("home.is_strict", "true")]


def before() -> list[AnyEvent]:
    """Posts of every kind, follows, a profile, a few likes: all of it before the first page."""
    at_ms = NOW_MS - HOUR_MS
    posts = [
        a_post_created(i, 10 + i % 4, text=f"post number {i} about {('cats', 'dogs', 'mills')[i % 3]}", at_ms=at_ms + i)
        for i in range(1, 16)
    ]
    return [
        *posts,
        a_post_created(30, 11, text="a film", media=(a_video(),), at_ms=at_ms + 30),
        a_post_created(31, 12, kind="repost", parent_id=3, parent_author_id=13, at_ms=at_ms + 31),
        a_post_created(32, 13, kind="quote", parent_id=4, parent_author_id=10, text="see", at_ms=at_ms + 32),
        *(a_follow(viewer, author, at_ms=at_ms + 40) for viewer in (20, 21) for author in (10, 11, 12)),
        a_profile_updated(20, bio="mills and cats", languages=("en", "de"), is_verified=True, at_ms=at_ms + 41),
        an_engagement(20, 2, at_ms=at_ms + 50),
        an_impression(21, 5, dwell_ms=9_000, surface="search", at_ms=at_ms + 51),
        an_engagement(22, 6, "reply", at_ms=at_ms + 52),
    ]


class Kept:
    """Takes events and keeps them."""

    def __init__(self) -> None:
        self.events: list[AnyEvent] = []

    def log(self, event: AnyEvent) -> None:
        self.events.append(event)


class LiveHome:
    """A home that serves pages and logs them, in this process."""

    def __init__(self, folder: Path, *settings: tuple[str, str]) -> None:
        made, _ = make_home(folder)
        self.settings: Settings = load_settings(made.home, None, [*PATIENT, *settings])
        self.clock = ManualClock(NOW_MS)
        self.log = wiring.build_log(self.settings, self.clock)
        self.codec = wiring.build_codec(self.settings)
        self._collector = wiring.build_collector(self.settings, self.log, self.codec, self.clock)
        self.take(before())
        self.replica = wiring.build_replica(self.settings, self.log, clock=self.clock)
        self.replica.restore()
        self.replica.catch_up()
        self.served, self.features = Kept(), Kept()
        self.service = wiring.build_feed_service(
            self.settings, self.replica, self.served, features_logger=self.features, clock=self.clock
        )

    def take(self, events: Iterable[AnyEvent]) -> None:
        receipt = self._collector.submit(list(events))
        assert receipt.n_refused == 0, [result.error for result in receipt]

    def page(self, viewer: int, request: str, then: Callable[[], Sequence[AnyEvent]] = lambda: ()) -> list[str]:
        """Serve a page, log it, and fold on; ``then`` says what happens between the page and its logging."""

        async def make() -> list[str]:
            page = await self.service.home(FeedRequest(viewer_id=str(viewer), request_id=request, limit=5))
            await self.service.drain()
            return [post.post_id for post in page.posts]

        self.replica.catch_up()
        posts = asyncio.run(make())
        assert posts
        self.take(then())
        self.take([*self.served.events, *self.features.events])
        self.served.events.clear()
        self.features.events.clear()
        self.clock.set_ms(self.clock.now_ms() + MINUTE_MS)
        self.look(viewer, request, posts)
        self.replica.catch_up()
        return posts

    def look(self, viewer: int, request: str, posts: Sequence[str]) -> None:
        """All but the last post are seen, and the second is liked."""
        now_ms = self.clock.now_ms()
        self.take(
            an_impression(
                viewer,
                post,
                request_id=request,
                position=i,
                surface="home",
                at_ms=now_ms + i,
                event_id=f"{viewer}-{request}-i{i}",
            )
            for i, post in enumerate(posts[:-1])
        )
        self.take(
            [
                an_engagement(
                    viewer,
                    posts[1],
                    request_id=request,
                    surface="home",
                    at_ms=now_ms + 9,
                    event_id=f"{viewer}-{request}-e",
                )
            ]
        )

    def logged(self) -> SampleSet:
        return self._read("samples")

    def candidates(self) -> LoggedCandidates:
        return self._read("candidates")

    def replayed(self) -> SampleSet:
        """Return the samples of the same pages as the offline replay encodes them."""
        hasher = IdHasher()
        join = wiring.build_slate_join(self.settings, hasher, window_ms=24 * HOUR_MS, takes_all=True)
        hear_log(self.settings, self.log, join, in_silence)
        slates = join.join(NOW_MS)  # nothing from before the first page
        return samples_as_of(self.settings, self.log, hasher, slates, behind_ms=0, on_progress=lambda _done, _all: None)

    def rest(self) -> None:
        """Let ten minutes pass: all that was seen is old enough to be learned from."""
        self.clock.set_ms(self.clock.now_ms() + 10 * MINUTE_MS)
        self.take([a_post_created("rest", 14, at_ms=self.clock.now_ms(), event_id="rest")])

    def samples(self, hours: float | None = None, *, replays: bool = False) -> SampleSet:
        """Return what a training would learn from; ``steps`` are what one was told meanwhile."""
        self.steps: list[str] = []

        def telling(what: str) -> Any:
            self.steps.append(what)
            return in_silence(what)

        return home_samples(self.settings, telling, hours=hours, replays=replays)

    def _read(self, what: str) -> Any:
        Warehouse(self.settings.warehouse_dir, self.codec).export(self.log)
        reader = wiring.build_logged_samples(self.settings, IdHasher(), window_ms=24 * HOUR_MS)
        try:
            return getattr(reader, what)()
        finally:
            reader.close()

    def close(self) -> None:
        self.replica.close()
        self.log.close()


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., LiveHome]]:
    made: list[LiveHome] = []

    def make_one(*settings: tuple[str, str]) -> LiveHome:
        made.append(LiveHome(tmp_path / str(len(made)), *settings))
        return made[-1]

    yield make_one
    for home in made:
        home.close()


def differences(one: SampleSet, other: SampleSet) -> list[str]:
    """Return the columns that are not the same, byte for byte."""
    names = [field.name for field in fields(SampleSet) if field.name not in NOT_LOGGED_EXACTLY]
    return [
        name
        for name in names
        if (getattr(one, name).dtype, getattr(one, name).shape)
        != (getattr(other, name).dtype, getattr(other, name).shape)
        or getattr(one, name).tobytes() != getattr(other, name).tobytes()
    ]


def later(home: LiveHome) -> list[AnyEvent]:
    """What happens after a page is made and before it is logged: a leak would show it."""
    now_ms = home.clock.now_ms() + 1_000
    return [
        an_engagement(20, 7, at_ms=now_ms, event_id="later-1"),
        an_engagement(21, 8, "repost", at_ms=now_ms, event_id="later-2"),
        *(a_post_edited(i, text=f"other words {i}", at_ms=now_ms, event_id=f"later-e{i}") for i in range(1, 16)),
        *(
            a_post_annotated(i, language="fr", vector=(0.5, -1.0) * 32, at_ms=now_ms, event_id=f"later-a{i}")
            for i in range(1, 16)
        ),
        a_follow(20, 13, at_ms=now_ms, event_id="later-f"),
        a_profile_updated(20, bio="changed", at_ms=now_ms, event_id="later-p"),
    ]


def serve_three(home: LiveHome, *, is_eventful: bool = True) -> None:
    home.page(20, "r1", (lambda: later(home)) if is_eventful else (lambda: ()))
    home.page(21, "r2")
    home.page(20, "r3")


def test_what_live_pages_log_is_what_the_replay_encodes_byte_for_byte(make: Callable[..., LiveHome]) -> None:
    home = make()
    serve_three(home)
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


def test_what_happens_after_a_page_changes_nothing_of_its_sample(make: Callable[..., LiveHome]) -> None:
    quiet, eventful = make(), make()
    for home in (quiet, eventful):
        home.page(20, "r1", (lambda: later(eventful)) if home is eventful else (lambda: ()))
    one, other = quiet.logged(), eventful.logged()
    assert differences(one, other) == []
    assert one.text_tokens.any()
    for home in (quiet, eventful):
        home.rest()
    assert differences(quiet.samples(), eventful.samples()) == []
    assert differences(quiet.samples(), eventful.samples(replays=True)) == []


def test_inputs_that_know_what_came_later_are_found(make: Callable[..., LiveHome]) -> None:
    """The alarm itself: the same page, logged with the viewer as of now instead of as of the page."""
    home = make()
    encoders = Encoders.of(home.replica.state, home.replica.state.texts, home.replica.state.profile_texts)

    def leak() -> list[AnyEvent]:
        events = later(home)
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
    make: Callable[..., LiveHome], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The alarm itself: the same pages, joined with the texts of the log's end."""
    home = make()
    serve_three(home)
    from millrace.flywheel.logged_texts import LoggedTexts

    read = LoggedTexts.read

    def read_late(texts: Any, builder: Any, cut: int, *posts: Any) -> None:
        read(texts, builder, cut + (1 << 40), *posts)

    monkeypatch.setattr(LoggedTexts, "read", read_late)
    assert set(differences(home.logged(), home.replayed())) == {"text_tokens", "text_vectors"}


def test_the_streaming_joins_store_gives_the_same_samples_bit_for_bit(make: Callable[..., LiveHome]) -> None:
    home = make()
    home.page(20, "r1", lambda: later(home))
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


def test_candidates_of_sampled_requests_come_with_the_teachers_scores(make: Callable[..., LiveHome]) -> None:
    home = make(("params.candidates_log.share", "1.0"))
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


def test_candidates_are_as_old_as_pages_must_be(make: Callable[..., LiveHome]) -> None:
    home = make(("params.candidates_log.share", "1.0"))
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


def test_what_is_read_up_to_a_position_does_not_know_what_was_logged_since(make: Callable[..., LiveHome]) -> None:
    home = make(("params.candidates_log.share", "1.0"))
    home.page(20, "r1")
    home.page(21, "r2")
    home.rest()
    end = sum(home.log.end())

    def read(until: int | None = None) -> tuple[SampleSet, SampleSet]:
        candidates = home_candidates(home.settings, in_silence, until=until)
        assert candidates is not None
        return home_samples(home.settings, in_silence, until=until), candidates.samples

    before = read()
    home.page(20, "r3", lambda: later(home))
    home.clock.set_ms(home.clock.now_ms() + HOUR_MS)
    home.take([a_post_created("news", 14, at_ms=home.clock.now_ms(), event_id="news")])
    for then, again, now in zip(before, read(end), read(), strict=True):
        assert differences(again, then) == []
        assert len(now) == len(then) + 1


def test_what_others_say_of_a_request_is_not_its_viewers(make: Callable[..., LiveHome]) -> None:
    home = make()
    posts = home.page(20, "r1")
    home.look(99, "r1", [*posts, "30"])
    samples = home.logged()
    assert len(samples) == 1
    assert samples.n_rows == len(posts) - 1
    assert samples.labels[:, Action.LIKE].sum() == 1


def test_without_logged_pages_one_is_told_what_to_do(make: Callable[..., LiveHome]) -> None:
    home = make(("home.logs_features", "false"))
    home.page(20, "r1")
    with pytest.raises(StoreError, match="logs_features"):
        home.logged()


REPLAY = "replaying the log (records)"
SINCE_THE_FIRST_PAGE = 0.5


def unlogged(home: LiveHome) -> list[AnyEvent]:
    """Lose what was logged of a page, as a worker that is killed does."""
    home.features.events.clear()
    return []


def of_another_schema(home: LiveHome) -> list[AnyEvent]:
    """Log a page as another version of the features would."""
    (event,) = home.features.events
    payload = msgspec.structs.replace(event.payload, schema="another")
    home.features.events[:] = [msgspec.structs.replace(event, payload=payload)]
    return []


def test_a_log_whose_pages_all_have_features_is_not_replayed(make: Callable[..., LiveHome]) -> None:
    home = make()
    serve_three(home)
    home.rest()
    samples = home.samples(SINCE_THE_FIRST_PAGE)
    assert len(samples) == 3
    assert REPLAY not in home.steps
    assert np.array_equal(samples.baseline, home.logged().baseline)
    assert differences(samples, home.samples(SINCE_THE_FIRST_PAGE, replays=True)) == []
    assert REPLAY in home.steps
    assert samples.meta == home.samples(SINCE_THE_FIRST_PAGE, replays=True).meta


def test_pages_without_features_are_replayed_in_their_places_among_the_others(make: Callable[..., LiveHome]) -> None:
    home = make()
    home.page(20, "r1", lambda: unlogged(home))
    home.page(21, "r2", lambda: later(home))  # what r1 has read is edited meanwhile
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
    make: Callable[..., LiveHome], caplog: pytest.LogCaptureFixture
) -> None:
    home = make()
    home.page(20, "r1", lambda: of_another_schema(home))
    home.rest()
    assert home.samples(replays=True).n_rows
    assert "of other features" not in caplog.text
    assert home.samples().n_rows
    assert "1 logged requests are left out: of other features" in caplog.text


def test_few_lost_pages_are_left_out_rather_than_the_whole_log_replayed(
    make: Callable[..., LiveHome], monkeypatch: pytest.MonkeyPatch
) -> None:
    home = make()
    home.page(20, "r1", lambda: unlogged(home))
    home.page(21, "r2")
    home.page(20, "r3")
    home.rest()
    assert len(home.samples(SINCE_THE_FIRST_PAGE)) == 3
    monkeypatch.setattr("millrace.app.training.MAX_LEFT_OUT", 0.34)
    assert len(home.samples(SINCE_THE_FIRST_PAGE)) == 2
    assert REPLAY not in home.steps
    assert len(home.samples(SINCE_THE_FIRST_PAGE, replays=True)) == 3


def test_logged_pages_outlive_the_log(make: Callable[..., LiveHome], caplog: pytest.LogCaptureFixture) -> None:
    home = make()
    serve_three(home)
    home.rest()
    whole = home.samples(SINCE_THE_FIRST_PAGE)
    home.log.trim(home.log.end())
    assert differences(home.samples(SINCE_THE_FIRST_PAGE), whole) == []
    assert differences(home.samples(), whole) == []  # the look from before the first page cannot be replayed any more
    assert "1 pages whose features were not logged are left out" in caplog.text
    with pytest.raises(StoreError, match="trimmed"):
        home.samples(replays=True)


def test_pages_that_are_younger_than_actions_take_are_left_out_until_they_are_not(
    make: Callable[..., LiveHome],
) -> None:
    home = make()
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


def test_a_home_in_which_nothing_was_seen_says_so(make: Callable[..., LiveHome]) -> None:
    with pytest.raises(StoreError, match="no impressions of pages within the span"):
        make().samples(0.1)


def test_of_a_long_log_the_wanted_hours_are_read_and_no_others(make: Callable[..., LiveHome]) -> None:
    home = make()
    serve_three(home)
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


def streamed(home: LiveHome) -> JoinedRows:
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


def test_the_newest_revisions_of_the_streaming_join_are_the_logged_samples(make: Callable[..., LiveHome]) -> None:
    home = make()
    serve_three(home)
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
