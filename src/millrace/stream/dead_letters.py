"""Replaying dead letters: what was refused is tried again, after the cause was repaired."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import msgspec

from millrace.base.errors import SchemaError
from millrace.events.codec import EventCodec
from millrace.stream.checks import DOOR, EventCheck, Rule
from millrace.stream.config import LogConfig
from millrace.stream.log import DeadLetter, Log, Message

_DEFAULTS: Final = LogConfig()
_LETTERS_PER_APPEND: Final = 256


@dataclass(frozen=True, slots=True)
class ReplayReport:
    """What became of the letters that were to be replayed.

    Attributes
    ----------
    replayed
        Letters whose event is in the log now; removed.
    duplicates
        Letters whose event had found its way in before; removed.
    refused
        Letter id and reason of those that failed again; kept.
    missing
        Ids of letters that do not exist.
    """

    replayed: tuple[int, ...]
    duplicates: tuple[int, ...]
    refused: tuple[tuple[int, str], ...]
    missing: tuple[int, ...]


def replay_dead_letters(
    log: Log,
    codec: EventCodec,
    ids: Iterable[int] | None = None,
    *,
    max_event_bytes: int = _DEFAULTS.max_event_bytes,
    rule: Rule | None = None,
) -> ReplayReport:
    """Try dead letters again through the door; those that pass are removed.

    Parameters
    ----------
    log
        Holds the letters and takes the events.
    codec
        What events are, now.
    ids
        Which letters; None for all.
    max_event_bytes
        Larger events are refused again.
    rule
        What clients' events must meet beyond their schema, as at the door.

    Notes
    -----
    A client's event without a time takes that of its refusal, so replaying a letter twice is one event. A letter
    of a group holds an event that is in the log already, under an id within the duplicate window; it goes in again
    under an id of its own, ``letter-<letter id>``. A crash between append and removal is repaired by replaying again.
    """
    check = EventCheck(codec, max_event_bytes=max_event_bytes, rule=rule)
    wanted = None if ids is None else set(ids)
    left = set(wanted or ())
    replayed: list[int] = []
    duplicates: list[int] = []
    refused: list[tuple[int, str]] = []
    letters = (letter for letter in log.dead_letters() if wanted is None or letter.letter_id in wanted)
    while batch := list(itertools.islice(letters, _LETTERS_PER_APPEND)):
        left -= {letter.letter_id for letter in batch}
        messages: list[Message] = []
        letter_ids: list[int] = []
        for letter in batch:
            checked = _check(letter, check, codec)
            if isinstance(checked, Message):
                messages.append(checked)
                letter_ids.append(letter.letter_id)
            else:
                refused.append((letter.letter_id, checked))
        if messages:
            offsets = log.append(messages).offsets.tolist()
            log.remove_dead_letters(letter_ids)
            for letter_id, offset in zip(letter_ids, offsets, strict=True):
                (replayed if offset >= 0 else duplicates).append(letter_id)
    return ReplayReport(tuple(replayed), tuple(duplicates), tuple(refused), tuple(sorted(left)))


def _check(letter: DeadLetter, check: EventCheck, codec: EventCodec) -> Message | str:
    """Return the letter's event as a message, or the reason why it still cannot be used."""
    if letter.origin.startswith(DOOR):
        checked = check.line(letter.data, source=letter.origin.removeprefix(DOOR), now_ms=letter.refused_at_ms)
        return checked if isinstance(checked, Message) else checked.reason
    try:
        event = codec.decode(letter.data)
    except SchemaError as error:
        return str(error)
    message = check.event(msgspec.structs.replace(event, event_id=f"letter-{letter.letter_id}"))
    return message if isinstance(message, Message) else message.reason
