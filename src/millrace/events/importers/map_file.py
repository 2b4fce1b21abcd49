"""The file of ``--map``: which columns of a foreign file become which fields of which events. Form and checks.

docs/howto/import-your-data.md explains it with examples. Everything that is wrong with a file is told at once. What a
rule does with a row is in `millrace.events.importers.map_rules`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar, get_args, get_type_hints

import msgspec
from msgspec import Meta, Struct

from millrace.base.config import read_toml
from millrace.base.errors import ConfigError, SchemaError
from millrace.events.codec import EventCodec
from millrace.events.importers.map_templates import placeholders

Column = Annotated[str, Meta(min_length=1)]
TimeUnit = Literal["s", "ms", "iso8601"]
Plain = str | int | float | bool

_REFUSED_FIELDS: Final = {"created_at_ms": "leave it out: the rule's time is the post's"}

StructT = TypeVar("StructT", bound=Struct)


class Condition(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What must hold for a row: exactly one of the three is given; values are compared as text."""

    column: Column
    equals: Plain | None = None
    any_of: tuple[Plain, ...] | None = None
    is_present: bool | None = None


class TimeRule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which column says when it happened, and how; ISO 8601 without an offset is UTC."""

    column: Column
    unit: TimeUnit


class FieldRule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a field's value comes from: exactly one of ``column``, ``template`` and ``value``.

    Parameters
    ----------
    column
        The name of a column; in JSON also a path, ``"user.id"``.
    template
        Text with columns in braces: ``"user-{uid}"``; absent where one of them is.
    value
        The same for every row.
    names
        What the column says to what the event says; with it, anything else makes the row unreadable.
    otherwise
        ... unless this is given for anything else.
    default
        Taken where the column is absent or empty.
    split
        Separates the parts of a list: ``"|"``.
    times
        A number that the column's number is multiplied with: 1000 for seconds to milliseconds.
    """

    column: Column | None = None
    template: Annotated[str, Meta(min_length=1)] | None = None
    value: Any = None
    names: dict[str, Plain] | None = None
    otherwise: Plain | None = None
    default: Any = None
    split: Annotated[str, Meta(min_length=1)] | None = None
    times: Annotated[float, Meta(gt=0)] | None = None

    def columns(self) -> tuple[str, ...]:
        """Return the columns that it reads."""
        if self.column is not None:
            return (self.column,)
        return () if self.template is None else placeholders(self.template)


class EventRule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One event for every row for which all of ``when`` holds."""

    type: str
    fields: dict[str, FieldRule] = {}
    when: tuple[Condition, ...] = ()
    time: TimeRule | None = None
    event_id: FieldRule | None = None

    def columns(self) -> tuple[str, ...]:
        """Return the columns that it reads, without repeats."""
        rules = [*self.fields.values(), *([self.event_id] if self.event_id else [])]
        names = [*(condition.column for condition in self.when), *([self.time.column] if self.time else [])]
        return tuple(dict.fromkeys((*names, *(column for rule in rules for column in rule.columns()))))

    def columns_needed(self) -> tuple[str, ...]:
        """Return the columns of which some row to which it applies should have a value."""
        rules = [rule for rule in (*self.fields.values(), self.event_id) if rule is not None and rule.default is None]
        names = [column for rule in rules for column in rule.columns()]
        return tuple(dict.fromkeys([*names, *([self.time.column] if self.time else [])]))


class FileMap(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A whole mapping.

    Parameters
    ----------
    name
        Stands in the events' source, ``importer/<name>``, and in their ids.
    delimiter
        Of CSV; a tab means that nothing is quoted.
    columns
        Of a CSV file that has no header line.
    events
        The rules.
    """

    name: Annotated[str, Meta(pattern="^[a-z0-9][a-z0-9_-]{0,31}$")] = "mapped"
    delimiter: Annotated[str, Meta(min_length=1, max_length=1)] = ","
    columns: tuple[Column, ...] | None = None
    events: tuple[EventRule, ...] = ()

    def columns_read(self) -> tuple[str, ...]:
        """Return the columns that any rule reads, without repeats."""
        return tuple(dict.fromkeys(column for rule in self.events for column in rule.columns()))


def load_map(path: Path, codec: EventCodec) -> FileMap:
    """Return the mapping of a TOML file.

    Parameters
    ----------
    path
        The file.
    codec
        Knows the types of events and their fields, the operator's own among them.

    Raises
    ------
    ConfigError
        With every problem in ``problems``.
    """
    layer = read_toml(path)
    reader = _Reader(codec)
    found = reader.file_map(layer.table)
    if reader.problems or found is None:
        raise ConfigError(
            f"map file {layer.origin}",
            value=f"{len(reader.problems)} problem{'s' if len(reader.problems) > 1 else ''}",
            problem=" | ".join(reader.problems),
            remedy="see docs/howto/import-your-data.md",
            problems=tuple(f"map file {layer.origin}: {problem}" for problem in reader.problems),
        )
    return found


class _Reader:
    """Reads tables leaf by leaf, so that one problem does not hide the next."""

    def __init__(self, codec: EventCodec) -> None:
        self._codec = codec
        self.problems: list[str] = []

    def file_map(self, table: Mapping[str, Any]) -> FileMap | None:
        rules = table.get("events")
        if not isinstance(rules, list) or not rules:
            self.problems.append("events: there are none; write [[events]] with a type for each kind of event")
            rules = []
        made = [self._event_rule(rule, f"events[{number}]") for number, rule in enumerate(rules, start=1)]
        rest = {key: value for key, value in table.items() if key != "events"}
        head = self._struct(FileMap, rest, "")
        if head is None or None in made:
            return None
        return msgspec.structs.replace(head, events=tuple(made))

    def _event_rule(self, raw: object, where: str) -> EventRule | None:
        if not isinstance(raw, dict):
            self.problems.append(f"{where}: not a table")
            return None
        table = dict(raw)
        fields_table, event_id, when = table.pop("fields", {}), table.pop("event_id", None), table.pop("when", [])
        if not isinstance(fields_table, dict):
            self.problems.append(f'{where}.fields: not a table; write post_id = "a column" and the like below it')
            fields_table = {}
        fields = {name: self._field_rule(value, f"{where}.fields.{name}") for name, value in fields_table.items()}
        id_rule = None if event_id is None else self._field_rule(event_id, f"{where}.event_id")
        conditions = [self._condition(value, f"{where}.when") for value in (when if isinstance(when, list) else [when])]
        time = table.pop("time", None)
        time_rule = None if time is None else self._struct(TimeRule, time, f"{where}.time")
        head = self._struct(EventRule, table, where)
        if head is not None:
            self._check_fields(head.type, fields, where)
        has_all = (event_id is None or id_rule) and (time is None or time_rule)
        if head is None or not has_all or None in fields.values() or None in conditions:
            return None
        return EventRule(
            type=head.type,
            fields={name: rule for name, rule in fields.items() if rule is not None},
            when=tuple(condition for condition in conditions if condition is not None),
            time=time_rule,
            event_id=id_rule,
        )

    def _condition(self, raw: object, where: str) -> Condition | None:
        condition = self._struct(Condition, raw, where)
        if condition is not None:
            given = [x for x in (condition.equals, condition.any_of, condition.is_present) if x is not None]
            if len(given) != 1:
                self.problems.append(f"{where}: give exactly one of equals, any_of and is_present")
                return None
        return condition

    def _field_rule(self, raw: object, where: str) -> FieldRule | None:
        if isinstance(raw, str):
            raw = {"column": raw}
        rule = self._struct(FieldRule, raw, where)
        if rule is None:
            return None
        problems = list(_field_problems(rule))
        self.problems.extend(f"{where}: {problem}" for problem in problems)
        return None if problems else rule

    def _check_fields(self, type_name: str, fields: Mapping[str, FieldRule | None], where: str) -> None:
        try:
            event_type = self._codec.registry.by_name(type_name)
        except SchemaError as error:
            self.problems.append(f"{where}.type {type_name!r}: {error.problem}; {error.remedy}")
            return
        if event_type.is_internal:
            self.problems.append(f"{where}.type {type_name!r}: written by the server only; use Impression")
            return
        known = {field.name: field for field in msgspec.structs.fields(event_type.payload)}
        for name, rule in fields.items():
            if name not in known:
                self.problems.append(f"{where}.fields.{name}: {type_name} has no such field; {_nearest(name, known)}")
            elif name in _REFUSED_FIELDS:
                self.problems.append(f"{where}.fields.{name}: cannot be mapped; {_REFUSED_FIELDS[name]}")
            elif name == "action" and rule is not None:
                self._check_actions(rule, f"{where}.fields.{name}")
        missing = [name for name, field in known.items() if field.required and name not in fields]
        if missing:
            self.problems.append(f"{where}.fields: {type_name} needs {', '.join(missing)}")

    def _check_actions(self, rule: FieldRule, where: str) -> None:
        said = [rule.value, rule.otherwise, rule.default, *(rule.names or {}).values()]
        for action in said:
            if action is not None:
                try:
                    self._codec.actions.sendable_code(str(action))
                except SchemaError as error:
                    self.problems.append(f"{where}: action {action!r} is {error.problem}; {error.remedy}")

    def _struct(self, schema: type[StructT], raw: object, where: str) -> StructT | None:
        """Return a struct from a table; every leaf is checked, whatever is wrong with the others."""
        if not isinstance(raw, dict):
            self.problems.append(f"{where} {raw!r}: not a table")
            return None
        hints = get_type_hints(schema, include_extras=True)
        known = {field.name: field for field in msgspec.structs.fields(schema)}
        n_before, made = len(self.problems), {}
        for name, value in raw.items():
            key = f"{where}.{name}".lstrip(".")
            if name not in known:
                self.problems.append(f"{key}: not known; {_nearest(name, known)}")
                continue
            try:
                made[name] = msgspec.convert(value, hints[name])
            except msgspec.ValidationError as error:
                said = str(error).replace("`", "")
                if said.startswith("Invalid enum value"):
                    said = f"not one of {', '.join(get_args(TimeUnit))}"
                self.problems.append(f"{key} {value!r}: {said}")
        missing = [name for name, field in known.items() if field.required and name not in raw]
        if missing:
            self.problems.append(f"{where}: {', '.join(missing)} missing".lstrip(": "))
        return schema(**made) if len(self.problems) == n_before else None


def _field_problems(rule: FieldRule) -> Iterator[str]:
    if sum(given is not None for given in (rule.column, rule.template, rule.value)) != 1:
        yield "give exactly one of column, template and value"
    elif rule.column is None:
        extra = [name for name in ("names", "otherwise", "split", "times") if getattr(rule, name) is not None]
        if extra:
            yield f"{', '.join(extra)} can only stand with a column"
    elif rule.otherwise is not None and rule.names is None:
        yield "otherwise can only stand with names"
    elif sum(given is not None for given in (rule.names, rule.split, rule.times)) > 1:
        yield "give only one of names, split and times"
    if rule.template is not None and not placeholders(rule.template):
        yield "the template names no column in braces; use value for a constant"


def _nearest(name: str, known: Mapping[str, object]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}"
