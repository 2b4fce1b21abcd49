"""What every `ClaimStore` must do; subclass `ClaimsContract`, give it a ``claims`` fixture, and pytest runs it.

The fixture returns an empty store. Implementations that serve several processes also give ``open_another``: a
function that opens the same store once more, as another process would.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np

from millrace.base.ids import Int64Array
from millrace.stores.claims import ClaimStore

OpenAnother = Callable[[], ClaimStore]

_TTL_MS = 10_000


def _ids(*post_ids: int) -> Int64Array:
    return np.array(post_ids, dtype=np.int64)


def _granted(
    claims: ClaimStore, owner: str, *post_ids: int, viewer_id: int = 7, now_ms: int = 0, ttl_ms: int = _TTL_MS
) -> list[bool]:
    mask = claims.claim(viewer_id, _ids(*post_ids), owner=owner, now_ms=now_ms, ttl_ms=ttl_ms)
    assert mask.dtype == np.bool_
    answer: list[bool] = mask.tolist()
    return answer


class ClaimsContract:
    """Behaviour shared by all claim stores."""

    def test_a_post_is_granted_to_the_first_owner_alone(self, claims: ClaimStore) -> None:
        """The second owner gets the rest."""
        assert _granted(claims, "a", 1, 2) == [True, True]
        assert _granted(claims, "b", 2, 3) == [False, True]

    def test_claims_of_different_viewers_do_not_meet(self, claims: ClaimStore) -> None:
        """The same post for two viewers is two claims."""
        assert _granted(claims, "a", 1, viewer_id=7) == [True]
        assert _granted(claims, "b", 1, viewer_id=8) == [True]

    def test_an_owner_is_granted_its_own_claims_again(self, claims: ClaimStore) -> None:
        """Claiming twice renews."""
        assert _granted(claims, "a", 1, now_ms=0) == [True]
        assert _granted(claims, "a", 1, now_ms=_TTL_MS - 1) == [True]
        assert _granted(claims, "b", 1, now_ms=_TTL_MS + 1) == [False]

    def test_a_claim_runs_out(self, claims: ClaimStore) -> None:
        """It holds up to its last millisecond and no longer."""
        assert _granted(claims, "a", 1) == [True]
        assert _granted(claims, "b", 1, now_ms=_TTL_MS - 1) == [False]
        assert _granted(claims, "b", 1, now_ms=_TTL_MS) == [True]

    def test_released_claims_are_free_at_once(self, claims: ClaimStore) -> None:
        """Release drops all of an owner's claims and nobody else's."""
        _granted(claims, "a", 1, 2)
        _granted(claims, "a", 5, viewer_id=8)
        _granted(claims, "b", 3)
        assert claims.release("a") == 3
        assert claims.release("a") == 0
        assert _granted(claims, "c", 1, 2, 3) == [True, True, False]

    def test_claiming_nothing_answers_nothing(self, claims: ClaimStore) -> None:
        """An empty page is a page."""
        assert _granted(claims, "a") == []

    def test_ids_use_all_64_bits(self, claims: ClaimStore) -> None:
        """Ids that differ in their last bit are different, negative ones too."""
        big = 2**63 - 1
        assert _granted(claims, "a", big, -big, viewer_id=-big) == [True, True]
        assert _granted(claims, "b", big - 1, big, -big, viewer_id=-big) == [True, False, False]

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

    def test_threads_that_race_are_granted_each_post_once(self, claims: ClaimStore) -> None:
        """However the calls interleave, one owner has each post, and a limit is not overdrawn."""
        masks, n_taken = _race([claims] * 4)
        assert (np.sum(masks, axis=0) == 1).all()
        assert n_taken == 5


class SharedClaimsContract(ClaimsContract):
    """Further behaviour of stores that several processes share."""

    def test_another_process_sees_the_claims(self, claims: ClaimStore, open_another: OpenAnother) -> None:
        """A claim made through one is refused through the other, and release works across."""
        other = open_another()
        try:
            assert _granted(claims, "a", 1) == [True]
            assert _granted(other, "b", 1) == [False]
            assert other.release("a") == 1
            assert _granted(other, "b", 1) == [True]
        finally:
            other.close()

    def test_processes_that_race_are_granted_each_post_once(
        self, claims: ClaimStore, open_another: OpenAnother
    ) -> None:
        """Each with its own connection."""
        others = [open_another() for _ in range(3)]
        try:
            masks, n_taken = _race([claims, *others])
        finally:
            for other in others:
                other.close()
        assert (np.sum(masks, axis=0) == 1).all()
        assert n_taken == 5


def _race(stores: list[ClaimStore]) -> tuple[list[np.ndarray[tuple[int], np.dtype[np.bool_]]], int]:
    """Claim the same 20 posts, one by one, and take from one limit of 5, through every store at once."""
    posts = np.arange(1, 21, dtype=np.int64)
    masks = [np.zeros(20, dtype=np.bool_) for _ in stores]
    takes = [0] * len(stores)
    start = threading.Barrier(len(stores))

    def run(number: int) -> None:
        start.wait()
        for row in range(20):
            granted = stores[number].claim(7, posts[row : row + 1], owner=f"o{number}", now_ms=0, ttl_ms=_TTL_MS)
            masks[number][row] = granted[0]
            takes[number] += stores[number].take("race", 5, 1_000, 0)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(stores))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return masks, sum(takes)
