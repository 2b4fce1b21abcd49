"""A post store with room for three posts an author, and short ways to fill and to read it."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from millrace.base.ids import IdHasher
from millrace.events.envelope import AnyEvent
from millrace.stores.codes import CodeTables
from millrace.stores.config import StoresConfig
from millrace.stores.post_store import PostStore
from millrace.testing.builders import NOW_MS, a_batch_of

MINUTE_MS: Final = 60_000
SMALL_POSTS: Final = StoresConfig(
    max_originals_per_author=3,
    max_secondary_per_author=2,
    max_videos_per_author=4,
    post_retention_ms=60 * MINUTE_MS,
    n_trim_slices=1,
)
HASHER: Final = IdHasher()


def user(text: object) -> int:
    """Return the inside id of a user."""
    return int(HASHER.users([str(text)])[0])


def post(text: object) -> int:
    """Return the inside id of a post."""
    return int(HASHER.posts([str(text)])[0])


def a_store(config: StoresConfig = SMALL_POSTS) -> tuple[PostStore, CodeTables]:
    """Return an empty store and the code tables that go before it."""
    codes = CodeTables(config)
    return PostStore(config, HASHER, codes), codes


def fold(store: PostStore, codes: CodeTables, *events: AnyEvent, appended_ms: int | None = None) -> None:
    """Apply events as one batch, code tables first."""
    batch = a_batch_of(events, appended_ms=appended_ms)
    codes.apply(batch)
    store.apply(batch)


def a_store_with(*events: AnyEvent, config: StoresConfig = SMALL_POSTS) -> PostStore:
    """Return a store that has folded these events."""
    store, codes = a_store(config)
    fold(store, codes, *events)
    return store


def newest(store: PostStore, *authors: object, viewer: object = "viewer", **options: Any) -> list[int]:
    """Return the ids of the newest posts of some authors, as `PostStore.newest` finds them."""
    rows = store.newest(
        np.array([user(author) for author in authors], dtype=np.int64),
        viewer_id=user(viewer),
        now_ms=options.pop("now_ms", NOW_MS),
        max_age_ms=options.pop("max_age_ms", 10**12),
        max_posts=options.pop("max_posts", 100),
        **options,
    )
    found: list[int] = store.gather(rows).post_id.tolist()
    return found


def ids(*texts: object) -> list[int]:
    """Return the inside ids of posts."""
    return [post(text) for text in texts]


def assert_same_arrays(first: PostStore, second: PostStore) -> None:
    """Check that two stores hold the same, byte for byte."""
    one, two = first.arrays(), second.arrays()
    assert one.keys() == two.keys()
    for name in one:
        assert one[name].dtype == two[name].dtype, name
        assert one[name].shape == two[name].shape, name
        assert one[name].tobytes() == two[name].tobytes(), name


def small_posts(**changes: int) -> StoresConfig:
    """Return `SMALL_POSTS` with some settings changed."""
    values = {name: getattr(SMALL_POSTS, name) for name in SMALL_POSTS.__struct_fields__}
    return StoresConfig(**{**values, **changes})
