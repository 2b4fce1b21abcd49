"""`NewestPost`: whether what is imported is new enough to be on anybody's page."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from millrace.events.content_events import PostCreated

if TYPE_CHECKING:
    from millrace.app.settings import Settings
    from millrace.events.envelope import AnyEvent

_HOUR_MS = 3_600_000


class NewestPost:
    """The time of the newest post among events that pass by.

    Attributes
    ----------
    at_ms
        Its event time; 0 while there was none.
    """

    def __init__(self) -> None:
        self.at_ms = 0

    def watch(self, events: Iterable[AnyEvent]) -> Iterator[AnyEvent]:
        """Pass events on."""
        for event in events:
            if isinstance(event.payload, PostCreated):
                self.at_ms = max(self.at_ms, event.event_time_ms)
            yield event

    def warning(self, settings: Settings, now_ms: int, *, is_taken: bool) -> str:
        """Return what to say where even the newest post is too old for a page; else an empty text.

        Parameters
        ----------
        settings
            Say how old a post may be.
        now_ms
            Ages are relative to it.
        is_taken
            Whether the posts are in the home now: there they keep their times, also when they are imported again.
        """
        from millrace.app.commands.printing import age
        from millrace.mixer.filters.age import MAX_AGE_H

        max_age_h = float(settings.config.params.get(MAX_AGE_H.name, MAX_AGE_H.default))
        if not self.at_ms or now_ms - self.at_ms <= max_age_h * _HOUR_MS:
            return ""
        again = "import them again into a new home, with" if is_taken else "import them with"
        return (
            f"The newest post is {age(now_ms - self.at_ms)} old; pages take posts up to {max_age_h:g} h "
            f"({MAX_AGE_H.name}). To see these on a page, {again} --span {max(max_age_h, 1):.0f}h"
        )
