"""`PostModel`: the rules of the post store, said with dicts and sorted lists. Tests hold `PostStore` against it."""

from __future__ import annotations

from dataclasses import dataclass, field

from millrace.events.content_events import PostAnnotated, PostCreated, PostDeleted, PostEdited
from millrace.events.envelope import AnyEvent
from millrace.events.user_events import UserErased
from millrace.stores.config import StoresConfig
from millrace.testing.small_posts import post, user


@dataclass
class ModelPost:
    """A live post and the rings that hold it."""

    author: int
    created: int
    kind: str
    parent: int
    parent_author: int
    conversation: int
    has_video: bool
    duration: int
    sensitive: bool
    language: str = ""
    topics: tuple[str, ...] = ()
    rings: set[str] = field(default_factory=set)


class PostModel:
    """The rules of the store, said with dicts and sorted lists."""

    def __init__(self, config: StoresConfig) -> None:
        self.config = config
        self.posts: dict[int, ModelPost] = {}
        self.deleted: dict[int, int] = {}
        self.oldest = -(10**18)
        self.longest = {
            "originals": config.max_originals_per_author,
            "secondary": config.max_secondary_per_author,
            "videos": config.max_videos_per_author,
        }

    def _ring(self, author: int, ring: str) -> list[int]:
        found = [key for key, p in self.posts.items() if p.author == author and ring in p.rings]
        return sorted(found, key=lambda key: (-self.posts[key].created, key))

    def _put(self, key: int, ring: str) -> None:
        self.posts[key].rings.add(ring)
        for old in self._ring(self.posts[key].author, ring)[self.longest[ring] :]:
            self.posts[old].rings.discard(ring)

    def _sweep(self) -> None:
        self.posts = {key: p for key, p in self.posts.items() if p.rings}

    def _delete(self, key: int, at: int) -> None:
        self.deleted[key] = max(at, self.deleted.get(key, at))
        self.posts.pop(key, None)

    def apply(self, event: AnyEvent, appended: int) -> None:
        """Apply one event."""
        at, payload = min(event.event_time_ms, appended), event.payload
        if isinstance(payload, PostCreated):
            key = post(payload.post_id)
            created = min(event.event_time_ms if payload.created_at_ms is None else payload.created_at_ms, appended)
            if key in self.posts or key in self.deleted or created < self.oldest:
                return
            parent = post(payload.parent_id) if payload.parent_id else 0
            parent_author = user(payload.parent_author_id) if payload.parent_author_id else 0
            if parent and not parent_author and parent in self.posts:
                parent_author = self.posts[parent].author
            self.posts[key] = ModelPost(
                author=user(payload.author_id),
                created=created,
                kind=payload.kind,
                parent=parent,
                parent_author=parent_author,
                conversation=post(payload.conversation_id) if payload.conversation_id else key,
                has_video=any(m.kind == "video" for m in payload.media),
                duration=max((m.duration_ms for m in payload.media), default=0),
                sensitive=payload.is_sensitive,
            )
            self._put(key, "secondary" if payload.kind in ("reply", "repost") else "originals")
            if self.posts[key].has_video:
                self._put(key, "videos")
        elif isinstance(payload, PostDeleted):
            self._delete(post(payload.post_id), at)
        elif isinstance(payload, UserErased):
            gone = user(payload.user_id)
            for key in [key for key, p in self.posts.items() if p.author == gone]:
                self._delete(key, at)
            for p in self.posts.values():
                p.parent_author = 0 if p.parent_author == gone else p.parent_author
        elif post(payload.post_id) in self.posts:
            self._change(post(payload.post_id), payload)
        self._sweep()

    def _change(self, key: int, payload: PostEdited | PostAnnotated) -> None:
        p = self.posts[key]
        if isinstance(payload, PostAnnotated):
            p.language = p.language if payload.language is None else payload.language
            p.topics = p.topics if payload.topics is None else payload.topics[:3]
            return
        p.sensitive = p.sensitive if payload.is_sensitive is None else payload.is_sensitive
        if payload.media is not None:
            p.has_video = any(m.kind == "video" for m in payload.media)
            p.duration = max((m.duration_ms for m in payload.media), default=0)
            if p.has_video and "videos" not in p.rings:
                self._put(key, "videos")
            elif not p.has_video:
                p.rings.discard("videos")

    def tick(self, watermark: int) -> None:
        """Forget what the retention has left behind."""
        self.oldest = max(self.oldest, watermark - self.config.post_retention_ms)
        self.posts = {key: p for key, p in self.posts.items() if p.created >= self.oldest}
        self.deleted = {key: at for key, at in self.deleted.items() if at >= self.oldest}

    def newest(self, authors: set[int], follows: set[int], viewer: int, oldest: int, *, videos: bool) -> list[int]:
        """Return the newest posts that a viewer may see, newest first, ties by id."""
        rings = {"videos"} if videos else {"originals", "secondary"}
        found = [
            key
            for key, p in self.posts.items()
            if p.author in authors and p.created >= oldest and p.rings & rings and self._may_see(p, viewer, follows)
        ]
        return sorted(found, key=lambda key: (-self.posts[key].created, key))

    def _may_see(self, p: ModelPost, viewer: int, follows: set[int]) -> bool:
        parent = self.posts.get(p.parent)
        if p.kind == "repost":
            return (p.parent_author or (parent.author if parent else 0)) != viewer
        if p.kind != "reply":
            return True
        if parent is None:
            return False
        if parent.kind in ("original", "quote"):
            return True
        return parent.kind == "reply" and parent.parent == p.conversation and parent.author in follows
