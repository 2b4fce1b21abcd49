"""Why a post is here, in words that are true."""

import pytest

from millrace.base.actions import Action
from millrace.mixer.reasons import reason

LIKE, REPLY = int(Action.LIKE), int(Action.REPLY)


@pytest.mark.parametrize(
    ("proofs", "n_proofs", "expected"),
    [
        ([("Ann", LIKE)], 1, "Liked by Ann, whom you follow"),
        ([("Ann", LIKE), ("Bo", LIKE)], 2, "Liked by Ann and Bo, whom you follow"),
        ([("Ann", LIKE), ("Bo", LIKE), ("Cy", LIKE)], 3, "Liked by Ann and 2 others you follow"),
        ([("Ann", LIKE), ("Bo", REPLY)], 2, "Liked or answered by Ann and Bo, whom you follow"),
        ([("Ann", LIKE), ("Bo", LIKE), ("Cy", LIKE)], 5, "Liked or shared by Ann and 4 others you follow"),
        ([("Ann", -1)], 1, "Liked or shared by Ann, whom you follow"),
        ([], 1, "Liked or shared by somebody you follow"),
        ([], 4, "Liked or shared by 4 people you follow"),
    ],
)
def test_proof_is_told_as_far_as_it_is_known(proofs: list[tuple[str, int]], n_proofs: int, expected: str) -> None:
    told = reason(
        ("second_degree",), kind="original", author="X", is_in_network=False, proofs=proofs, n_proofs=n_proofs
    )
    assert told == expected


def test_following_the_author_is_the_first_reason() -> None:
    shared = {"is_in_network": True, "proofs": [("Ann", LIKE)], "n_proofs": 1}
    assert reason(("popular",), kind="original", author="Xi", **shared) == "You follow Xi"  # type: ignore[arg-type]
    told = reason(("in_network",), kind="repost", author="Xi", **shared)  # type: ignore[arg-type]
    assert told == "Reposted by Xi, whom you follow"


def test_strangers_posts_are_popular_or_new() -> None:
    nothing = {"kind": "original", "author": "X", "is_in_network": False, "proofs": [], "n_proofs": 0}
    assert reason(("popular", "recent"), **nothing) == "Popular now"  # type: ignore[arg-type]
    assert reason(("similar_content", "popular"), **nothing) == "Similar to posts you liked"  # type: ignore[arg-type]
    assert reason(("new_authors", "recent"), **nothing) == "By an author first seen here lately"  # type: ignore[arg-type]
    assert reason(("recent",), **nothing) == "New"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        (("friends_of_friends", "popular"), "Followed by people you follow"),
        (("similar_viewers", "co_engagement"), "Liked or shared by people with your taste"),
        (("co_engagement", "trending"), "Goes with what you liked"),
        (("editorial", "popular"), "Picked by the editors"),
        (("trending", "popular"), "Popular now"),
        (("trending", "recent"), "Rising now"),
        (("unserved",), "New"),
    ],
)
def test_a_strangers_post_is_told_by_the_most_personal_source(sources: tuple[str, ...], expected: str) -> None:
    told = reason(sources, kind="original", author="Xi", is_in_network=False, proofs=[], n_proofs=0)
    assert told == expected
