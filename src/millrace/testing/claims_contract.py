"""What every `ClaimStore` must do; subclass `ClaimsContract`, give it a ``claims`` fixture, and pytest runs it.

The fixture returns an empty store. Implementations that serve several processes also give ``open_another``: a
function that opens the same store once more, as another process would. `check_against_model` puts any sequence of
claims beside a naive model; a store that is dear to make is given one viewer a sequence.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Final

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from millrace.base.ids import Int64Array
from millrace.stores.claims import ClaimStore

OpenAnother = Callable[[], ClaimStore]

_TTL_MS: Final = 10_000
_MANY: Final = 1_000
_viewers: Final = count(1_000_000)


def _ids(*content_ids: int) -> Int64Array:
    return np.array(content_ids, dtype=np.int64)


def _granted(
    claims: ClaimStore,
    owner: str,
    *content_ids: int,
    created_ms: Sequence[int] | None = None,
    viewer_id: int = 7,
    now_ms: int = 0,
    max_claims: int = _MANY,
) -> list[bool]:
    """Claim contents, published at 100, 200 ... for content 1, 2 ... unless told otherwise."""
    times = [100 * abs(content) % 2**40 for content in content_ids] if created_ms is None else created_ms
    mask = claims.claim(
        viewer_id,
        _ids(*content_ids),
        _ids(*times),
        owner=owner,
        now_ms=now_ms,
        ttl_ms=_TTL_MS,
        max_claims=max_claims,
    )
    assert mask.dtype == np.bool_
    answer: list[bool] = mask.tolist()
    return answer


def _claimed(claims: ClaimStore, *, viewer_id: int = 7, now_ms: int = 0) -> tuple[list[int], int]:
    found = claims.claimed(viewer_id, now_ms)
    assert found.content_ids.dtype == np.int64
    return sorted(found.content_ids.tolist()), found.floor_ms


class ClaimsContract:
    """Behaviour shared by all claim stores."""

    def test_a_content_is_granted_to_the_first_owner_alone(self, claims: ClaimStore) -> None:
        """The second owner gets the rest."""
        assert _granted(claims, "a", 1, 2) == [True, True]
        assert _granted(claims, "b", 2, 3) == [False, True]
        assert _claimed(claims) == ([1, 2, 3], 0)

    def test_claims_of_different_viewers_do_not_meet(self, claims: ClaimStore) -> None:
        """The same content for two viewers is two claims."""
        assert _granted(claims, "a", 1, viewer_id=7) == [True]
        assert _granted(claims, "b", 1, viewer_id=8) == [True]
        assert _claimed(claims, viewer_id=9) == ([], 0)

    def test_an_owner_is_granted_its_own_claims_again(self, claims: ClaimStore) -> None:
        """And what is new on its page, which it claims as a whole each time."""
        assert _granted(claims, "a", 1) == [True]
        assert _granted(claims, "a", 1, 2) == [True, True]
        assert _granted(claims, "b", 1, 2) == [False, False]

    def test_what_an_owner_does_not_ask_for_again_is_given_back(self, claims: ClaimStore) -> None:
        """It left the page while that was refilled, so it was never sent."""
        assert _granted(claims, "a", 1, 2, 3) == [True] * 3
        assert _granted(claims, "a", 2, 4) == [True] * 2
        assert _claimed(claims) == ([2, 4], 0)
        assert _granted(claims, "b", 1, 2, 3, 4) == [True, False, True, False]

    def test_what_stands_twice_on_a_page_is_granted_once(self, claims: ClaimStore) -> None:
        """The same content under two posts."""
        assert _granted(claims, "a", 1, 2, 1) == [True, True, False]

    def test_a_claim_runs_out(self, claims: ClaimStore) -> None:
        """It holds up to its last millisecond and no longer."""
        assert _granted(claims, "a", 1) == [True]
        assert _granted(claims, "b", 1, now_ms=_TTL_MS - 1) == [False]
        assert _claimed(claims, now_ms=_TTL_MS - 1) == ([1], 0)
        assert _claimed(claims, now_ms=_TTL_MS) == ([], 0)
        assert _granted(claims, "b", 1, now_ms=_TTL_MS) == [True]
        assert _granted(claims, "a", 1, now_ms=_TTL_MS) == [False]

    def test_released_claims_are_free_at_once(self, claims: ClaimStore) -> None:
        """Release drops all of an owner's claims and nobody else's; twice is as good as once."""
        _granted(claims, "a", 1, 2)
        _granted(claims, "a", 5, viewer_id=8)
        _granted(claims, "b", 3)
        claims.release(7, "a")
        claims.release(7, "a")
        assert _claimed(claims) == ([3], 0)
        assert _claimed(claims, viewer_id=8) == ([5], 0)
        assert _granted(claims, "c", 1, 2, 3) == [True, True, False]

    def test_a_full_set_lets_go_of_what_was_published_first_and_never_grants_older_ones_again(
        self, claims: ClaimStore
    ) -> None:
        """The floor is the millisecond after the newest that was let go."""
        assert _granted(claims, "a", 5, 3, 4, max_claims=3) == [True] * 3
        assert _granted(claims, "b", 6, max_claims=3) == [True]
        assert _claimed(claims) == ([4, 5, 6], 301)
        assert _granted(claims, "c", 3, 2, 9, created_ms=[300, 200, 301], max_claims=4) == [False, False, True]
        assert _claimed(claims) == ([4, 5, 6, 9], 301)

    def test_what_was_published_in_the_same_millisecond_is_let_go_together(self, claims: ClaimStore) -> None:
        """It is below the floor all the same."""
        assert _granted(claims, "a", 1, 2, 3, created_ms=[100, 100, 200], max_claims=2) == [True] * 3
        assert _claimed(claims) == ([3], 101)

    def test_a_page_that_is_older_than_a_full_set_leaves_once(self, claims: ClaimStore) -> None:
        """It is granted, let go at once, and refused from then on."""
        assert _granted(claims, "a", 8, 9, max_claims=2) == [True] * 2
        assert _granted(claims, "b", 3, max_claims=2) == [True]
        assert _claimed(claims) == ([8, 9], 301)
        assert _granted(claims, "c", 3, max_claims=2) == [False]

    def test_the_floor_never_falls(self, claims: ClaimStore) -> None:
        """Not by time, by release, by a larger limit, or by older claims that are let go."""
        _granted(claims, "a", 5, 6, max_claims=1)
        assert _claimed(claims) == ([6], 501)
        claims.release(7, "a")
        assert _granted(claims, "b", 4, 7, 8, now_ms=50 * _TTL_MS) == [False, True, True]
        assert _claimed(claims, now_ms=50 * _TTL_MS) == ([7, 8], 501)

    def test_an_unknown_time_is_below_every_floor_and_kept_as_now(self, claims: ClaimStore) -> None:
        """The content may turn out to be as young as its claim: the floor must cover that when it is let go."""
        assert _granted(claims, "a", 1, created_ms=[0], now_ms=5_000) == [True]
        assert _granted(claims, "b", 2, created_ms=[4_000], now_ms=5_000, max_claims=1) == [True]
        assert _claimed(claims, now_ms=5_000) == ([1], 4_001)
        assert _granted(claims, "c", 3, created_ms=[0], now_ms=5_000) == [False]
        assert _granted(claims, "d", 4, created_ms=[6_000], now_ms=6_000, max_claims=1) == [True]
        assert _granted(claims, "e", 1, created_ms=[4_999], now_ms=6_000) == [False]

    def test_claiming_nothing_answers_nothing(self, claims: ClaimStore) -> None:
        """An empty page is a page."""
        assert _granted(claims, "a") == []

    def test_ids_use_all_64_bits(self, claims: ClaimStore) -> None:
        """Ids that differ in their last bit are different, negative ones too."""
        big = 2**63 - 1
        assert _granted(claims, "a", big, -big, viewer_id=-big) == [True, True]
        assert _granted(claims, "b", big - 1, big, -big, viewer_id=-big) == [True, False, False]
        assert _claimed(claims, viewer_id=-big) == ([-big, big - 1, big], 0)

    def test_many_small_pages_are_one_set(self, claims: ClaimStore) -> None:
        """However they are laid out."""
        for number in range(1, 100):
            assert _granted(claims, f"o{number}", number, number + 1, created_ms=[1, 1]) == [number == 1, True]
        assert _claimed(claims) == (list(range(1, 101)), 0)

    def test_the_first_page_under_a_key_is_kept(self, claims: ClaimStore) -> None:
        """Until it runs out; keys and viewers do not meet."""
        assert claims.page(7, "k", 0) is None
        assert claims.keep_page(7, "k", b"first\0", now_ms=0, ttl_ms=100) == b"first\0"
        assert claims.keep_page(7, "k", b"second", now_ms=99, ttl_ms=100) == b"first\0"
        assert (claims.page(7, "k", 99), claims.page(7, "k", 100)) == (b"first\0", None)
        assert claims.keep_page(8, "k", b"other viewer", now_ms=0, ttl_ms=100) == b"other viewer"
        assert claims.keep_page(7, "m", b"other key", now_ms=0, ttl_ms=100) == b"other key"
        assert claims.keep_page(7, "k", b"third", now_ms=100, ttl_ms=100) == b"third"
        assert claims.page(7, "k", 199) == b"third"

    def test_a_user_is_forgotten(self, claims: ClaimStore) -> None:
        """Their claims and their floor; everybody's pages, for they may be on them; nobody else's claims."""
        _granted(claims, "a", 5, 6, max_claims=1)
        _granted(claims, "b", 1, viewer_id=8)
        claims.keep_page(7, "k", b"mine", now_ms=0, ttl_ms=100)
        claims.keep_page(8, "k", b"shows 7", now_ms=0, ttl_ms=100)
        claims.forget(7)
        assert _claimed(claims) == ([], 0)
        assert _claimed(claims, viewer_id=8) == ([1], 0)
        assert [claims.page(viewer, "k", 0) for viewer in (7, 8)] == [None, None]
        assert _granted(claims, "c", 5) == [True]

    def test_a_limit_holds_over_every_window(self, claims: ClaimStore) -> None:
        """Two in any 100 ms; a refused take costs nothing."""
        answers = [claims.take("k", 2, 100, now_ms) for now_ms in (0, 60, 99, 100, 120, 159, 160)]
        assert answers == [True, True, False, True, False, False, True]

    def test_limits_of_different_keys_do_not_meet(self, claims: ClaimStore) -> None:
        """Each key has its own."""
        assert [claims.take(key, 1, 100, 0) for key in ("k", "m", "k")] == [True, True, False]

    def test_a_limit_of_nothing_grants_nothing(self, claims: ClaimStore) -> None:
        """Zero is a limit."""
        assert not claims.take("k", 0, 100, 0)

    def test_a_budget_holds_a_burst_and_fills_by_its_rate(self, claims: ClaimStore) -> None:
        """Five at once, then one a tenth of a second; a refused call costs nothing and says how long to wait."""
        asked = [(5, 0), (1, 0), (1, 99), (1, 100), (5, 100), (5, 600), (1, 600)]
        waits = [claims.spend("k", n, per_s=10, burst=5, now_ms=now_ms) for n, now_ms in asked]
        assert waits == [0, 100, 1, 0, 500, 0, 100]

    def test_budgets_of_different_keys_do_not_meet_and_what_is_full_holds_no_more(self, claims: ClaimStore) -> None:
        """Each key has its own; an hour of rest gives a burst, not an hour's worth."""
        assert [claims.spend(key, 5, per_s=10, burst=5, now_ms=0) for key in ("k", "m", "k")] == [0, 0, 500]
        assert [claims.spend("k", n, per_s=10, burst=5, now_ms=3_600_000) for n in (5, 1)] == [0, 100]

    def test_threads_that_race_are_granted_each_content_once(self, claims: ClaimStore) -> None:
        """However the calls interleave, one owner has each content, one page is kept, no limit is overdrawn."""
        check_race([claims] * 4)


class SharedClaimsContract(ClaimsContract):
    """Further behaviour of stores that several processes share."""

    def test_another_process_sees_claims_pages_and_floor(self, claims: ClaimStore, open_another: OpenAnother) -> None:
        """At once, and release works across."""
        other = open_another()
        try:
            assert _granted(claims, "a", 1, 2, max_claims=1) == [True] * 2
            assert _claimed(other) == ([2], 101)
            assert _granted(other, "b", 2) == [False]
            other.release(7, "a")
            assert _granted(other, "b", 2) == [True]
            assert claims.keep_page(7, "k", b"page", now_ms=0, ttl_ms=100) == b"page"
            assert other.page(7, "k", 0) == other.keep_page(7, "k", b"late", now_ms=0, ttl_ms=100) == b"page"
        finally:
            other.close()

    def test_claims_outlive_the_process(self, claims: ClaimStore, open_another: OpenAnother) -> None:
        """Closed and opened again, everything is there."""
        _granted(claims, "a", 1, 2, max_claims=1)
        claims.close()
        other = open_another()
        try:
            assert _claimed(other) == ([2], 101)
        finally:
            other.close()

    def test_processes_that_race_are_granted_each_content_once(
        self, claims: ClaimStore, open_another: OpenAnother
    ) -> None:
        """Each with its own connection."""
        others = [open_another() for _ in range(3)]
        try:
            check_race([claims, *others])
        finally:
            for other in others:
                other.close()


def check_race(stores: Sequence[ClaimStore]) -> None:
    """Claim 20 pages of one content, keep a page and take from one limit of 5, through every store at once."""
    masks = np.zeros((len(stores), 20), dtype=np.bool_)
    takes = [0] * len(stores)
    pages: list[bytes] = [b""] * len(stores)
    start = threading.Barrier(len(stores))

    def run(number: int) -> None:
        start.wait()
        pages[number] = stores[number].keep_page(7, "race", b"%d" % number, now_ms=0, ttl_ms=100)
        for row in range(20):
            (masks[number, row],) = _granted(stores[number], f"o{number}-{row}", row + 1)
            takes[number] += stores[number].take("race", 5, 1_000, 0)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(stores))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (masks.sum(axis=0) == 1).all()
    assert sum(takes) == 5
    assert len(set(pages)) == 1


# ------------------------------------------------------------------------------------------ beside a model


@dataclass(frozen=True)
class Page:
    """One call of `ClaimStore.claim`, ``after_ms`` after the one before it; or a release of the owner's claims."""

    owner: str
    contents: tuple[tuple[int, int], ...]
    after_ms: int
    max_claims: int
    is_released: bool


@dataclass
class ModelClaims:
    """One viewer's claims as a dictionary from content to (published, end, owner); shares no code with any store."""

    held: dict[int, tuple[int, int, str]] = field(default_factory=dict)
    floor_ms: int = 0

    def tidy(self, now_ms: int) -> None:
        """Drop what does not hold any more."""
        self.held = {c: v for c, v in self.held.items() if v[1] > now_ms and v[0] >= self.floor_ms}

    def claim(self, page: Page, now_ms: int) -> list[bool]:
        """Apply a page, return what is granted."""
        self.tidy(now_ms)
        asked = {content for content, _ in page.contents}
        self.held = {c: v for c, v in self.held.items() if v[2] != page.owner or c in asked}
        granted: list[bool] = []
        taken: set[int] = set()
        for content, created_ms in page.contents:
            holder = self.held[content][2] if content in self.held else page.owner
            is_granted = content not in taken and created_ms >= self.floor_ms and holder == page.owner
            if is_granted:
                taken.add(content)
                self.held.setdefault(content, (created_ms or now_ms, now_ms + _TTL_MS, page.owner))
            granted.append(is_granted)
        while len(self.held) > page.max_claims:
            self.floor_ms = min(created_ms for created_ms, _, _ in self.held.values()) + 1
            self.tidy(now_ms)
        return granted


def page_sequences() -> st.SearchStrategy[list[Page]]:
    """Return sequences of pages that meet: few contents, few owners, small sets, time that passes."""
    content = st.tuples(st.integers(1, 12), st.sampled_from([0, 0, 3, 7, 8, 9, 20_000, 30_000]))
    return st.lists(
        st.builds(
            Page,
            owner=st.sampled_from("abc"),
            contents=st.lists(content, max_size=6).map(tuple),
            after_ms=st.sampled_from([0, 0, 1, _TTL_MS // 2, _TTL_MS]),
            max_claims=st.sampled_from([2, 4, 8, 100]),
            is_released=st.sampled_from([False, False, False, True]),
        ),
        max_size=12,
    )


def check_against_model(claims: ClaimStore, pages: Sequence[Page]) -> None:
    """Apply pages to a store, for a viewer of their own, and to the model; they must agree after each."""
    viewer_id, model, now_ms = next(_viewers), ModelClaims(), 100_000
    for page in pages:
        now_ms += page.after_ms
        if page.is_released:
            claims.release(viewer_id, page.owner)
            model.held = {c: v for c, v in model.held.items() if v[2] != page.owner}
        else:
            content_ids, created_ms = (np.array(list(part), dtype=np.int64) for part in _columns(page))
            granted = claims.claim(
                viewer_id,
                content_ids,
                created_ms,
                owner=page.owner,
                now_ms=now_ms,
                ttl_ms=_TTL_MS,
                max_claims=page.max_claims,
            )
            assert granted.tolist() == model.claim(page, now_ms)
        model.tidy(now_ms)
        assert _claimed(claims, viewer_id=viewer_id, now_ms=now_ms) == (sorted(model.held), model.floor_ms)


def _columns(page: Page) -> Iterator[npt.NDArray[np.int64]]:
    yield np.array([content for content, _ in page.contents], dtype=np.int64)
    yield np.array([created_ms for _, created_ms in page.contents], dtype=np.int64)
