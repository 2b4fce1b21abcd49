"""`FollowGraph` against a naive model, and rule by rule."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.base.ids import IdHasher
from millrace.events.envelope import AnyEvent
from millrace.events.user_events import FollowChanged
from millrace.stores.follow_graph import FollowGraph
from millrace.testing.builders import a_batch_of, a_follow, a_user_erased

HASHER = IdHasher()
USERS = tuple(f"u{i}" for i in range(8))


def user(text: object) -> int:
    return int(HASHER.users([str(text)])[0])


def users(*texts: object) -> list[int]:
    return [user(text) for text in texts]


def a_graph(*events: AnyEvent) -> FollowGraph:
    graph = FollowGraph(HASHER)
    graph.apply(a_batch_of(events))
    return graph


class Model:
    """Edges in the order of following, each with the set of its holders."""

    def __init__(self) -> None:
        self.holders_by_edge: dict[tuple[str, str], set[str]] = {}

    def apply(self, event: AnyEvent) -> None:
        payload = event.payload
        if not isinstance(payload, FollowChanged):
            gone = payload.user_id
            self.holders_by_edge = {edge: held for edge, held in self.holders_by_edge.items() if gone not in edge}
            return
        edge = (payload.follower_id, payload.followee_id)
        if edge[0] == edge[1]:
            return
        if payload.is_following:
            self.holders_by_edge.setdefault(edge, set()).add(payload.list_id or "")
        elif edge in self.holders_by_edge:
            self.holders_by_edge[edge].discard(payload.list_id or "")
            if not self.holders_by_edge[edge]:
                del self.holders_by_edge[edge]

    def following(self, name: str) -> list[int]:
        return [user(b) for a, b in self.holders_by_edge if a == name]

    def followers(self, name: str) -> list[int]:
        return [user(a) for a, b in self.holders_by_edge if b == name]


names = st.sampled_from(USERS)
follows = st.builds(
    a_follow, names, names, is_following=st.sampled_from((True, True, False)), list_id=st.sampled_from((None, "l", "m"))
)
histories = st.lists(st.one_of(follows, follows, follows, follows, st.builds(a_user_erased, names)), max_size=80)


@settings(max_examples=80, deadline=None)
@given(histories)
def test_graph_holds_what_the_naive_model_holds(history: list[AnyEvent]) -> None:
    graph, model = a_graph(*history), Model()
    for event in history:
        model.apply(event)
    everybody = np.array(users(*USERS), dtype=np.int64)
    for name in USERS:
        assert graph.following(user(name)).tolist() == model.following(name)
        assert graph.followers(user(name)).tolist() == model.followers(name)
        followed = set(model.following(name))
        assert graph.is_following(user(name), everybody).tolist() == [key in followed for key in everybody.tolist()]
        followers = set(model.followers(name))
        assert graph.is_followed_by(user(name), everybody).tolist() == [k in followers for k in everybody.tolist()]
    assert graph.n_following(everybody).tolist() == [len(model.following(name)) for name in USERS]
    assert graph.n_followers(everybody).tolist() == [len(model.followers(name)) for name in USERS]
    assert graph.n_edges == len(model.holders_by_edge)
    assert graph.n_users == len({name for edge in model.holders_by_edge for name in edge})


@settings(max_examples=50, deadline=None)
@given(histories, st.sets(st.integers(0, 80)), st.integers(0, 80))
def test_cuts_and_restarts_leave_no_trace_in_the_arrays(history: list[AnyEvent], cuts: set[int], restart: int) -> None:
    whole = a_graph(*history).arrays()
    graph, start = FollowGraph(HASHER), 0
    for stop in sorted({*cuts, restart, len(history)}):
        graph.apply(a_batch_of(history[start:stop]))
        start = max(stop, start)
        if stop == restart:
            saved = {name: array.copy() for name, array in graph.arrays().items()}
            graph = FollowGraph(HASHER)
            graph.load(saved)
    parts = graph.arrays()
    assert whole.keys() == parts.keys()
    assert all(whole[name].shape == parts[name].shape for name in whole)
    assert all(whole[name].tobytes() == parts[name].tobytes() for name in whole)


def test_both_directions_are_in_the_order_of_following() -> None:
    graph = a_graph(a_follow("a", "x"), a_follow("a", "y"), a_follow("b", "x"), a_follow("a", "z"))
    assert graph.following(user("a")).tolist() == users("x", "y", "z")
    assert graph.followers(user("x")).tolist() == users("a", "b")
    assert graph.following(user("nobody")).tolist() == []


def test_following_again_changes_nothing_and_a_new_follow_goes_to_the_end() -> None:
    again = (a_follow("a", "x"), a_follow("a", "y"), a_follow("a", "x"))
    assert a_graph(*again).following(user("a")).tolist() == users("x", "y")
    anew = (*again, a_follow("a", "x", is_following=False), a_follow("a", "x"))
    assert a_graph(*anew).following(user("a")).tolist() == users("y", "x")


def test_an_edge_lives_while_any_list_or_the_plain_follow_holds_it() -> None:
    graph = a_graph(
        a_follow("a", "x", list_id="friends"),
        a_follow("a", "x"),
        a_follow("a", "x", list_id="friends", is_following=False),
    )
    assert graph.following(user("a")).tolist() == users("x")
    graph.apply(a_batch_of([a_follow("a", "x", list_id="other", is_following=False)]))
    assert graph.n_edges == 1, "that list never held it"
    graph.apply(a_batch_of([a_follow("a", "x", is_following=False)]))
    assert graph.n_edges == 0


def test_nobody_follows_themselves() -> None:
    assert a_graph(a_follow("a", "a")).n_users == 0


def test_an_erased_user_leaves_nothing_behind() -> None:
    graph = a_graph(
        a_follow("a", "gone"),
        a_follow("a", "gone", list_id="l"),
        a_follow("gone", "a"),
        a_follow("b", "gone", list_id="l"),
        a_follow("a", "b"),
        a_user_erased("gone"),
    )
    assert graph.following(user("a")).tolist() == users("b")
    for name, array in graph.arrays().items():
        assert user("gone") not in array.reshape(-1).tolist(), name


def test_many_follows_at_once_equal_the_same_events() -> None:
    rng = np.random.default_rng(3)
    pairs = rng.integers(0, 200, (3_000, 2))
    graph, ingested = a_graph(*(a_follow(int(a), int(b)) for a, b in pairs)), FollowGraph(HASHER)
    ingested.ingest(HASHER.users(map(str, pairs[:, 0].tolist())), HASHER.users(map(str, pairs[:, 1].tolist())))
    one, two = graph.arrays(), ingested.arrays()
    assert all(one[name].tobytes() == two[name].tobytes() for name in one)


def test_a_graph_of_nobody_takes_no_room_after_everybody_left() -> None:
    graph = a_graph(*(a_follow(i, i + 1) for i in range(500)))
    graph.apply(a_batch_of([a_follow(i, i + 1, is_following=False) for i in range(500)]))
    assert (graph.n_users, graph.n_edges) == (0, 0)
    arrays = graph.arrays()
    assert not arrays["users.keys_by_row"].any()
    assert not arrays["following.rows"].any()
