"""Every attachment of the feed pipelines, declared once: objects that belong to rows of the slate, by id."""

from __future__ import annotations

from typing import Final

from millrace.pipeline.column import Attachment
from millrace.stores.content import PostContent, UserContent

POSTS: Final[Attachment[PostContent]] = Attachment("posts", "text and media of the page's posts and their parents")
USERS: Final[Attachment[UserContent]] = Attachment("users", "names of authors and of those who prove")
