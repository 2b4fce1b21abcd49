"""Why a post is on the page, in words: from its sources and from who proves it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from millrace.base.actions import Action

_VERBS: Final = {
    int(Action.LIKE): "Liked",
    int(Action.REPLY): "Answered",
    int(Action.REPOST): "Reposted",
    int(Action.QUOTE): "Quoted",
    int(Action.SHARE): "Shared",
}
_MIXED: Final = "Liked or shared"

_BY_SOURCE: Final = {
    "friends_of_friends": "Followed by people you follow",
    "similar_viewers": "Liked or shared by people with your taste",
    "co_engagement": "Goes with what you liked",
    "similar_content": "Similar to posts you liked",
    "vector": "Fits what you liked and read",
    "editorial": "Picked by the editors",
    "popular": "Popular now",
    "trending": "Rising now",
    "new_authors": "By an author first seen here lately",
}
"""Of a stranger's post, by the first of these that found it."""


def reason(
    sources: Collection[str],
    *,
    kind: str,
    author: str,
    is_in_network: bool,
    proofs: Sequence[tuple[str, int]],
    n_proofs: int,
) -> str:
    """Return one sentence without a full stop.

    Parameters
    ----------
    sources
        Names of the sources that found the post.
    kind, author
        The post's kind and its author's name.
    is_in_network
        Whether the viewer follows the author.
    proofs
        Some of those whom the viewer follows and who engaged with it, newest first: name and action code (-1 where
        it is not known any more).
    n_proofs
        How many did.
    """
    if is_in_network:
        return f"Reposted by {author}, whom you follow" if kind == "repost" else f"You follow {author}"
    if n_proofs > 0:
        # Verbs are said of all of them, so they must be known of all of them.
        verbs = list(dict.fromkeys(_VERBS.get(action, _MIXED) for _, action in proofs))
        is_known = len(proofs) == n_proofs and _MIXED not in verbs
        verb = " or ".join(verbs).capitalize() if is_known else _MIXED
        return f"{verb} by {_people([name for name, _ in proofs], n_proofs)}"
    return next((said for source, said in _BY_SOURCE.items() if source in sources), "New")


def _people(names: Sequence[str], n: int) -> str:
    if not names:
        return "somebody you follow" if n == 1 else f"{n} people you follow"
    if n == 1:
        return f"{names[0]}, whom you follow"
    if n == 2 and len(names) == 2:
        return f"{names[0]} and {names[1]}, whom you follow"
    others = "1 other" if n == 2 else f"{n - 1} others"
    return f"{names[0]} and {others} you follow"
