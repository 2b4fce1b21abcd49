"""What a raw row of the warehouse becomes when a user is erased."""

from __future__ import annotations

from typing import Final

import msgspec

from millrace.events.codec import EventCodec
from millrace.events.feature_events import CandidatesLogged, FeaturesLogged
from millrace.events.feed_events import Served
from millrace.events.subjects import ABOUT_POSTS, SubjectRule
from millrace.flywheel.raw_rows import Row

_ABOUT_POSTS: Final = frozenset(kind.__name__ for kind in ABOUT_POSTS)
_OF_INPUTS: Final = frozenset({FeaturesLogged.__name__, CandidatesLogged.__name__})
_PAGES: Final = _OF_INPUTS | {Served.__name__}
_ESCAPED: Final = frozenset('"\\')


def without_user(row: Row, rule: SubjectRule, before: int, codec: EventCodec) -> Row | None:
    """Return a row without what it holds of users, itself if that is nothing; None where nothing is left of it.

    Parameters
    ----------
    row
        Of a raw file.
    rule
        Who they are, and which posts are theirs.
    before
        Log offset of the erasure.
    codec
        Knows the types of events.
    """
    is_late = row["log_offset"] >= before
    is_untouched = row["type"] not in _PAGES if is_late else not _may_concern(row, rule)
    if is_untouched:
        return row
    payload_type = codec.registry.by_name(row["type"]).payload
    payload = msgspec.json.decode(row["payload"], type=payload_type)
    if is_late:
        # The page was made before the erasure and logged after it.
        if rule.is_of_before(payload, before):
            return None
        changed = rule.without_posts(payload) if rule.shows_posts(payload) else payload
    elif rule.is_about(payload):
        return None
    else:
        changed = rule.without_mentions(payload) if rule.mentions(payload) else payload
    return row if changed is payload else {**row, "payload": msgspec.json.encode(changed).decode()}


def _may_concern(row: Row, rule: SubjectRule) -> bool:
    """Tell cheaply, erring on the side of yes, before a payload is decoded."""
    if row["type"] in _OF_INPUTS or (rule.posts and row["type"] in _ABOUT_POSTS):
        return True
    # JSON escapes quotes and backslashes, nothing else that an id may hold.
    return any(text in row["payload"] or not text.isascii() or _ESCAPED & set(text) for text in rule.users)
