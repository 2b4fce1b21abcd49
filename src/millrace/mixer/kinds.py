"""Kinds of posts, as the post store codes them."""

from __future__ import annotations

from typing import Final

from millrace.stores.post_changes import KIND_CODES

KIND_NAMES: Final = tuple(sorted(KIND_CODES, key=KIND_CODES.__getitem__))
ORIGINAL: Final = KIND_CODES["original"]
REPLY: Final = KIND_CODES["reply"]
REPOST: Final = KIND_CODES["repost"]
QUOTE: Final = KIND_CODES["quote"]
