"""What embedded logs (one total order) accept as positions and messages, and what they say about the rest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from millrace.base.errors import LogError
from millrace.stream.log import Message, Position

NO_COMMIT: Final = -1
"""Stands for a partition that a group never committed."""


def check_offset(position: Position, end: int) -> int:
    """Return the offset of a position, which lies between 0 and the log's end.

    A position after the end means that state and log do not belong together (a checkpoint beside a restored,
    older log, say); reading on from there would skip events that are yet to come.
    """
    if len(position) != 1 or position[0] < 0:
        raise LogError(
            "log position",
            value=position,
            problem="not a position of this log",
            remedy="use one offset, at least 0, such as log.begin() returns",
        )
    if position[0] > end:
        raise LogError(
            "log position",
            value=position,
            problem=f"after the end of the log, {end}",
            remedy="use the log that the position came from, or start from an older checkpoint",
        )
    return position[0]


def check_count(max_records: int) -> None:
    """Refuse to poll for nothing."""
    if max_records < 1:
        raise LogError("max_records", value=max_records, problem="less than 1", remedy="ask for at least one record")


def check_messages(messages: Sequence[Message]) -> None:
    """Refuse messages without data (empty bytes stand for purged records) and without an event id."""
    for message in messages:
        if not message.data or not message.event_id:
            raise LogError(
                "message",
                value=message,
                problem="has no data or no event id",
                remedy="encode events with EventCodec.encode and give each its id",
            )


def consumer_is_closed(group: str) -> LogError:
    """Return the error of whoever goes on with a consumer that was closed."""
    return LogError("consumer", value=group, problem="already closed", remedy="subscribe again and use the new one")


def records_are_gone(offset: int, begin: int) -> LogError:
    """Return the error of a reader whose next records were trimmed: going on would skip them silently."""
    return LogError(
        "log position",
        value=offset,
        problem=f"records before {begin} were trimmed, so {begin - offset} would be skipped",
        remedy="start from a newer checkpoint, or seek to log.begin() if the gap may be skipped",
    )
