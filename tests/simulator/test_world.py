from __future__ import annotations

from collections import Counter, defaultdict

import msgspec
import pytest

from millrace.base.errors import ConfigError
from millrace.events.codec import EventCodec
from millrace.events.content_events import LabelChanged, PostAnnotated, PostCreated, PostDeleted, PostEdited
from millrace.events.envelope import AnyEvent
from millrace.events.feed_events import Engagement, Impression
from millrace.events.registry import EventRegistry
from millrace.events.user_events import BlockChanged, FollowChanged, MuteChanged, ProfileUpdated, Search
from millrace.simulator.config import HOUR_MS, WorldConfig
from millrace.simulator.mechanisms.situation import WORLD_ACTIONS
from millrace.simulator.posts import KIND_NAMES
from millrace.simulator.vocabulary import load_language
from millrace.simulator.world import World, simulate_history

NOW_MS = 1_800_000_000_000
LIVE_FROM_MS = NOW_MS - 48 * HOUR_MS
CODEC = EventCodec(EventRegistry())
TINY = WorldConfig(size="tiny", n_users=40, history_ms=16 * HOUR_MS)


@pytest.fixture(scope="module")
def town() -> list[AnyEvent]:
    """Return the demo with fewer people."""
    return list(simulate_history(WorldConfig(n_users=600, history_ms=36 * HOUR_MS, states_topics=True), NOW_MS))


@pytest.fixture(scope="module")
def demo() -> list[AnyEvent]:
    return list(simulate_history(WorldConfig(states_topics=True), NOW_MS))


def of(events: list[AnyEvent], kind: type) -> list[AnyEvent]:
    return [event for event in events if type(event.payload) is kind]


def as_bytes(config: WorldConfig, now_ms: int) -> list[bytes]:
    return [CODEC.encode(event) for event in simulate_history(config, now_ms)]


def test_the_same_seed_and_time_give_the_same_bytes() -> None:
    assert as_bytes(TINY, NOW_MS) == as_bytes(TINY, NOW_MS)


def test_another_seed_gives_another_world_and_another_time_other_post_ids() -> None:
    first = list(simulate_history(TINY, NOW_MS))
    other_seed = list(simulate_history(msgspec.structs.replace(TINY, seed=2), NOW_MS))
    later = list(simulate_history(TINY, NOW_MS + 1))
    ids = {event.event_id for event in first}
    assert ids.isdisjoint(event.event_id for event in other_seed)
    assert ids.isdisjoint(event.event_id for event in later)
    names = {e.payload.user_id: e.payload.name for e in of(first, ProfileUpdated)}
    assert names == {e.payload.user_id: e.payload.name for e in of(later, ProfileUpdated)}
    assert names != {e.payload.user_id: e.payload.name for e in of(other_seed, ProfileUpdated)}


def test_events_come_in_order_of_time_and_end_just_before_now(town: list[AnyEvent]) -> None:
    times = [event.event_time_ms for event in town]
    assert times == sorted(times)
    assert NOW_MS - HOUR_MS < times[-1] < NOW_MS
    assert len({event.event_id for event in town}) == len(town)


def test_what_was_told_of_times_to_come_is_kept_for_whoever_goes_on() -> None:
    world = World(msgspec.structs.replace(TINY, deleted_frac=0.2), NOW_MS)
    told = list(world.history())
    assert len(of(world.to_come, PostDeleted)) > 0
    assert all(event.event_time_ms >= NOW_MS for event in world.to_come)
    numbers = [int(event.event_id.rsplit("-", 1)[1]) for event in (*told, *world.to_come)]
    assert numbers == list(range(1, len(numbers) + 1))


def test_every_event_passes_the_door_unchanged() -> None:
    for event in simulate_history(TINY, NOW_MS):
        assert CODEC.decode_json(CODEC.encode_json(event)) == event


@pytest.mark.slow
def test_the_demo_has_the_size_it_promises(demo: list[AnyEvent]) -> None:
    live = [e for e in of(demo, PostCreated) if e.event_time_ms >= LIVE_FROM_MS]
    assert len(live) > 8_000
    assert len({e.payload.author_id for e in live}) > 1_000
    assert 150_000 < len(demo) < 260_000
    assert {e.payload.kind for e in live} == set(KIND_NAMES)
    annotated = Counter(e.payload.language for e in of(demo, PostAnnotated))
    assert min(annotated[tag] for tag in ("en", "es", "zh", "ja", "ar", "de")) > 300
    assert len(of(demo, BlockChanged)) > 10
    actions = Counter(e.payload.action for e in of(demo, Engagement))
    assert set(actions) == {action.label for action in WORLD_ACTIONS}
    likes = Counter(e.payload.post_id for e in of(demo, Engagement) if e.payload.action == "like")
    assert max(likes.values()) > 25


def test_every_kind_of_event_of_a_lively_network_happens(town: list[AnyEvent]) -> None:
    counts = Counter(type(event.payload) for event in town)
    rare = (PostEdited, PostDeleted, LabelChanged, MuteChanged, Search)
    assert all(counts[kind] > 0 for kind in rare)
    assert any(not e.payload.is_following for e in of(town, FollowChanged))
    actions = Counter(e.payload.action for e in of(town, Engagement))
    assert actions["like"] > actions["repost"] > actions["not_interested"] > 0
    assert {"reply", "quote", "share", "video_view"} <= set(actions)


def test_parents_exist_before_their_answers_and_conversations_have_one_root(town: list[AnyEvent]) -> None:
    root: dict[str, str] = {}
    author: dict[str, str] = {}
    for event in of(town, PostCreated):
        post = event.payload
        if post.parent_id is not None:
            assert author[post.parent_id] == post.parent_author_id
            assert post.author_id != post.parent_author_id
        if post.kind == "reply":
            assert post.conversation_id == root[post.parent_id]
        root[post.post_id] = post.conversation_id or post.post_id
        author[post.post_id] = post.author_id


def test_answers_fit_the_topic_and_language_of_what_they_answer(town: list[AnyEvent]) -> None:
    about = {e.payload.post_id: (e.payload.language, e.payload.topics) for e in of(town, PostAnnotated)}
    n_checked = 0
    for event in of(town, PostCreated):
        post = event.payload
        if post.kind == "reply" and (topics := about[post.parent_id][1]):
            language = about[post.parent_id][0]
            assert about[post.post_id][0] == language
            words = load_language(language)
            assert post.text.startswith((*words.topic[topics[0]].replies, *words.replies))
            n_checked += 1
    assert n_checked > 80


def test_reposts_have_no_text_and_all_others_have(town: list[AnyEvent]) -> None:
    assert all((e.payload.kind == "repost") == (not e.payload.text) for e in of(town, PostCreated))


def test_nobody_sees_a_post_before_it_exists_or_twice_or_their_own(town: list[AnyEvent]) -> None:
    created = {e.payload.post_id: e for e in of(town, PostCreated)}
    deleted = {e.payload.post_id: e.event_time_ms for e in of(town, PostDeleted)}
    pairs = set()
    for event in of(town, Impression):
        impression = event.payload
        post = created[impression.post_id]
        assert post.event_time_ms < event.event_time_ms
        assert post.payload.author_id != impression.viewer_id
        begun_ms = event.event_time_ms - 30 * 60_000  # a session that began before may still show it
        assert deleted.get(impression.post_id, NOW_MS) > begun_ms - 60 * 60_000
        pairs.add((impression.viewer_id, impression.post_id))
    assert len(pairs) == len(of(town, Impression))


def test_an_action_follows_an_impression_of_the_same_post(town: list[AnyEvent]) -> None:
    seen = {(e.payload.viewer_id, e.payload.post_id) for e in of(town, Impression)}
    missing = [e for e in of(town, Engagement) if (e.payload.viewer_id, e.payload.post_id) not in seen]
    # An action is done before the look ends, and the end of the last looks lies beyond now.
    assert len(missing) < 10
    assert all(e.event_time_ms > NOW_MS - 60 * 60_000 for e in missing)


def test_few_posts_get_most_of_the_likes(town: list[AnyEvent]) -> None:
    likes = Counter(e.payload.post_id for e in of(town, Engagement) if e.payload.action == "like")
    n_posts = len(of(town, PostCreated))
    most = sum(n for _, n in likes.most_common(n_posts // 10))
    assert most > 0.4 * likes.total()


@pytest.mark.slow
def test_viewers_have_enough_unseen_posts_of_people_they_follow(demo: list[AnyEvent]) -> None:
    follows, seen, live = defaultdict(set), defaultdict(set), defaultdict(list)
    for event in demo:
        match event.payload:
            case FollowChanged(follower_id=who, followee_id=whom):
                follows[who].add(whom)
            case Impression(viewer_id=who, post_id=post):
                seen[who].add(post)
            case PostCreated(post_id=post, author_id=author, kind="original" | "quote"):
                if event.event_time_ms >= LIVE_FROM_MS:
                    live[author].append(post)
            case _:
                pass
    active = sorted(seen, key=lambda who: -len(seen[who]))[:200]
    n_full = sum(sum(min(3, len(set(live[author]) - seen[who])) for author in follows[who]) >= 35 for who in active)
    assert n_full > 50  # the others' pages are completed with popular and second-degree posts


def test_the_truth_stays_in_the_world() -> None:
    world = World(TINY, NOW_MS)
    told = b"".join(CODEC.encode_json(event) for event in world.history())
    for hidden in (b"quality", b"propensity", b"attraction", b"charisma", b"liking"):
        assert hidden not in told


def test_people_can_be_counted_by_one_setting() -> None:
    events = list(simulate_history(msgspec.structs.replace(TINY, n_users=30), NOW_MS))
    assert len(of(events, ProfileUpdated)) == 30


def test_a_language_without_words_is_refused() -> None:
    with pytest.raises(ConfigError, match="language_shares"):
        World(WorldConfig(language_shares={"en": 0.5, "xx": 0.5}), NOW_MS)
