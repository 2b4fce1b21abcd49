"""`PageRules`: what every page of the home feed must keep, checked against a naive model of all events.

The model is plain dictionaries and shares no code with the stores. It hears the same events, and then judges pages.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import Final

from millrace.base.keywords import has_keyword_reference
from millrace.base.tokens import fold_text
from millrace.events.content_events import LabelChanged, PostCreated, PostDeleted, PostEdited
from millrace.events.envelope import AnyEvent
from millrace.events.feed_events import Impression
from millrace.events.user_events import BlockChanged, FollowChanged, MuteChanged, UserErased
from millrace.mixer.config import HomeConfig
from millrace.mixer.feed import FeedPost, FeedResponse

MAX_POSTS_PER_AUTHOR: Final = 3
MAX_AGE_MS: Final = 48 * 3_600_000
UNSAFE: Final = frozenset(HomeConfig().unsafe_labels)
UNSAFE_FOR_STRANGERS: Final = frozenset(HomeConfig().unsafe_for_strangers_labels)


class PageRules:
    """A naive reader of all events who knows what may be shown to whom.

    Parameters
    ----------
    now_ms
        The moment at which pages are asked for.
    """

    def __init__(self, now_ms: int) -> None:
        self._now_ms = now_ms
        self.created_ms: dict[str, int] = {}
        self.author: dict[str, str] = {}
        self.deleted: set[str] = set()
        self.seen: dict[str, set[str]] = defaultdict(set)
        self.follows: dict[str, set[str]] = defaultdict(set)
        self.blocks: dict[str, set[str]] = defaultdict(set)
        self.mutes: dict[str, set[str]] = defaultdict(set)
        self.post_labels: dict[str, set[str]] = defaultdict(set)
        self.user_labels: dict[str, set[str]] = defaultdict(set)
        self.keywords: dict[str, set[str]] = defaultdict(set)
        self.text: dict[str, str] = {}

    def hearing(self, events: Iterable[AnyEvent]) -> Iterator[AnyEvent]:
        """Yield the events on, having heard each."""
        for event in events:
            self.hear(event)
            yield event

    def hear(self, event: AnyEvent) -> None:
        """Take one event into the model."""
        match event.payload:
            case PostCreated(post_id=post, author_id=author, created_at_ms=created_ms):
                self.author.setdefault(post, author)
                self.created_ms.setdefault(post, event.event_time_ms if created_ms is None else created_ms)
                self.text.setdefault(post, event.payload.text)
            case PostEdited(post_id=post, text=str() as text) if post in self.text:
                self.text[post] = text
            case PostDeleted(post_id=post):
                self.deleted.add(post)
                self.post_labels.pop(post, None)
            case LabelChanged(label=label, post_id=str() as post, is_set=holds):
                _set(self.post_labels[post], label.strip().casefold(), holds=holds)
            case LabelChanged(label=label, user_id=str() as user, is_set=holds):
                _set(self.user_labels[user], label.strip().casefold(), holds=holds)
            case UserErased(user_id=user):
                self.user_labels.pop(user, None)
            case Impression(viewer_id=viewer, post_id=post):
                self.seen[viewer].add(post)
            case FollowChanged(follower_id=who, followee_id=whom, is_following=holds):
                _set(self.follows[who], whom, holds=holds)
            case BlockChanged(blocker_id=who, blocked_id=whom, is_blocked=holds):
                _set(self.blocks[who], whom, holds=holds)
            case MuteChanged(muter_id=who, muted_id=str() as whom, is_muted=holds):
                _set(self.mutes[who], whom, holds=holds)
            case MuteChanged(muter_id=who, keyword=str() as keyword, is_muted=holds):
                _set(self.keywords[who], " ".join(fold_text(keyword).split()), holds=holds)
            case _:
                pass

    def n_live(self) -> int:
        """Return how many posts are young enough to be shown and not deleted."""
        return sum(self._is_young(post) and post not in self.deleted for post in self.created_ms)

    def broken(self, page: FeedResponse) -> list[str]:
        """Return what is wrong with a page, in words; empty for a good one."""
        posts = [post.post_id for post in page.posts]
        problems = [f"{post} twice" for post, n in Counter(posts).items() if n > 1]
        by_author = Counter(post.author.user_id for post in page.posts)
        problems += [f"{n} posts of {author}" for author, n in by_author.items() if n > MAX_POSTS_PER_AUTHOR]
        for post in page.posts:
            problems += [f"{post.post_id}: {problem}" for problem in self._broken_post(page.viewer_id, post)]
        return problems

    def _broken_post(self, viewer: str, post: FeedPost) -> Iterator[str]:
        if self.author.get(post.post_id) != post.author.user_id:
            yield "its author is another"
            return
        if post.author.user_id == viewer:
            yield "is the viewer's own"
        if post.post_id in self.seen[viewer]:
            yield "was seen before"
        if post.post_id in self.deleted:
            yield "is deleted"
        if not self._is_young(post.post_id):
            yield "is too old"
        if post.kind != "repost" and not post.text:
            yield "has no text"
        if not post.reason:
            yield "gives no reason"
        for keyword in self._muted_keywords(viewer, post):
            yield f"has the muted keyword {keyword}"
        behind = self.author.get(post.parent_id) if post.parent_id and post.kind in ("repost", "quote") else None
        for author in filter(None, (post.author.user_id, behind)):
            if author in self.blocks[viewer] or viewer in self.blocks[author]:
                yield f"{author} and the viewer are blocked"
            if author in self.mutes[viewer]:
                yield f"{author} is muted"
        yield from self._broken_by_labels(viewer, post)

    def _broken_by_labels(self, viewer: str, post: FeedPost) -> Iterator[str]:
        """Look at all that the page shows of a post: itself, its author, its parent, whose that is."""
        if post.kind == "repost" and post.parent_id in self.deleted:
            yield "reposts a deleted post"
        labels = self.post_labels[post.post_id] | self.user_labels[post.author.user_id]
        if post.parent_id:
            labels = labels | self.post_labels[post.parent_id]
            labels |= self.user_labels[self.author.get(post.parent_id, "")]
        hidden = labels & UNSAFE
        if post.author.user_id not in self.follows[viewer]:
            hidden |= labels & UNSAFE_FOR_STRANGERS
        yield from (f"is labelled {label}" for label in sorted(hidden))

    def _muted_keywords(self, viewer: str, post: FeedPost) -> Iterator[str]:
        texts = [self.text.get(post_id, "") for post_id in (post.post_id, post.parent_id or "")]
        for keyword in sorted(self.keywords[viewer]):
            if any(has_keyword_reference(text, keyword) for text in texts):
                yield keyword

    def _is_young(self, post: str) -> bool:
        return self._now_ms - self.created_ms[post] <= MAX_AGE_MS


def _set(members: set[str], member: str, *, holds: bool) -> None:
    if holds:
        members.add(member)
    else:
        members.discard(member)
