import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.base.ids import IdHasher, IdKind, hash_id
from millrace.events.content_events import PostCreated
from millrace.events.envelope import AnyEvent
from millrace.events.feed_events import Engagement, Impression
from millrace.events.user_events import FollowChanged, ProfileUpdated, UserErased
from millrace.stores.codes import CodeTables
from millrace.stores.profiles import ProfileStore
from millrace.testing import strategies as events_st
from millrace.testing.builders import NOW_MS, a_batch_of, a_follow, a_profile_updated, a_user_erased

HASHER = IdHasher()
USER_IDS = np.array([hash_id(IdKind.USER, text) for text in events_st.USERS], dtype=np.int64)


def user(text: object) -> int:
    return hash_id(IdKind.USER, str(text))


def a_store(events: list[AnyEvent], ends: list[int] | None = None) -> ProfileStore:
    codes = CodeTables()
    store = ProfileStore(HASHER, codes)
    for batch in events_st.batches(events, ends or [len(events)]):
        codes.apply(batch)
        store.apply(batch)
    return store


class Model:
    def __init__(self) -> None:
        self.users: dict[str, dict[str, object]] = {}

    def apply(self, event: AnyEvent) -> None:
        payload = event.payload
        if isinstance(payload, UserErased):
            self.users.pop(payload.user_id, None)
            return
        if isinstance(payload, (Impression, Engagement)):
            names = [payload.viewer_id]
        elif isinstance(payload, PostCreated):
            names = [payload.author_id]
        elif isinstance(payload, FollowChanged):
            names = [payload.follower_id, payload.followee_id]
        else:
            names = [payload.user_id]
        for name in names:
            self.users.setdefault(name, {"created": event.event_time_ms})
        if isinstance(payload, ProfileUpdated):
            profile = self.users[payload.user_id]
            for field in ("languages", "interests", "is_verified"):
                if getattr(payload, field) is not None:
                    profile[field] = getattr(payload, field)
            if payload.settings and "sensitive_media" in payload.settings:
                profile["shows_sensitive"] = payload.settings["sensitive_media"] == "show"
            if payload.settings and "other_languages" in payload.settings:
                profile["shows_all_languages"] = payload.settings["other_languages"] == "show"


@settings(max_examples=60, deadline=None)
@given(data=st.data(), events=events_st.event_sequences(ProfileStore.handles))
def test_agrees_with_the_naive_model_however_the_log_is_cut(data: st.DataObject, events: list[AnyEvent]) -> None:
    whole = a_store(events)
    pieces = a_store(events, data.draw(events_st.cuts(len(events))))
    model = Model()
    for event in events:
        model.apply(event)
    assert whole.known(USER_IDS).tolist() == [name in model.users for name in events_st.USERS]
    assert whole.n_users == len(model.users)
    assert whole.created_ms(USER_IDS).tolist() == [
        model.users.get(name, {}).get("created", 0) for name in events_st.USERS
    ]
    verified = [bool(model.users.get(name, {}).get("is_verified")) for name in events_st.USERS]
    assert whole.is_verified(USER_IDS).tolist() == verified
    for name in events_st.USERS:
        want = model.users.get(name, {})
        profile = whole.profile(user(name))
        codes = whole._codes
        assert [codes.languages.name(code) for code in profile.languages] == list(want.get("languages", ()))
        assert [codes.topics.name(code) for code in profile.interests] == list(want.get("interests", ()))
        assert profile.shows_sensitive == want.get("shows_sensitive", False)
        assert profile.shows_all_languages == want.get("shows_all_languages", False)
        assert profile.is_known == (name in model.users)
    for (name, left), right in zip(whole.arrays().items(), pieces.arrays().values(), strict=True):
        np.testing.assert_array_equal(left, right, err_msg=name)


def test_an_unknown_user_has_an_empty_profile() -> None:
    profile = a_store([]).profile(user("nobody"))
    assert (profile.is_known, profile.created_ms, profile.languages.tolist()) == (False, 0, [])


def test_whoever_is_followed_is_known() -> None:
    store = a_store([a_follow("a", "b")])
    assert store.known(np.array([user("a"), user("b"), user("c")])).tolist() == [True, True, False]


def test_many_users_grow_the_arrays_and_erased_ones_leave_no_trace() -> None:
    events = [a_profile_updated(i, is_verified=i % 3 == 0) for i in range(2_000)]
    store = a_store([*events, a_user_erased(3)])
    ids = np.array([user(i) for i in range(2_000)])
    assert store.n_users == 1_999
    assert store.known(ids).sum() == 1_999
    assert store.is_verified(ids).tolist() == [i % 3 == 0 and i != 3 for i in range(2_000)]
    assert not any((array == user(3)).any() for array in store.arrays().values() if array.dtype == np.int64)
    again = ProfileStore(HASHER, store._codes)
    again.load({name: array.copy() for name, array in store.arrays().items()})
    again.apply(a_batch_of([a_profile_updated(3, is_verified=True, at_ms=NOW_MS + 1)]))
    assert again.is_verified(ids[3:4]).tolist() == [True]
    assert sorted(again.user_ids.tolist()) == sorted(ids.tolist())
