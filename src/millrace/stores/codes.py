"""`CodeTables`: names that recur (languages, topics, safety labels) as small whole numbers.

The only store that others may read while they fold: names are only ever added, so a table that is ahead within a
batch answers the same for every name that an earlier event carried.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from millrace.base.errors import StoreError
from millrace.events.content_events import LabelChanged, PostAnnotated
from millrace.events.envelope import Payload
from millrace.events.user_events import ProfileUpdated
from millrace.stores.config import StoresConfig
from millrace.stores.fold import Arrays, EventBatch

UNKNOWN: Final = 0

MAX_TOPICS: Final = 3
"""How many of a post's topics are kept, strongest first."""


def fold_language(tag: str) -> str:
    """Return the lower-case primary subtag of a BCP 47 tag (``"pt-BR"`` → ``"pt"``), or ``""`` if it has none."""
    primary = tag.replace("_", "-").split("-", 1)[0].strip().lower()
    return primary if 2 <= len(primary) <= 8 and primary.isascii() and primary.isalpha() else ""


def fold_name(name: str) -> str:
    """Return a topic's or label's name as it is compared: NFKC, case folded, without outer blanks."""
    return unicodedata.normalize("NFKC", name).casefold().strip()


class CodeTable:
    """Names to codes 1, 2, 3 ... in the order of their first appearance; 0 is unknown.

    Parameters
    ----------
    max_codes
        Most names; one that appears when the table is full stays unknown for good.
    fold
        Brings a name to the form in which it is kept and compared; ``""`` refuses it.
    """

    def __init__(self, max_codes: int, fold: Callable[[str], str] = fold_name) -> None:
        self._max_codes = max_codes
        self._fold = fold
        self._names: list[str] = []
        self._code_by_name: dict[str, int] = {}
        self._code_by_raw: dict[str, int] = {}  # a bounded memory of unfolded spellings; never part of the state

    def __len__(self) -> int:
        return len(self._names)

    def code(self, name: str) -> int:
        """Return the code of a name in any spelling, 0 if it is unknown."""
        found = self._code_by_raw.get(name)
        if found is not None:
            return found
        found = self._code_by_name.get(self._fold(name), UNKNOWN)
        if found != UNKNOWN:  # an unknown name may become known; a code never changes
            if len(self._code_by_raw) >= 4 * self._max_codes:
                self._code_by_raw.clear()
            self._code_by_raw[name] = found
        return found

    def name(self, code: int) -> str:
        """Return the name of a code; ``""`` for 0.

        Raises
        ------
        StoreError
            If no name has this code.
        """
        if code == UNKNOWN:
            return ""
        if not 0 < code <= len(self._names):
            raise StoreError(
                "code", value=code, problem="names nothing", remedy=f"use 0 to {len(self._names)}, from this state"
            )
        return self._names[code - 1]

    def names(self) -> tuple[str, ...]:
        """Return all names in the order of their codes, from code 1."""
        return tuple(self._names)

    def add(self, name: str) -> int:
        """Return the code of a name, a new one if it has none yet and there is room."""
        found = self.code(name)
        if found != UNKNOWN:
            return found
        folded = self._fold(name)
        if not folded or len(self._names) >= self._max_codes:
            return UNKNOWN
        self._names.append(folded)
        self._code_by_name[folded] = len(self._names)
        return len(self._names)

    def arrays(self, prefix: str) -> Arrays:
        """Return the names as UTF-8 bytes and where each ends, names of arrays beginning with ``prefix``."""
        encoded = [name.encode() for name in self._names]
        ends = np.cumsum([len(name) for name in encoded], dtype=np.int64)
        return {f"{prefix}.utf8": np.frombuffer(b"".join(encoded), dtype=np.uint8).copy(), f"{prefix}.ends": ends}

    def load(self, prefix: str, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Take over names written by `arrays`."""
        data = arrays[f"{prefix}.utf8"].tobytes()
        ends = arrays[f"{prefix}.ends"].tolist()
        starts = [0, *ends[:-1]]
        self._names = [data[start:end].decode() for start, end in zip(starts, ends, strict=False)]
        self._code_by_name = {name: code for code, name in enumerate(self._names, 1)}
        self._code_by_raw = {}


class CodeTables:
    """Fold of the code tables; applied before every other.

    Parameters
    ----------
    config
        ``max_codes`` bounds each table.

    Attributes
    ----------
    languages
        Primary language subtags (``"en"``), from annotations and profiles.
    topics
        Topic names, from annotations and, as interests, from profiles.
    labels
        Safety labels.
    """

    name = "codes"
    handles: tuple[type[Payload], ...] = (PostAnnotated, ProfileUpdated, LabelChanged)

    def __init__(self, config: StoresConfig | None = None) -> None:
        max_codes = (config or StoresConfig()).max_codes
        self.languages = CodeTable(max_codes, fold_language)
        self.topics = CodeTable(max_codes)
        self.labels = CodeTable(max_codes)

    def apply(self, batch: EventBatch) -> None:
        """Add the names that the events carry, in log order."""
        for row in batch.rows_of(self.handles):
            payload = batch.events[row].payload
            if isinstance(payload, PostAnnotated):
                if payload.language is not None:
                    self.languages.add(payload.language)
                for topic in payload.topics or ():
                    self.topics.add(topic)
            elif isinstance(payload, ProfileUpdated):
                for tag in payload.languages or ():
                    self.languages.add(tag)
                for interest in payload.interests or ():
                    self.topics.add(interest)
            elif isinstance(payload, LabelChanged):
                self.labels.add(payload.label)

    def strongest_topics(self, names: Iterable[str]) -> tuple[int, ...]:
        """Return the codes of the first `MAX_TOPICS` different known topics, 0-filled: what all stores keep of a post.

        Names that are spelt differently and compare as equal are one topic; unknown ones take no place.
        """
        found = dict.fromkeys(code for name in names if (code := self.topics.code(name)) != UNKNOWN)
        return (*found, *(UNKNOWN,) * MAX_TOPICS)[:MAX_TOPICS]

    def tick(self, watermark_ms: int) -> None:
        """Nothing runs out: a code is for good."""

    def arrays(self) -> Arrays:
        """Return the whole state."""
        return {
            **self.languages.arrays("languages"),
            **self.topics.arrays("topics"),
            **self.labels.arrays("labels"),
        }

    def load(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Take over a state written by `arrays`."""
        self.languages.load("languages", arrays)
        self.topics.load("topics", arrays)
        self.labels.load("labels", arrays)
