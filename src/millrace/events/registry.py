"""`EventRegistry`: which payload types exist and which topic each goes to.

An operator adds types without an edit of ours: a Python module, named in the configuration under
``[events] modules``, that holds ``EVENT_TYPES = (EventType(Purchase, topic="events.purchase"), ...)``. Such
events pass the door, the log and the warehouse like the built-in ones; stores that do not know them ignore them.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, get_type_hints

import msgspec

from millrace.base.errors import ConfigError, MillraceError, SchemaError
from millrace.events.content_events import (
    CountsObserved,
    EditorialPicked,
    LabelChanged,
    PostAnnotated,
    PostCreated,
    PostDeleted,
    PostEdited,
)
from millrace.events.envelope import Payload
from millrace.events.feature_events import CandidatesLogged, FeaturesLogged
from millrace.events.feed_events import ClockTick, Engagement, Impression, Served
from millrace.events.model_events import ModelWithdrawn
from millrace.events.near_line_events import NearLineUpdated
from millrace.events.sample_events import SAMPLES_TOPIC, SamplesJoined
from millrace.events.traffic_events import TrafficFlagged
from millrace.events.user_events import (
    BlockChanged,
    FollowChanged,
    MuteChanged,
    ProfileUpdated,
    Search,
    UserErased,
)

_TOPIC: Final = re.compile(r"[a-z0-9_]+(\.[a-z0-9_]+)*")


@dataclass(frozen=True, slots=True)
class EventType:
    """One payload type and the topic of its events.

    Parameters
    ----------
    payload
        A `Payload` subclass; its class name is the tag on the wire.
    topic
        ``"events.post"`` and the like.
    key
        The field whose value keeps the order: events with one key are read in the order of their append.
    is_internal
        Written by the server only; refused from clients.
    is_folded
        Whether processes read it into their state. Events that are large and change nothing there have a topic of their
        own and say no: a restart passes over that topic.
    """

    payload: type[Payload]
    topic: str
    key: str = ""
    is_internal: bool = False
    is_folded: bool = True

    @property
    def name(self) -> str:
        """The tag on the wire."""
        return self.payload.__name__


BUILT_IN: Final = (
    EventType(PostCreated, "events.post", key="post_id"),
    EventType(PostEdited, "events.post", key="post_id"),
    EventType(PostDeleted, "events.post", key="post_id"),
    EventType(PostAnnotated, "events.annotation", key="post_id"),
    EventType(LabelChanged, "events.label"),
    EventType(CountsObserved, "events.counts", key="post_id"),
    EventType(ProfileUpdated, "events.profile", key="user_id"),
    EventType(FollowChanged, "events.follow", key="follower_id"),
    EventType(BlockChanged, "events.block", key="blocker_id"),
    EventType(MuteChanged, "events.mute", key="muter_id"),
    EventType(Search, "events.search", key="user_id"),
    EventType(UserErased, "events.erasure", key="user_id"),
    EventType(Served, "events.served", key="viewer_id", is_internal=True),
    EventType(Impression, "events.impression", key="viewer_id"),
    EventType(Engagement, "events.engagement", key="viewer_id"),
    EventType(ClockTick, "events.clock"),
    EventType(EditorialPicked, "events.editorial", key="post_id"),
    EventType(FeaturesLogged, "events.features", key="viewer_id", is_internal=True, is_folded=False),
    EventType(CandidatesLogged, "events.features", key="viewer_id", is_internal=True, is_folded=False),
    EventType(TrafficFlagged, "events.traffic", key="viewer_id", is_internal=True, is_folded=False),
    EventType(SamplesJoined, SAMPLES_TOPIC, key="viewer", is_internal=True, is_folded=False),
    EventType(NearLineUpdated, "events.near_line", key="model", is_internal=True),
    EventType(ModelWithdrawn, "events.models", key="version", is_internal=True, is_folded=False),
)


class EventRegistry:
    """The known payload types; built once, then only read.

    Parameters
    ----------
    extra
        Further types of the operator.
    """

    def __init__(self, extra: Iterable[EventType] = ()) -> None:
        self._by_name: dict[str, EventType] = {}
        for event_type in (*BUILT_IN, *extra):
            self._add(event_type)
        self._by_payload = {t.payload: t for t in self._by_name.values()}

    @classmethod
    def from_modules(cls, modules: Iterable[str]) -> EventRegistry:
        """Return a registry with the ``EVENT_TYPES`` of importable modules added."""
        extra: list[EventType] = []
        for name in modules:
            try:
                module = importlib.import_module(name)
                extra.extend(module.EVENT_TYPES)
            except (ImportError, AttributeError, TypeError) as error:
                raise ConfigError(
                    "config key events.modules",
                    value=name,
                    problem=f"cannot be used ({error})",
                    remedy="name an importable module that holds EVENT_TYPES, a tuple of EventType",
                ) from error
        return cls(extra)

    def __iter__(self) -> Iterator[EventType]:
        return iter(self._by_name.values())

    def __contains__(self, name: str) -> bool:
        return name in self._by_name

    @property
    def topics(self) -> tuple[str, ...]:
        """All topics, in order of declaration, without repeats."""
        return tuple(dict.fromkeys(t.topic for t in self))

    @property
    def unfolded_topics(self) -> tuple[str, ...]:
        """Topics that hold nothing which any process reads into its state."""
        folded = {t.topic for t in self if t.is_folded}
        return tuple(topic for topic in self.topics if topic not in folded)

    def by_name(self, name: object) -> EventType:
        """Return the type with this tag."""
        found = self._by_name.get(name) if isinstance(name, str) else None
        if found is None:
            raise SchemaError(
                "event type",
                value=name,
                problem="not known",
                remedy=f"use one of {', '.join(self._by_name)}, or declare it under [events] modules",
            )
        return found

    def of(self, payload: Payload) -> EventType:
        """Return the type of a payload object."""
        found = self._by_payload.get(type(payload))
        return found if found is not None else self.by_name(type(payload).__name__)

    def payload_union(self) -> Any:
        """Return the union of all payload types, for msgspec decoders."""
        types = tuple(self._by_payload)
        union: Any = types[0]
        for payload in types[1:]:
            union = union | payload
        return union

    def _add(self, event_type: EventType) -> None:
        kind: object = event_type.payload  # an operator's module may hold anything
        problem = ""
        if not (isinstance(kind, type) and issubclass(kind, Payload)):
            problem = "not a subclass of millrace.events.envelope.Payload"
        elif kind.__name__ in self._by_name:
            problem = "declared twice"
        elif not _TOPIC.fullmatch(event_type.topic):
            problem = f"topic {event_type.topic!r} is not dotted lower-case words"
        elif event_type.key and event_type.key not in get_type_hints(event_type.payload):
            problem = f"key field {event_type.key!r} does not exist"
        if not problem:
            try:
                msgspec.inspect.type_info(event_type.payload)
            except (TypeError, NameError, MillraceError) as error:
                problem = str(error)
        if problem:
            raise ConfigError(
                "event type", value=getattr(kind, "__name__", kind), problem=problem, remedy="correct its declaration"
            )
        self._by_name[event_type.name] = event_type
