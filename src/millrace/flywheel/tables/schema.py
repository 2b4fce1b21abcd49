"""The warehouse's tables: names, partitions, columns, in one place. Documented for people in docs/warehouse.md.

*Facts* are the raw events with their JSON read, one row each (one a served post), appended build by build. Everything
else is made of facts, partition by partition, and may be made again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

ACTIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "likes": ("like",),
    "replies": ("reply",),
    "reposts": ("repost",),
    "quotes": ("quote",),
    "shares": ("share", "share_dm", "copy_link"),
    "bookmarks": ("bookmark",),
    "clicks": ("click", "photo_expand", "link_open", "quote_click", "video_view"),
    "profile_clicks": ("profile_click",),
    "follows": ("follow_author",),
    "negatives": ("not_interested", "mute_author", "block_author", "report"),
}
"""Columns of actions, and the actions that each of them counts."""


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """A table of the warehouse.

    Attributes
    ----------
    name
        Its folder, and the view's name in `millrace sql`.
    what
        What one row is.
    is_hourly
        Partitioned by ``dt`` and ``hour``; else by ``dt`` alone.
    columns
        Column name to (DuckDB type, what it says), without the partition's.
    is_fact
        Read from raw events and appended to; hidden from `millrace sql` unless it is of use by itself.
    """

    name: str
    what: str
    is_hourly: bool
    columns: Mapping[str, tuple[str, str]]
    is_fact: bool = False


_FACT: Final = {
    "log_offset": ("BIGINT", "where the event is in the log"),
    "time_ms": ("BIGINT", "when it happened: the event's own time, at most that of its append"),
}
_VIEWER: Final = {"viewer_id": ("VARCHAR", "who looked"), "post_id": ("VARCHAR", "at what")}
_DONE: Final = {
    **{name: ("TINYINT", f"how many of these were done: {', '.join(of)}") for name, of in ACTIONS.items()},
    "actions": ("VARCHAR[]", "everything done and not taken back, business actions too, by name"),
    "amount": ("DOUBLE", "sum of what business actions carried"),
}
_WATCHED: Final = {
    "n_looks": ("INTEGER", "impressions"),
    "watch_s": ("DOUBLE", "seconds on screen: of every request the longest look, each at most the home's max_ms"),
    "is_short_view": ("BOOLEAN", "the longest look was shorter than short_ms (3 s)"),
    "is_valid_view": ("BOOLEAN", "the longest look was longer than valid_ms (6 s)"),
    "is_complete": ("BOOLEAN", "a video or audio was watched to its end"),
}

REQUESTS: Final = Table(
    "requests",
    "a page that was served",
    True,
    {
        **_FACT,
        "request_id": ("VARCHAR", "the request"),
        "viewer_id": ("VARCHAR", "who asked"),
        "pipeline": ("VARCHAR", "home, following"),
        "plan": ("VARCHAR", "full, or the smaller plan that answered"),
        "n_items": ("INTEGER", "posts on the page"),
        "n_candidates": ("INTEGER", "posts that it was chosen from"),
        "n_failed": ("INTEGER", "components that failed, were late or were skipped"),
        "surface": ("VARCHAR", "where it was shown, as far as the client says"),
        "models": ("MAP(VARCHAR, VARCHAR)", "versions of the models it was made with, by kind"),
        "params": ("MAP(VARCHAR, DOUBLE)", "params that differed from their defaults"),
        "param_levels": ("MAP(VARCHAR, VARCHAR)", "who decided each: config, experiment, degradation"),
    },
    is_fact=True,
)
SERVED: Final = Table(
    "facts_served",
    "a post of a served page",
    True,
    {
        **_FACT,
        "request_id": ("VARCHAR", "the request"),
        **_VIEWER,
        "author_id": ("VARCHAR", "whose post"),
        "pipeline": ("VARCHAR", "home, following"),
        "position": ("INTEGER", "place on the page, from 0"),
        "sources": ("VARCHAR[]", "sources that found it"),
        "score": ("DOUBLE", "what the page was sorted by"),
    },
    is_fact=True,
)
LOOKS: Final = Table(
    "facts_looks",
    "an impression",
    True,
    {
        **_FACT,
        "request_id": ("VARCHAR", "the request, if the client says"),
        **_VIEWER,
        "position": ("INTEGER", "place on the page, if the client says"),
        "dwell_ms": ("BIGINT", "time on screen"),
        "duration_ms": ("BIGINT", "length of the video or audio; 0 if there is none"),
        "surface": ("VARCHAR", "where"),
    },
    is_fact=True,
)
DEEDS: Final = Table(
    "facts_deeds",
    "an action, or its undo",
    True,
    {
        **_FACT,
        "request_id": ("VARCHAR", "the request, if the client says"),
        **_VIEWER,
        "action": ("VARCHAR", "which"),
        "is_undo": ("BOOLEAN", "taken back"),
        "amount": ("DOUBLE", "of a business action"),
        "surface": ("VARCHAR", "where"),
    },
    is_fact=True,
)
PROFILES: Final = Table(
    "facts_profiles",
    "what a profile was told to be",
    False,
    {
        **_FACT,
        "user_id": ("VARCHAR", "whose"),
        "name": ("VARCHAR", "name"),
        "languages": ("VARCHAR[]", "languages"),
        "interests": ("VARCHAR[]", "interests"),
        "is_verified": ("BOOLEAN", "verified account"),
    },
    is_fact=True,
)
FOLLOWS: Final = Table(
    "facts_follows",
    "a follow, or its end",
    False,
    {
        **_FACT,
        "follower_id": ("VARCHAR", "who"),
        "followee_id": ("VARCHAR", "whom"),
        "list_id": ("VARCHAR", "in which list or group"),
        "is_following": ("BOOLEAN", "begun or ended"),
    },
    is_fact=True,
)
INTERACTIONS: Final = Table(
    "interactions",
    "a request and post: served, seen, acted on; `dt` and `hour` are those of the page",
    True,
    {
        "time_ms": ("BIGINT", "when the page was served; without a page, the first look or action"),
        "request_id": ("VARCHAR", "the request; NULL for looks and actions that belong to none"),
        **_VIEWER,
        "author_id": ("VARCHAR", "whose post, as the page says; NULL without a page"),
        "pipeline": ("VARCHAR", "home, following"),
        "position": ("INTEGER", "served place on the page, from 0; without a page, what the client says"),
        "sources": ("VARCHAR[]", "sources that found the post"),
        "score": ("DOUBLE", "what the page was sorted by"),
        "surface": ("VARCHAR", "where it was seen or acted on"),
        "is_served": ("BOOLEAN", "on a page that we know of"),
        "is_seen": ("BOOLEAN", "there was an impression"),
        "seen_ms": ("BIGINT", "when the first look began"),
        **_WATCHED,
        **_DONE,
    },
)
USER_POST_DAY: Final = Table(
    "user_post_day",
    "a user, a post and a day on which the user looked at it or acted on it",
    False,
    {
        "user_id": ("VARCHAR", "who"),
        "post_id": ("VARCHAR", "what"),
        "first_ms": ("BIGINT", "the day's first event"),
        "last_ms": ("BIGINT", "the day's last event"),
        **_WATCHED,
        **_DONE,
        "n_undone": ("INTEGER", "actions whose last word that day was that they are taken back"),
    },
)
POST_METADATA: Final = Table(
    "post_metadata",
    "a post as it is now; `dt` is the day of its creation",
    False,
    {
        "post_id": ("VARCHAR", "the post"),
        "author_id": ("VARCHAR", "who wrote it"),
        "created_ms": ("BIGINT", "when"),
        "kind": ("VARCHAR", "original, reply, repost, quote"),
        "parent_id": ("VARCHAR", "the post replied to, reposted or quoted"),
        "parent_author_id": ("VARCHAR", "its author"),
        "conversation_id": ("VARCHAR", "root of the thread"),
        "n_chars": ("INTEGER", "length of the text"),
        "media": ("VARCHAR[]", "kinds of its attachments"),
        "duration_ms": ("BIGINT", "of its longest video or audio"),
        "has_link": ("BOOLEAN", "links somewhere"),
        "language": ("VARCHAR", "as annotated last"),
        "topics": ("VARCHAR[]", "as annotated last, strongest first"),
        "labels": ("VARCHAR[]", "safety labels on it"),
        "is_sensitive": ("BOOLEAN", "flagged by its author"),
        "is_deleted": ("BOOLEAN", "gone"),
        "created_offset": ("BIGINT", "log offset of its creation"),
        "changed_offset": ("BIGINT", "log offset of the last change"),
    },
)
USER_PROFILE: Final = Table(
    "user_profile",
    "a user at the end of day `dt`; one snapshot for every day on which anything happened",
    False,
    {
        "user_id": ("VARCHAR", "who"),
        "name": ("VARCHAR", "name"),
        "languages": ("VARCHAR[]", "languages"),
        "interests": ("VARCHAR[]", "interests"),
        "is_verified": ("BOOLEAN", "verified account"),
        "first_ms": ("BIGINT", "first heard of: profile, follow, post, or within 28 days a look or action"),
        "n_followers": ("INTEGER", "accounts that follow"),
        "n_following": ("INTEGER", "accounts followed"),
        "n_posts": ("INTEGER", "posts written so far, of those that post_metadata keeps"),
        "active_days_7": ("INTEGER", "days with a look or action among the last 7"),
        "active_days_28": ("INTEGER", "... among the last 28"),
        "n_looks_28": ("INTEGER", "impressions within 28 days"),
        "n_actions_28": ("INTEGER", "actions within 28 days, negative ones too"),
        "watch_s_28": ("DOUBLE", "seconds on screen within 28 days"),
        "user_group": (
            "VARCHAR",
            "new: first heard of within 7 days; else active: 8 active days or more of 28; casual: fewer; dormant: none",
        ),
    },
)
CREATOR_TIERS: Final = Table(
    "creator_tiers",
    "an author at the end of day `dt`",
    False,
    {
        "author_id": ("VARCHAR", "who"),
        "n_followers": ("INTEGER", "accounts that follow"),
        "n_posts": ("INTEGER", "posts written so far"),
        "n_impressions_28": ("BIGINT", "impressions of the author's posts within 28 days"),
        "n_viewers_28": ("BIGINT", "different viewers of them"),
        "tier": ("VARCHAR", "nano, micro, macro, mega: the higher of those by followers and by impressions"),
    },
)

FACTS: Final = (REQUESTS, SERVED, LOOKS, DEEDS, PROFILES, FOLLOWS)
DERIVED: Final = (INTERACTIONS, USER_POST_DAY, POST_METADATA, USER_PROFILE, CREATOR_TIERS)
TABLES: Final = {table.name: table for table in (*FACTS, *DERIVED)}
SHOWN: Final = (INTERACTIONS, USER_POST_DAY, USER_PROFILE, POST_METADATA, CREATOR_TIERS, REQUESTS)
"""What `millrace sql` lists."""
