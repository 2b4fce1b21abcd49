"""What a mapping's rules do with a row: compare, pick, translate; an event comes out, or the reason why not."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from millrace.base.errors import SchemaError
from millrace.base.ids import normalise_id
from millrace.events.codec import EventCodec
from millrace.events.envelope import Payload
from millrace.events.importers.map_file import Condition, EventRule, FieldRule
from millrace.events.importers.map_templates import as_text, filled

Row = Mapping[str, Any]

_MAX_KEY_BYTES: Final = 64
_QUOTED: Final = re.compile(r" '.*'")
_ABSENT: Final = object()


class RowError(Exception):
    """A rule wants a row and cannot use it; the message is general, without the row's own values."""


@dataclass(frozen=True, slots=True)
class Made:
    """What a rule made of a row.

    Attributes
    ----------
    time_ms
        When it happened, by the file's own times; None where the rule has no time.
    payload
        The event's.
    key
        Names it within the data set: of the rule's ``event_id``, else of its content.
    """

    time_ms: int | None
    payload: Payload
    key: str


class CompiledRule:
    """One rule of a mapping, ready to be used.

    Parameters
    ----------
    rule
        As `millrace.events.importers.map_file.load_map` has checked it.
    codec
        Makes payloads.
    now_ms
        No event is later.
    is_text
        Whether all values of a row are text, as in CSV.
    """

    def __init__(self, rule: EventRule, codec: EventCodec, *, now_ms: int, is_text: bool) -> None:
        self.rule = rule
        self._codec = codec
        self._now_ms = now_ms
        self._is_text = is_text
        self._tests = [_test(condition) for condition in rule.when]
        integers = _integer_fields(codec.registry.by_name(rule.type).payload)
        self._pickers = [(name, _picker(field, is_integer=name in integers)) for name, field in rule.fields.items()]
        self._event_id = None if rule.event_id is None else _picker(rule.event_id, is_integer=False)

    def applies(self, row: Row) -> bool:
        """Whether the row fulfils all conditions."""
        return all(test(row) for test in self._tests)

    def time_ms(self, row: Row) -> int | None:
        """Return when the row's event happened, None where the rule has no time.

        Raises
        ------
        RowError
            If the row does not say.
        """
        rule = self.rule.time
        if rule is None:
            return None
        try:
            time_ms = parse_time_ms(value_at(row, rule.column), rule.unit)
        except (ValueError, OverflowError, TypeError):
            raise RowError(f"{self.rule.type}: {rule.column} is not a time in {rule.unit}") from None
        if not 0 <= time_ms <= self._now_ms:
            raise RowError(
                f"{self.rule.type}: the time in {rule.column} is before 1970 or after now (unit {rule.unit})"
            )
        return time_ms

    def make(self, row: Row) -> Made:
        """Return what the rule makes of a row.

        Raises
        ------
        RowError
            If it cannot be used.
        """
        time_ms = self.time_ms(row)
        fields = {
            name: value for name, pick in self._pickers if (value := self._picked(name, pick, row)) is not _ABSENT
        }
        try:
            payload = self._codec.payload(self.rule.type, fields, is_from_text=self._is_text)
            key = self._key(row, payload, time_ms)
        except (SchemaError, OverflowError, TypeError) as error:
            # Without the value: reasons are counted, and there must not be as many as there are rows.
            problem = f"{error.thing}: {error.problem}" if isinstance(error, SchemaError) else str(error)
            problem = problem.removeprefix(f"{self.rule.type}: ").replace("`", "").replace("$.", "")
            raise RowError(f"{self.rule.type}: {_QUOTED.sub('', problem)}") from None
        return Made(time_ms, payload, key)

    def _picked(self, name: str, pick: Callable[[Row], object], row: Row) -> object:
        try:
            return pick(row)
        except (ValueError, OverflowError, TypeError) as error:
            raise RowError(f"{self.rule.type}: {name}: {error}") from None

    def _key(self, row: Row, payload: Payload, time_ms: int | None) -> str:
        if self._event_id is not None:
            given = self._picked("event_id", self._event_id, row)
            if given is _ABSENT:
                raise RowError(f"{self.rule.type}: event_id is absent")
            text = normalise_id(given if type(given) is int else str(given), "event_id")
            if len(text.encode()) <= _MAX_KEY_BYTES:
                return f"{self.rule.type}/{text}"
            content: object = text
        else:
            content = (time_ms, payload)
        data = msgspec.msgpack.encode(content, order="deterministic")
        return f"{self.rule.type}/{hashlib.blake2b(data, digest_size=16).hexdigest()}"


def value_at(row: Row, column: str) -> Any:
    """Return a row's value in a column, None where there is none; a dotted name leads into objects."""
    if column in row:
        value = row[column]
        return None if value == "" else value
    found: Any = row
    for part in column.split("."):
        if not isinstance(found, Mapping) or part not in found:
            return None
        found = found[part]
    return None if found == "" else found


def parse_time_ms(value: object, unit: str) -> int:
    """Return a time as epoch milliseconds.

    Raises
    ------
    ValueError, OverflowError, TypeError
        If it is none.

    Examples
    --------
    >>> parse_time_ms("1.5", "s"), parse_time_ms(1500, "ms"), parse_time_ms("1970-01-01T00:00:01.5Z", "iso8601")
    (1500, 1500, 1500)
    """
    if unit == "iso8601":
        moment = datetime.fromisoformat(str(value).strip())
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
        return round(moment.timestamp() * 1000)
    return round(_number(value) * (1000 if unit == "s" else 1))


def _number(value: object) -> float:
    """Return a number, or the number that a text says, finite."""
    try:
        number = float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else math.nan
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError("not a number")
    return number


def _test(condition: Condition) -> Callable[[Row], bool]:
    column = condition.column
    if condition.is_present is not None:
        wanted = condition.is_present
        return lambda row: (value_at(row, column) is not None) == wanted
    values = (condition.equals,) if condition.any_of is None else condition.any_of
    texts = frozenset(as_text(value) for value in values)
    return lambda row: (value := value_at(row, column)) is not None and as_text(value) in texts


def _picker(rule: FieldRule, *, is_integer: bool) -> Callable[[Row], object]:
    """Return a function that gives a field's value, or `_ABSENT`; it raises `ValueError` with a general reason."""
    default = _ABSENT if rule.default is None else rule.default
    if rule.value is not None:
        return lambda _row: rule.value
    if rule.template is not None:
        return _template_picker(rule.template, rule.columns(), default)
    column, translate = rule.column or "", _translation(rule, is_integer=is_integer)

    def pick(row: Row) -> object:
        value = value_at(row, column)
        return default if value is None else translate(value)

    return pick


def _template_picker(template: str, columns: tuple[str, ...], default: object) -> Callable[[Row], object]:
    def pick(row: Row) -> object:
        values = {column: value_at(row, column) for column in columns}
        if None in values.values():
            return default
        return filled(template, lambda column: as_text(values[column]))

    return pick


def _translation(rule: FieldRule, *, is_integer: bool) -> Callable[[Any], object]:
    names, otherwise, separator, factor = rule.names, rule.otherwise, rule.split, rule.times
    if names is not None:

        def named(value: object) -> object:
            found = names.get(as_text(value), otherwise)
            if found is None:
                raise ValueError(f"{rule.column} says something that is not among its names")
            return found

        return named
    if separator is not None:
        return lambda value: (
            [part.strip() for part in value.split(separator) if part.strip()] if isinstance(value, str) else value
        )
    if factor is not None:
        return lambda value: round(_number(value) * factor) if is_integer else _number(value) * factor
    return lambda value: value


def _integer_fields(payload: type[Payload]) -> frozenset[str]:
    info = msgspec.inspect.type_info(payload)
    fields = info.fields if isinstance(info, msgspec.inspect.StructType) else ()
    return frozenset(field.encode_name for field in fields if _is_integer(field.type))


def _is_integer(kind: msgspec.inspect.Type) -> bool:
    if isinstance(kind, msgspec.inspect.UnionType):
        return any(_is_integer(member) for member in kind.types)
    if isinstance(kind, msgspec.inspect.Metadata):
        return _is_integer(kind.type)
    return isinstance(kind, msgspec.inspect.IntType)
