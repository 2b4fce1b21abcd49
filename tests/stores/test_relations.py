"""`RelationStore` against a naive model, and rule by rule."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.base.ids import IdHasher
from millrace.base.keywords import NO_KEYWORD, keyword_hash
from millrace.events.envelope import AnyEvent
from millrace.events.user_events import BlockChanged, MuteChanged
from millrace.stores.relations import RelationStore
from millrace.testing.builders import a_batch_of, a_block, a_mute, a_user_erased

HASHER = IdHasher()
USERS = ("a", "b", "c", "d", "e")
WORDS = ("Cats", "ｃａｔｓ", "football", "naïve", "東京", "🔥", "  ")


def user(text: str) -> int:
    return int(HASHER.users([text])[0])


def users(*texts: str) -> list[int]:
    return [user(text) for text in texts]


def a_store(*events: AnyEvent) -> RelationStore:
    store = RelationStore(HASHER)
    store.apply(a_batch_of(events))
    return store


class Model:
    """Pairs in order; dicts stand for ordered sets."""

    def __init__(self) -> None:
        self.blocks: dict[tuple[str, str], None] = {}
        self.mutes: dict[tuple[str, str], None] = {}
        self.keywords: dict[tuple[str, int], None] = {}

    def apply(self, event: AnyEvent) -> None:
        payload = event.payload
        if isinstance(payload, BlockChanged):
            self.change(self.blocks, (payload.blocker_id, payload.blocked_id), is_set=payload.is_blocked)
        elif isinstance(payload, MuteChanged) and payload.keyword is not None:
            keyword = keyword_hash(payload.keyword)
            if keyword != NO_KEYWORD:
                self.change(self.keywords, (payload.muter_id, keyword), is_set=payload.is_muted)
        elif isinstance(payload, MuteChanged):
            self.change(self.mutes, (payload.muter_id, payload.muted_id), is_set=payload.is_muted)
        else:
            for pairs in (self.blocks, self.mutes, self.keywords):
                for pair in [pair for pair in pairs if payload.user_id in pair]:
                    del pairs[pair]

    @staticmethod
    def change(pairs: dict, pair: tuple, *, is_set: bool) -> None:
        if pair[0] == pair[1]:
            return
        if is_set:
            pairs.setdefault(pair)
        else:
            pairs.pop(pair, None)


names = st.sampled_from(USERS)
is_set = st.sampled_from((True, True, False))
histories = st.lists(
    st.one_of(
        st.builds(a_block, names, names, is_blocked=is_set),
        st.builds(a_mute, names, names, is_muted=is_set),
        st.builds(a_mute, names, keyword=st.sampled_from(WORDS), is_muted=is_set),
        st.builds(a_block, names, names, is_blocked=is_set),
        st.builds(a_user_erased, names),
    ),
    max_size=60,
)


@settings(max_examples=60, deadline=None)
@given(histories)
def test_store_holds_what_the_naive_model_holds(history: list[AnyEvent]) -> None:
    store, model = a_store(*history), Model()
    for event in history:
        model.apply(event)
    for name in USERS:
        assert store.blocked(user(name)).tolist() == [user(b) for a, b in model.blocks if a == name]
        assert store.blocked_by(user(name)).tolist() == [user(a) for a, b in model.blocks if b == name]
        assert store.muted(user(name)).tolist() == [user(b) for a, b in model.mutes if a == name]
        assert store.muted_keywords(user(name)).tolist() == [word for a, word in model.keywords if a == name]


@settings(max_examples=40, deadline=None)
@given(histories, st.sets(st.integers(0, 60)), st.integers(0, 60))
def test_cuts_and_restarts_leave_no_trace_in_the_arrays(history: list[AnyEvent], cuts: set[int], restart: int) -> None:
    whole = a_store(*history).arrays()
    store, start = RelationStore(HASHER), 0
    for stop in sorted({*cuts, restart, len(history)}):
        store.apply(a_batch_of(history[start:stop]))
        start = max(stop, start)
        if stop == restart:
            saved = {name: array.copy() for name, array in store.arrays().items()}
            store = RelationStore(HASHER)
            store.load(saved)
    parts = store.arrays()
    assert all(whole[name].shape == parts[name].shape for name in whole)
    assert all(whole[name].tobytes() == parts[name].tobytes() for name in whole)


def test_a_block_is_known_from_both_sides_until_it_is_taken_back() -> None:
    store = a_store(a_block("a", "b"), a_block("c", "b"))
    assert store.blocked(user("a")).tolist() == users("b")
    assert store.blocked_by(user("b")).tolist() == users("a", "c")
    store.apply(a_batch_of([a_block("a", "b", is_blocked=False)]))
    assert store.blocked(user("a")).tolist() == []
    assert store.blocked_by(user("b")).tolist() == users("c")


def test_keywords_are_compared_folded() -> None:
    store = a_store(a_mute("a", keyword="  Ｃａｔｓ  AND dogs"), a_mute("a", keyword="cats and DOGS"))
    assert store.muted_keywords(user("a")).tolist() == [keyword_hash("CATS and dogs")]


def test_blanks_mute_nothing() -> None:
    assert a_store(a_mute("a", keyword=" \u200b ")).n_users == 0


def test_nobody_blocks_or_mutes_themselves() -> None:
    assert a_store(a_block("a", "a"), a_mute("a", "a")).n_users == 0


def test_an_erased_user_leaves_nothing_behind() -> None:
    store = a_store(
        a_block("a", "gone"),
        a_block("gone", "a"),
        a_mute("b", "gone"),
        a_mute("gone", "b"),
        a_mute("gone", keyword="secret"),
        a_block("a", "b"),
        a_user_erased("gone"),
    )
    assert store.blocked(user("a")).tolist() == users("b")
    for name, array in store.arrays().items():
        values = array.reshape(-1).tolist()
        assert user("gone") not in values, name
        assert keyword_hash("secret") not in values, name


def test_many_users_grow_the_arrays() -> None:
    store = a_store(*(a_block(i, i + 1) for i in range(1_000)))
    assert store.n_users == 1_001
    assert store.blocked(user("999")).tolist() == users("1000")
